"""The trainer: gradients that do not depend on the batching, exact tokens, determinism, its seams."""

from __future__ import annotations

import inspect
import math
import types
from dataclasses import replace

import pytest
import torch
from transformers import Trainer

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.callbacks import StudyCallback
from kaggle_kit.training.losses import UncertaintyWeightedLoss
from kaggle_kit.training.trainer import MultiTaskTrainer, TokenControlledTrainer

NER, RANKING = "semeval2014t7", "semeval2017t3"

# What transformers 5.0.0, the oldest version in requirements.txt, calls these seams with. A method that
# it does not have is never called there; it may only serve the log.
OLDEST = {
    "__init__": "model args data_collator train_dataset eval_dataset processing_class model_init "
    "compute_loss_func compute_metrics callbacks optimizers optimizer_cls_and_kwargs "
    "preprocess_logits_for_metrics",
    "_get_train_sampler": "train_dataset",
    "_inner_training_loop": "batch_size args resume_from_checkpoint trial ignore_keys_for_eval",
    "_load_callback_state": "",
    "_load_from_checkpoint": "resume_from_checkpoint model",
    "_load_optimizer_and_scheduler": "checkpoint",
    "_load_rng_state": "checkpoint",
    "_load_scaler": "checkpoint",
    "_save_checkpoint": "model trial",
    "_save_rng_state": "output_dir",
    "compute_loss": "model inputs return_outputs num_items_in_batch",
    "create_accelerator_and_postprocess": "",
    "create_optimizer": "",
    "create_scheduler": "num_training_steps optimizer",
    "floating_point_ops": "inputs",
    "get_batch_samples": "epoch_iterator num_batches device",
    "get_train_dataloader": "",
    "log": "logs start_time",
    "save_model": "output_dir _internal_call",
    "train": "resume_from_checkpoint trial ignore_keys_for_eval",
    "training_step": "model inputs num_items_in_batch",
}
OVERRIDDEN = [
    (kind, name)
    for kind in (MultiTaskTrainer, TokenControlledTrainer)
    for name, value in vars(kind).items()
    if isinstance(value, types.FunctionType) and hasattr(Trainer, name)
]


# --- gradients and batching ------------------------------------------------------------------------


def gradients(study, folder, plan, *tasks, **options) -> dict[str, torch.Tensor]:
    """Of the plan's first step, with every trainable parameter away from its start at zero."""
    model = study.model(*tasks)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    trainer = study.trainer(model, plan, folder, options=options)
    trainer.create_optimizer()
    loss = trainer.training_step(model, trainer.train_dataset[0])
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss}


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        scale = right[name].abs().max().clamp(min=1e-3)
        assert ((left[name] - right[name]).abs().max() / scale) < 1e-5, name


@pytest.mark.parametrize("token_budget", [1, 60, 120])  # 1: every sentence by itself
def test_packed_sentences_have_the_gradients_of_one_at_a_time(study, tmp_path, token_budget):
    whole, cut = (study.plan(NER, effective_batch=16, token_budget=b) for b in (100_000, token_budget))
    assert len(whole.steps[0].micro_batches) == 1 < len(cut.steps[0].micro_batches)
    if token_budget == 1:
        assert len(cut.steps[0].micro_batches) == 16
    assert_equal(gradients(study, tmp_path, cut, NER), gradients(study, tmp_path, whole, NER))


@pytest.mark.parametrize("pcgrad_seed", [None, 7], ids=["summed", "projected"])
def test_two_tasks_have_the_same_gradients_however_the_step_is_cut(study, tmp_path, pcgrad_seed):
    whole = study.plan(NER, RANKING, effective_batch=32, token_budget=100_000)
    cut = by_group(whole, study.encoded)
    assert [len(plan.steps[0].micro_batches) > 2 for plan in (whole, cut)] == [False, True]
    found = [gradients(study, tmp_path, p, NER, RANKING, pcgrad_seed=pcgrad_seed) for p in (whole, cut)]
    assert_equal(*found)


@pytest.mark.parametrize("token_budget", [1, 500])  # less than a question with its candidates
def test_the_margins_of_a_question_do_not_depend_on_the_token_budget(study, tmp_path, token_budget):
    whole, cut = (study.plan(RANKING, effective_batch=40, token_budget=b) for b in (100_000, token_budget))
    assert len(whole.steps[0].micro_batches) == 1 < len(cut.steps[0].micro_batches)
    found = [gradients(study, tmp_path, plan, RANKING) for plan in (whole, cut)]
    assert_equal(*found)


def by_group(plan, encoded):
    """One micro-batch per sentence, and per question with all its candidates."""
    steps = []
    for step in plan.steps:
        cut = []
        for batch in step.micro_batches:
            groups = {}
            for row in batch.rows:
                groups.setdefault(encoded[batch.task].groups[row], []).append(row)
            for rows in groups.values():
                tokens = int(encoded[batch.task].lengths[rows].sum())
                cut.append(replace(batch, rows=tuple(rows), tokens=tokens))
        steps.append(replace(step, micro_batches=tuple(cut)))
    return replace(plan, steps=tuple(steps))


def test_the_effective_batch_counts_sequences_whatever_the_micro_batch(study):
    sizes = []
    for budget in (1, 60, 100_000):
        plan = study.plan(NER, effective_batch=8, token_budget=budget)
        sizes.append([sum(len(b.rows) for b in step.micro_batches) for step in plan.steps])
    assert sizes == [[8] * 5] * 3


