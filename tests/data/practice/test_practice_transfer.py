"""Is the transfer that the settings promise really in the files? A count-based oracle looks terms up.

The oracle reads only official files: for each term that a task's own training split never shows, it
counts what the annotations of the other tasks' training splits say about the term's class.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.core.types import Mention, UnifiedSample
from kaggle_kit.data.corpus import load_corpus
from kaggle_kit.data.formats import Reading, read
from kaggle_kit.data.normalise import concept_names, with_concepts
from kaggle_kit.data.practice import CLASSES, FIVE, corpus_text, generate, planted
from kaggle_kit.evaluation.official import score_samples

TRAIN = {
    "semeval2014t7": ("share_pipe", "train"),
    "semeval2015t14": ("share_slots", "train"),
    "semeval2016t12": ("anafora", "Train"),
    "semeval2021t6": ("brat", "train"),
}
TASKS_OF_MENTIONS = ("semeval2014t7", "semeval2015t14")
ALL = frozenset(CLASSES)
TEMPORAL = ("TIMEX3", "SECTIONTIME", "DOCTIME")


def settings_for(transfer: str, **knobs) -> PracticeConfig:
    return PracticeConfig(seed=11, documents=60, terms=60, transfer=transfer, **knobs)


def possible_classes(task: str, mention: Mention | None) -> frozenset[str]:
    """What one occurrence of a term, annotated or not, says about its class."""
    if task in ("semeval2014t7", "semeval2015t14"):
        return frozenset({"disorder"}) if mention else ALL - {"disorder"}
    if task == "semeval2016t12":
        if mention is None:
            return frozenset({"drug", "anatomy"})
        evidential = mention.attributes["Type"] == "EVIDENTIAL"
        return frozenset({"procedure"}) if evidential else frozenset({"disorder", "finding"})
    return frozenset({mention.type.lower()}) if mention else ALL


def occurrences(sample: UnifiedSample, vocabulary: set[str]):
    """(term, its mention or None) wherever a word or a pair of words of the text is a term."""
    annotated = {mention.fragments: mention for mention in sample.mentions if mention.type not in TEMPORAL}
    yield from ((m.text(sample.text).casefold(), m) for m in annotated.values())
    words = [(match.start(), match.end()) for match in re.finditer(r"\w+", sample.text)]
    for one, two in zip(words, words[1:] + words[-1:], strict=True):
        for start, end in (one, (one[0], two[1])):
            term = sample.text[start:end].casefold()
            if term in vocabulary and ((start, end),) not in annotated:
                yield term, None


def evidence(root, task: str, vocabulary: set[str]) -> dict[str, Counter]:
    """term -> class -> occurrences in this task's training annotations that allow the class."""
    kind, folder = TRAIN[task]
    counts: dict[str, Counter] = defaultdict(Counter)
    for sample in read(kind, root / folder, Reading()):
        for term, mention in occurrences(sample, vocabulary):
            counts[term].update(possible_classes(task, mention))
    return counts


def disorder_recall_and_specificity(tmp_path, settings: PracticeConfig, target: str) -> tuple[float, float]:
    """How well the other note tasks tell disorders from the rest among the target's unseen terms."""
    truth = planted(settings)
    roots = generate(tmp_path, settings)
    classes = truth.class_of(target)
    unseen = sorted(set(classes) - truth.seen_in_training(target))
    sources = [evidence(roots[task], task, set(classes)) for task in TRAIN if task != target]
    right: dict[bool, list[bool]] = {True: [], False: []}
    for term in unseen:
        votes = sum((source.get(term, Counter()) for source in sources), Counter())
        guess = max(CLASSES[::-1], key=lambda name: votes[name])
        right[classes[term] == "disorder"].append((guess == "disorder") == (classes[term] == "disorder"))
    assert len(right[True]) > 15 and len(right[False]) > 60
    return sum(right[True]) / len(right[True]), sum(right[False]) / len(right[False])


@pytest.mark.parametrize("target", ["semeval2014t7", "semeval2015t14"])
def test_shared_classes_let_other_tasks_label_the_unseen_terms(tmp_path, target):
    recall, specificity = disorder_recall_and_specificity(tmp_path, settings_for("shared"), target)
    assert recall >= 0.95
    assert specificity >= 0.95


def test_independent_classes_leave_the_oracle_at_chance(tmp_path):
    recall, specificity = disorder_recall_and_specificity(tmp_path, settings_for("none"), "semeval2014t7")
    assert 0.35 < (recall + specificity) / 2 < 0.65


def test_disjoint_vocabularies_leave_the_oracle_without_any_evidence(tmp_path):
    settings = settings_for("shared", lexicon_overlap=0.0)
    recall, specificity = disorder_recall_and_specificity(tmp_path, settings, "semeval2014t7")
    assert (recall, specificity) == (0.0, 1.0)  # nothing found: the oracle's last resort is "finding"


