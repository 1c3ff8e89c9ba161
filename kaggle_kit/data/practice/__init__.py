"""Practice corpora: obviously synthetic, all five tasks, with known cross-task transfer planted.

    roots = cached(PracticeConfig(transfer="shared"))    # {"semeval2014t7": <folder>, …}
    planted(PracticeConfig()).class_of("semeval2014t7")  # the truth: term -> class

What is planted. Texts are carrier sentences filled with invented terms of five semantic classes
(disorder, drug, procedure, anatomy, finding). Every slot takes a term of any class, so the context
does not give the class away and a term has to be known. The class decides every label: disorders are
the mentions of 2014 and 2015 (there anatomy terms are body locations), disorders, procedures and
findings the EVENTs of 2016, an answer of 2017 is Good if it names a term of the class asked for, and
2021t6 types every term by its class and relates pairs of classes. Relations hold of what a sentence
speaks of, its first term, and not of the terms that it only lists: few candidate pairs have one.

A task's training split shows only `coverage` of its terms, its dev and test splits all of them; each
common term is shown by the same number of tasks (`coverage` × 5), and every task shows every other one
the same share of what that one does not see itself. `lexicon_overlap` of a task's terms are common to all
tasks, the rest are its own.

    transfer=shared       a common term has one class in all tasks: what is learnt in one helps the others
    transfer=none         each task draws the class of a common term by itself: the others teach nothing
    transfer=conflicting  a task that does not show a common term uses it in another class than those that
                          show it: the others mislead, and no label in any training split gives that away

With `lexicon_overlap=0` no two tasks share a term, whatever `transfer` says; together with
`transfer=none` that is the null without interference: a term with several classes costs a shared adapter
something. The texts depend on neither `transfer` nor `noise`: they are composed blind to the classes, so
pre-training on them cannot leak a label.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kaggle_kit.core import cache
from kaggle_kit.core.checks import misfits
from kaggle_kit.core.errors import ConfigError, refuse, unknown
from kaggle_kit.core.schema import SPLITS, PracticeConfig
from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats import write
from kaggle_kit.data.marker import mark
from kaggle_kit.data.practice import gold, notes, questions
from kaggle_kit.data.practice.lexicon import CLASSES, FIVE, Lexicon, Rng, draw

__all__ = ["CLASSES", "FIVE", "Lexicon", "cached", "corpus_text", "generate", "planted"]

VERSION = 7  # goes up whenever the same settings give other files; part of the cache's key


class NoteTask(NamedTuple):
    """The files of a task of notes, named by document id, and what is annotated in them."""

    format: str
    folders: tuple[str, str, str]  # of the splits, below the corpus root
    document_id: str
    text: str
    annotate: Callable[[gold.LabelledNote], UnifiedSample]


DISCHARGE_FOLDERS = ("train/discharge", "devel/discharge", "test/discharge")
DISCHARGE = "practice{0:04d}-DISCHARGE_SUMMARY", "{0}.text", gold.disorders
CLINIC = "practice{0:04d}_clinic_{0:04d}", "{0}/{0}", gold.times
NOTE_TASKS = {
    "semeval2014t7": NoteTask("share_pipe", ("train", "devel", "test"), *DISCHARGE),
    "semeval2015t14": NoteTask("share_slots", DISCHARGE_FOLDERS, *DISCHARGE),
    "semeval2016t12": NoteTask("anafora", ("Train", "Dev", "Test"), *CLINIC),
    "semeval2021t6": NoteTask("brat", SPLITS, "practice{0:04d}", "{0}.txt", gold.typed_terms),
}
# The tasks with relations: their sentences list terms that are related to nothing.
LISTING = ("semeval2016t12", "semeval2021t6")


def planted(settings: PracticeConfig, tasks: Sequence[str] = FIVE) -> Lexicon:
    """Return the truth of these settings: terms, their class in each task, which training split shows them.

    Raises ConfigError for values out of range and for tasks without practice corpus.
    """
    _check(settings, tasks)
    return draw(settings)


def generate(folder: Path, settings: PracticeConfig, tasks: Sequence[str] = FIVE) -> dict[str, Path]:
    """Write `<folder>/<task id>/…` in each task's official format; returns the corpus roots.

    A task's files depend on the settings alone, not on which other tasks are asked for. Raises
    ConfigError as `planted`, and for a task folder that already holds files.
    """
    lexicon = planted(settings, tasks)
    roots = {task: folder / task for task in tasks}
    for root in roots.values():
        if root.is_dir() and any(root.iterdir()):
            raise ConfigError(f"{root} already holds files; give an empty folder or delete it first")
    for task, root in roots.items():
        _write_task(task, settings, lexicon, root)
    return roots


def cached(
    settings: PracticeConfig, cache_dir: Path | None = None, tasks: Sequence[str] = FIVE
) -> dict[str, Path]:
    """Run `generate` once per settings and generator version, below `cache_dir` (default: the cache)."""
    lexicon = planted(settings, tasks)
    canonical = json.dumps({"version": VERSION, **asdict(settings)}, sort_keys=True)
    key = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    home = (cache_dir or cache.cache_dir("practice")) / key
    build = {task: partial(_write_task, task, settings, lexicon) for task in tasks}
    return {task: cache.build_once(home / task, build[task]) for task in tasks}


def corpus_text(settings: PracticeConfig) -> list[str]:
    """Return all training texts, each by itself: notes of the four note tasks, then questions and answers."""
    lexicon = planted(settings)
    texts = [note.text for task in NOTE_TASKS for _, note in _notes(task, "train", settings, lexicon)]
    threads = _threads("train", settings, lexicon)
    texts += [thread.body for thread in threads]
    texts += [comment.text for thread in threads for comment in thread.comments]
    return texts


def _write_task(task: str, settings: PracticeConfig, lexicon: Lexicon, root: Path) -> None:
    for place, split in enumerate(SPLITS):
        rng = _rng(settings, task, split, purpose=2)
        if task not in NOTE_TASKS:
            path = root / f"SemEval2017-practice-{split}-subtaskA.xml"
            threads = _threads(split, settings, lexicon)
            questions.write(threads, lexicon.classes[task], path, noise=settings.noise, rng=rng)
            continue
        files, samples = NOTE_TASKS[task], []
        folder = root / files.folders[place]
        for number, note in _notes(task, split, settings, lexicon):
            name = files.document_id.format(number)
            labelled = gold.label(name, note, lexicon, task, settings.noise, rng)
            samples.append(files.annotate(labelled))
            text = folder / files.text.format(name)
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_bytes(note.text.encode())
        write(files.format, samples, folder)
    mark(root)


def _notes(
    task: str, split: str, settings: PracticeConfig, lexicon: Lexicon
) -> Iterator[tuple[int, notes.Note]]:
    rng = _rng(settings, task, split, purpose=1)
    terms = notes.deck(lexicon.terms(task, split), rng)
    for number in _numbers(settings, split):
        yield number, notes.compose(terms, rng, listing=task in LISTING)


def _threads(split: str, settings: PracticeConfig, lexicon: Lexicon) -> list[questions.Thread]:
    rng = _rng(settings, "semeval2017t3", split, purpose=1)
    terms = notes.deck(lexicon.terms("semeval2017t3", split), rng)
    return [questions.compose(number, terms, rng) for number in _numbers(settings, split)]


def _numbers(settings: PracticeConfig, split: str) -> range:
    """Document numbers of a split, running on from train through dev to test."""
    held_out = settings.held_out or max(4, round(settings.documents / 3))
    start = 1 + {"train": 0, "dev": settings.documents, "test": settings.documents + held_out}[split]
    return range(start, start + (settings.documents if split == "train" else held_out))


def _rng(settings: PracticeConfig, task: str, split: str, *, purpose: int) -> Rng:
    """One stream each for the texts (1) and the label noise (2) of every task and split."""
    return np.random.default_rng([settings.seed, purpose, FIVE.index(task), SPLITS.index(split)])


def _check(settings: PracticeConfig, tasks: Sequence[str]) -> None:
    for task in tasks:
        if task not in FIVE:
            raise unknown("practice task", task, FIVE)
    refuse(misfits(settings, "practice"))
