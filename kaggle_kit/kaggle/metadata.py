"""What Kaggle is told of every page: the kernel-metadata.json files, made from what the pages declare.

    write(folder, page_metadata("overview", page, folder))    # python -m kaggle_kit kernels init
    checked("owner", "jane"); Sources(kernels=("jane/s2-shared",))      # ConfigError for "Jane Doe"

Field names and their checks: `kernels_push` of the kaggle client. A kernel is always private: its
output may hold what a data use agreement covers, and so the files and `push` both insist on it.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.page_files import PAGES_DIR, find_pages, parameters
from kaggle_kit.core.params import params_file
from kaggle_kit.core.records import write_atomically
from kaggle_kit.core.request import given_names
from kaggle_kit.core.runtime import KERNELS_FOLDER, SOURCE_ROOT
from kaggle_kit.core.schema import ProfileConfig

METADATA_DIR = SOURCE_ROOT / KERNELS_FOLDER
FILE_NAME = "kernel-metadata.json"  # the client reads no other name
NO_OWNER = "INSERT_OWNER_HERE"
T4 = "NvidiaTeslaT4"  # the editor's "GPU T4 x2"; Kaggle replaces an unknown name silently
LONGEST_TITLE = 50
# As the kaggle client checks them in a model's metadata (`kaggle models create`).
OWNER, NAME = r"[a-z0-9]+(?:[_-][a-z0-9]+)*", r"[a-z0-9]+(?:-[a-z0-9]+)*"
FORMS = {  # kind -> (what it must be, how that is written)
    "owner": (OWNER, "NAME, such as jane"),
    "kernel": (rf"{OWNER}/{NAME}(?:/\d+)?", "OWNER/NAME, such as jane/s2-shared"),
    "dataset": (rf"{OWNER}/{NAME}(?:/\d+)?", "OWNER/NAME, such as jane/ncbi-disease"),
    "model": (rf"{OWNER}/{NAME}/\w+/[\w.-]+/\d+", "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"),
}


class PublicKernel(KitError):
    """A kernel that is not private was about to be built or pushed."""


def checked(kind: str, name: str) -> str:
    """The name, where Kaggle can have an owner, kernel, dataset or model of that name. ConfigError if not."""
    pattern, form = FORMS[kind]
    if not re.fullmatch(pattern, name, re.ASCII):
        signs = "in lower-case letters, digits and hyphens (an owner's name with underscores, too)"
        raise ConfigError(f"{kind} {name!r}: Kaggle has {form}, {signs}; copy it from the page's address")
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


NOTHING = Sources()


def page_takes_gpu(page: Path) -> bool:
    """Whether a page at its defaults takes a GPU: not on a profile's CPU, nor where it trains nothing."""
    own = parameters(page)
    if "profile" not in own:
        return False
    name = given_names(own, {"profile": None}, own.get("overrides", ()))["profile"]
    said = OmegaConf.load(params_file(f"profile/{name}.yaml")).profile
    return said.get("device", ProfileConfig.device) != "cpu"


def describe(
    slug: str, code_file: str, gpu: bool, owner: str = NO_OWNER, sources: Sources = NOTHING
) -> dict[str, Any]:
    """One kernel-metadata.json. The title is the slug in words, because Kaggle makes one from the other.

    ConfigError for an owner that Kaggle cannot have.
    """
    if owner != NO_OWNER:
        checked("owner", owner)
    if not 5 <= len(slug) <= LONGEST_TITLE:
        raise ConfigError(f"kernel name {slug!r}: {len(slug)} characters; 5 to {LONGEST_TITLE} are allowed")
    return {
        "id": f"{owner}/{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "code_file": code_file,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": gpu,
        "enable_tpu": False,
        "enable_internet": sources.kit is None,
        **({"machine_shape": T4} if gpu else {}),
        "dataset_sources": [*([sources.kit] if sources.kit else []), *sources.datasets],
        "competition_sources": [],
        "kernel_sources": list(sources.kernels),
        "model_sources": list(sources.models),
    }


def page_metadata(name: str, page: Path, folder: Path, owner: str = NO_OWNER) -> dict[str, Any]:
    """What `folder`, a page's own below kernel-metadata/, must say.

    Without an owner it names the page's bare notebook, which looks for the kit among its inputs; with
    one, the notebook that `kernels init` builds beside the file, which carries the kit.
    """
    bare = Path(os.path.relpath(page.with_suffix(".ipynb"), folder)).as_posix()
    code_file = bare if owner == NO_OWNER else f"{name}.ipynb"
    return describe(f"kaggle-kit-{name.replace('_', '-')}", code_file, page_takes_gpu(page), owner)


def owner_of(folder: Path) -> str:
    """Who a folder's kernel belongs to; NO_OWNER where nobody has been named yet."""
    return str(read_metadata(folder)["id"]).partition("/")[0] if (folder / FILE_NAME).is_file() else NO_OWNER


def stale_metadata(folder: Path = METADATA_DIR, pages_dir: Path = PAGES_DIR) -> list[str]:
    """What is wrong with the metadata folders: a page without one, one without a page, a difference."""
    pages = find_pages(pages_dir)
    problems = [f"{path}: there is no such page" for path in _folders(folder) if path.name not in pages]
    for name, page in pages.items():
        own = folder / name
        if not (own / FILE_NAME).is_file():
            problems.append(f"{own / FILE_NAME} is missing")
        elif read_metadata(own) != page_metadata(name, page, own, owner_of(own)):
            problems.append(f"{own / FILE_NAME} differs from what the page declares")
    return problems


def known_owner(folder: Path = METADATA_DIR, otherwise: str | None = None) -> str:
    """The owner that `kernels init --owner` filled in.

    Where nobody was named yet that is `otherwise`; without it, and where several were, ConfigError.
    """
    owners = {owner_of(path) for path in _folders(folder)} - {NO_OWNER}
    if not owners and otherwise:
        return otherwise
    if len(owners) != 1:
        named = f"{folder.name}/ names {', '.join(sorted(owners)) or 'none'}"
        raise ConfigError(f"one Kaggle owner is needed, {named}; run `kernels init --owner NAME`")
    return checked("owner", owners.pop())


def refuse_public(metadata: Mapping[str, Any], where: Path) -> None:
    """PublicKernel unless the kernel is private: its output may hold restricted text."""
    private = metadata.get("is_private")
    if private is not True and private != "true":
        why = "only private kernels are pushed, for restricted corpora may not become public"
        raise PublicKernel(f"{where}: is_private is {private!r}; {why}; set it to true")


def read_metadata(folder: Path) -> dict[str, Any]:
    """A folder's metadata; ConfigError where there is none or it is not JSON."""
    path = folder / FILE_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem = "is not there" if isinstance(error, OSError) else f"is not JSON ({error})"
        raise ConfigError(f"{path} {problem}; run `python -m kaggle_kit kernels init`") from error


def write(folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write a kernel's metadata file and return its path."""
    return write_atomically(folder / FILE_NAME, json.dumps(metadata, indent=2) + "\n")


def _folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}"))
