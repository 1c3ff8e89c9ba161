"""Names as Kaggle has them, checked before anything is built: an owner, and what a kernel reads.

checked("owner", "jane"); Sources(kernels=("jane/s2-shared",))      # ConfigError for "Jane Doe"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaggle_kit.core.errors import ConfigError

# As the kaggle client checks them in a model's metadata (`kaggle models create`).
OWNER, NAME = r"[a-z0-9]+(?:[_-][a-z0-9]+)*", r"[a-z0-9]+(?:-[a-z0-9]+)*"
FORMS = {  # kind -> (what it must be, how that is written)
    "owner": (OWNER, "NAME, such as jane"),
    "kernel": (rf"{OWNER}/{NAME}(?:/\d+)?", "OWNER/NAME, such as jane/s2-shared"),
    "dataset": (rf"{OWNER}/{NAME}(?:/\d+)?", "OWNER/NAME, such as jane/ncbi-disease"),
    "model": (rf"{OWNER}/{NAME}/\w+/[\w.-]+/\d+", "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"),
}


def checked(kind: str, name: str) -> str:
    """The name, where Kaggle can have an owner, kernel, dataset or model of that name. ConfigError if not."""
    pattern, form = FORMS[kind]
    if not re.fullmatch(pattern, name, re.ASCII):
        raise ConfigError(
            f"{kind} {name!r}: Kaggle has {form}, in lower-case letters, digits and hyphens (an owner's name "
            "with underscores, too); copy it from the page's address, which is kaggle.com/NAME for an owner"
        )
    return name


@dataclass(frozen=True, slots=True)
class Sources:
    """What a kernel reads beside its own page. ConfigError for a name that Kaggle cannot have.

    `kernels` are those whose finished runs it reads: the run of a twin, the candidates of S5. With `kit`, the
    dataset that `kernels dataset` made, the kit and its wheels come from there, and the internet is off.
    """

    datasets: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    kit: str | None = None

    def __post_init__(self) -> None:
        kit = [self.kit] if self.kit is not None else []
        named = {"dataset": [*self.datasets, *kit], "kernel": self.kernels, "model": self.models}
        for kind, names in named.items():
            for name in names:
                checked(kind, name)
