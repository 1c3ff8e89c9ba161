"""Ways to resolve opposing gradients beside PCGrad: by matrix, and by another library's weights."""

from __future__ import annotations

import sys
from dataclasses import fields

import pytest
import torch
from torch.nn import Parameter
from torchjd.aggregation import UPGrad

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import StrategyConfig
from kaggle_kit.training import resolvers
from kaggle_kit.training.pcgrad import PCGradOptimizer, gram_matrix
from kaggle_kit.training.resolvers import RESOLVERS

NER, RANKING = "semeval2014t7", "semeval2017t3"
OTHERS = sorted(RESOLVERS.keys() - {"pcgrad"})
A = {"a": [1.0, 0.0], "b": [-1.0, 1.0]}  # oppose each other
B = {"a": [8.0, 0.0], "b": [8.0, 0.0]}  # agree, and outweigh that


def updated(method: str) -> tuple[list[list[float]], torch.Tensor]:
    """The update of two matrices, and the factors of the two tasks."""
    shared = [Parameter(torch.zeros(1, 2)), Parameter(torch.zeros(2, 1))]
    optimizer = torch.optim.SGD(shared, lr=1.0)
    generator = torch.Generator().manual_seed(0)
    pcgrad = PCGradOptimizer(optimizer, {"shared": shared}, generator, **RESOLVERS[method])
    leaves = pcgrad.leaves(dict.fromkeys(A, ["shared"]))
    for task in A:
        for parameter, rows in zip(shared, (A, B), strict=True):
            leaves[task][parameter].grad += torch.tensor(rows[task]).view_as(parameter)
    weights = pcgrad.combine().groups["shared"].weights
    return [parameter.grad.flatten().tolist() for parameter in shared], weights


def test_ortho_lora_projects_inside_each_matrix_and_pcgrad_over_all_of_them():
    assert updated("pcgrad") == ([[0.0, 1.0], [16.0, 0.0]], pytest.approx([1.0, 1.0]))
    update, weights = updated("ortho_lora")
    assert update == [[0.5, 1.5], [16.0, 0.0]]  # (1, 0) and (-1, 1) become (½, ½) and (0, 1)
    assert weights.tolist() == [1.5, 1.25]  # the mean of (2, 1½) and (1, 1)


def test_upgrad_is_the_other_librarys_and_no_task_loses_by_it():
    rows = torch.randn(4, 30, generator=torch.Generator().manual_seed(3))
    rows[1] -= rows[0]
    rows[2] -= 2 * rows[3]
    weights = resolvers.upgrad(gram_matrix(rows), torch.Generator())
    torch.testing.assert_close(weights.float() @ rows, UPGrad()(rows), rtol=1e-4, atol=1e-4)
    assert (gram_matrix(rows) @ weights >= -1e-6).all() and weights.dtype == torch.float64


def test_every_method_that_may_be_asked_for_is_there():
    declared = {field.name: field.metadata for field in fields(StrategyConfig)}
    assert tuple(declared["conflict_resolution"]["allowed"]) == tuple(RESOLVERS)


def test_upgrad_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    resolvers._weighting.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'torchjd\[quadprog-projector\]'"):
        resolvers.upgrad(torch.eye(2), torch.Generator())
    resolvers._weighting.cache_clear()


def test_a_method_without_gradients_kept_apart_is_refused():
    tasks = ["semeval2014t7", "semeval2017t3"]
    more = ["strategy.pcgrad=false", "strategy.conflict_resolution=ortho_lora"]
    with pytest.raises(ConfigError, match="conflict_resolution=ortho_lora acts on the gradients"):
        compose(task=tasks, strategy="s3a_flat", overrides=more)
    with pytest.raises(ConfigError, match="did you mean 'ortho_lora'"):
        compose(task=tasks, strategy="s3a_flat", overrides=["strategy.conflict_resolution=ortho"])


def test_a_training_run_takes_the_method_that_it_is_given(study, tmp_path):
    found = {}
    for method in ("pcgrad", *OTHERS):
        model = study.model(NER, RANKING, dropout=0.0)
        options = {"pcgrad_seed": 7, "conflict_resolution": method}
        trainer = study.trainer(
            model, study.plan(NER, RANKING, max_steps=4), tmp_path / method, options=options
        )
        torch.manual_seed(0)
        trainer.train()
        found[method] = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    assert all(weights.isfinite().all() for weights in found.values())
    assert not any(torch.equal(found["pcgrad"], found[method]) for method in OTHERS)
