"""No head waits for a device: what a tensor holds never decides how long another one is, or what runs."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from kaggle_kit.heads import build_head
from tests.batches.test_batch import batch_of, notes, own_cache, questions  # noqa: F401

HIDDEN = 16
WAITS = (DataDependentOutputException, DynamicOutputShapeException)


def loss_without_values(encoded, component, rows: range) -> torch.Tensor:
    """Forward pass, loss and backward pass on tensors that have a shape and no values, as a GPU's are."""
    batch = batch_of(encoded, *rows)
    head = build_head(component, HIDDEN, decoder=False).train()
    with FakeTensorMode() as mode:
        for module in head.modules():
            for held in (module._parameters, module._buffers):
                held.update({name: mode.from_tensor(one) for name, one in held.items() if one is not None})
        targets = {name: mode.from_tensor(one) for name, one in batch.targets[component.name].items()}
        hidden = torch.randn(batch.tokens, HIDDEN, requires_grad=True)
        loss = head.loss(head(hidden, targets), targets)
        loss.backward()
    return loss


@pytest.mark.parametrize("corpus", [notes, questions])
def test_the_loss_of_every_head_is_computed_without_looking_at_a_value(corpus):
    encoded = corpus()
    for component in encoded.spec.components:
        assert loss_without_values(encoded, component, range(2)).shape == ()


def test_such_tensors_refuse_what_a_device_would_be_waited_for():
    with FakeTensorMode():
        values = torch.ones(4)
        for wait in (values.nonzero, lambda: values[values > 0], lambda: int(values.sum())):
            with pytest.raises(WAITS):
                wait()
