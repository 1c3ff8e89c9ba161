"""A page's way from configuration to manifest, at toy size and in this process, for several strategies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import wandb

from kaggle_kit.core.config import compose, strategy_entry
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import PracticeConfig, RunConfig
from kaggle_kit.data.practice import generate
from kaggle_kit.evaluation.documents import document_table, figure
from kaggle_kit.experiment import manifest, preparation, scoring, training_session
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiments import ablation
from kaggle_kit.models import tiny
from kaggle_kit.models.parity import head_parameters
from kaggle_kit.training.callbacks.alarms import VRAMCallback
from kaggle_kit.training.callbacks.development import QuickEvaluationCallback

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
NER, RANKING = "semeval2014t7", "semeval2017t3"


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory):
    """Random weights and two layers: what is tried here is the wiring."""
    build = tiny.build_tiny
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAGGLE_KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | SMALL)
        patch.setattr(preparation, "build_tiny", lambda name, texts: build(name, texts, steps=0))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def config_of(strategy: str, *tasks: str, more: tuple[str, ...] = ()) -> RunConfig:
    overrides = ["practice.documents=6", "practice.terms=20", "training.epochs=0.5", *more]
    return compose(task=list(tasks), strategy=strategy, overrides=overrides, seed=3)


def reachable_target(*tasks: str) -> int:
    """A count of active parameters that ranks can meet at toy size: the largest heads and 19 ranks or so."""
    config = config_of("a1", *tasks)
    heads = head_parameters(Experiment(config).specs.values(), SMALL["hidden_size"], decoder=True)
    return max(heads.values()) + 40_000


class Page(Experiment):
    """An experiment that a test trains by hand."""

    def trainer(self, **more):
        return training_session.open_trainer(
            self, self.plan, scoring.quick_evaluation(self, self.samples("dev")), **more
        )

    def record(self, *trainers) -> dict:
        """Score what was trained and write the manifest."""
        self.metrics = scoring.evaluate(self, self.run)
        manifest.record_run(self, trainers)
        return self.run.manifest()


def page(tmp_path: Path, strategy: str, *tasks: str, more: tuple[str, ...] = ()) -> Page:
    config = config_of(strategy, *tasks, more=more)
    return Page(config, start_run(config, page="toy", runs_dir=tmp_path))


@pytest.mark.parametrize("strategy", ["s2_shared", "s3a_flat", "s3b_hierarchical"])
def test_a_multi_task_run_counts_what_was_planned_and_scores_every_task(tmp_path, strategy):
    study = page(tmp_path, strategy, NER, RANKING)
    trainer = study.trainer()
    training_session.train(study, trainer)
    manifest = study.record(trainer)
    assert manifest["totals"]["tokens"] == study.plan.tokens
    assert manifest["flags"] == {"smoke": True, "practice": True, "restricted": False}
    assert [record["total"] for record in study.run.tokens()][-1] == study.plan.tokens
    assert len(study.run.events()) == len(study.plan)
    primary = {(metric.task, metric.name) for metric in study.run.metrics()}
    assert {(NER, "task_a_strict_f1"), (RANKING, "map")} <= primary
    assert ("conflicts" in study.run.events()[0]) == study.config.strategy.pcgrad
    for metric in (metric for metric in study.run.metrics() if metric.name in ("task_a_strict_f1", "map")):
        _, sums = document_table(study.run.read_documents(metric.task, "dev"))
        assert figure(sums.sum(axis=0)) == pytest.approx(metric.value, rel=1e-12)


@pytest.mark.parametrize(
    ("more", "epochs"),
    [(("training.epochs=4",), 3), (("training.patience=0",), None), (("training.selection=last",), None)],
)
def test_patience_is_three_epochs_of_the_plan_and_none_where_the_last_step_is_scored(tmp_path, more, epochs):
    study = page(tmp_path, "s2_shared", NER, RANKING, more=more)
    trainer = training_session.open_trainer(study, study.plan, quick=dict)
    (watch,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, QuickEvaluationCallback))
    assert watch.patience == (epochs and pytest.approx(epochs * len(study.plan) / 4, rel=0.05))


class Followed:
    """Stands for a run on Weights & Biases."""

    def __init__(self) -> None:
        self.name, self.logged, self.summary, self.config = "", [], {}, {}
        self.log, self.define_metric = self.logged.append, lambda *_, **__: None

    def init(self, **options) -> None:
        self.name, self.config = options["name"], options["config"]
        wandb.run = self


def test_a_followed_run_sends_every_figure_its_scores_and_no_word_of_a_corpus(tmp_path, monkeypatch):
    followed = Followed()
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", followed.init)
    monkeypatch.setattr(wandb, "finish", lambda: None)
    more = ("training.report_to=wandb", "training.max_steps=3", "training.quick_every=2")
    study = page(tmp_path, "s3a_flat", NER, RANKING, more=more)
    trainer = study.trainer()
    (memory,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, VRAMCallback))
    memory.every = 1
    training_session.train(study, trainer)
    manifest = study.record(trainer)
    assert [numbers["step"] for numbers in followed.logged] == [1, 2, 3]
    last = followed.logged[-1]
    assert last["tokens/all"] == sum(manifest["totals"]["tokens"].values())
    names = {name.rpartition("/")[0] or name for name in last}
    assert names >= {"losses", "tokens", "conflicts/shared/cosines", "memory_gib", "quick_evaluation"}
    assert last.keys() >= {"samples_per_second", "grad_norm", "learning_rate", "quick_evaluation/selection"}
    assert followed.config["strategy"]["sampling"] == "temperature"
    assert f"{NER}/dev/task_a_strict_f1" in followed.summary
    assert all(isinstance(value, int | float) for numbers in followed.logged for value in numbers.values())
    words = {mention.text(sample.text) for sample in study.samples()[NER] for mention in sample.mentions}
    assert words and not any(word in str([followed.logged, followed.config]) for word in words)


def test_the_manifest_says_when_a_candidate_is_a_relation_and_the_saved_heads_know_it(tmp_path):
    study = page(tmp_path, "s1_single", "semeval2016t12", more=("training.max_steps=2",))
    trainer = study.trainer()
    training_session.train(study, trainer)
    told = study.record(trainer)["relation_thresholds"]
    assert len(told["order"]) == 3
    assert told["values"]["semeval2016t12"].keys() == {"contains", "doctimerel"}
    kept = {name: head for name, head in study.model.heads.state_dict().items() if "thresholds" in name}
    assert len(kept) == 2
    for name, values in kept.items():
        component = name.split(".")[1]
        assert told["values"]["semeval2016t12"][component] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_run_is_scored_on_the_splits_that_its_profile_reports(tmp_path):
    study = page(tmp_path, "s1_single", NER, more=("profile.report=[dev,test]", "training.max_steps=2"))
    trainer = study.trainer()
    training_session.train(study, trainer)
    study.record(trainer)
    metrics = [metric for metric in study.run.metrics() if metric.name == "task_a_strict_f1"]
    assert [metric.split for metric in metrics] == ["dev", "test"]
    documents = {split: document_table(study.run.read_documents(NER, split))[0] for split in ("dev", "test")}
    gold = {split: {sample.document_id for sample in study.corpora[NER].splits[split]} for split in documents}
    assert {split: set(names) for split, names in documents.items()} == gold
    assert not gold["dev"] & gold["test"]


def test_a_token_controlled_run_ends_on_its_target_and_says_so(tmp_path):
    study = page(tmp_path, "s1_single", NER, more=("training.target_tokens=1234",))
    trainer = study.trainer()
    training_session.train(study, trainer)
    manifest = study.record(trainer)
    assert manifest["totals"]["tokens"] == {NER: 1234}
    assert manifest["token_parity_error"] == 0


def test_the_phases_of_s4_are_the_halves_of_the_plan_that_s2_follows(tmp_path):
    study, other = (page(tmp_path, name, NER, RANKING) for name in ("s4_sequential", "s2_shared"))
    halves = [preparation.plan_training(study.config, study.encoded, part) for part in preparation.HALVES]
    assert halves[0].steps + halves[1].steps == other.plan.steps
    short = page(tmp_path, "s1_single", NER, more=("training.max_steps=5", "training.epochs=3"))
    halves = [preparation.plan_training(short.config, short.encoded, part) for part in preparation.HALVES]
    assert (len(short.plan), [len(plan) for plan in halves]) == (5, [3, 2])


def test_both_phases_of_s4_count_on(tmp_path):
    study = page(tmp_path, "s4_sequential", NER, RANKING)
    study.model.pretrain_shared()
    first = study.trainer()
    training_session.train(study, first, phase="shared")
    study.model.adapt(study.config.strategy.adapt_shared)
    second = training_session.open_trainer(study, study.plan, after=first)
    training_session.train(study, second, phase="own")
    assert second.tokens.total == {task: 2 * count for task, count in study.plan.tokens.items()}
    assert [event["step"] for event in study.run.events()] == list(range(1, 2 * len(study.plan) + 1))


def test_an_unfinished_run_is_opened_again_and_goes_on_from_its_checkpoint(tmp_path):
    config = config_of("s1_single", NER, more=("training.checkpoint_every=2",))
    study = Page(config, start_run(config, page="toy", run_dir=tmp_path / "run"))
    trainer = study.trainer()
    training_session.train(study, trainer)

    again = Page(config, start_run(config, page="toy", run_dir=tmp_path / "run"))
    resumed = again.trainer()
    training_session.train(again, resumed)  # finds the end of training, takes no step
    assert resumed.tokens.total == trainer.tokens.total
    assert len(again.run.events()) == len(study.plan)
    pairs = zip(study.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_another_configuration_cannot_go_on_with_a_run(tmp_path):
    start_run(config_of("s1_single", NER), page="toy", run_dir=tmp_path / "run")
    with pytest.raises(RunFolderError, match="was started with configuration"):
        start_run(config_of("s1_single", NER, more=("seed=4",)), page="toy", run_dir=tmp_path / "run")


def test_the_ablation_gives_all_four_architectures_equal_parameters(tmp_path):
    config = config_of("a3", NER, RANKING, more=("experiment=ablation_architecture",))
    study = Page(config, start_run(config, page="ablation_architecture", runs_dir=tmp_path))
    study.config.experiment["target"] = 60_000
    strategy, variants = ablation.matched_strategy(study.config, study.backbone, study.specs)
    assert strategy.name == "a3" and strategy.kind == "shared_private"
    assert [variant.strategy.name for variant in variants] == ["a1", "a2", "a3", "a4"]
    other = replace(study.config, strategy=strategy_entry("s2_shared"))
    with pytest.raises(ConfigError, match="strategy 's2_shared' is not what experiment"):
        ablation.matched_strategy(other, study.backbone, study.specs)


def test_the_smoke_gate_puts_back_what_it_trained(tmp_path):
    more = ("training.learning_rate=1e-2", "training.epochs=1")
    study = page(tmp_path, "s1_single", NER, more=more)
    before = [parameter.clone() for parameter in study.model.parameters()]
    gate = training_session.smoke_gate(study, list(study.encoded))
    assert gate.ratio <= 0.5 and len(gate.curve) == 50
    after = study.model.parameters()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert study.run.events() == []


def test_practice_notes_that_lie_where_real_ones_would_mark_the_run_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_DATA", str(tmp_path / "data"))
    generate(tmp_path / "data", PracticeConfig(documents=4, terms=20), [NER])
    study = page(tmp_path, "s1_single", NER, more=("profile.corpora=any", "training.max_steps=1"))
    assert not study.run.facts["flags"]["practice"]
    trainer = study.trainer()
    training_session.train(study, trainer)
    assert study.record(trainer)["flags"]["practice"]
