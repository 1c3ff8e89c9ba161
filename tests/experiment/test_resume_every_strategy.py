"""Interrupted and resumed equals uninterrupted, bit for bit on a CPU, for every strategy of the study.

A `Session` does what a training page does, by the functions that pages call. One run never dies; the
other dies at the beginning of a step beyond its last checkpoint, and a second session, which builds
everything afresh, goes on in its folder. Then everything a run leaves is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment import preparation, scoring
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.manifest import record_run
from kaggle_kit.experiment.training_session import open_trainer, train
from kaggle_kit.experiments import ablation
from kaggle_kit.models.build import build_model
from kaggle_kit.training.checkpoint import list_checkpoints, read_checkpoint, read_manifest
from kaggle_kit.training.trainer import MultiTaskTrainer
from tests.experiment.test_rounds import reachable_target, small_models  # noqa: F401

NER_AND_RELATIONS, RANKING = "semeval2021t6", "semeval2017t3"
BOTH = (NER_AND_RELATIONS, RANKING)
FEW = ("practice.documents=3", "practice.terms=20", "training.effective_batch=4", "training.max_steps=4")
OFTEN = (
    "training.checkpoint_every=2",
    "training.quick_every=2",
    "training.quick_samples=2",
    "profile.max_dev_samples=3",
)
WHOLE = ("training.full_finetuning=true", "training.backbone_dropout=0.1")
ABLATION = ("experiment=ablation_architecture",)  # and the target that its ranks are solved for


class Death(Exception):
    """Stands for whatever ends a process without notice."""


class DieAt(TrainerCallback):
    """Raises at the beginning of the step after `step`."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            raise Death


@dataclass
class Session:
    """One process's part in a run: everything built afresh, as a page does from its first cell."""

    config: RunConfig
    folder: Path
    dies: dict[str, int] = field(default_factory=dict)  # phase -> optimiser steps done before the death

    def __post_init__(self) -> None:
        page = self.config.experiment.get("page", "toy")
        self.exp = exp = Experiment(self.config, start_run(self.config, page=page, run_dir=self.folder))
        strategy = self.config.strategy
        if "levels" in self.config.experiment:
            strategy, _ = ablation.matched_strategy(self.config, exp.backbone, exp.specs)
        exp.model = build_model(exp.backbone, exp.specs.values(), strategy)

    def to_the_end(self) -> RunFolder:
        """Train (in both phases, if the strategy has two), evaluate, record."""
        run = self.exp.run
        if run.events():
            torch.manual_seed(999)  # a session that goes on may start from any random state
        trainers = list(self.trained())
        run.write_metrics(scoring.evaluate_split(self.exp, run, "dev"))
        record_run(self.exp, trainers)
        return run

    def trained(self) -> Iterator[MultiTaskTrainer]:
        if self.config.strategy.kind != "sequential":
            yield self.phase("training")
            return
        half, other = preparation.HALVES
        self.exp.model.pretrain_shared()
        first = self.phase("shared", half)
        yield first
        self.exp.model.adapt(self.config.strategy.adapt_shared)
        yield self.phase("own", other, after=first)

    def phase(self, name: str, part: tuple[float, float] = (0.0, 1.0), after=None) -> MultiTaskTrainer:
        plan = preparation.plan_training(self.config, self.exp.encoded, part)
        trainer = open_trainer(self.exp, plan, scoring.quick_evaluation(self.exp), after)
        if name in self.dies:
            trainer.add_callback(DieAt(self.dies[name]))
        train(self.exp, trainer, name)
        return trainer


def config_of(strategy: str, *tasks: str, more: tuple[str, ...] = ()) -> RunConfig:
    two_phases = ["training.max_steps=8"] if strategy == "s4_sequential" else []
    return compose(task=list(tasks), strategy=strategy, overrides=[*FEW, *OFTEN, *two_phases, *more], seed=3)


def assert_same(run: RunFolder, other: RunFolder) -> None:
    """Checkpointed weights, losses, tokens, predictions, scores, the best step and what a page records."""
    for phase in sorted(path.name for path in run.checkpoints.iterdir()):
        assert_same_checkpoints(run.checkpoints / phase, other.checkpoints / phase)
    assert [figures(event) for event in run.events()] == [figures(event) for event in other.events()]
    assert run.tokens() == other.tokens() and len(run.tokens()) >= 4
    assert predictions(run) == predictions(other) and len(predictions(run)) >= 2
    assert run.metrics() == other.metrics()
    one, two = run.manifest(), other.manifest()
    for name in ("plans", "data_hashes", "token_parity_error", "decisions"):
        assert one.get(name) == two.get(name)
    assert one["totals"]["tokens"] == two["totals"]["tokens"]
    quick = [
        [told.get("QuickEvaluationCallback") for told in manifest["callbacks"]] for manifest in (one, two)
    ]
    assert quick[0] == quick[1] and quick[0][-1]["best_step"] in (2, 4)


