"""From a strategy's name to the model that it trains.

    model = build_model(loaded, specs.values(), config.strategy)

S1 has one adapter, S2 one shared by all tasks, A2 one per task and none shared, S3a and S4 a shared one
and one per task, S3b a shared one and one per level. A backbone that is to train as a whole gets none. Draws
the adapters from torch's global generator: seed it before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings, StrategyConfig, filled_ranks
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.models.adapters import PRIVATE, SHARED, SharedPrivateLoRA, private
from kaggle_kit.models.hierarchical import LEVEL, HierarchicalMTLModel
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.models.verify import verify_stages
from kaggle_kit.models.whole import WholeBackbone

SINGLE = "single"


def build_model(loaded: Loaded, specs: Iterable[TaskSpec], strategy: StrategyConfig) -> MultiTaskModel:
    """Build the trainable model of a strategy on the backbone's device; everything trainable is float32.

    Raises ConfigError where a backbone cut in two is not the backbone.
    """
    specs, settings = tuple(specs), loaded.config.lora
    look = {"causal": loaded.causal, "decoder": loaded.decoder}
    if loaded.whole:
        return MultiTaskModel(WholeBackbone(loaded.backbone), specs, **look).to(loaded.backbone.device)
    layers = loaded.backbone.config.num_hidden_layers
    cut = cut_layer(strategy, layers) if strategy.kind == "hierarchical" else None
    lora = SharedPrivateLoRA(
        loaded.backbone,
        settings,
        adapter_ranks(strategy, settings, [spec.name for spec in specs]),
        fusion=strategy.fusion,
        fusion_rank=strategy.fusion_rank,
        only_layers=dict.fromkeys(LEVEL.values(), range(cut, layers)) if cut else None,
    )
    if cut is None:
        return MultiTaskModel(lora, specs, **look).to(loaded.backbone.device)
    model = HierarchicalMTLModel(
        lora,
        specs,
        **look,
        cut=cut,
        cross_level=strategy.cross_level,
        cross_level_rank=strategy.cross_level_rank,
        detach_l1_for_l2=strategy.detach_l1_for_l2,
    ).to(loaded.backbone.device)
    verify_stages(model.stages, causal=loaded.causal, name=loaded.config.name)
    model.activate(specs[0].name)
    return model


def adapter_ranks(strategy: StrategyConfig, settings: LoraSettings, tasks: Sequence[str]) -> dict[str, int]:
    """Return adapter -> rank: the only or the shared one, then those of the tasks or of the levels."""
    filled = filled_ranks(strategy, settings)
    ranks = {SINGLE if strategy.kind == "single" else SHARED: filled.rank}
    ranks |= {private(task): filled.private_rank for task in tasks}
    ranks |= {LEVEL[1]: filled.level1_rank, LEVEL[2]: filled.level2_rank}
    return {name: rank for name, rank in ranks.items() if rank is not None}


def with_ranks(strategy: StrategyConfig, ranks: Mapping[str, int]) -> StrategyConfig:
    """Return the strategy whose `adapter_ranks` are these: those of a model that exists or was saved."""
    own = next((rank for name, rank in ranks.items() if name.startswith(PRIVATE)), None)
    level1, level2 = (ranks.get(level) for level in LEVEL.values())
    only = ranks.get(SHARED, ranks.get(SINGLE))
    return replace(strategy, rank=only, private_rank=own, level1_rank=level1, level2_rank=level2)


def cut_layer(strategy: StrategyConfig, layers: int) -> int:
    """Return the number of the first layer above the cut; at least one layer lies on either side."""
    if layers < 2:
        raise ConfigError(f"a backbone of {layers} layer cannot be cut; the hierarchical strategy needs two")
    return min(max(1, round(strategy.cut * layers)), layers - 1)
