"""A run whose whole backbone trains, from its gate to new text, and what it counts on the way."""

from __future__ import annotations

import gc
from collections import namedtuple

import pytest
import torch

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import memory_probe, preparation, startup
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.load_trained_run import assert_reproduced, load_trained_run
from kaggle_kit.experiment.memory_probe import MemoryProbe
from kaggle_kit.experiment.training_session import run_session, smoke_gate
from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.autobatch import Point
from tests.experiment.test_rounds import page, small_models  # noqa: F401

NER, RANKING = "semeval2014t7", "semeval2017t3"
WHOLE = "training.full_finetuning=true"
QUICK = [WHOLE, "profile.max_train_samples=12", "profile.max_dev_samples=6", "training.max_steps=12"]
OFTEN = ["training.quick_every=4", "training.checkpoint_every=5"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_models) -> Experiment:  # noqa: F811
    """Several tasks by one backbone, the best quick evaluation kept."""
    runs, tasks = tmp_path_factory.mktemp("runs"), f"{NER},{RANKING}"
    settings = {"task": tasks, "strategy": "s2_shared", "overrides": QUICK + OFTEN}
    exp = Experiment.open("encoder_baselines", **settings, runs_dir=runs)
    exp.before = {name: p.detach().clone() for name, p in exp.model.lora.whole.items()}
    exp.train()
    exp.evaluate()
    exp.finish()
    return exp


def test_every_part_that_the_heads_read_has_moved_and_the_manifest_counts_it(finished):
    trained = finished.model.lora.whole
    assert [name for name, first in finished.before.items() if torch.equal(first, trained[name])] == []
    sizes = {
        name: sum(p.numel() for p in g.parameters) for name, g in finished.model.parameter_groups().items()
    }
    manifest = finished.run.manifest()
    assert list(sizes) == ["backbone", f"heads:{NER}", f"heads:{RANKING}"]
    assert manifest["parameter_groups"] == sizes
    assert manifest["active_parameters"] == {
        t: sizes["backbone"] + sizes[f"heads:{t}"] for t in (NER, RANKING)
    }
    learnt = sum(p.numel() for p in finished.session.trainers[-1].weighting.parameters())
    assert manifest["totals"]["trainable_parameters"] == sum(sizes.values()) + learnt
    assert manifest["totals"]["tokens"] == finished.session.tokens
    assert finished.run.tokens()[-1]["total"] == finished.session.tokens
    assert manifest["decisions"]["dtype"] == ["float32", "training.full_finetuning: every weight trains"]
    assert manifest["selection"]["rule"] == "best"


def test_the_gate_trains_every_weight_and_puts_it_back(tmp_path):
    exp = page(tmp_path, "s1_single", NER, more=(WHOLE, "training.learning_rate=3e-3"))
    before = {name: tensor.clone() for name, tensor in exp.model.state_dict().items()}
    assert smoke_gate(exp, [NER]).ratio <= 0.5
    after = exp.model.state_dict()
    assert [name for name, tensor in before.items() if not torch.equal(after[name], tensor)] == []


def test_the_finished_run_needs_its_base_no_longer_and_predicts_as_it_was_scored(finished, monkeypatch):
    monkeypatch.setattr(preparation, "build_tiny", lambda *_: pytest.fail("the base was opened"))
    trained = load_trained_run(finished.run.path)
    for task in (NER, RANKING):
        assert assert_reproduced(trained, task) >= 0
        gold = finished.samples("dev")[task]
        assert trained.predict_samples(task, gold) == finished.predict_samples(task, gold)
    assert list(trained.predict(["No history of diabetes."], NER))


def test_edited_weights_are_no_longer_those_of_the_run(finished, tmp_path):
    weights = finished.run.adapters / "backbone" / "model.safetensors"
    held = weights.read_bytes()
    weights.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    try:
        with pytest.raises(RunFolderError, match=r"adapters/backbone/model.safetensors edited"):
            load_trained_run(finished.run.path)
    finally:
        weights.write_bytes(held)


def test_a_page_that_builds_adapters_all_the_same_is_stopped_before_it_trains(tmp_path):
    exp = page(tmp_path, "s1_single", NER, more=(WHOLE,))
    base = exp.backbone
    lora = SharedPrivateLoRA(base.backbone, base.config.lora, {"single": 4})
    exp.model = MultiTaskModel(lora, exp.specs.values(), causal=False)
    with pytest.raises(ConfigError, match="the model of this page has adapters"):
        run_session(exp)


def test_the_batch_search_measures_steps_that_hold_the_optimisers_state_of_every_weight(
    tmp_path, monkeypatch
):
    def all_tensors(device: str) -> int:
        found = {t.data_ptr(): t.nbytes for t in gc.get_objects() if isinstance(t, torch.Tensor)}
        return sum(found.values())

    exp = page(tmp_path, "s1_single", NER, more=(WHOLE,))
    parameters = sum(p.numel() for p in exp.model.parameters() if p.requires_grad)
    monkeypatch.setattr(memory_probe, "used_bytes", all_tensors)
    measured = MemoryProbe(exp).measure(Point(192, 1))
    assert measured.peak_bytes - measured.resident_bytes >= 8 * parameters  # AdamW's two


@pytest.mark.parametrize(
    ("parameters", "free_gib", "told"),
    [
        (10**9, 14.8, "takes 14.9 GiB for tiny before the first token, and 14.8 can be had; take a smaller"),
        (10**9, 15.0, ""),
    ],
)
def test_what_memory_cannot_hold_stops_the_page(tmp_path, monkeypatch, parameters, free_gib, told):
    Memory = namedtuple("Memory", "available")
    monkeypatch.setattr(startup.psutil, "virtual_memory", lambda: Memory(free_gib * startup.GIB))
    monkeypatch.setattr(startup.shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(2**40))
    config = compose(overrides=[WHOLE, f"model.parameters={parameters}"])
    run = start_run(config, page="toy", runs_dir=tmp_path)
    if told:
        with pytest.raises(startup.StartupError, match=told):
            startup.check_startup(config, run)
    else:
        found = {finding.what: finding.found for finding in startup.check_startup(config, run)}
        assert found["memory"] == "weights, gradients and AdamW's states: 14.9 of 15.0 GiB"


def test_a_disk_that_holds_adapters_and_no_four_checkpoints_stops_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(startup.shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(6 * 2**30))
    config = compose(overrides=[WHOLE, "model.parameters=100000000"])
    run = start_run(config, page="toy", runs_dir=tmp_path)
    with pytest.raises(startup.StartupError, match=r"6.0 GiB are free in .*; 6.5 are needed"):
        startup.check_startup(config, run)  # .5 and four of 16 bytes times 100M
    startup.check_startup(compose(overrides=["model.parameters=100000000"]), run)
