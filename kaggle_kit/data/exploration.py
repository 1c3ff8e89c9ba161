"""What the corpora hold: sizes, labels, lengths and shapes, and what several of them have in common.

    corpora, missing = find_corpora(config)      # what is there, and how to get the rest
    size_table(corpora), label_table(corpora), length_table(corpora), shape_table(corpora)
    in_common(documents(corpora))

The tables hold counts and labels, and no word of a text.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import entropy

from kaggle_kit.core.errors import CorpusMissing
from kaggle_kit.core.schema import SPLITS, RunConfig, TaskConfig
from kaggle_kit.core.types import ComponentSpec, Kind, Mention, UnifiedSample
from kaggle_kit.data import practice
from kaggle_kit.data.candidates import gold
from kaggle_kit.data.corpus import Corpus, fingerprints, load_corpus, task_spec
from kaggle_kit.data.locate import locate, split_files
from kaggle_kit.data.segments import WORD, canonical, sentences

LEAST_WORDS = 5  # of a sentence that counts as one in common; shorter ones are headings and phrases
OF_LABELS = ["task", "component"]
SHAPES = ("discontiguous", "nested", "overlapping", "over two sentences")
Corpora = Mapping[str, Corpus]


def find_corpora(config: RunConfig) -> tuple[dict[str, Corpus], dict[str, str]]:
    """Return task -> corpus with every split that is there, and what is missing -> how to get it.

    A corpus without its training split is missing.
    """
    corpora, missing = {}, {}
    practised = config.profile.corpora == "practice"
    invented = [name for name in config.tasks if practised and name in practice.FIVE]
    roots = practice.cached(config.practice, tasks=invented)
    for name, task in config.tasks.items():
        if practised and name not in roots:
            missing[name] = f"no practice corpus; there is one for {', '.join(practice.FIVE)}"
            continue
        try:
            root = roots.get(name) or locate(task)
        except CorpusMissing as error:
            missing[name] = str(error)
            continue
        there = [split for split in SPLITS if split_files(task, root, source_of(task, split))]
        if "train" in there:
            corpora[name] = load_corpus(task, root, there, practice=practised)
        for split in SPLITS:
            if split not in there:
                missing[f"{name}, {split}"] = f"no files of this split below {root}\n{task.obtain}"
    return corpora, missing


def source_of(task: TaskConfig, split: str) -> str:
    """Return the split on disk that a split is, or is cut from."""
    return task.held_out[split].source if split in task.held_out else split


def access_table(config: RunConfig, corpora: Corpora) -> pd.DataFrame:
    """Return who may see each task, whether it is here, and what is known of models that may have read it."""
    rows = []
    for name, task in config.tasks.items():
        here = corpora.get(name)
        found = "no" if here is None else "practice, synthetic" if here.practice else "yes"
        splits = ", ".join(here.splits) if here else ""
        row = {"task": name, "access": task.access, "here": found, "splits": splits}
        known = {"risk": task.contamination_risk, "zero-shot from": task.zero_shot_threshold}
        rows.append({**row, **known, "licence": task.licence})
    return pd.DataFrame(rows)


def size_table(corpora: Corpora) -> pd.DataFrame:
    """Count every split. `on disk` adds to a split what was cut from it; `declared` is its published size."""
    rows = []
    for name, corpus in corpora.items():
        on_disk: Counter[str] = Counter()
        for split, samples in corpus.splits.items():
            on_disk[source_of(corpus.task, split)] += len(samples)
        for split, samples in corpus.splits.items():
            declared = None if corpus.practice else getattr(corpus.task, f"{split}_size")
            row: dict[str, Any] = {"task": name, "split": split, "documents": len(samples)}
            row |= {what: sum(len(getattr(s, what)) for s in samples) for what in ("mentions", "relations")}
            row |= {"candidates": sum(len(s.pairs) for s in samples), "on disk": on_disk.get(split)}
            agrees = None if declared is None else ("yes" if declared == on_disk[split] else "no")
            rows.append(row | {"declared": declared, "as declared": agrees})
    return pd.DataFrame(rows).astype({"on disk": "Int64", "declared": "Int64"})


def label_table(corpora: Corpora) -> pd.DataFrame:
    """Count each label of the training split; `share` is among the labels of its component."""
    found = []
    for name, corpus in corpora.items():
        for part in task_spec(corpus.task, corpus).components:
            labels = (label for sample in corpus.splits["train"] for label in _labels(part, sample))
            found += [(name, part.name, label) for label in labels]
    groups = pd.DataFrame(found, columns=["task", "component", "label"]).groupby(OF_LABELS, sort=False)
    table = groups["label"].value_counts().rename("count").reset_index()
    table = table.sort_values(OF_LABELS, kind="stable", ignore_index=True)  # pandas 3 orders by count alone
    return table.assign(share=table["count"] / table.groupby(OF_LABELS)["count"].transform("sum"))


def balance_table(labels: pd.DataFrame) -> pd.DataFrame:
    """Return each component's largest share, and its entropy over that of equal shares.

    A balance of 1 means labels of equal shares; one label alone has none.
    """
    groups = labels.groupby(OF_LABELS, sort=False)
    figures = {
        "largest share": groups["share"].max(),
        "balance": groups["share"].agg(lambda s: entropy(s) / np.log(len(s)) if len(s) > 1 else np.nan),
    }
    return pd.DataFrame({"labels": groups.size(), "n": groups["count"].sum(), **figures}).reset_index()


def length_table(corpora: Corpora) -> pd.DataFrame:
    """Return words per document, sentence and mention of the training split."""
    found: list[tuple[str, str, int]] = []
    for name, sample in ((name, sample) for name, c in corpora.items() for sample in c.splits["train"]):
        for text in _texts(sample):
            parts = [_words(text[start:end]) for start, end in sentences(text)]
            found += [(name, "document", sum(parts)), *((name, "sentence", part) for part in parts)]
        if sample.text:
            found += [(name, "mention", _words(mention.text(sample.text))) for mention in sample.mentions]
    table = pd.DataFrame(found, columns=["task", "words per", "words"])
    groups = table.groupby(["task", "words per"])["words"]
    figures = {"95 %": groups.quantile(0.95), "most": groups.max()}
    return pd.DataFrame({"n": groups.size(), "median": groups.median(), **figures}).reset_index()


def shape_table(corpora: Corpora) -> pd.DataFrame:
    """Return the shares of training mentions that a tag per token cannot say."""
    shapes = []
    for name, corpus in corpora.items():
        shapes += [{"task": name, **shape} for sample in corpus.splits["train"] for shape in _shapes(sample)]
    groups = pd.DataFrame(shapes, columns=["task", *SHAPES]).groupby("task", sort=False)
    return pd.concat([groups.size().rename("mentions"), groups.mean()], axis=1).reset_index()


def documents(corpora: Corpora) -> dict[str, frozenset[str]]:
    """Return task -> fingerprints of all its documents, equal where the text is, case and blanks aside."""
    return {name: fingerprints(_every(corpus)) for name, corpus in corpora.items()}


def long_sentences(corpora: Corpora) -> dict[str, frozenset[str]]:
    """Return task -> its different sentences of five words and more, for counting alone: they are text."""
    found = {}
    for name, corpus in corpora.items():
        texts = [text for sample in _every(corpus) for text in _texts(sample)]
        parts = (text[start:end] for text in texts for start, end in sentences(text))
        found[name] = frozenset(canonical(part) for part in parts if _words(part) >= LEAST_WORDS)
    return found


def in_common(sets: Mapping[str, frozenset[str]]) -> pd.DataFrame:
    """Count what every two tasks have in common; the diagonal is what each has by itself."""
    counts = {one: {other: len(a & b) for other, b in sets.items()} for one, a in sets.items()}
    return pd.DataFrame(counts).rename_axis("task").reset_index()


def _every(corpus: Corpus) -> Iterator[UnifiedSample]:
    return (sample for samples in corpus.splits.values() for sample in samples)


def _texts(sample: UnifiedSample) -> list[str]:
    return [text for text in (sample.text, *(pair.text for pair in sample.pairs)) if text]


def _words(text: str) -> int:
    return len(WORD.findall(text))


def _labels(part: ComponentSpec, sample: UnifiedSample) -> Iterator[str]:
    if part.kind is Kind.RELATIONS:
        yield from (label for _, label in gold(part, sample))
    elif part.kind is Kind.RANKING:
        yield from (part.labels[pair.relevant] for pair in sample.pairs if pair.relevant is not None)
    else:
        yield from (mention.type for mention in sample.mentions if mention.type in part.labels)


def _shapes(sample: UnifiedSample) -> Iterator[dict[str, bool]]:
    ends = [end for _, end in sentences(sample.text or "")]
    for mention in sample.mentions:
        others = [other for other in sample.mentions if _meet(mention, other)]
        yield {
            "discontiguous": mention.discontiguous,
            "nested": any(other.start <= mention.start and mention.end <= other.end for other in others),
            "overlapping": bool(others),
            "over two sentences": any(mention.start < end < mention.end for end in ends),
        }


def _meet(one: Mention, other: Mention) -> bool:
    """Whether two mentions of different places have a character in common."""
    meet = any(a < d and c < b for a, b in one.fragments for c, d in other.fragments)
    return meet and one.fragments != other.fragments
