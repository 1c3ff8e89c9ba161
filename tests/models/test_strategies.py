"""Every strategy on every architecture, dense and NF4: exactly what should train gets a gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings, StrategyConfig
from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.models.build import adapter_ranks, with_ranks
from kaggle_kit.models.loading import assert_trainable_float32

ARCHITECTURES = ("llama", "mistral", "phi3", "gemma2")
STRATEGIES = {
    "s1": {"kind": "single"},
    "s2": {"kind": "shared"},
    "a2": {"kind": "private"},
    "s3a-attention": {"kind": "shared_private", "fusion": "attention"},
    "s3a-gated": {"kind": "shared_private", "fusion": "gated"},
    "s3b-attention": {"kind": "hierarchical", "cross_level": "attention", "cross_level_rank": 4},
    "s3b-concatenation": {"kind": "hierarchical", "cross_level": "concatenation", "detach_l1_for_l2": True},
    "s4": {"kind": "sequential", "fusion": "attention"},
}
MOVED = {  # task -> groups of which it must move every parameter, once B has left zero
    "s1": {"entities": {"single"}},
    "s2": {task: {"shared"} for task in ("entities", "reading", "questions")},
    "a2": {task: {f"private:{task}"} for task in ("entities", "reading", "questions")},
    "s3a-attention": {
        task: {"shared", f"private:{task}", f"fusion:{task}"} for task in ("entities", "reading")
    },
    "s3b-attention": {
        "entities": {"shared", "level1"},
        "reading": {"shared", "level1", "cross_level", "level2"},
        "questions": {"shared", "level1", "cross_level", "level2"},
    },
    "s3b-concatenation": {
        "entities": {"shared", "level1"},
        "reading": {"shared", "level1", "cross_level", "level2"},
        "questions": {"shared", "cross_level", "level2"},  # detached: level 1 learns from its own tasks
    },
}
MOVED["s3a-gated"] = MOVED["s4"] = MOVED["s3a-attention"]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_few_steps_move_exactly_what_the_task_touches(toys, architecture, strategy, quantization):
    loaded = toys.loaded(architecture, quantization)
    assert loaded.decisions["quantization"].value == quantization
    tasks = MOVED[strategy]
    specs = [spec for spec in toys.specs if spec.name in tasks]
    model = toys.model(loaded=loaded, specs=specs, **STRATEGIES[strategy])
    assert_trainable_float32(model)
    groups = model.parameter_groups()
    trainable = {id(p) for group in groups.values() for p in group.parameters}
    assert trainable == {id(p) for p in model.parameters() if p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(3):
        for task in tasks:
            optimizer.zero_grad(set_to_none=True)
            toys.loss(model, task, seed=step).backward()
            moved = {
                name for name, group in groups.items() if any(p.grad is not None for p in group.parameters)
            }
            assert moved == tasks[task] | {f"heads:{task}"}
            for name in moved:
                gradients = [p.grad for p in groups[name].parameters]
                assert all(gradient.isfinite().all() for gradient in gradients)
                if step == 2:  # A waits for B, and what stands behind a zero matrix for that matrix
                    assert all(gradient.abs().sum() > 0 for gradient in gradients)
            optimizer.step()


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "s1"])
def test_a_question_read_once_for_its_candidates_trains_like_one_read_for_each(toys, strategy):
    model = toys.model(**STRATEGIES[strategy]).eval()  # no dropout
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    each = toys.batch("questions")  # nine, seven and four tokens, which now begin with the same three
    for start in (9, 16):
        each.input_ids[start : start + 3] = each.input_ids[:3]
    found = []
    for batch in (each, replace(each, prefixes=(WHOLE, Prefix(0, 3), Prefix(1, 3)))):
        assert len(model.layout(batch).position_ids) == (14 if batch.prefixes else 20)
        model.zero_grad()
        logits = model(batch)
        model.losses(batch, logits)["answers"].backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((logits["answers"].detach(), gradients))
    (logits, gradients), (shared_logits, shared_gradients) = found
    torch.testing.assert_close(shared_logits, logits)
    assert shared_gradients.keys() == gradients.keys()
    for name, wanted in gradients.items():
        assert (shared_gradients[name] - wanted).norm() <= 1e-4 * wanted.norm(), name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups_name_the_tasks_that_touch_them(toys, strategy):
    tasks = MOVED[strategy]
    specs = [spec for spec in toys.specs if spec.name in tasks]
    model = toys.model(specs=specs, **STRATEGIES[strategy])
    for name, group in model.parameter_groups().items():
        expected = [task for task in tasks if name in tasks[task] | {f"heads:{task}"}]
        assert list(group.tasks) == expected


def test_the_first_phase_of_s4_trains_without_private_adapters_and_the_second_keeps_shared(toys):
    model = toys.model(kind="sequential", fusion="attention")

    def moved(task: str) -> set[str]:
        model.zero_grad(set_to_none=True)
        toys.loss(model, task).backward()
        groups = model.parameter_groups().items()
        return {name for name, group in groups if any(p.grad is not None for p in group.parameters)}

    model.pretrain_shared()
    assert moved("reading") == {"shared", "heads:reading"}
    model.adapt()
    assert moved("reading") == {"private:reading", "fusion:reading", "heads:reading"}
    model.adapt(shared="continued")
    assert moved("reading") == {"shared", "private:reading", "fusion:reading", "heads:reading"}


def test_training_an_unknown_group_is_refused_with_the_names_there_are(toys):
    with pytest.raises(
        ConfigError, match="no parameter group private:other; there are shared, heads:entities"
    ):
        toys.model(kind="shared").train_only(["shared", "private:other"])


@pytest.mark.parametrize("kind", ["shared", "hierarchical"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_bidirectional_decoder_lets_early_tokens_see_late_ones(toys, kind, causal):
    model = toys.model(loaded=replace(toys.loaded("llama"), causal=causal), kind=kind)
    batch = toys.batch("reading")
    changed = replace(batch, input_ids=batch.input_ids.clone())
    changed.input_ids[8] = 3 + (batch.input_ids[8] - 2) % 60  # the last token of the first sequence
    first = model.encode(batch)[:8], model.encode(changed)[:8]
    others = model.encode(batch)[9:], model.encode(changed)[9:]
    assert torch.equal(*first) == causal
    assert torch.equal(*others)


@pytest.mark.parametrize("kind", ["shared", "hierarchical"])
def test_with_bidirectional_attention_a_decoder_still_ranks_causally_from_the_last_token(toys, kind):
    model = toys.model(loaded=replace(toys.loaded("llama"), causal=False), kind=kind).eval()

    def moved(task: str) -> bool:
        """Whether the early states of the first sequence depend on its last token."""
        batch = toys.batch(task)
        changed = replace(batch, input_ids=batch.input_ids.clone())
        changed.input_ids[8] = 3 + (batch.input_ids[8] - 2) % 60
        return not torch.equal(model.encode(batch)[:8], model.encode(changed)[:8])

    assert {task: moved(task) for task in model.specs} == {
        "entities": True,
        "reading": True,  # it ranks and tags
        "questions": False,
    }
    assert {task: model.is_causal(task) for task in model.specs} == {
        "entities": False,
        "reading": False,
        "questions": True,
    }
    batch = toys.batch("questions")
    head = model.heads["questions"]["answers"]
    pooled = model.states(batch)[2][batch.targets["answers"]["last"]].float()
    assert torch.allclose(model(batch)["answers"], head.score(pooled).squeeze(-1))


def test_an_encoder_never_ranks_causally(toys):
    loaded = toys.loaded("llama")
    encoder = replace(loaded, causal=False, config=replace(loaded.config, family="encoder"))
    model = toys.model(loaded=encoder, kind="shared")
    assert not any(model.is_causal(task) for task in model.specs)
    assert model.heads["questions"]["answers"].last_token is False


def test_four_bit_layers_still_learn_after_an_evaluation(toys):
    model = toys.model(loaded=toys.loaded("llama", "nf4"), kind="shared")

    def gradients() -> list[torch.Tensor]:
        model.train().zero_grad(set_to_none=True)
        torch.manual_seed(0)
        toys.loss(model, "entities").backward()
        return [parameter.grad for parameter in model.lora.parameters_of("shared")]

    before = gradients()
    with torch.inference_mode():
        model.eval()(toys.batch("entities"))
    torch.testing.assert_close(gradients(), before)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_private_adapters_learn_what_independent_single_task_models_learn(toys, architecture):
    """A2 is S1 in one run: each adapter's gradients, and its path over several steps, are those of S1."""
    together = toys.model(architecture, kind="private", private_rank=6).eval()  # no dropout
    optimizer = torch.optim.AdamW([p for p in together.parameters() if p.requires_grad], lr=0.02)
    alone = {}
    for spec in toys.specs:
        model = toys.model(architecture, specs=[spec], kind="single", rank=6).eval()
        copy_values(of_task(together, spec.name), of_task(model, spec.name))
        alone[spec.name] = (
            model,
            torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02),
        )
    for step in range(4):
        for task in list(alone)[: 3 if step % 2 else 2]:  # the last task has no data in every other step
            toys.loss(together, task, seed=step).backward()
            model, own = alone[task]
            toys.loss(model, task, seed=step).backward()
            for mine, theirs in zip(of_task(together, task), of_task(model, task), strict=True):
                assert torch.equal(mine.grad, theirs.grad)
            own.step()
            own.zero_grad(set_to_none=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for task, (model, _) in alone.items():
        for mine, theirs in zip(of_task(together, task), of_task(model, task), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        assert any(p.abs().sum() > 0 for p in of_task(together, task)[1::2])


def of_task(model, task: str) -> list[torch.nn.Parameter]:
    (adapter,) = model.adapters_of(task)
    return [*model.lora.parameters_of(adapter), *model.heads[task].parameters()]


def copy_values(source, target) -> None:
    with torch.no_grad():
        for one, other in zip(source, target, strict=True):
            other.copy_(one)


def test_levels_of_different_ranks_are_built_and_read_back(toys):
    model = toys.model(kind="hierarchical", rank=6, level1_rank=2, level2_rank=5)
    assert model.lora.ranks == {"shared": 6, "level1": 2, "level2": 5}
    strategy = StrategyConfig(name="toy", title="toy", kind="hierarchical")
    again = with_ranks(strategy, model.lora.ranks)
    assert (again.rank, again.private_rank, again.level1_rank, again.level2_rank) == (6, None, 2, 5)
    for kind in ("single", "shared", "private", "shared_private", "hierarchical"):
        strategy = StrategyConfig(name="toy", title="toy", kind=kind)
        ranks = adapter_ranks(strategy, toys.loaded("llama").config.lora, ["entities", "questions"])
        assert (
            adapter_ranks(with_ranks(strategy, ranks), LoraSettings(rank=99), ["entities", "questions"])
            == ranks
        )
