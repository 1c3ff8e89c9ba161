"""Run folders made by hand for the judge: a multi-task arm and its controls with planted differences.

    factory = Factory(tmp_path, levels={"share": 0.6}); factory.study(seeds=(1, 2, 3), effect={NOTES: 0.05})

Scores are invented; everything else is what the pages write.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from kaggle_kit.core.artifacts import Metric, RunFolder, Totals, reserve
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import config_run_id, run_flags
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.evaluation.documents import document_table, figure
from tests.signing import sign

TASKS = ("semeval2014t7", "semeval2017t3")
TOKENS = {"semeval2014t7": 6_000, "semeval2017t3": 4_000}
STEPS, SHARES = 100, (0.5, 1.0)  # of the token budget, where development was scored
LEVELS = {"total": 0.70, "best": 0.70, "share": 0.66, "placebo": 0.70}  # mean scores; none: not trained
EXPERIMENT = {
    "name": "token_controlled",
    "margin": {"f1": 0.02, "map": 0.02},
    "alpha": 0.05,
    "tuning": {"trials": 0, "split": None, "study": None},
    "resamples": 400,
}


@cache
def _composed(tasks: tuple[str, ...], strategy: str, profile: str) -> RunConfig:
    return compose(model="tiny", task=tasks, strategy=strategy, profile=profile)


def _started(config: RunConfig, page: str, folder: Path) -> RunFolder:
    """What `start_run` does, with a YAML writer that is quick."""
    names = {name: getattr(config, name).name for name in ("model", "strategy", "profile")}
    facts = {"page": page, "tasks": list(config.tasks), **names, "paper": config.profile.paper}
    text = yaml.dump(asdict(config), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    path = reserve(folder, config_run_id(config, page))
    return RunFolder.create(path, text, config_hash(config), run_flags(config), **facts, seed=config.seed)


class Factory:
    """Writes finished runs below a folder. Noise: `seed_sd` of a run, and that of drawing each item."""

    def __init__(
        self,
        folder: Path,
        *,
        documents: int = 80,
        seed_sd: float = 0.004,
        strategy: str = "s2_shared",
        profile: str = "t4",
        rng: int = 0,
        levels=None,
        clusters: int = 0,
        **experiment,
    ) -> None:
        self.folder, self.documents, self.seed_sd = folder, documents, seed_sd
        self.strategy, self.profile, self.clusters = strategy, profile, clusters
        self.levels = LEVELS | (levels or {})
        self.experiment = EXPERIMENT | experiment
        self.rng = np.random.default_rng(rng)
        self.items = self.rng.integers(10, 30, size=documents)  # gold items of each note

    def study(self, seeds=(1, 2, 3), effect=None, controls=("total", "share")) -> Path:
        """Runs of seeds that were declared, unless the factory was told of others."""
        self.experiment = {"seeds": list(seeds)} | self.experiment
        for seed in seeds:
            multi = self.multi_task(seed, effect or {})
            for control in controls:
                for task in TASKS:
                    self.control(multi, task, control)
        return self.folder

    def multi_task(self, seed: int, effect=None) -> RunFolder:
        config = self._config(TASKS, self.strategy, seed, self.experiment, None)
        run = _started(config, self.strategy, self.folder)
        self._score(run, {task: 0.7 + (effect or {}).get(task, 0.0) for task in TASKS})
        return self._finish(run, dict(TOKENS), trained=1_500)

    def control(self, multi: RunFolder, task: str, control: str = "total") -> RunFolder:
        target = TOKENS[task] if control == "share" else sum(TOKENS.values())
        of_config, placebo = multi.facts["config_hash"], control == "placebo"
        own = {"twin": multi.run_id, "twin_config": of_config, "control": "total" if placebo else control}
        own |= {"placebo": True, "scored": task} if placebo else {}
        tasks, strategy = (TASKS, self.strategy) if placebo else ([task], "s1_single")
        exact = None if placebo else target  # a placebo repeats the plan of its run
        config = self._config(tasks, strategy, multi.facts["seed"], self.experiment | own, exact)
        run = _started(config, "token_controlled", self.folder)
        self._score(run, {task: self.levels[control]})
        twin = {"of": multi.run_id, "of_config": of_config, "control": control, "target_tokens": target}
        more = {"twin": twin} | ({} if placebo else {"token_parity_error": 0})
        if control == "total" and self.levels["best"]:
            best = RunFolder(run.path / "best_development", run.facts)
            self._score(best, {task: self.levels["best"]})
            more["best_development"] = {"share": 0.5, "step": 50, "tokens": target // 2, "score": 0.7}
        tokens = dict(TOKENS) if placebo else {task: target}
        return self._finish(run, tokens, trained=1_500 if placebo else 1_000, **more)

    def arm(self, seed: int, experiment, effect=0.0, page="s3a_flat", **strategy) -> RunFolder:
        """A run on both tasks of any other question: S3a with changes, `effect` on both tasks' scores."""
        facts = strategy.pop("facts", {})
        config = self._config(TASKS, "s3a_flat", seed, experiment, None)
        config = replace(config, strategy=replace(config.strategy, **strategy))
        run = _started(config, page, self.folder)
        self._score(run, dict.fromkeys(TASKS, 0.7 + effect))
        return self._finish(run, dict(TOKENS), trained=1_500, **facts)

    def level(self, level: str, seed: int, effect=0.0, **strategy) -> RunFolder:
        """One level of the ablation of PCGrad, with two levels."""
        experiment = {"name": "ablation_pcgrad", "factor": "pcgrad", "levels": ["on", "off"], "level": level}
        changed = {"name": f"s3a_flat_pcgrad_{level}", "pcgrad": level == "on"} | strategy
        return self.arm(seed, EXPERIMENT | experiment, effect, "ablation_architecture", **changed)

    def architecture(self, level: str, seed: int, effect=0.0, **strategy) -> RunFolder:
        levels = ["a1", "a2", "a3", "a4"]
        experiment = {"name": "ablation_architecture", "factor": "architecture"}
        experiment |= {"levels": levels, "level": level}
        changed = {"name": level, "title": level, "rank": 8 + levels.index(level)} | strategy
        return self.arm(seed, EXPERIMENT | experiment, effect, "ablation_architecture", **changed)

    def exclusion(self, arm: str, seed: int, effect=0.0, target=None) -> RunFolder:
        arms = ["full", "excluded", "leave_target_out"]
        experiment = {"name": "mimic_exclusion", "arms": arms, "arm": arm, "target": target}
        experiment |= {"mimic": [TASKS[0]], "kept": [TASKS[1]]}
        return self.arm(seed, EXPERIMENT | experiment, effect, "mimic_exclusion", name=f"s3a_flat_{arm}")

    def quantised(self, seed: int, effect=0.0, experiment=EXPERIMENT) -> RunFolder:
        choice = {"of": "s3a_flat", "split": "dev"}
        changed = {"name": "s5_qlora", "quantization": "nf4", "facts": {"choice": choice}}
        return self.arm(seed, experiment | {"choice": choice}, effect, "s5_qlora", **changed)

    def outside(self, multi: RunFolder, control: RunFolder, effect=0.0) -> RunFolder:
        """The page `ood` on both runs: 0.6 on the held-out corpus, `effect` more for the multi-task run."""
        task, metric = TASKS[0], "task_a_strict_f1"
        config = self._config([task], "s1_single", multi.facts["seed"], {"name": "ood"}, None)
        run, arms = _started(config, "ood", self.folder), []
        for of, level in ((multi, 0.6 + effect), (control, 0.6)):
            folder = RunFolder(run.path / "arms" / of.run_id)
            folder.path.mkdir(parents=True)
            self._score(folder, {task: level}, "ood")
            named = {key: of.facts[key] for key in ("run_id", "strategy", "tasks", "seed")}
            arms.append(named | {"split": "test", "metrics": [metric, metric]})
        held_out = {"corpus": "bc5cdr", "split": "test"}
        return self._finish(run, {}, trained=0, arms=arms, held_out=held_out)

    def _config(self, tasks, strategy, seed, experiment, target):
        config = _composed(tuple(tasks), strategy, self.profile)
        training = replace(config.training, target_tokens=target)
        return replace(config, training=training, experiment=experiment, seed=seed)

    def _score(self, run: RunFolder, level, split="test") -> None:
        metrics = []
        for task, mean in level.items():
            rate = mean + self.rng.normal(0, self.seed_sd)
            records = self._ranking(rate) if task == "semeval2017t3" else self._mentions(rate)
            run.write_documents(task, split, records)
            _, sums = document_table(records)
            name = {"semeval2017t3": "map", "semeval2021t6": "entity_f1"}.get(task, "task_a_strict_f1")
            value = float(figure(sums.sum(axis=0)))
            metrics.append(Metric(name, value, "fraction", split, self.documents, task, task))
        run.write_metrics(metrics)

    def _mentions(self, rate):
        right = self.rng.binomial(self.items, rate)
        missed = (self.items - right).tolist()
        counts = zip(right.tolist(), missed, missed, strict=True)
        return [
            {"document": f"note{n}", **self._cluster(n), "tp": tp, "fp": fp, "fn": fn}
            for n, (tp, fp, fn) in enumerate(counts)
        ]

    def _cluster(self, n):
        return {"cluster": f"patient{n % self.clusters}"} if self.clusters else {}

    def _ranking(self, rate):
        values = np.clip(self.rng.normal(rate, 0.05, self.documents), 0, 1).tolist()
        return [{"document": f"Q{n}", "value": value} for n, value in enumerate(values)]

    def _finish(self, run: RunFolder, tokens, trained, **more) -> RunFolder:
        control = more.get("twin", {}).get("control", "")
        curve = [
            {"share": s, "step": int(s * STEPS), "tokens": 0, "scores": dict.fromkeys(tokens, 0.7)}
            for s in SHARES
        ]
        run.finish(
            epochs_over_own_data=dict.fromkeys(tokens, 6.0 if control == "total" else 3.0),
            final_training_loss={task: 0.1 + 0.01 * self.rng.random() for task in tokens},
            development=curve,
            totals=Totals(tokens, trained, 1.0),
            device="cpu",
            data_hashes={task: f"{task}-data" for task in run.facts["tasks"]},
            active_parameters=dict.fromkeys(run.facts["tasks"], 1_000),
            selection={"rule": "last", "split": None, "metric": None},
            tuning=EXPERIMENT["tuning"],
            left_out={task: [] for task in run.facts["tasks"]},
            decisions={"dtype": ["float32", "asked for"]},
            optimiser_steps=sum(tokens.values()) // 100,
            steps_sha256=[f"rows of seed {run.facts['seed']}"],
            **more,
        )
        return RunFolder.open(run.path)

    def broken_off(self, run: RunFolder) -> None:
        """As if this run had begun and never finished."""
        run.manifest_json.unlink()


def altered(run: RunFolder, field: str, value) -> None:
    """Overwrite one field of a manifest, nested ones by dots."""
    manifest = json.loads(run.manifest_json.read_text())
    *path, last = field.split(".")
    node = manifest
    for key in path:
        node = node[key]
    node[last] = value
    sign(run, manifest)
