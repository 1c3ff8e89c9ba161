"""PCGrad against hand-worked cases, against TorchJD, and in the situations where others go wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import Parameter
from torchjd.aggregation import PCGradWeighting

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.conflicts import ConflictReport, GroupConflicts
from kaggle_kit.training.pcgrad import BLOCK, PCGradOptimizer, gram_matrix, project_coefficients


def conflicts(group: GroupConflicts) -> int:
    """How many pairs of tasks conflict."""
    return sum(cosine < 0 for cosine in group.cosines.values())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def projected(gradients, seed: int = 0) -> torch.Tensor:
    """(K, P) projected gradients of (K, P) gradients given as nested lists or a tensor."""
    rows = torch.as_tensor(gradients, dtype=torch.float64)
    return project_coefficients(rows @ rows.T, seeded(seed)) @ rows


def seed_where(first: list[int], *then: list[int]) -> int:
    """A seed whose permutations come out as given."""
    wanted = [first, *then]
    for seed in range(10_000):
        generator = seeded(seed)
        if [torch.randperm(len(order), generator=generator).tolist() for order in wanted] == wanted:
            return seed
    raise AssertionError("no such seed below 10,000")


def paper_loop(gradients: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Algorithm 1 of the paper, on whole vectors: the (P,) update."""
    update = torch.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        g = gradient.clone()
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            if j != i and g @ gradients[j] < 0:
                g -= (g @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
        update += g
    return update


class Toy:
    """Parameters by name, and tasks whose gradients are set by hand as a backward pass would leave them."""

    def __init__(self, shared: dict[str, list[Parameter]], private: list[Parameter] = (), seed: int = 0):
        parameters = [p for group in shared.values() for p in group]
        self.shared = shared
        self.optimizer = torch.optim.SGD([*parameters, *private], lr=1.0)
        self.pcgrad = PCGradOptimizer(self.optimizer, shared, seeded(seed))
        self.given: dict[str, dict[str, list[torch.Tensor]]] = {}

    def task(self, name: str, gradients: dict[str, list[torch.Tensor]]) -> None:
        self.given[name] = gradients

    def combine(self) -> ConflictReport:
        leaves = self.pcgrad.leaves({name: list(given) for name, given in self.given.items()})
        for name, given in self.given.items():
            for group, values in given.items():
                for parameter, value in zip(self.shared[group], values, strict=True):
                    leaves[name][parameter].grad += value
        self.given = {}
        return self.pcgrad.combine()


def vectors(*rows: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(row) for row in rows]


# --- the algorithm on paper --------------------------------------------------------------------------


def test_two_conflicting_tasks_each_lose_the_part_against_the_other():
    # <g1, g2> = -1; g1 - (-1/2) g2 = (1/2, 1/2); g2 - (-1/1) g1 = (0, 1)
    rows = projected([[1.0, 0.0], [-1.0, 1.0]])
    assert rows.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_tasks_that_agree_are_summed_as_they_are():
    rows = projected([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert rows.tolist() == [[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]


THREE = [[1.0, 0.0], [-1.0, 1.0], [-1.0, -3.0]]


@pytest.mark.parametrize(
    ("order", "first_row"),
    [
        # by g2: <g1, g2> = -1, g1 + g2/2 = (1/2, 1/2); by g3: -2, + (2/10) g3 = (3/10, -1/10)
        ([0, 1, 2], [0.3, -0.1]),
        # by g3: <g1, g3> = -1, g1 + g3/10 = (9/10, -3/10); by g2: -12/10, + (6/10) g2 = (3/10, 3/10)
        ([0, 2, 1], [0.3, 0.3]),
    ],
)
def test_three_tasks_are_projected_one_after_the_other_in_the_drawn_order(order, first_row):
    rows = projected(THREE, seed_where(order))
    assert rows[0].tolist() == pytest.approx(first_row)


def test_a_projection_compares_with_the_original_gradients_of_the_others():
    # With the projected g2 = (0, 1) in place of the original, g1 would not conflict and stay (1, 0).
    seed = seed_where([1, 0], [0, 1])
    assert projected([[1.0, 0.0], [-1.0, 1.0]], seed)[0].tolist() == [0.5, 0.5]
    assert projected([[-1.0, 1.0], [1.0, 0.0]], seed)[1].tolist() == [0.5, 0.5]


def test_every_task_draws_an_order_of_its_own():
    gram = torch.eye(5, dtype=torch.float64)
    generator, expected = seeded(3), seeded(3)
    project_coefficients(gram, generator)
    orders = {tuple(torch.randperm(5, generator=expected).tolist()) for _ in range(5)}
    assert len(orders) > 1
    assert torch.equal(generator.get_state(), expected.get_state())  # five permutations and nothing else


def test_a_task_is_never_projected_against_its_own_gradient():
    # Comparing g_1 with itself as well would matter exactly where the projections by the others have
    # turned it against itself.
    found = 0
    for seed in range(400):
        gradients = torch.randn(5, 3, dtype=torch.float64, generator=seeded(seed))
        coefficients = project_coefficients(gradients @ gradients.T, seeded(seed))
        found += bool((((coefficients @ gradients) * gradients).sum(dim=1) < 0).any())
        assert (coefficients.diagonal() == 1).all()
        assert (coefficients >= 0).all()
    assert found > 0


@pytest.mark.parametrize("seed", range(20))
def test_coefficients_give_the_update_of_the_papers_loop_over_vectors(seed):
    gradients = torch.randn(5, 4, dtype=torch.float64, generator=seeded(seed))
    torch.testing.assert_close(
        projected(gradients, seed).sum(dim=0), paper_loop(gradients, seeded(seed)), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("seed", range(20))
def test_weights_agree_with_torchjd_under_the_same_permutations(seed):
    gradients = torch.randn(6, 4, dtype=torch.float64, generator=seeded(seed))
    gram = gradients @ gradients.T
    ours = project_coefficients(gram, seeded(seed)).sum(dim=0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # TorchJD draws from the global generator
        theirs = PCGradWeighting()(gram)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_zero_gradient_neither_changes_the_others_nor_divides_by_its_norm():
    rows = projected([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    assert rows.tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, 1.0]]


def test_a_norm_that_underflows_to_zero_is_no_divisor():
    gram = torch.tensor([[1.0, -1e-30], [-1e-30, 0.0]], dtype=torch.float64)
    assert project_coefficients(gram, seeded()).isfinite().all()


def test_a_common_loss_scale_passes_through():
    gradients = torch.randn(4, 3, dtype=torch.float64, generator=seeded(1))
    torch.testing.assert_close(projected(65536 * gradients), 65536 * projected(gradients))


def test_positive_task_weights_may_be_applied_before_or_after():
    gradients = torch.randn(4, 3, dtype=torch.float64, generator=seeded(2))
    weights = torch.tensor([[0.1], [3.0], [1.0], [20.0]], dtype=torch.float64)
    torch.testing.assert_close(projected(weights * gradients), weights * projected(gradients))


# --- the Gram matrix ---------------------------------------------------------------------------------


def test_the_gram_matrix_holds_inner_products():
    rows = vectors([1.0, 2.0, 3.0], [4.0, -1.0, 0.0])
    assert gram_matrix(rows).tolist() == gram_matrix(torch.stack(rows)).tolist() == [[14.0, 2.0], [2.0, 17.0]]


def test_the_gram_matrix_of_long_float32_gradients_is_good_to_a_millionth():
    generator = seeded(5)
    # A common offset makes every product positive, where float32 sums lose the most.
    rows = torch.randn(3, BLOCK * 9 + 21, generator=generator) + 0.5
    exact = rows.double()
    torch.testing.assert_close(gram_matrix(rows), exact @ exact.T, rtol=1e-6, atol=0)


# --- collecting and combining ------------------------------------------------------------------------


def test_the_combined_gradient_is_the_projected_sum_over_all_tensors_of_the_group():
    # The worked two-task case, cut into two tensors: the inner product needs both of them.
    toy = Toy({"shared": [Parameter(torch.zeros(1)), Parameter(torch.zeros(1, 1))]})
    toy.task("ner", {"shared": [torch.tensor([1.0]), torch.tensor([[0.0]])]})
    toy.task("relations", {"shared": [torch.tensor([-1.0]), torch.tensor([[1.0]])]})
    report = toy.combine().groups["shared"]
    assert [p.grad.tolist() for p in toy.shared["shared"]] == [[0.5], [[1.5]]]
    assert report.tasks == ("ner", "relations")
    assert report.weights.tolist() == [2.0, 1.5]
    assert report.cosines == {"ner × relations": pytest.approx(-(0.5**0.5))}
    assert conflicts(report) == 1


def test_micro_batches_accumulate_before_they_are_projected():
    weight = Parameter(torch.tensor([1.0, 1.0]))
    pcgrad = PCGradOptimizer(torch.optim.SGD([weight], lr=1.0), {"shared": [weight]}, seeded())
    leaves = pcgrad.leaves({"a": ["shared"], "b": ["shared"]})
    for task, micro_batches in {
        "a": vectors([3.0, 0.0], [-2.0, 0.0]),
        "b": vectors([-1.0, 0.0], [0.0, 1.0]),
    }.items():
        for x in micro_batches:
            (leaves[task][weight] @ x).backward()
        assert weight.grad is None
    pcgrad.combine()
    assert weight.grad.tolist() == [0.5, 1.5]  # of (1, 0) and (-1, 1)


def test_leaves_have_the_memory_of_the_parameter_and_the_rows_serve_every_step_again():
    parameter = Parameter(torch.tensor([1.0, 2.0]))
    toy = Toy({"shared": [parameter]})
    places = []
    for _ in range(2):
        toy.task("a", {"shared": vectors([1.0, 0.0])})
        toy.task("b", {"shared": vectors([-1.0, 1.0])})
        toy.combine()
        places.append(parameter.grad.data_ptr())
        assert parameter.grad.tolist() == [0.5, 1.5]
        toy.optimizer.zero_grad()
    assert places[0] == places[1]
    leaf = toy.pcgrad.leaves({"a": ["shared"]})["a"][parameter]
    assert leaf.data_ptr() == parameter.data_ptr() and leaf.grad.tolist() == [0.0, 0.0]
    with torch.no_grad():
        parameter.add_(1.0)
    assert leaf.tolist() == [2.0, 3.0]


def test_private_parameters_keep_their_gradients_and_stay_out_of_the_norms():
    shared, private = Parameter(torch.zeros(2)), Parameter(torch.zeros(2))
    toy = Toy({"shared": [shared]}, [private])
    private.grad = torch.tensor([100.0, -100.0])
    toy.task("a", {"shared": vectors([1.0, 0.0])})
    toy.task("b", {"shared": vectors([-1.0, 1.0])})
    report = toy.combine()
    assert private.grad.tolist() == [100.0, -100.0]
    assert shared.grad.tolist() == [0.5, 1.5]
    assert report.groups["shared"].gram.diagonal().tolist() == [1.0, 2.0]


def test_an_absent_task_is_no_row_and_an_unreached_group_keeps_no_gradient():
    trunk, top = [Parameter(torch.zeros(2))], [Parameter(torch.zeros(2))]
    unused = [Parameter(torch.zeros(2))]
    toy = Toy({"trunk": trunk, "top": top, "unused": unused})
    toy.task("ner", {"trunk": vectors([1.0, 0.0])})
    toy.task("relations", {"trunk": vectors([-1.0, 1.0]), "top": vectors([7.0, 7.0])})
    report = toy.combine()
    assert {name: group.tasks for name, group in report.groups.items()} == {
        "trunk": ("ner", "relations"),
        "top": ("relations",),
    }
    assert trunk[0].grad.tolist() == [0.5, 1.5]
    assert top[0].grad.tolist() == [7.0, 7.0]  # alone in its group, so nothing is projected
    assert unused[0].grad is None  # AdamW would decay and drift it under a zero gradient


def test_groups_are_projected_apart():
    # Together the two gradients agree: <a, b> = -1 + 4. In the first group alone they conflict.
    toy = Toy({"one": [Parameter(torch.zeros(2))], "two": [Parameter(torch.zeros(1))]})
    toy.task("a", {"one": vectors([1.0, 0.0]), "two": vectors([2.0])})
    toy.task("b", {"one": vectors([-1.0, 1.0]), "two": vectors([2.0])})
    report = toy.combine()
    assert toy.shared["one"][0].grad.tolist() == [0.5, 1.5]
    assert toy.shared["two"][0].grad.tolist() == [4.0]
    assert {name: conflicts(group) for name, group in report.groups.items()} == {"one": 1, "two": 0}


def test_a_lora_pair_whose_a_has_exactly_zero_gradients_at_the_first_step_is_driven_by_b():
    lora_a, lora_b = nn.Linear(2, 1, bias=False), nn.Linear(1, 2, bias=False)
    nn.init.constant_(lora_a.weight, 1.0)
    nn.init.zeros_(lora_b.weight)
    shared = [lora_a.weight, lora_b.weight]
    pcgrad = PCGradOptimizer(torch.optim.SGD(shared, lr=1.0), {"shared": shared}, seeded())
    x = torch.tensor([1.0, 0.0])
    targets = {"a": [1.0, 0.0], "b": [-1.0, 1.0]}
    leaves = pcgrad.leaves(dict.fromkeys(targets, ["shared"]))
    for task, target in targets.items():
        down, up = (leaves[task][weight] for weight in shared)
        (up @ (down @ x) @ torch.tensor(target)).backward()
    report = pcgrad.combine()
    assert lora_a.weight.grad.tolist() == [[0.0, 0.0]]
    assert lora_b.weight.grad.flatten().tolist() == [0.5, 1.5]
    assert conflicts(report.groups["shared"]) == 1


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_non_finite_task_is_named_and_the_whole_group_is_made_non_finite(broken):
    toy = Toy({"shared": [Parameter(torch.zeros(2)), Parameter(torch.zeros(1))]})
    toy.task("ner", {"shared": vectors([1.0, 0.0], [1.0])})
    toy.task("relations", {"shared": vectors([-1.0, broken], [1.0])})
    toy.task("ranking", {"shared": vectors([1.0, 0.0], [1.0])})
    report = toy.combine()
    assert report.nonfinite == ("relations",)
    assert report.groups["shared"].weights.isnan().all()  # never a silent (1, 1, 1)
    assert all(p.grad.isnan().all() for p in toy.shared["shared"])
    assert report.record()["shared"]["cosines"] == {"ner × ranking": pytest.approx(1.0)}


def test_a_step_after_a_non_finite_one_is_as_good_as_new():
    toy = Toy({"shared": [Parameter(torch.zeros(2))]})
    for first in ([torch.nan, 0.0], [1.0, 0.0]):
        toy.optimizer.zero_grad()
        toy.task("a", {"shared": vectors(first)})
        toy.task("b", {"shared": vectors([-1.0, 1.0])})
        report = toy.combine()
    assert report.nonfinite == ()
    assert toy.shared["shared"][0].grad.tolist() == [0.5, 1.5]


def test_a_resumed_run_draws_the_same_orders():
    gradients = torch.randn(5, 3, generator=seeded(8))
    toy, resumed = (Toy({"shared": [Parameter(torch.zeros(3))]}, seed=seed) for seed in (1, 2))

    def step(one: Toy) -> list[float]:
        one.optimizer.zero_grad()
        for name, gradient in zip("abcde", gradients, strict=True):
            one.task(name, {"shared": [gradient]})
        one.combine()
        return one.shared["shared"][0].grad.tolist()

    step(toy)
    resumed.pcgrad.generator.set_state(toy.pcgrad.generator.get_state())
    later = [step(toy) for _ in range(4)]
    assert [step(resumed) for _ in range(4)] == later
    assert len({tuple(update) for update in later}) > 1  # the orders do matter here


def test_a_parameter_in_two_groups_or_in_no_optimiser_is_refused():
    parameter, stranger = Parameter(torch.zeros(2)), Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    with pytest.raises(ConfigError, match="'one' and 'two'"):
        PCGradOptimizer(optimizer, {"one": [parameter], "two": [parameter]}, seeded())
    with pytest.raises(ConfigError, match=r"shape \(3,\) that the optimiser does not move"):
        PCGradOptimizer(optimizer, {"one": [stranger]}, seeded())