def assert_same_checkpoints(folder: Path, other: Path) -> None:
    """The last one whole, random states and the optimiser's memory included, and which is the best."""
    last, *_ = list_checkpoints(folder)
    last_other, *_ = list_checkpoints(other)
    assert last.name == last_other.name
    (_, _, tensors), (_, _, tensors_other) = read_checkpoint(last), read_checkpoint(last_other)
    assert tensors.keys() == tensors_other.keys()
    for name, held in tensors.items():
        assert held.keys() == tensors_other[name].keys()
        assert [
            key for key, tensor in held.items() if not torch.equal(tensor, tensors_other[name][key])
        ] == []
    assert len(tensors["parameters"]) > 5
    best = [
        [path.name for path in list_checkpoints(f) if read_manifest(path)["best"]] for f in (folder, other)
    ]
    assert best[0] == best[1]


def figures(event: dict) -> dict:
    """An event without what it measures of this machine: seconds, speed and memory."""
    kept = ("step", "losses", "grad_norm", "learning_rate", "quick_evaluation", "conflicts", "nonfinite")
    return {name: event.get(name) for name in kept}


def predictions(run: RunFolder) -> dict[str, bytes]:
    files = (path for path in run.predictions.rglob("*") if path.is_file())
    return {path.relative_to(run.predictions).as_posix(): path.read_bytes() for path in files}


CASES = {
    "S1": ("s1_single", (NER_AND_RELATIONS,), ()),
    "S1 token-controlled": (
        "s1_single",
        (RANKING,),
        ("training.target_tokens=2400", "training.max_steps=null"),
    ),
    "S2": ("s2_shared", BOTH, ()),
    "S2 uncertainty": ("s2_shared", BOTH, ("strategy.loss_weighting=uncertainty",)),
    "S1 whole": ("s1_single", (NER_AND_RELATIONS,), WHOLE),
    "S2 whole": ("s2_shared", BOTH, WHOLE),
    "S3a": ("s3a_flat", BOTH, ("training.null_every=2",)),
    "S3b": ("s3b_hierarchical", BOTH, ()),
    "S5 on NF4": ("s5_qlora", BOTH, ()),
    **{f"A{n}": (f"a{n}", BOTH, ABLATION) for n in (1, 2, 3, 4)},
}


@pytest.mark.parametrize(("strategy", "tasks", "more"), CASES.values(), ids=CASES.keys())
def test_a_run_that_died_ends_as_one_that_never_did(tmp_path, strategy, tasks, more):
    if more is ABLATION:
        more = (*more, f"experiment.target={reachable_target(*tasks)}")
    config = config_of(strategy, *tasks, more=more)
    whole = Session(config, tmp_path / "whole").to_the_end()
    with pytest.raises(Death):
        Session(config, tmp_path / "dying", {"training": 3}).to_the_end()
    session = Session(config, tmp_path / "dying")
    run = session.to_the_end()
    assert_same(run, whole)
    ranks, declared = session.exp.model.lora.ranks, config.strategy.rank or config.model.lora.rank
    assert (more is WHOLE) == (not ranks)
    if ranks:
        assert (next(iter(ranks.values())) == declared) == (more[:1] != ABLATION)  # those of A1–A4 are solved
    manifest = run.manifest()
    assert manifest["decisions"]["quantization"][0] == (config.strategy.quantization or "none")
    assert manifest.get("token_parity_error", 0) == 0


def test_s4_that_died_in_both_phases_ends_as_one_that_never_did(tmp_path):
    config = config_of("s4_sequential", *BOTH)
    whole = Session(config, tmp_path / "whole").to_the_end()
    for dies in ({"shared": 3}, {"own": 1}, {"own": 3}):  # mid-phase, before the first save, after one
        with pytest.raises(Death):
            Session(config, tmp_path / "dying", dies).to_the_end()
    run = Session(config, tmp_path / "dying").to_the_end()
    assert_same(run, whole)
    assert [event["step"] for event in run.events()] == list(range(1, 9))
