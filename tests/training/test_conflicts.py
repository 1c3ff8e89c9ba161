"""Conflicts of half batches and of components: hand-worked cosines, and a simulated null."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from kaggle_kit.core.conflicts import ConflictCounts
from kaggle_kit.training.conflicts import ConflictReport
from kaggle_kit.training.pcgrad import PCGradOptimizer


class Shared:
    """One group of parameters of these sizes under PCGrad."""

    def __init__(self, *sizes: int) -> None:
        self.parameters = [Parameter(torch.zeros(size)) for size in sizes]
        optimizer = torch.optim.SGD(self.parameters, lr=1.0)
        self.pcgrad = PCGradOptimizer(
            optimizer, {"shared": self.parameters}, torch.Generator().manual_seed(0)
        )


def halved(shared: Shared, **halves: tuple[torch.Tensor, torch.Tensor]) -> ConflictReport:
    """A step in which each task has two halves, in `shared`'s only parameter."""
    (parameter,) = shared.parameters
    leaves = shared.pcgrad.leaves(dict.fromkeys(halves, ["shared"]))
    for task, (first, _) in halves.items():
        leaves[task][parameter].grad += first
    shared.pcgrad.halve(halves)
    for task, (_, second) in halves.items():
        leaves[task][parameter].grad += second
    return shared.pcgrad.combine()


def test_halves_are_compared_within_each_task_and_between_two():
    shared = Shared(2)
    b = torch.tensor([1.0, 0.0]), torch.tensor([-3.0, 4.0])
    report = halved(shared, b=b, a=(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])))
    halves = report.groups["shared"].halves
    assert halves["b × b"] == [pytest.approx(-0.6)] and halves["a × a"] == [pytest.approx(1.0)]
    assert halves["a × b"] == pytest.approx([0.0, 0.0, 0.8, 0.8])
    assert report.groups["shared"].gram.tolist() == [[20.0, 8.0], [8.0, 4.0]]  # the halves do not enter
    assert report.record()["shared"]["halves"].keys() == {"a × a", "a × b", "b × b"}
    shared.pcgrad.leaves({"a": ["shared"]})
    assert shared.pcgrad.combine().record() == {"shared": {"cosines": {}}}


def test_a_half_without_a_gradient_says_nothing_of_conflicts():
    shared = Shared(2)
    a, b = (torch.zeros(2), torch.tensor([1.0, 0.0])), (torch.tensor([-1.0, 0.0]),) * 2
    halves = halved(shared, a=a, b=b).record()["shared"]["halves"]
    assert halves == {"a × a": [], "a × b": pytest.approx([-1.0, -1.0]), "b × b": pytest.approx([1.0])}


@pytest.mark.parametrize(("noise", "other_noise"), [(2.0, 2.0), (3.0, 3.0), (2.0, 3.0)])
def test_without_systematic_conflict_the_excess_is_centred_on_zero(noise, other_noise):
    """Two tasks that want the same thing, with noise; whole batches against halves would lie far below 0."""
    generator, shared, counts = torch.Generator().manual_seed(11), Shared(8), ConflictCounts()
    wanted = torch.full((8,), 1.0)
    for _ in range(1500):
        a, b = (
            tuple(wanted + sd * torch.randn(8, generator=generator) for _ in range(2))
            for sd in (noise, other_noise)
        )
        counts.add(halved(shared, a=a, b=b).record())
    told = counts.summary()["shared"]
    within = (told["halves"]["a × a"]["conflict_rate"] + told["halves"]["b × b"]["conflict_rate"]) / 2
    assert abs(told["excess"]) < 0.03  # standard error about 0.013
    assert told["conflict_rate"] - within < -0.05  # whole batches beside halves


def test_tasks_that_oppose_each_other_show_an_excess():
    generator, shared, counts = torch.Generator().manual_seed(3), Shared(8), ConflictCounts()
    for _ in range(300):
        a, b = (tuple(sign + torch.randn(8, generator=generator) for _ in range(2)) for sign in (1.0, -1.0))
        counts.add(halved(shared, a=a, b=b).record())
    assert counts.summary()["shared"]["excess"] > 0.5


def test_components_of_one_task_are_compared_and_leave_its_gradient_alone():
    shared = Shared(2, 1)
    first, second = shared.parameters
    leaf, other = shared.pcgrad.leaves({"a": ["shared"]})["a"].values()
    losses = {
        "ner": (torch.tensor([1.0, 0.0]) * leaf).sum(),
        "relations": (torch.tensor([-3.0, 4.0]) * leaf).sum(),
        "nothing here": (0.0 * other).sum(),
    }
    shared.pcgrad.compare("a", losses)
    assert shared.pcgrad.compared == {"a"} and leaf.grad.tolist() == [0.0, 0.0]
    sum(losses.values()).backward()
    assert shared.pcgrad.combine().record()["shared"]["components"] == {
        "a": {"ner × relations": pytest.approx(-0.6)}
    }
    assert first.grad.tolist() == [-2.0, 4.0] and second.grad.tolist() == [0.0]
    assert shared.pcgrad.compared == set()
