"""From a page and an experiment to a folder that `kaggle kernels push -p FOLDER` takes.

    experiment = Experiment("s1_single_task", model="minilm", task="ncbi_disease", profile="open")
    built = build_experiment(experiment, Path("build/kernels"), owner="jane")

The parameters are injected as papermill does it, nothing is executed. The same page, parameters and
kit give the same bytes.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
from papermill.parameterize import parameterize_notebook

from kaggle_kit.core import page_files
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.page_files import PAGES_DIR, page_path, parameters
from kaggle_kit.core.records import write_atomically
from kaggle_kit.core.request import given_names, with_page_defaults
from kaggle_kit.core.runs import config_run_id, refuse_misuse
from kaggle_kit.core.runtime import KAGGLE_INPUT
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.secrets import refuse_secrets
from kaggle_kit.kaggle import metadata as about
from kaggle_kit.kaggle.bundle import first_cell, pack
from kaggle_kit.kaggle.metadata import Sources, checked

CHOICES = ("model", "task", "strategy", "profile", "seed")  # parameters of every page that trains
LARGEST = 900_000  # bytes of a pushed notebook; Kaggle's own limit is not published


def trains(declared: Iterable[str]) -> bool:
    """Whether a page with these parameters trains a run of its own."""
    return set(CHOICES) <= set(declared)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One run of a training page, by the names that its `parameters` cell declares.

    `task` names several tasks with commas between them, as the pages do.
    """

    page: str
    model: str
    task: str
    strategy: str
    profile: str
    seed: int = 42
    overrides: tuple[str, ...] = ()

    @classmethod
    def of(cls, page: str, pages_dir: Path = PAGES_DIR, **named: Any) -> "Experiment":
        """The experiment of a page, names left out as `run_page` fills them in (`given_names`).

        ConfigError for a page that trains nothing.
        """
        own = parameters(page_path(page, pages_dir))
        if not trains(own):
            command = f"`kernels build {page} --from OWNER/NAME`, with the kernels whose runs it reads"
            raise ConfigError(f"{page} trains nothing, so there is no run to chain; build it by {command}")
        overrides = tuple(named.get("overrides") or ())
        chosen = given_names(own, {name: named.get(name) for name in CHOICES[:-1]}, overrides)
        overrides = tuple(with_page_defaults(own, named.get("profile"), overrides))
        seed = own["seed"] if named.get("seed") is None else named["seed"]
        return cls(page, **chosen, seed=seed, overrides=overrides)

    def config(self) -> RunConfig:
        """The configuration of its run. ConfigError for one that no kernel could train."""
        names = {"model": self.model, "strategy": self.strategy, "profile": self.profile}
        config = compose(**names, task=self.task.split(","), seed=self.seed, overrides=self.overrides)
        refuse_misuse(config, self.page)
        _refuse_local(config)
        return config


def _refuse_local(config: RunConfig) -> None:
    """ConfigError for a model or a corpus that lies where no kernel sees it."""
    if config.model.weights:
        instead = "its hub id, or a file of params/model with model.path=/kaggle/input/… and --model-source"
        raise ConfigError(f"model {config.model.path!r} is a folder of this machine; give {instead}")
    for name, task in config.tasks.items() if config.profile.corpora != "practice" else ():
        mounted = task.path and Path(task.path).is_relative_to(KAGGLE_INPUT)
        if not (mounted or (task.slugs and not task.path)):
            place = f"(path: {task.path}, slugs: {task.slugs})"
            file = f"its file (slugs: [NAME]) or tasks.{name}.path={KAGGLE_INPUT}/… with --dataset OWNER/NAME"
            then = f"make it a private dataset of yours, named by {file}"
            raise ConfigError(f"task {name!r}: no kernel sees its corpus {place}; {then}")


@dataclass(frozen=True, slots=True)
class Built:
    """A folder ready to push. `run_dir` is where the kernel writes its run, below its working folder."""

    folder: Path
    ref: str
    run_dir: str
    config_hash: str
    size: int


def build_experiment(
    experiment: Experiment,
    out: Path,
    owner: str,
    sources: Sources = about.NOTHING,
    pages_dir: Path = PAGES_DIR,
) -> Built:
    """Build `out/<slug>/` for one experiment; the corpora that it reads are attached by their usual slugs.

    Raises ConfigError for a wrong name, a parameter that the page does not declare or a page too large to
    push; SecretLeak where a token stands among the parameters.
    """
    config = experiment.config()
    run_id, hashed = config_run_id(config, experiment.page), config_hash(config)
    values = asdict(experiment) | {"overrides": list(experiment.overrides), "run_dir": f"runs/{run_id}"}
    page = page_path(values.pop("page"), pages_dir)
    checked("owner", owner)
    if config.profile.corpora != "practice":  # the owner's own private datasets hold the run's corpora
        slugs = [task.slugs[0] for task in config.tasks.values() if task.slugs and not task.path]
        sources = replace(sources, datasets=(*(f"{owner}/{slug}" for slug in slugs), *sources.datasets))
    names = f"{experiment.page}-{experiment.task}-{experiment.model}-{experiment.seed}"
    described = _described(names, hashed, config.profile.device != "cpu", owner, sources)
    return _write(out, page, values, described, hashed)


