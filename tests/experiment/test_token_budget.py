"""A run's token budget: measured in a process of its own, kept, and without effect on what is trained."""

from __future__ import annotations

import json
import multiprocessing
import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.data import practice
from kaggle_kit.experiment import preparation, token_budget, training_session
from kaggle_kit.experiment.memory_probe import MeasuringProcess, MemoryProbe, ProbeFailed
from kaggle_kit.models import tiny
from kaggle_kit.models.decisions import Decision
from kaggle_kit.training.autobatch import Found, Measured, Point, find_optimal_batch_size
from tests.experiment.test_rounds import NER, RANKING, Page, config_of, small_models  # noqa: F401

BEST = Measured(Point(192, 1), 10 * 2**30, 6 * 2**30, 850.0)


def opened(tmp_path, *more: str) -> Page:
    config = config_of("s3a_flat", NER, RANKING, more=more)
    return Page(config, start_run(config, page="toy", run_dir=tmp_path / "run"))


def settle(study: Page):
    note = token_budget.find_token_budget(study)
    return study.config, note


def on_a_gpu(study: Page, monkeypatch) -> Page:
    study.backbone.decisions["device"] = Decision("cuda", "a test")
    monkeypatch.setattr(token_budget, "device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(token_budget.torch.cuda, "mem_get_info", lambda: (0, 12 * 2**30 / 0.85))
    return study


def test_on_a_cpu_the_configured_budget_stays_and_one_line_says_why(tmp_path):
    study = opened(tmp_path)
    before = study.config
    config, note = settle(study)
    assert config == before
    assert note == "micro-batches of 2,048 tokens, as configured: on a CPU memory is not the limit"
    assert json.loads(study.run.batch_json.read_text())["token_budget"] == 2048


def test_what_was_found_is_kept_with_device_versions_and_lengths_and_taken_up_again(tmp_path, monkeypatch):
    study = on_a_gpu(opened(tmp_path), monkeypatch)
    monkeypatch.setattr(token_budget, "_search", lambda *_: Found(BEST, (BEST,)))
    config, note = settle(study)
    assert config.training.token_budget == 192
    assert "850 tokens/s with 1 layers checkpointed, peak 10.0 of 12.0 GiB allowed" in note
    kept = json.loads(study.run.batch_json.read_text())
    assert kept["device"] == "Tesla T4" and "torch" in kept["versions"]
    assert kept["lengths"] == {name: longest_group(task) for name, task in study.encoded.items()}
    assert study.backbone.decisions["token_budget"].value == "192"

    monkeypatch.setattr(token_budget, "_search", None)  # not asked again
    again = on_a_gpu(opened(tmp_path), monkeypatch)
    resumed, note = settle(again)
    assert resumed == config and note.startswith(
        "micro-batches of 192 tokens, settled in an earlier session:"
    )
    layers = again.model.backbone.get_base_model().layers
    assert [layer.gradient_checkpointing for layer in layers] == [True, False]


def test_a_lost_file_is_made_up_for_by_the_newest_checkpoint(tmp_path, monkeypatch):
    study = opened(tmp_path)
    settle(study)
    training_session.train(study, study.trainer())
    kept = json.loads(study.run.batch_json.read_text())
    study.run.batch_json.unlink()
    assert token_budget.saved_token_budget(study.run) == kept


def searched(monkeypatch) -> dict:
    """What a search on 32 layers is asked for, once it has been made; nothing is measured."""
    asked = {}
    process = nullcontext(SimpleNamespace(layers=32, measure=None))
    monkeypatch.setattr(token_budget, "MeasuringProcess", lambda built: asked.update(built=built) or process)
    monkeypatch.setattr(
        token_budget, "find_optimal_batch_size", lambda _, **o: asked.update(o) or Found(BEST, (BEST,))
    )
    return asked


def test_the_measuring_process_gets_the_ranks_that_the_model_has(tmp_path, monkeypatch):
    study = on_a_gpu(opened(tmp_path), monkeypatch)
    asked = searched(monkeypatch)
    study.model = opened(tmp_path / "other", "strategy.rank=12", "strategy.private_rank=6").model
    assert study.config.strategy.rank != 12
    settle(study)
    assert (asked["built"].strategy.rank, asked["built"].strategy.private_rank) == (12, 6)


def test_a_configured_budget_can_be_insisted_on(tmp_path, monkeypatch):
    study = on_a_gpu(opened(tmp_path, "training.autobatch=false", "training.token_budget=300"), monkeypatch)
    monkeypatch.setattr(token_budget, "_search", None)
    assert settle(study)[1] == "micro-batches of 300 tokens, as configured: training.autobatch is false"
    layers = study.model.backbone.get_base_model().layers
    assert all(layer.gradient_checkpointing for layer in layers)  # nobody has measured that fewer will do


@pytest.mark.parametrize(("parameters", "fewest"), [(3_200_000_000, 0), (7_240_000_000, 32)])
def test_all_layers_of_a_model_of_7b_or_more_are_checkpointed(tmp_path, monkeypatch, parameters, fewest):
    study = on_a_gpu(opened(tmp_path, f"model.parameters={parameters}"), monkeypatch)
    asked = searched(monkeypatch)
    settle(study)
    assert (asked["fewest"], asked["layers"]) == (fewest, 32)


def test_a_measuring_process_that_dies_leaves_the_configured_budget_and_its_last_words(tmp_path, monkeypatch):
    study = on_a_gpu(opened(tmp_path), monkeypatch)

    def search(*_):
        with MeasuringProcess(config_of("s1_single", RANKING, more=("model.path=nowhere",))):
            pass

    monkeypatch.setattr(token_budget, "_search", search)
    config, note = settle(study)
    assert config.training.token_budget == 2048
    assert "as configured: the measuring process failed" in note and "nowhere holds no config" in note


def test_another_budget_changes_micro_batches_and_neither_steps_nor_rows_nor_tokens(tmp_path):
    study = opened(tmp_path)
    other = token_budget.repack(study.plan, study.encoded, 200)
    assert token_budget.repack(study.plan, study.encoded, 2048) is study.plan
    assert other.sha256 != study.plan.sha256 and other.tokens == study.plan.tokens
    for one, two in zip(study.plan.steps, other.steps, strict=True):
        assert one.tokens == two.tokens
        assert rows_of(one) == rows_of(two)
    for batch in (batch for step in other.steps for batch in step.micro_batches):
        groups = set(study.encoded[batch.task].groups[list(batch.rows)])
        assert batch.tokens <= 200 or len(groups) == 1  # a question alone may be larger


def test_another_budget_moves_no_boundary_between_phases(tmp_path):
    study = opened(tmp_path)
    for part in preparation.HALVES:
        half = preparation.plan_training(study.config, study.encoded, part)
        other = token_budget.repack(half, study.encoded, 200)
        assert [rows_of(step) for step in half.steps] == [rows_of(step) for step in other.steps]
        assert other.settings.part == part and other.tokens == half.tokens


def longest_group(task) -> int:
    """Tokens of the largest question with its candidates, or of the longest sentence."""
    return max(int(task.lengths[task.groups == group].sum()) for group in set(task.groups))


def rows_of(step) -> set:
    return {(batch.task, row, batch.half) for batch in step.micro_batches for row in batch.rows}


def test_checkpointed_layers_change_no_gradient(tmp_path):
    study = opened(tmp_path, "model.lora.dropout=0")
    batch = study.trainer().train_dataset[0].micro_batches[0]
    gradients = []
    for layers in (0, 1, 2):
        study.model.lora.checkpoint_layers(layers)
        study.model.zero_grad()
        torch.manual_seed(5)  # the heads drop out
        losses = study.model.train().losses(batch, study.model(batch))
        sum(losses.values()).backward()
        gradients.append([p.grad.clone() for p in study.model.parameters() if p.grad is not None])
    for other in gradients[1:]:
        assert all(torch.equal(one, two) for one, two in zip(gradients[0], other, strict=True))


@pytest.mark.slow
def test_the_measuring_process_takes_real_steps_of_the_runs_own_model(monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path))
    config = config_of("s3a_flat", NER, RANKING)
    config.model.path = str(tiny.build_tiny("llama", practice.corpus_text(config.practice), steps=0))
    with MeasuringProcess(config) as process:
        found = find_optimal_batch_size(
            process.measure, layers=process.layers, limit_bytes=2**40, least=128, most=256, layer_bytes=1
        )
        children = multiprocessing.active_children()
    assert process.layers == 2 and {m.point.checkpointed for m in found.measured} == {0, 1, 2}
    assert all(m.tokens_per_second > 0 and m.peak_bytes > 2**20 for m in found.measured)
    assert children and not any(child.is_alive() for child in children)


def test_a_measuring_process_that_is_killed_is_said_to_have_failed():
    with pytest.raises(ProbeFailed, match="the measuring process failed"):
        MeasuringProcess(compose())._call(os._exit, 9)


def test_memory_is_measured_on_questions_that_share_nothing(monkeypatch, tmp_path):
    study = opened(tmp_path)
    read = []
    make = training_session.make_trainer

    def spy(*parts):
        trainer = make(*parts)
        steps = [trainer.train_dataset[number] for number in range(len(trainer.train_dataset))]
        read.extend(batch for step in steps for batch in step.micro_batches)
        return trainer

    monkeypatch.setattr(training_session, "make_trainer", spy)
    measured = MemoryProbe(study).measure(Point(192, 0))
    assert measured.tokens_per_second > 0 and {batch.task for batch in read} == {NER, RANKING}
    assert all(batch.prefixes == () for batch in read)
