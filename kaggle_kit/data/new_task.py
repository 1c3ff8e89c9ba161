"""A task's file for a corpus of one's own, written after a look at the corpus.

    look = look_at(NewTask("mine", "conll", "corpora/mine", Access.RESTRICTED, {}))
    write_task(look.task, Path("own"))            # own/task/mine.yaml

Splits are told by the names of folders and files, components by what is annotated. Whoever reads the file's
ten lines can change them.
"""

import glob
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kaggle_kit.core.checks import EVERY_FORMAT, OPTIONS
from kaggle_kit.core.errors import ConfigError, CorpusError, unknown
from kaggle_kit.core.records import writing
from kaggle_kit.core.schema import GENERAL, HeldOut, TaskConfig
from kaggle_kit.core.types import Access, Kind, UnifiedSample
from kaggle_kit.data.corpus import Corpus, load_corpus
from kaggle_kit.data.formats import format_module
from kaggle_kit.data.locate import hub_folder
from kaggle_kit.data.registry import task_names
from kaggle_kit.data.segments import sentences

FORMATS = (*GENERAL, "brat", "pubtator")  # those that are no shared task's own
SPLIT_NAMES = {
    "train": r"train(?:ing)?",
    "dev": r"dev(?:el(?:opment)?)?|val(?:id(?:ation)?)?",
    "test": r"test(?:ing)?|eval(?:uation)?",
}
HELD_OUT = (0.2, 0.15)  # share of the training documents for the one split that no file has, for each of two
MANY = 3  # files of one split that are listed by name; of more their common pattern
TANGLED = 0.05  # share of mentions in pieces or overlapping, beyond which spans are scored instead of tags
ACROSS = 0.1  # share of relations between two sentences, beyond which passages are windows
RESERVED = r"data|params|cache|session_hours|model_.+"  # KAGGLE_KIT_DATA, … mean something else than a corpus
SCORED = {  # scorer -> primary and secondary metrics
    "brat": ("entity_strict_f1", ["entity_f1", "relation_strict_f1"]),
    "pubtator": ("strict_f1", ["relaxed_f1", "relation_f1"]),
    "semeval2017t3": ("map", ["map_all_relevant", "f1"]),
}


class NewTask(NamedTuple):
    """What somebody says of a corpus: `place` is a folder, or for the format `hf` a dataset of the hub."""

    name: str
    format: str
    place: str
    access: Access
    options: Mapping[str, str]


class Look(NamedTuple):
    """A task as its file will describe it, the corpus that was read, and the files of no split."""

    task: dict[str, Any]
    corpus: Corpus
    unread: Sequence[Path]


def look_at(asked: NewTask) -> Look:
    """Read the corpus as the new task would. Raises ConfigError or CorpusError where that is not possible."""
    _refuse(asked)
    root, options = Path(asked.place).expanduser(), dict(asked.options)
    if asked.format == "hf" and not root.exists():
        options["dataset"] = asked.place
        root = hub_folder(asked.place)
    module = format_module(asked.format)
    if not (files := module.find(root) if root.is_dir() else []):
        raise CorpusError(root, found="no corpus file there", expected=f"a folder of {module.EXPECTED_FILES}")
    layout, unread = layout_of([file.relative_to(root) for file in files])
    missing = [split for split in ("dev", "test") if split not in layout]
    held_out = {split: HeldOut("train", HELD_OUT[len(missing) - 1]) for split in missing}
    named: dict[str, Any] = {"name": asked.name, "title": asked.name, "format": asked.format}
    named |= {"access": str(asked.access)} | ({"options": options} if options else {})
    task = TaskConfig(**named, layout=layout, held_out=held_out)
    corpus = load_corpus(task, root, (*layout, *held_out))
    if empty := [split for split, samples in corpus.splits.items() if not samples]:
        raise ConfigError(f"{root}: no document for {', '.join(empty)}; name a file after that split")
    train = corpus.splits["train"]
    components = components_of(train, root)
    ranks = components[0]["kind"] == str(Kind.RANKING)
    scorer = "semeval2017t3" if ranks else "pubtator" if asked.format == "pubtator" else "brat"
    primary, others = SCORED[scorer]
    secondary = [one for one in others if len(components) > 1 or not one.startswith("relation")]
    shares = {"held_out": {split: vars(one) for split, one in held_out.items()}} if held_out else {}
    return Look(
        named
        | {"components": components, "layout": layout}
        | shares
        | ({"segments": "windows"} if _across(train) > ACROSS else {})
        | {"scorer": scorer, "primary_metric": primary, "secondary_metrics": secondary}
        | {
            "obtain": "An own corpus: whoever made this task has it.",
            "slugs": [asked.name.replace("_", "-")],
        },
        corpus,
        [root / file for file in unread],
    )


