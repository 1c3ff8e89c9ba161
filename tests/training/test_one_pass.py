"""One forward and one backward pass for all tasks of a step, beside each task by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertModel

from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.models.adapters import SharedPrivateLoRA
from kaggle_kit.models.attention import PACKED
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.gradients import (
    TaskTotals,
    batch_losses,
    component_losses,
    read_together,
    shared_groups,
    shared_parameters,
    task_loss,
    weighted_sum,
)
from kaggle_kit.training.pcgrad import PCGradOptimizer
from tests.models.conftest import toys  # noqa: F401
from tests.models.test_adapters import BERT, randomise
from tests.models.test_strategies import ARCHITECTURES, STRATEGIES

BUDGET = 10_000
SHARING = [name for name in STRATEGIES if name not in ("s1", "a2")]
Gradients = dict[str, Tensor]


def batches_of(toys, model, seeds=(0, 1)):  # noqa: F811
    """Two micro-batches of each task; the candidates of the second one of `questions` begin alike."""
    found = [toys.batch(task, seed) for task in model.specs for seed in seeds]
    last = found[-1]
    ids = last.input_ids.clone()
    ids[9:14], ids[16:18] = ids[:5], ids[:2]
    return [*found[:-1], replace(last, input_ids=ids, prefixes=(WHOLE, Prefix(0, 5), Prefix(0, 2)))]


def apart(model: MultiTaskModel, batches) -> tuple[dict[str, Tensor], dict[str, list[Tensor]], Gradients]:
    """Losses, shared gradients and the others, one task after the other, by plain autograd."""
    shared = shared_parameters(model)
    known = {id(parameter) for parameter in shared}
    others = {n: p for n, p in model.named_parameters() if p.requires_grad and id(p) not in known}
    losses, gradients, own = {}, {}, {name: torch.zeros_like(p) for name, p in others.items()}
    for task in model.specs:
        loss = task_loss(model, [batch for batch in batches if batch.task == task])
        found = torch.autograd.grad(loss, [*shared, *others.values()], allow_unused=True)
        losses[task], gradients[task] = loss.detach(), found[: len(shared)]
        for name, gradient in zip(others, found[len(shared) :], strict=True):
            own[name] += 0.0 if gradient is None else gradient
    return losses, gradients, own


def together(model: MultiTaskModel, batches, budget: int = BUDGET):
    """The same by the rows that the trainer reads, and how many these are."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.zero_grad()
    pcgrad = PCGradOptimizer(optimizer, shared_groups(model), torch.Generator())
    leaves = pcgrad.leaves({task: model.reached_by([task]) for task in model.specs})
    totals = {
        task: TaskTotals.of(model, [batch for batch in batches if batch.task == task]) for task in model.specs
    }
    losses = {task: torch.zeros(()) for task in model.specs}
    rows = read_together(model, batches, budget)
    for row in rows:
        parts = []
        for batch, states in zip(row, model.read(row, leaves), strict=True):
            found = batch_losses(model, batch, states, totals[batch.task])
            parts.append(weighted_sum(model, batch.task, found))
            losses[batch.task] += parts[-1].detach()
        torch.stack(parts).sum().backward()
    return losses, leaves, len(rows)


def assert_one_pass(model: MultiTaskModel, batches, rows: int, budget: int = BUDGET) -> None:
    losses, shared, own = apart(model, batches)
    found, leaves, count = together(model, batches, budget)
    assert count == rows
    for task, loss in losses.items():
        assert found[task].item() == pytest.approx(loss.item(), rel=1e-6)
        for parameter, wanted in zip(shared_parameters(model), shared[task], strict=True):
            if parameter not in leaves[task]:
                assert wanted is None
            else:
                assert_close(leaves[task][parameter].grad, wanted)
            assert parameter.grad is None  # all of it went to the leaves
    parameters = dict(model.named_parameters())
    for name, wanted in own.items():
        gradient = parameters[name].grad
        assert_close(torch.zeros_like(wanted) if gradient is None else gradient, wanted)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).norm() <= 1e-5 * wanted.norm().clamp(min=1e-4)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("strategy", SHARING)
def test_every_task_has_the_gradient_that_it_has_by_itself(toys, architecture, strategy, quantization):  # noqa: F811
    model = toys.model(loaded=toys.loaded(architecture, quantization), **STRATEGIES[strategy]).eval()
    randomise(model)
    assert_one_pass(model, batches_of(toys, model), rows=1)


@pytest.mark.parametrize("strategy", SHARING)
def test_tasks_that_look_both_ways_are_read_apart_from_those_that_look_backwards(toys, strategy):  # noqa: F811
    loaded = replace(toys.loaded("llama"), causal=False)
    model = toys.model(loaded=loaded, **STRATEGIES[strategy]).eval()
    randomise(model)
    assert [model.is_causal(task) for task in model.specs] == [False, False, True]  # ranking alone is causal
    assert_one_pass(model, batches_of(toys, model), rows=2)


def test_tasks_without_anything_shared_are_read_in_one_row_too(toys):  # noqa: F811
    model = toys.model(**STRATEGIES["a2"]).eval()
    randomise(model)
    batches = [toys.batch(task) for task in ("entities", "reading")]
    (row,) = read_together(model, batches, BUDGET)
    alone = [model.states(batch)[2] for batch in batches]
    for states, wanted in zip(model.read(row), alone, strict=True):
        torch.testing.assert_close(states[2], wanted)


