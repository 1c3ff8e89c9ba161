"""The run folder: where one run leaves everything that other notebooks may read of it.

    run = RunFolder.create(reserve(runs_dir, run_id), to_yaml(config), config_hash(config), flags, seed=42)
    run.append_event({"step": 1, "loss": 0.7})
    run.finish(totals=Totals({"ncbi_disease": 40_960}, 147_456, 61.0), device="cpu", data_hashes={...})

`config.yaml` claims a folder and `manifest.json` completes it: the manifest is written last and
atomically, and a folder without one is unfinished. `runs.start_run` does the first line for a page.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml

from kaggle_kit.core import integrity
from kaggle_kit.core import records as disk
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.restricted import prediction_line
from kaggle_kit.core.runtime import KAGGLE_INPUT, environment, git_sha, kaggle_run_type, library_versions
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample

HEADER = "# run: "
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast
MAX_NESTING = 100  # levels of a stored configuration, which has five


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure. `n` is how many gold items it was measured on, `scorer` who defines it."""

    name: str
    value: float
    unit: str
    split: str
    n: int
    scorer: str
    task: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run cost: real (unpadded) tokens seen per task, trained parameters, wall seconds.

    `computed_tokens`: those of them whose states were computed, where a question is read once for all of
    its candidates.
    """

    tokens: dict[str, int] = field(default_factory=dict)
    trainable_parameters: int = 0
    seconds: float = 0.0
    computed_tokens: dict[str, int] = field(default_factory=dict)


class Place:
    """The path of one file or folder of a run, as an attribute of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunFolder", owner: "type[RunFolder]") -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. `facts` is what was known at its start: id, page, config hash, flags, …"""

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls, path: Path, config_yaml: str, config_hash: str, flags: Mapping[str, bool], **facts: Any
    ) -> Self:
        """Make `path` a run. What is known at its start goes into the first line of `config.yaml`.

        The file is created exclusively: RunFolderError where a run, finished or not, already lies.
        """
        facts = {"run_id": path.name} | facts
        facts |= {"config_hash": config_hash, "flags": dict(flags), "started": _now()}
        with disk.writing(path):
            for folder in ("checkpoints", "adapters", "predictions"):
                (path / folder).mkdir(parents=True, exist_ok=True)
            try:
                with (path / "config.yaml").open("x", encoding="utf-8") as file:
                    file.write(f"{HEADER}{disk.to_json(facts)}\n{config_yaml}")
            except FileExistsError as error:
                raise RunFolderError(f"{path} already holds a run; reserve a new folder") from error
        return cls(path, facts)

    @classmethod
    def open(cls, path: Path, *, finished: bool = True) -> Self:
        """Open an existing run; RunFolderError where there is none, or it must be finished and is not."""
        if not (path / "config.yaml").is_file():
            raise RunFolderError(f"{path} is no run folder: it has no config.yaml; give a run's own folder")
        run = cls(path, disk.Recorded.read(path / "config.yaml", _first_line))
        if finished:
            integrity.assert_unchanged(path, run.manifest()["files"], integrity.READ)
        return run

    def verify(self) -> None:
        """Raise RunFolderError where any result file, weights included, is not as the run left it."""
        integrity.assert_unchanged(self.path, self.manifest()["files"])

    config_yaml = Place("config.yaml")
    events_jsonl = Place("events.jsonl")
    tokens_jsonl = Place("tokens.jsonl")
    checkpoints = Place("checkpoints")
    adapters = Place("adapters")
    predictions = Place("predictions")
    documents = Place("documents")
    metrics_json = Place("metrics.json")
    manifest_json = Place("manifest.json")
    paused_json = Place("paused.json")
    batch_json = Place("batch.json")
    gate_json = Place("gate.json")
    notebook = Place("notebook.ipynb")

    @property
    def run_id(self) -> str:
        """The run's identifier, which is its folder's name."""
        return self.path.name

    @property
    def best_development(self) -> "RunFolder":
        """What a total control scores at its best development point: files as at the top level."""
        return RunFolder(self.path / "best_development", self.facts)

    @property
    def finished(self) -> bool:
        """Whether the run has its manifest, which is written last."""
        return self.manifest_json.is_file()

    def config(self) -> dict[str, Any]:
        """Return the resolved configuration as plain values, readable whatever version wrote it."""
        return disk.Recorded.read(self.config_yaml, _shallow_yaml)

    def official(self, task: str) -> Path:
        """Return the folder for the task's predictions in its own file format."""
        return self.predictions / "official" / task

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append one line per optimiser step; a figure that is not finite is written as null."""
        disk.append_record(self.events_jsonl, event)

    def append_tokens(self, tokens: Mapping[str, Any]) -> None:
        """Append one line per optimiser step: `step`, and the cumulative real tokens of every task."""
        disk.append_record(self.tokens_jsonl, tokens)

    def events(self) -> list[dict[str, Any]]:
        """Read `events.jsonl`, one dict per optimiser step."""
        return disk.read_records(self.events_jsonl)

    def tokens(self) -> list[dict[str, Any]]:
        """Read `tokens.jsonl`, one dict of counts per optimiser step."""
        return disk.read_records(self.tokens_jsonl)

    def write_metrics(self, metrics: Iterable[Metric]) -> Path:
        """Write `metrics.json`; RunFolderError for a figure that is not finite: no page could read it."""
        records = [disk.plain(asdict(metric)) for metric in metrics]
        return disk.write_json(self.metrics_json, integrity.checked_metrics(records, self.metrics_json))

    def metrics(self) -> list[Metric]:
        """Read the run's figures; empty where the page recorded none. RunFolderError for one that is none."""
        if not self.metrics_json.is_file():
            return []
        with disk.reading(self.metrics_json):
            records = json.loads(self.metrics_json.read_text(encoding="utf-8"))
            return [Metric(**record) for record in integrity.checked_metrics(records, self.metrics_json)]

    def write_predictions(self, task: str, split: str, samples: Iterable[UnifiedSample]) -> Path:
        """Write `predictions/<task>.<split>.jsonl`: offsets, labels, scores and ids, without any text."""
        lines = map(prediction_line, samples)
        return disk.write_atomically(self.predictions / f"{task}.{split}.jsonl", "".join(lines))

    def pause(self, **facts: Any) -> Path:
        """Mark the run as paused: its session is over before its training. `facts` say how to go on."""
        return disk.write_json(self.paused_json, {"paused": _now(), **facts})

    def paused(self) -> dict[str, Any] | None:
        """Return the pause's record; None for a run that nothing has paused since it last went on."""
        return disk.Recorded.read(self.paused_json) if self.paused_json.is_file() else None

    def go_on(self) -> None:
        """Mark the run as no longer paused."""
        self.paused_json.unlink(missing_ok=True)

    def write_documents(self, task: str, split: str, records: Iterable[Mapping[str, Any]]) -> Path:
        """Write `documents/<task>.<split>.jsonl`: each document's share of the task's primary metric."""
        path = self.documents / f"{task}.{split}.jsonl"
        checked = integrity.checked_documents([disk.plain(record) for record in records], path)
        return disk.write_atomically(path, "".join(disk.to_json(record) + "\n" for record in checked))

    def read_documents(self, task: str, split: str) -> list[dict[str, Any]]:
        """Read a task's figures per document; empty where the page wrote none, or the metric has no parts.

        RunFolderError for a document twice, and for a count or value that is none.
        """
        path = self.documents / f"{task}.{split}.jsonl"
        with disk.reading(path):
            return integrity.checked_documents(disk.read_records(path), path)

    def finish(self, *, totals: Totals, device: str, data_hashes: Mapping[str, str], **more: Any) -> Path:
        """Write the manifest, which makes the run count. `more` adds facts of the page's own.

        It holds the SHA-256 of every result file, so that whoever reads the run knows what was edited since.
        RunFolderError for a run that is already finished: a result is never replaced.
        """
        if self.finished:
            raise RunFolderError(f"{self.path} is already finished; start a new run instead")
        manifest = {
            "complete": True,
            **self.facts,
            **more,
            "finished": _now(),
            "device": device,
            "totals": asdict(totals),
            "data_hashes": dict(data_hashes),
            "versions": library_versions(),
            "git_sha": git_sha(),
            "environment": environment(self.path),
        }
        stored = json.loads(disk.to_json(manifest))
        return disk.write_json(self.manifest_json, integrity.signed(self.path, stored))

    def manifest(self) -> dict[str, Any]:
        """Read the manifest; RunFolderError for an unfinished, unsigned or edited one."""
        if not self.finished:
            raise RunFolderError(f"{self.path} is unfinished (no manifest.json); run its page to the end")
        manifest = disk.Recorded.read(self.manifest_json)
        integrity.assert_signed(manifest, self.manifest_json)
        return manifest


