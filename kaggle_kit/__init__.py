"""Multi-task fine-tuning of small language models on clinical tasks, with every token counted.

    from kaggle_kit import Experiment, show

Importing the package loads nothing heavy: each name arrives, and torch with it, when it is first used.
"""

import sys
from importlib import import_module
from typing import Any

from kaggle_kit.core.noise import leave_out_noise

__version__ = "0.1.0"

# What a page needs: the experiment, what shows it, and the names of the specification.
EXPORTS = {
    "Experiment": "kaggle_kit.experiment.experiment",
    "show": "kaggle_kit.experiment",
    "RunFolder": "kaggle_kit.core.artifacts",
    "load_trained_run": "kaggle_kit.experiment.load_trained_run",
    "load_model": "kaggle_kit.models.load_model",
    "SharedPrivateLoRA": "kaggle_kit.models.adapters",
    "AttentionFusion": "kaggle_kit.models.fusion",
    "MultiTaskModel": "kaggle_kit.models.multitask",
    "HierarchicalMTLModel": "kaggle_kit.models.hierarchical",
    "SpanClassificationHead": "kaggle_kit.heads.spans",
    "TokenClassificationHead": "kaggle_kit.heads.tokens",
    "RelationExtractionHead": "kaggle_kit.heads.relations",
    "SequenceRankingHead": "kaggle_kit.heads.ranking",
    "MultiTaskTrainer": "kaggle_kit.training.trainer",
    "TokenControlledTrainer": "kaggle_kit.training.trainer",
    "TokenTracker": "kaggle_kit.training.tokens",
    "PCGradOptimizer": "kaggle_kit.training.pcgrad",
    "UncertaintyWeightedLoss": "kaggle_kit.training.losses",
    "gram_matrix": "kaggle_kit.training.pcgrad",
    "project_coefficients": "kaggle_kit.training.pcgrad",
    "shared_gradient": "kaggle_kit.training.gradients",
    "component_losses": "kaggle_kit.training.gradients",
    "find_optimal_batch_size": "kaggle_kit.training.autobatch",
    "assert_parameter_parity": "kaggle_kit.models.parity",
}

__all__ = ["EXPORTS", "__version__", *EXPORTS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(EXPORTS)}")
    if "torch" not in sys.modules:  # it counts only before
        import_module("kaggle_kit.core.allocator").set_allocator()
    module = import_module(EXPORTS[name])
    return import_module(f"{EXPORTS[name]}.{name}") if name == "show" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)


leave_out_noise()
