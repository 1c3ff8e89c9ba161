"""Other ways than PCGrad to make one update of opposing gradients, for an ablation of it.

    PCGradOptimizer(optimizer, shared, generator, **RESOLVERS["ortho_lora"])

- `pcgrad`: surgery over a whole group of parameters (Yu et al. 2020, arXiv 2001.06782).
- `ortho_lora`: the same inside each LoRA matrix, A and B apart (arXiv 2601.09684).
- `upgrad`: each gradient is projected on the cone in which no task loses, then all are summed (Quinton and
  Rey 2024, arXiv 2406.16232), by the package torchjd.
"""

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.core.errors import ConfigError


def upgrad(gram: Tensor, generator: torch.Generator) -> Tensor:
    """Return torchjd's (K,) weights for a (K, K) Gram matrix; nothing is drawn.

    Raises ConfigError where torchjd, or the solver that it uses, is not installed.
    """
    return _weighting()(gram).to(gram.dtype)


@cache
def _weighting() -> Any:
    try:
        return importlib.import_module("torchjd.aggregation").UPGradWeighting()
    except ImportError as error:
        raise ConfigError(
            "strategy.conflict_resolution=upgrad needs a package that is not installed; "
            "pip install 'torchjd[quadprog-projector]', or take pcgrad or ortho_lora"
        ) from error


RESOLVERS: dict[str, dict[str, Any]] = {
    "pcgrad": {},
    "ortho_lora": {"per_matrix": True},
    "upgrad": {"weigh": upgrad},
}
