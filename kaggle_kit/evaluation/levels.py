"""How the two levels of S3b work together, measured on a model and on its predictions.

with layer_passes(model) as passes:
    model.states(batch)                          # [(0, ("shared",)), …]: which layers ran, in order
cross_level_figures(model, {"task": batches})    # {"task": {"size": 0.1, "entropy": 0.9, …}}
relations_reached(gold, predicted)               # {"relations": 20, "both mentions found": 12, …}
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.core.types import Kind, Mention, UnifiedSample
from kaggle_kit.evaluation.adapter_figures import evaluating, hooked
from kaggle_kit.models.hierarchical import CrossLevelAttention, HierarchicalMTLModel
from kaggle_kit.models.packing import PackedLayout

Passes = list[tuple[int, tuple[str, ...]]]


@contextmanager
def layer_passes(model: HierarchicalMTLModel) -> Iterator[Passes]:
    """List the layers that compute inside the block, in order, each with the adapters that are active."""
    found: Passes = []

    def note(number: int, *_: Any) -> None:
        found.append((number, model.lora.active))

    with hooked((layer, partial(note, number)) for number, layer in enumerate(model.stages.layers)):
        yield found


def cross_level_figures(
    model: HierarchicalMTLModel, batches: Mapping[str, Iterable[Any]]
) -> dict[str, dict[str, float]]:
    """Return task -> what its level 2 takes from level 1, as means over tokens.

    `size` is the norm of what crosses over that of the trunk's state, 0 before training. With attention,
    `entropy` is that of a token's weights over its highest possible, 1 where all weigh alike; `itself` is
    the weight on its own features, `mentions` that on gold mentions of level 1, beside `share of mentions`
    among the tokens that it may look at. `batches` are micro-batches by task; tasks of level 1 are left out.
    """
    found: dict[str, dict[str, float]] = {}
    with evaluating(model):
        for task, several in batches.items():
            if 2 not in model.levels_of(task):
                continue
            kept: dict[str, list[Tensor]] = defaultdict(list)
            for batch in several:
                for name, values in _token_figures(model, batch).items():
                    kept[name].append(values)
            found[task] = {name: float(torch.cat(values).mean()) for name, values in kept.items()}
    return found


@torch.no_grad()
def sentence_attention(model: HierarchicalMTLModel, batch: Any) -> Tensor | None:
    """Return the attention of the first sequence to its level-1 features: (tokens, tokens), rows sum to 1.

    None where the levels are joined without attention.
    """
    if not isinstance(model.cross, CrossLevelAttention):
        return None
    hidden, entities, layout, _ = _seen(model, batch)
    grid = next(iter(model.cross.weights(hidden, entities, layout)))
    length = int(layout.groups[0].own[0])
    return grid[0, :length, : int(layout.groups[0].lengths[0])].float().cpu()


def relations_reached(gold: Sequence[UnifiedSample], predicted: Sequence[UnifiedSample]) -> dict[str, int]:
    """Count the gold relations with both mentions among the predicted ones, and those that are found.

    A mention is found with its type and place. A relation whose mentions are not both found cannot be.
    """
    counts = dict.fromkeys(("relations", "both mentions found", "relation found"), 0)
    for right, told in zip(gold, predicted, strict=True):
        mentions = {_key(mention) for mention in told.mentions}
        found = set(_relations(told))
        for relation in _relations(right):
            counts["relations"] += 1
            counts["both mentions found"] += mentions.issuperset(relation[1:])
            counts["relation found"] += relation in found
    return counts


def _relations(sample: UnifiedSample) -> Iterator[tuple[Any, ...]]:
    keys = {mention.id: _key(mention) for mention in sample.mentions}
    for relation in sample.relations:
        if relation.source in keys and relation.target in keys:
            yield relation.type, keys[relation.source], keys[relation.target]


def _key(mention: Mention) -> tuple[Any, ...]:
    return mention.type, mention.fragments


def _seen(model: HierarchicalMTLModel, batch: Any) -> tuple[Tensor, Tensor, PackedLayout, Tensor]:
    """What the cross-level module reads and gives for one batch: trunk, entities, layout, across."""
    calls: list[tuple[Any, ...]] = []
    with hooked([(model.cross, lambda _, inputs, output: calls.append((*inputs[:3], output)))]):
        model.states(batch)
    (call,) = calls
    return call


def _token_figures(model: HierarchicalMTLModel, batch: Any) -> dict[str, Tensor]:
    """Figure -> one value a token, (tokens,)."""
    hidden, entities, layout, across = _seen(model, batch)
    found: dict[str, Tensor] = {"size": across.float().norm(dim=-1) / hidden.float().norm(dim=-1)}
    if not isinstance(model.cross, CrossLevelAttention):
        return found
    mentioned = _mention_mask(model, batch)
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for group, grid in zip(layout.groups, model.cross.weights(hidden, entities, layout), strict=True):
        weights, mask = grid.float().cpu(), group.mask(layout.causal, None).expand(grid.shape)
        real = torch.arange(weights.shape[1]) < group.own[:, None]
        several = real & (mask.sum(-1) > 1)
        entropy = torch.special.entr(weights).sum(-1) / mask.sum(-1).clamp_min(2).log()
        parts["entropy"].append(entropy[several])
        own = (group.queries[:, :, None] == group.keys[:, None]) & mask
        parts["itself"].append((weights * own).sum(-1)[real])
        if mentioned is not None:
            inside = mentioned[group.keys][:, None] & mask
            parts["mentions"].append((weights * inside).sum(-1)[real])
            parts["share of mentions"].append((inside.sum(-1) / mask.sum(-1))[real])
    return found | {name: torch.cat(values) for name, values in parts.items()}


def _mention_mask(model: HierarchicalMTLModel, batch: Any) -> Tensor | None:
    """(tokens,) whether a gold mention of level 1 has its word there; None for a task without any."""
    inside = torch.zeros(batch.tokens, dtype=torch.bool)
    tagged = [part for part in model.specs[batch.task].components if part.kind is Kind.TOKENS]
    for part in tagged:
        target = batch.targets[part.name]
        inside[target["index"][target["labels"] > 0].cpu()] = True
    return inside if tagged else None
