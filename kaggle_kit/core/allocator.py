"""The setting of torch's CUDA allocator, which counts only if it is made before torch is imported.

    set_allocator()          # before anything imports torch

`kaggle_kit` calls it before a page's first name arrives. So do the first cell of a built kernel and whoever
starts a process that trains (`page_run`, `token_budget`). `startup` shows what the allocator then uses.

Expandable segments keep rows of changing length from fragmenting a T4's 15 GiB. torch renamed the
variable, and some releases announce the new name while they read the old one only, so both are set.
"""

import os
import sys
from collections.abc import Collection, MutableMapping

from kaggle_kit.core.errors import ConfigError

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
SETTING = "expandable_segments:True"


def set_allocator(
    environ: MutableMapping[str, str] = os.environ, modules: Collection[str] = sys.modules
) -> str:
    """Set both names unless the user chose one, and return the value in force.

    Raises ConfigError where torch is imported already and the setting would come too late.
    """
    chosen = next((environ[name] for name in NAMES if environ.get(name)), SETTING)
    if all(environ.get(name) == chosen for name in NAMES):
        return chosen
    if "torch" in modules:
        then = "restart the kernel and run the bootstrap cell first"
        raise ConfigError(f"torch is imported already, and would not read {NAMES[0]}={chosen}; {then}")
    environ.update(dict.fromkeys(NAMES, chosen))
    return chosen