@pytest.mark.parametrize(("budget", "rows"), [(1, 6), (40, 3), (60, 2), (80, 2)])
def test_the_gradients_do_not_depend_on_how_a_step_is_cut_into_rows(toys, budget, rows):  # noqa: F811
    model = toys.model(**STRATEGIES["s3b-concatenation"]).eval()
    randomise(model)
    assert_one_pass(model, batches_of(toys, model), rows, budget)


@pytest.mark.parametrize("strategy", ["s2", "s3a-attention", "s3b-attention"])
def test_recomputed_layers_fill_the_same_leaves(toys, strategy):  # noqa: F811
    model = toys.model(**STRATEGIES[strategy]).eval()
    randomise(model)
    batches = batches_of(toys, model)
    _, plain, _ = together(model, batches)
    model.lora.checkpoint_layers(3)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    _, again, _ = together(model, batches)
    for task, leaves in plain.items():
        for parameter, leaf in leaves.items():
            assert_close(again[task][parameter].grad, leaf.grad)


def test_an_encoder_that_is_packed_reads_all_tasks_in_one_row(toys):  # noqa: F811
    backbone = BertModel(BertConfig(**BERT))
    backbone.set_attn_implementation(PACKED)
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["query", "key", "value", "dense"])
    lora = SharedPrivateLoRA(backbone.requires_grad_(False), settings, {"shared": 4})
    model = MultiTaskModel(lora, toys.specs, causal=False).eval()
    randomise(model)
    assert_one_pass(model, batches_of(toys, model), rows=1)


def test_a_backbone_that_reads_padded_rows_takes_one_micro_batch_at_a_time(toys):  # noqa: F811
    backbone = BertModel(BertConfig(**BERT), add_pooling_layer=False)
    backbone.set_attn_implementation("eager")
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, targets=["query", "dense"])
    lora = SharedPrivateLoRA(backbone.requires_grad_(False), settings, {"shared": 4})
    model = MultiTaskModel(lora, toys.specs, causal=False).eval()
    assert not model.reader.packs
    randomise(model)
    assert_one_pass(model, batches_of(toys, model), rows=6)


def test_half_precision_rows_give_float32_gradients_close_to_those_of_each_task(toys):  # noqa: F811
    model = toys.model(**STRATEGIES["s3a-attention"]).eval()
    randomise(model)
    batches = batches_of(toys, model)
    with torch.autocast("cpu", torch.bfloat16):
        _, shared, _ = apart(model, batches)
        _, leaves, _ = together(model, batches)
    for task, wanted in shared.items():
        found = [leaves[task][parameter].grad for parameter in shared_parameters(model)]
        assert all(gradient.dtype == torch.float32 for gradient in found)
        flat = [torch.cat([one.flatten() for one in several]) for several in (found, wanted)]
        assert torch.cosine_similarity(*flat, dim=0) > 0.99


VIEWS = {"view", "t", "transpose", "as_strided", "expand", "slice", "select", "split", "split_with_sizes"} | {
    "detach",
    "unsqueeze",
    "squeeze",
    "alias",
    "permute",
    "_unsafe_view",
    "unbind",
    "_reshape_alias",
}


class CountedOperations(TorchDispatchMode):
    """How many operations do work: on a GPU, about as many kernels are launched."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ not in VIEWS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("strategy", "share"), [("s2", 0.5), ("s3a-attention", 0.65), ("s3b-attention", 0.65)]
)
def test_one_pass_takes_a_fraction_of_the_operations(toys, strategy, share):  # noqa: F811
    model = toys.model(**STRATEGIES[strategy]).eval()
    batches = [toys.batch(task, seed) for seed in (0, 1) for task in model.specs]
    counts = {}
    for budget in (1, BUDGET):
        with CountedOperations() as counted:
            together(model, batches, budget)
        counts[budget] = counted.count
    assert counts[BUDGET] < share * counts[1]


@pytest.mark.parametrize("strategy", SHARING)
def test_the_components_of_a_task_have_their_gradients_apart(toys, strategy):  # noqa: F811
    model = toys.model(**STRATEGIES[strategy]).eval()
    randomise(model)
    parts = {task: [part.name for part in spec.components] for task, spec in model.specs.items()}
    parts = {task: names for task, names in parts.items() if len(names) > 1}
    assert parts == {"reading": ["mentions", "answers"]}
    batch = toys.batch("reading")
    shared = shared_parameters(model)
    wanted = {
        name: torch.autograd.grad(loss, shared, allow_unused=True, retain_graph=True)
        for name, loss in component_losses(model, [batch]).items()
    }
    pcgrad = PCGradOptimizer(torch.optim.SGD(shared, lr=1.0), shared_groups(model), torch.Generator())
    leaves = pcgrad.leaves({task: model.reached_by([task]) for task in model.specs}, parts)
    (states,) = model.read([batch], leaves)
    losses = batch_losses(model, batch, states, TaskTotals.of(model, [batch]))
    for number, name in enumerate(parts["reading"]):
        pcgrad.turn_to(number)
        losses[name].backward(retain_graph=True)
        for parameter, gradient in zip(shared, wanted[name], strict=True):
            if gradient is not None:
                assert_close(leaves["reading"][parameter].grad, gradient)
    names = next(iter(pcgrad.combine().groups.values())).tasks
    assert {"reading.mentions", "reading.answers", "entities"} <= {*names}