def test_conflicting_classes_push_the_oracle_below_chance(tmp_path):
    recall, specificity = disorder_recall_and_specificity(
        tmp_path, settings_for("conflicting"), "semeval2014t7"
    )
    assert recall <= 0.05
    assert (recall + specificity) / 2 < 0.45


def test_no_training_split_shows_that_terms_conflict(tmp_path):
    """What a task is shown is the same under shared transfer, to the byte; what it is asked is not."""
    files = {}
    for transfer in ("shared", "conflicting"):
        root = generate(tmp_path / transfer, settings_for(transfer), ["semeval2014t7"])["semeval2014t7"]
        for split in ("train", "devel"):
            paths = sorted(path for path in (root / split).rglob("*") if path.is_file())
            files[transfer, split] = [(path.name, path.read_bytes()) for path in paths]
    assert files["shared", "train"] == files["conflicting", "train"]
    assert files["shared", "devel"] != files["conflicting", "devel"]


def test_answers_teach_the_classes_too(tmp_path):
    """Terms of Good answers are, under shared classes, mostly what 2021t6 types as the class asked for."""
    settings = settings_for("shared")
    root = generate(tmp_path, settings, ["semeval2017t3"])["semeval2017t3"]
    classes = planted(settings).class_of("semeval2021t6")
    nouns = {
        "illness": "disorder",
        "medicine": "drug",
        "test": "procedure",
        "body part": "anatomy",
        "sign": "finding",
    }
    samples = read("cqa", root / "SemEval2017-practice-train-subtaskA.xml", Reading(options={"subtask": "A"}))
    hits = {True: [], False: []}
    for sample in samples:
        asked = next(
            name for noun, name in nouns.items() if re.search(rf"\ba {noun}|Which {noun}", sample.text)
        )
        for pair in sample.pairs:
            words = re.findall(r"\w+", pair.text.casefold())
            terms = [" ".join(words[i : i + n]) for n in (1, 2) for i in range(len(words))]
            hits[pair.relevant].append(any(classes.get(term) == asked for term in terms))
    assert sum(hits[True]) / len(hits[True]) > 0.9  # the rest stand with a gap between their words
    assert not any(hits[False])


def test_texts_are_blind_to_the_classes():
    """Pre-training on them cannot leak a label: whatever the classes, the texts are the same."""
    shared = corpus_text(settings_for("shared"))
    assert shared == corpus_text(settings_for("conflicting"))
    assert shared == corpus_text(settings_for("none", noise=0.5))
    assert shared != corpus_text(PracticeConfig(seed=12, documents=60, terms=60))


def test_noise_mislabels_about_its_share_of_the_mentions(tmp_path):
    settings = settings_for("shared", noise=0.5)
    truth = planted(settings).class_of("semeval2021t6")
    root = generate(tmp_path, settings, ["semeval2021t6"])["semeval2021t6"]
    right = [
        truth[mention.text(sample.text).casefold()] == mention.type.lower()
        for sample in read("brat", root / "train", Reading())
        for mention in sample.mentions
    ]
    assert 0.55 < sum(right) / len(right) < 0.65  # half keep their class, one in five of the others hits it


def test_training_splits_show_only_their_share_of_the_lexicon():
    settings = settings_for("shared")
    truth = planted(settings)
    for task in FIVE:
        terms = truth.class_of(task)
        assert len(terms) == 5 * settings.terms
        assert len(truth.seen_in_training(task)) / len(terms) == pytest.approx(settings.coverage, abs=0.05)


@pytest.mark.parametrize(("target", "partner"), [TASKS_OF_MENTIONS, TASKS_OF_MENTIONS[::-1]])
def test_finding_what_the_partner_alone_shows_raises_the_official_figure(tmp_path, target, partner):
    """Concepts come from the own training mentions; without them 2015's figure counts no such mention."""
    settings = settings_for("shared")
    task = compose(model="tiny", task=[target], strategy="s1_single", profile="smoke").tasks[target]
    root = generate(tmp_path / "corpus", settings, [target])[target]
    splits = load_corpus(task, root, practice=True).splits
    truth = planted(settings)
    figures = []
    for shown in (
        truth.seen_in_training(target),
        truth.seen_in_training(target) | truth.seen_in_training(partner),
    ):
        found = [
            replace(s, mentions=tuple(m for m in s.mentions if m.text(s.text).casefold() in shown))
            for s in splits["dev"]
        ]
        predicted = with_concepts(concept_names(splits["train"]), found)
        folder = tmp_path / str(len(figures))
        figures.append(score_samples(task, splits["dev"], predicted, folder)[task.primary_metric])
    assert figures[1] > figures[0] + 0.1