def write_task(task: Mapping[str, Any], params: Path) -> Path:
    """Write `task/NAME.yaml` into a folder of own params; ConfigError where there is one."""
    path = params / "task" / f"{task['name']}.yaml"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8") as file:
                yaml.safe_dump(dict(task), file, sort_keys=False, default_flow_style=None, width=100)
        except FileExistsError as error:
            raise ConfigError(f"{path} is there already; remove it, or choose another name") from error
    return path


def layout_of(files: Sequence[Path]) -> tuple[dict[str, list[str]], list[Path]]:
    """Return split -> globs for files given by their paths below the root, and the files of no split.

    A folder's name counts before those of the files in it. Where no name tells a split, all are for training.
    """
    told = {file: _split_of(file) for file in files}
    if not any(told.values()):
        names = [glob.escape(file.as_posix()) for file in files]
        return {"train": names if len(files) <= MANY else [f"**/*{files[0].suffix}"]}, []
    layout: dict[str, list[str]] = {}
    for split in SPLIT_NAMES:
        patterns = [place[1] for place in told.values() if place and place[0] == split]
        several = len(set(patterns)) > MANY  # such as the 40 parts of a Parquet file
        if globs := dict.fromkeys(re.sub(r"\d+(?=[^/]*$)", "*", one) if several else one for one in patterns):
            layout[split] = list(globs)
    if "train" not in layout:
        raise ConfigError(f"files of {' and '.join(layout)}, and none is named train; rename one")
    return layout, [file for file, place in told.items() if not place]


def components_of(samples: Sequence[UnifiedSample], root: Path) -> list[dict[str, Any]]:
    """Return a component for each kind of annotation. ConfigError for a ranking beside another kind."""
    pairs, mentions = any(sample.pairs for sample in samples), sum(len(sample.mentions) for sample in samples)
    if pairs and mentions:
        raise ConfigError(f"{root} holds mentions and candidates; make two tasks of two folders")
    if pairs:
        return [{"name": "ranking", "kind": str(Kind.RANKING), "level": 2}]
    if not mentions:
        raise CorpusError(root, found="no annotation to learn from", expected="mentions or candidates")
    kind = Kind.SPANS if sum(map(_tangled, samples)) > TANGLED * mentions else Kind.TOKENS
    components = [{"name": "ner", "kind": str(kind), "level": 1}]
    if any(sample.relations for sample in samples):
        components.append({"name": "relations", "kind": str(Kind.RELATIONS), "level": 2})
    return components


def _refuse(asked: NewTask) -> None:
    """ConfigError for a name that is taken or no word, and for a format or an option that there is not."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", asked.name) or re.fullmatch(RESERVED, asked.name):
        raise ConfigError(f"task name {asked.name!r}; allowed: small letters, digits and _, such as my_notes")
    if asked.name in task_names():
        raise ConfigError(f"there is a task {asked.name!r} already; choose another name, or edit its file")
    known = (*OPTIONS.get(asked.format, ()), *EVERY_FORMAT)
    named = [("format", asked.format, FORMATS), *(("option", key, known) for key in asked.options)]
    for what, name, allowed in named:
        if name not in allowed:
            raise unknown(what, name, allowed)


def _split_of(file: Path) -> tuple[str, str] | None:
    """Return the split that a path names, and the glob up to where it does."""
    for depth, part in enumerate(file.parts, start=1):
        for split, words in SPLIT_NAMES.items():
            if re.search(rf"(?<![a-z])(?i:{words})(?i:set)?(?![a-z])", part):
                return split, "/".join(map(glob.escape, file.parts[:depth]))
    return None


def _tangled(sample: UnifiedSample) -> int:
    """Count the mentions that a tag per word cannot say: in pieces, or beginning inside an earlier one."""
    count, reached = 0, 0
    for mention in sorted(sample.mentions, key=lambda one: (one.start, -one.end)):
        count += mention.discontiguous or mention.start < reached
        reached = max(reached, mention.end)
    return count


def _across(samples: Sequence[UnifiedSample]) -> float:
    """Return the share of relations whose mentions begin in two sentences."""
    apart = []
    for sample in samples:
        starts = [start for start, _ in sentences(sample.text)] if sample.text and sample.relations else []
        at = {mention.id: bisect(starts, mention.start) for mention in sample.mentions}
        apart += [at[link.source] != at[link.target] for link in sample.relations]
    return sum(apart) / len(apart) if apart else 0.0