def left_out_of(manifest: Mapping[str, Any], task: str) -> str:
    """Say how many training documents of a task a run left out, with a digest of their ids."""
    ids = sorted(manifest.get("left_out", {}).get(task, ()))
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]
    return f"{len(ids)} documents ({digest})" if ids else "no document"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _first_line(text: str) -> Any:
    """Return what `create` wrote into the first line of config.yaml; ValueError for a file of others."""
    first = text.partition("\n")[0]
    if not first.startswith(HEADER):
        raise ValueError(f"line 1 does not begin with {HEADER!r}")
    return json.loads(first.removeprefix(HEADER))


def _shallow_yaml(text: str) -> Any:
    """Load YAML; YAMLError for deep nesting, which ends the whole process in a PyYAML below 6.0.4."""
    depth = 0
    for event in yaml.parse(text, Loader=SAFE_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            raise yaml.YAMLError(f"it is nested more than {MAX_NESTING} levels deep")
    return yaml.load(text, Loader=SAFE_LOADER)


def reserve(runs_dir: Path, run_id: str) -> Path:
    """Return a new, empty folder for a run: `<runs_dir>/<run_id>`, or with `-2`, `-3`, … where one exists."""
    path, number = runs_dir / run_id, 1
    with disk.writing(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(FileExistsError):
                path.mkdir()
                return path
            number += 1
            path = runs_dir / f"{run_id}-{number}"


def find_runs(runs_dir: Path, damaged: list[str] | None = None) -> list[RunFolder]:
    """Return the finished runs of a folder, by name; none where the folder is absent.

    A run that is damaged, edited or unsigned is a RunFolderError; given a list for `damaged`, it is left out,
    and a sentence on it is added there.

    In a Kaggle session those of attached outputs and datasets follow, so that a page finds the runs it
    reads (the run of a twin, the candidates of S5) where another kernel left them.
    """
    found: dict[str, RunFolder] = {}
    for folder in _finished_folders(runs_dir):
        if folder.name in found:
            continue
        try:
            found[folder.name] = RunFolder.open(folder)
        except RunFolderError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
    return list(found.values())


def unfinished_beside(runs: Iterable[RunFolder]) -> list[RunFolder]:
    """Return the folders beside finished runs in which a run began and none has finished, by name."""
    places = dict.fromkeys(run.path.parent for run in runs)
    folders = (file.parent for place in places for file in sorted(place.glob("*/config.yaml")))
    begun = (folder for folder in folders if not (folder / "manifest.json").is_file())
    return [RunFolder.open(folder, finished=False) for folder in begun if _begins_as_a_run(folder)]


def ending(run: RunFolder) -> str:
    """Say how far an unfinished run came: paused, failed by the error of its page, or broken off."""
    if note := run.paused():
        return f"paused at step {note.get('step')} of {note.get('steps')}"
    try:
        cells = json.loads(run.notebook.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        errors = [output["ename"] for output in outputs if output.get("output_type") == "error"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        errors = []
    steps = len(run.events())
    return f"failed by {errors[-1]} after {steps} steps" if errors else f"broken off after {steps} steps"


def find_run(runs_dir: Path, named: str) -> RunFolder:
    """Return a finished run by its id in `find_runs`, or by its folder's path. Raises RunFolderError."""
    found = (folder for folder in _finished_folders(runs_dir) if folder.name == named)
    return RunFolder.open(next(found, runs_dir / named))


def _finished_folders(runs_dir: Path) -> list[Path]:
    """Own folders with a manifest, then attached ones; nothing of them is read but how they begin."""
    folders = [path.parent for path in sorted(runs_dir.glob("*/manifest.json"))]
    if kaggle_run_type():
        attached = (path.parent for path in sorted(KAGGLE_INPUT.glob("**/manifest.json")))
        folders += [folder for folder in attached if _begins_as_a_run(folder)]
    return [folder for folder in folders if (folder / "config.yaml").is_file()]


def _begins_as_a_run(folder: Path) -> bool:
    """Whether its config.yaml is one of ours: other datasets have files of these names, too."""
    try:
        return (folder / "config.yaml").read_bytes().startswith(HEADER.encode())
    except OSError:
        return False


def read_predictions(run: RunFolder, task: str, split: str) -> list[UnifiedSample]:
    """Return the predicted samples of a split, without texts, in the order in which they were predicted.

    RunFolderError where the run kept none, and where the file was edited since or is damaged.
    """
    path = run.predictions / f"{task}.{split}.jsonl"
    if not path.is_file():
        kept = ", ".join(sorted(file.stem for file in run.predictions.glob("*.jsonl"))) or "none"
        raise RunFolderError(f"{run.run_id} kept no predictions of {task} on {split}; it has {kept}")
    integrity.assert_unchanged(run.path, run.manifest()["files"], ("predictions",))
    with disk.reading(path):
        return [_sample(**record) for record in disk.read_records(path)]


def _sample(access: str, mentions: list, relations: list, pairs: list, **fields: Any) -> UnifiedSample:
    return UnifiedSample(
        text=None,
        access=Access(access),
        mentions=tuple(Mention(**_tuples(one, "fragments", "concepts")) for one in mentions),
        relations=tuple(Relation(**_tuples(one, "roles")) for one in relations),
        pairs=tuple(RankedPair(text="", **one) for one in pairs),
        **fields,
    )


def _tuples(record: dict[str, Any], *names: str) -> dict[str, Any]:
    """The record with tuples for the lists, and for the lists in them, under these names."""
    lists = {name: (tuple(one) if isinstance(one, list) else one for one in record[name]) for name in names}
    return record | {name: tuple(found) for name, found in lists.items()}
