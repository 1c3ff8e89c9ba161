"""A step's losses by component and what LoRA adds to each layer, on a model of two layers."""

from __future__ import annotations

import pytest
import torch

from kaggle_kit.core.runs import start_run
from kaggle_kit.evaluation.adapter_figures import adapter_shares, part_of
from kaggle_kit.experiment import show
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.training.gradients import component_losses, task_loss
from tests.experiment.show_of import displayed  # noqa: F401
from tests.experiment.test_rounds import NER, config_of, small_models  # noqa: F401


@pytest.fixture
def exp(tmp_path) -> Experiment:
    config = config_of("s1_single", NER)
    opened = Experiment(config, start_run(config, page="toy", run_dir=tmp_path / "run"))
    opened.model.eval()
    return opened


def test_losses_by_component_are_means_over_the_step_and_add_up_to_the_tasks_loss(exp, displayed):  # noqa: F811
    ((_, batches),) = exp.step(0).by_task()
    losses = component_losses(exp.model, batches)
    sums = [exp.model.losses(batch, exp.model(batch)) for batch in batches]
    for name, loss in losses.items():
        counted = sum(batch.counts[name] for batch in batches)
        torch.testing.assert_close(loss, sum(found[name] for found in sums) / counted)
    torch.testing.assert_close(sum(losses.values()), task_loss(exp.model, batches))
    show.component_losses(exp, batches, losses)
    assert all(name in displayed[0] for name in losses)


def test_weights_are_said_to_have_moved_by_as_much_as_they_have(exp, displayed):  # noqa: F811
    learns = {name: p for name, p in exp.model.named_parameters() if p.requires_grad}
    first = {name: p.detach().clone() for name, p in learns.items()}
    for name, p in learns.items():
        p.data += 3.0 if part_of(name) == "layer 02" else 0.0
    show.weights_moved(exp, first)
    moved = {line.split()[0] + line.split()[1]: line for line in displayed[0].splitlines()[2:]}
    count = sum(p.numel() for name, p in learns.items() if part_of(name) == "layer 02")
    assert f"{3 * count**0.5:.3f}" in moved["layer02"] and " 0.000 " in moved["layer01"]


@pytest.mark.parametrize(
    ("parameter", "part"),
    [
        ("lora.peft.encoder.layer.11.output.dense.weight", "layer 12"),
        ("lora.peft.base_model.model.layers.0.self_attn.q_proj.lora_A.single.weight", "layer 01"),
        ("lora.peft.embeddings.word_embeddings.weight", "embeddings, norms"),
        ("heads.ner.tags.1.weight", "heads"),
    ],
)
def test_a_parameter_is_placed_by_its_name(parameter, part):
    assert part_of(parameter) == part


def test_an_adapter_adds_nothing_before_the_first_step(exp):
    found = adapter_shares(exp.model, exp.batches("dev", 2))
    assert found and {share for layers in found.values() for share in layers.values()} == {0.0}


def test_the_share_of_an_adapter_is_the_norm_of_its_part_over_that_of_the_frozen_layer(exp, displayed):  # noqa: F811
    layer = exp.model.lora.layers[0]
    (adapter,) = exp.model.adapters_of(NER)
    layer.lora_B[adapter].weight.data.fill_(0.5)
    batches = exp.batches("dev", 1)
    read = []
    hook = layer.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].detach()))
    exp.model.encode(batches[NER][0])
    hook.remove()
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    added = layer.scaling[adapter] * read[0] @ down.T @ up.T
    wanted = float(added.norm() / layer.base_layer(read[0]).norm())
    found = adapter_shares(exp.model, {NER: batches[NER][:1]})
    places = [share for layers in found.values() for share in layers.values() if share]
    assert places == [pytest.approx(wanted, rel=1e-4)]
    show.adapter_shares(exp, samples=1)
    assert displayed == ["Image"]