def build_reading(
    page: str, values: Mapping[str, str], out: Path, owner: str, sources: Sources = about.NOTHING
) -> Built:
    """Build `out/<slug>/` for a page that trains nothing; `values` are those of its parameters.

    It finds the finished runs where Kaggle mounts the output of `sources.kernels`. Raises ConfigError
    where nothing is named that could hold a run, and as `build_experiment` does.
    """
    if not (sources.kernels or sources.datasets):
        options = "--from OWNER/NAME for each, or a dataset with run folders, --dataset OWNER/NAME"
        raise ConfigError(f"{page} trains nothing: name the kernels whose finished runs it reads, {options}")
    asked = json.dumps([dict(values), asdict(sources)], sort_keys=True)
    hashed = hashlib.sha256(asked.encode()).hexdigest()[:16]
    return _write(out, page_path(page), values, _described(page, hashed, False, owner, sources), hashed)


def _described(names: str, hashed: str, gpu: bool, owner: str, sources: Sources) -> dict[str, Any]:
    """The metadata of a kernel that is called by its names, cut short, and one hash per configuration."""
    readable = re.sub(r"[^a-z0-9]+", "-", names.lower())
    slug = f"{readable[: about.LONGEST_TITLE - 9].rstrip('-')}-{hashed[:8]}"
    return about.describe(slug, f"{slug}.ipynb", gpu, owner, sources)


def _write(out: Path, page: Path, values: Mapping[str, Any], described: dict[str, Any], hashed: str) -> Built:
    """The folder of a kernel: its notebook with `values` in it, and its metadata."""
    folder = out / described["id"].partition("/")[2]
    text = page_text(page, values, pack() if described["enable_internet"] else None)
    write_atomically(folder / described["code_file"], text)
    about.write(folder, described)
    return Built(folder, described["id"], values.get("run_dir", ""), hashed, len(text.encode()))


def write_pages(
    owner: str | None, folder: Path = about.METADATA_DIR, pages_dir: Path = PAGES_DIR
) -> list[Path]:
    """The metadata folder of every page; with an owner, beside it the notebook that carries the kit.

    None keeps the owner that the folder names already.
    """
    owner = about.known_owner(folder, about.NO_OWNER) if owner is None else checked("owner", owner)
    written, packed = [], pack()
    for name, page in page_files.find_pages(pages_dir).items():
        own = folder / name
        written.append(about.write(own, about.page_metadata(name, page, own, owner)))
        if owner != about.NO_OWNER:
            text = page_text(page, packed=packed)
            written.append(write_atomically(own / f"{name}.ipynb", text))
    return written


def page_text(page: Path, values: Mapping[str, Any] | None = None, packed: bytes | None = None) -> str:
    """The notebook to push: the page with the unpacking cell in front and `values` injected.

    `packed` is the kit that the page carries; without it the page runs with the internet off, and the kit is
    looked for in the attached datasets.
    """
    built = page_files.notebook(page)
    if values:
        page_files.check_declared(page, values)
        built.metadata["papermill"] = {}  # papermill records there what it injected
        for cell in built.cells:
            cell.metadata.setdefault("tags", [])  # it looks for them everywhere
        built = parameterize_notebook(built, dict(values))
    run_dir = (values or {}).get("run_dir", "")
    source = first_cell(run_dir=run_dir, internet=packed is not None, packed=packed)
    opening = nbformat.v4.new_code_cell(source, metadata={"jupyter": {"source_hidden": True}})
    built.cells.insert(0, opening)
    page_files.settle_ids(built.cells)
    text = nbformat.writes(built).rstrip("\n") + "\n"
    if (size := len(text.encode())) > LARGEST:
        allowed = f"at most {LARGEST:,}; take the kit from a dataset (kernels dataset, then --kit-dataset)"
        raise ConfigError(f"{page.stem}: {size:,} bytes to push; allowed: {allowed}")
    return refuse_secrets(text, f"the notebook built from {page.name}")


def mark_session(folder: Path, session: int, *, attach: bool) -> None:
    """Number a built folder's next session, and attach the kernel's own output from the second on.

    The number travels in the notebook's metadata, so that a push whose answer was lost can be told
    from one that never arrived.
    """
    if attach:
        attach_own_output(folder)
    path = folder / about.read_metadata(folder)["code_file"]
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metadata"]["kaggle_kit"] = {"session": session}
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def attach_own_output(folder: Path) -> None:
    """Name the kernel among its own sources; only for a kernel that has ended well once."""
    described = about.read_metadata(folder)
    if described["id"] not in described["kernel_sources"]:
        described["kernel_sources"].append(described["id"])
        about.write(folder, described)


def session_of(text: str) -> int | None:
    """The session number that a notebook carries; None for a notebook without one."""
    try:
        return json.loads(text)["metadata"]["kaggle_kit"]["session"]
    except (ValueError, LookupError, TypeError):
        return None
