"""Dropout on a CPU: the same distribution as torch's, from fewer random bits."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest

from kaggle_kit.heads.dropout import FastDropout


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_each_element_is_dropped_with_probability_p_and_the_others_grow_by_as_much(p):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found = FastDropout(p)(torch.ones(401, 1003))
    dropped = int((found == 0).sum())
    assert binomtest(dropped, found.numel(), p).pvalue > 1e-4
    assert found[found != 0].unique().item() == pytest.approx(1 / (1 - p), rel=1e-4)


def test_neighbours_are_dropped_independently():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        dropped = (FastDropout(0.5)(torch.ones(400_001)) == 0).double()
    for lag in (1, 2, 3, 4, 8):  # four elements come from one draw
        both = torch.corrcoef(torch.stack([dropped[lag:], dropped[:-lag]]))[0, 1]
        assert abs(both) < 5 * dropped.numel() ** -0.5


def test_the_gradient_has_the_mask_of_the_output_and_the_seed_decides_it():
    x = torch.randn(7, 33, dtype=torch.float64, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        found = FastDropout(0.3)(x)
        torch.manual_seed(5)
        again = FastDropout(0.3)(x)
    assert torch.equal(found, again)
    found.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), found.detach())


def test_without_dropout_the_input_passes_as_it_is():
    x = torch.randn(3, 5)
    for layer in (FastDropout(0.0), FastDropout(0.5).eval()):
        assert torch.equal(layer(x), x)
    assert not FastDropout(1.0)(x).any()
