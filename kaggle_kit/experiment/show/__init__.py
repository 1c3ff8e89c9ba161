"""Views of an experiment for its page: tables and figures in a notebook, plain text elsewhere.

    show.setup(exp)
    show.samples(exp, per_task=1)
    show.scores(exp)

Text of restricted corpora is withheld, and whatever is no result says so. Importing this loads nothing heavy:
each name arrives when it is first used, and torch with it only where a model is looked into.
"""

from importlib import import_module
from typing import Any

EXPORTS = {  # module -> its names
    "counts": "curve_over_tokens ledgers optimisation parity token_ledger",
    "data_pages": "order",
    "error_examples": "error_browser",
    "every_page": "adapters differences errors learning_curve record samples scores setup training",
    "findings": "answers arms_training contrasts evidence gains inputs predictions rule study transfer"
    " trials values_tried winner",
    "live_panel": "live",
    "method": "adapter_shares component_losses conflict_excess conflicts fusion_weights loss_weights"
    " plain_sum sampling weights_moved",
    "strategies": "attention_map base_memory candidate cross_level level_passes nf4_errors nf4_levels"
    " own_updates phase_gradients relations_within_reach scores_by_phase",
    "views": "figure sentences table",
}
MODULES = {name: module for module, names in EXPORTS.items() for name in names.split()}

__all__ = sorted(MODULES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