def test_weighting_a_task_scales_its_gradient_and_leaves_the_recorded_loss(study, tmp_path):
    plan = study.plan(NER)
    plain = gradients(study, tmp_path, plan, NER)
    weighting = UncertaintyWeightedLoss([NER])
    weighting.log_variances[NER].data.fill_(-math.log(6))  # a weight of 6 / 2
    tripled = gradients(study, tmp_path, plan, NER, weighting=weighting)
    assert torch.equal(tripled.pop("loss"), plain.pop("loss"))
    assert_equal(tripled, {name: 3 * gradient for name, gradient in plain.items()})


def test_the_static_weight_of_a_component_reaches_its_gradient(study, tmp_path):
    (part,) = study.specs[NER].components
    spec = replace(study.specs[NER], components=(replace(part, loss_weight=3.0),))
    weighted = replace(study, specs=study.specs | {NER: spec})
    plain, tripled = (gradients(of, tmp_path, study.plan(NER), NER) for of in (study, weighted))
    assert_equal(tripled, {name: 3 * gradient for name, gradient in plain.items()})


def test_loss_weights_move_to_their_optimum_within_a_run_whatever_the_rate_of_the_adapters(study, tmp_path):
    plan = study.plan(NER, epochs=40.0)
    weighting = UncertaintyWeightedLoss([NER], learning_rate=0.05)
    model = study.model(NER)
    options = {"weighting": weighting}
    trainer = study.trainer(model, plan, tmp_path, options=options, learning_rate=1e-9)
    trainer.train()
    loss = trainer.record["losses"][NER]  # the adapters stand still, so it is that of every step
    assert len(plan) == 200
    assert weighting.log_variances[NER].item() == pytest.approx(math.log(loss), abs=0.3)


def test_the_heads_may_have_a_learning_rate_of_their_own(study, tmp_path):
    model = study.model(NER, RANKING)
    trainer = study.trainer(model, study.plan(NER), tmp_path, head_learning_rate=5e-4, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(3e-3, 0.1), (5e-4, 0.1)]
    heads = {id(parameter) for parameter in model.heads.parameters()}
    assert {id(parameter) for parameter in groups[1]["params"]} == heads
    moved = {id(parameter) for group in groups for parameter in group["params"]}
    assert moved == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    schedule = trainer.create_scheduler(num_training_steps=4)
    for _ in range(2):
        trainer.optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1.5e-3, 2.5e-4])  # halfway, both


def test_without_a_rate_of_their_own_the_heads_follow_the_learning_rate(study, tmp_path):
    for rate, frozen in ((None, False), (5e-4, True)):
        model = study.model(NER)
        if frozen:
            model.heads.requires_grad_(False)
        trainer = study.trainer(model, study.plan(NER), tmp_path, head_learning_rate=rate)
        assert [group["lr"] for group in trainer.create_optimizer().param_groups] == [3e-3]


# --- a whole run -----------------------------------------------------------------------------------


def trained(study, folder, seed=0, **options):
    model = study.model(NER, RANKING, dropout=0.1)
    trainer = study.trainer(model, study.plan(NER, RANKING, null_every=2), folder, options=options, seed=seed)
    torch.manual_seed(seed)
    trainer.train()
    return trainer, {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_a_run_counts_exactly_the_tokens_of_its_plan(study, tmp_path):
    trainer, _ = trained(study, tmp_path)
    assert trainer.tokens.total == trainer.train_dataset.plan.tokens
    assert trainer.tokens.step == trainer.state.global_step == len(trainer.train_dataset)


@pytest.mark.parametrize("pcgrad_seed", [None, 7], ids=["summed", "projected"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(study, tmp_path, pcgrad_seed):
    (_, first), (_, again) = (trained(study, tmp_path, pcgrad_seed=pcgrad_seed) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_seed_gives_other_weights(study, tmp_path):
    (_, first), (_, other) = (trained(study, tmp_path, seed=seed) for seed in (0, 1))
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_token_controlled_run_ends_on_its_target_to_the_token(study, tmp_path):
    target = sum(study.plan(NER).tokens.values()) * 2 + 3  # more than its data, and no whole sequence
    plan = study.plan(NER, target_tokens=target)
    arguments = study.trainer(study.model(NER), plan, tmp_path).args
    steps = PlanDataset(plan, study.encoded)
    trainer = TokenControlledTrainer(study.model(NER), steps, arguments, target_tokens=target, task=NER)
    trainer.train()
    assert trainer.tokens.total == {NER: target}
    assert trainer.parity_error == 0
    with pytest.raises(ConfigError, match=f"not .*{target + 1}"):
        TokenControlledTrainer(study.model(NER), steps, arguments, target_tokens=target + 1, task=NER)


def test_a_small_model_learns_twenty_sentences_by_heart(study, tmp_path):
    one = study.plan(NER, effective_batch=20)
    plan = replace(one, steps=one.steps[:1] * 60)
    assert sum(len(batch.rows) for batch in plan.steps[0].micro_batches) == 20
    losses = Losses()
    study.trainer(study.model(NER), plan, tmp_path, [losses], learning_rate=1e-2).train()
    assert losses.seen[-1] < 0.1 * losses.seen[0]


class Losses(StudyCallback):
    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(self.trainer.record["losses"][NER])


# --- seams -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", value))
def test_an_overridden_method_takes_what_the_library_gives(kind, name):
    if name == "__init__":
        return  # called by us, never by the library
    mine = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]
    given = [list(inspect.signature(getattr(Trainer, name)).parameters)[1:]]
    given.append(OLDEST[name].split())
    for names in given:
        assert [parameter.name for parameter in mine[: len(names)]] == names
        assert all(extra.default is not inspect.Parameter.empty for extra in mine[len(names) :])


def test_the_trainer_overrides_few_seams():
    assert len({name for _, name in OVERRIDDEN}) <= 12
