from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.data.formats import Reading, read
from kaggle_kit.data.normalise import ConceptNormaliser
from kaggle_kit.data.practice import FIVE, cached, corpus_text, generate, planted
from kaggle_kit.data.practice.notes import HEADER

SETTINGS = PracticeConfig(seed=3, documents=12, terms=20)

NOTE_SPLITS = [
    ("semeval2014t7", "share_pipe", ("train", "devel", "test")),
    ("semeval2015t14", "share_slots", ("train", "devel", "test")),
    ("semeval2016t12", "anafora", ("Train", "Dev", "Test")),
    ("semeval2021t6", "brat", ("train", "dev", "test")),
]
TEMPORAL = ("TIMEX3", "SECTIONTIME", "DOCTIME")


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    return generate(tmp_path_factory.mktemp("practice"), SETTINGS)


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize(("task", "kind", "folders"), NOTE_SPLITS)
def test_every_mention_is_a_term_of_its_task_at_its_offsets(roots, task, kind, folders):
    terms = planted(SETTINGS).class_of(task)
    for folder, documents in zip(folders, (12, 4, 4), strict=True):
        reading = Reading()
        samples = read(kind, roots[task] / folder, reading)
        assert not reading.warnings
        assert len(samples) == documents
        for sample in samples:
            assert sample.document_id.startswith("practice")
            assert sample.text.startswith(HEADER)
            named = [m.text(sample.text).casefold() for m in sample.mentions if m.type not in TEMPORAL]
            assert named and set(named) <= set(terms)


def test_document_ids_differ_between_splits(roots):
    for task, kind, folders in NOTE_SPLITS:
        ids = [s.document_id for folder in folders for s in read(kind, roots[task] / folder, Reading())]
        assert len(set(ids)) == len(ids) == 20


def test_disorders_of_2014_are_discontiguous_nested_and_overlapping_in_places(roots):
    samples = read("share_pipe", roots["semeval2014t7"] / "train", Reading())
    mentions = [mention for sample in samples for mention in sample.mentions]
    assert {mention.type for mention in mentions} == {"Disease_Disorder"}
    assert 0.02 < sum(m.discontiguous for m in mentions) / len(mentions) < 0.3
    overlaps = [
        (one, other)
        for sample in samples
        for one in sample.mentions
        for other in sample.mentions
        if one.id != other.id and one.start <= other.start and other.end <= one.end
    ]
    assert any(one.discontiguous for one, _ in overlaps)
    assert any(not one.discontiguous for one, _ in overlaps)


def test_slots_of_2015_take_their_values_from_cues_in_the_text(roots):
    samples = read("share_slots", roots["semeval2015t14"], Reading())
    negated = [(s, m) for s in samples for m in s.mentions if m.attributes["negation"] == "yes"]
    assert negated
    for sample, mention in negated:
        start, end = map(int, mention.attributes["negation_span"].split("-"))
        assert sample.text[start:end] in ("no", "denies")
        assert sample.text[end : mention.start] in (" ", " any ")


def test_body_locations_of_2015_are_anatomy_terms(roots):
    truth = planted(SETTINGS)
    anatomy = {
        t.cui
        for t in truth.terms("semeval2015t14", "dev")
        if truth.class_of("semeval2015t14")[t.text] == "anatomy"
    }
    samples = read("share_slots", roots["semeval2015t14"], Reading())
    locations = {m.attributes["body_location"] for s in samples for m in s.mentions} - {"null"}
    named = {cui for location in locations for cui in location.split(",")}
    assert named and named <= anatomy


def test_times_of_2016_contain_the_events_of_their_sentence(roots):
    samples = read("anafora", roots["semeval2016t12"] / "Train", Reading())
    for sample in samples:
        mentions = {mention.id: mention for mention in sample.mentions}
        assert sum(mention.type == "DOCTIME" for mention in mentions.values()) == 1
        assert sum(mention.type == "SECTIONTIME" for mention in mentions.values()) == 2
        for link in sample.relations:
            source, target = mentions[link.source], mentions[link.target]
            assert (source.type, link.attributes["Type"], target.type) == ("TIMEX3", "CONTAINS", "EVENT")
            between = sample.text[min(source.start, target.start) : max(source.end, target.end)]
            assert not any(mark in between for mark in (". ", ".\n", "!"))
        sources = {link.source for link in sample.relations}
        assert any(m.type == "TIMEX3" and m.id not in sources for m in mentions.values())
    relations = {m.attributes["DocTimeRel"] for s in samples for m in s.mentions if m.type == "EVENT"}
    assert relations == {"BEFORE", "OVERLAP", "AFTER", "BEFORE/OVERLAP"}


def test_relations_of_2021_follow_from_the_classes_of_their_ends(roots):
    expected = {
        ("Drug", "TREATS", "Disorder"),
        ("Drug", "CAUSES", "Finding"),
        ("Procedure", "REVEALS", "Disorder"),
        ("Procedure", "EXAMINES", "Anatomy"),
        ("Disorder", "LOCATED_IN", "Anatomy"),
        ("Finding", "LOCATED_IN", "Anatomy"),
    }
    found = set()
    for sample in read("brat", roots["semeval2021t6"], Reading()):
        types = {mention.id: mention.type for mention in sample.mentions}
        found |= {(types[r.source], r.type, types[r.target]) for r in sample.relations}
    assert found == expected


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("task", "kind", "folder"), [("semeval2016t12", "anafora", "Train"), ("semeval2021t6", "brat", "train")]
)
def test_few_pairs_that_could_be_related_are_so_as_in_real_corpora(tmp_path, task, kind, folder, seed):
    """Pairs of related types, within 14 words and for 2021 in one sentence."""
    roots = generate(tmp_path, PracticeConfig(seed=seed, documents=30, terms=40), [task])
    related = candidates = 0
    samples = read(kind, roots[task] / folder, Reading())
    types = {
        tuple(m.type for name in (r.source, r.target) for m in s.mentions if m.id == name)
        for s in samples
        for r in s.relations
    }
    for sample in samples:
        related += len(sample.relations)
        for one, other in permutations(sample.mentions, 2):
            left, right = sorted((one, other), key=lambda mention: mention.start)
            between = sample.text[left.end : right.start]
            same = task != "semeval2021t6" or not re.search(r"[.\n]", between)
            candidates += (one.type, other.type) in types and same and len(between.split()) < 14
    assert 0.03 < related / candidates < 0.12


@pytest.mark.parametrize(
    ("task", "kind"), [("semeval2014t7", "share_pipe"), ("semeval2015t14", "share_slots")]
)
def test_a_concept_that_training_does_not_show_costs_no_mention_that_is_found(roots, task, kind):
    """The normaliser learns from the own training mentions, and gives every mention its gold concept."""
    train = read(kind, roots[task] / "train", Reading())
    known = [(m.text(s.text), m.concepts[0]) for s in train for m in s.mentions]
    seen = planted(SETTINGS).seen_in_training(task)
    dev = read(kind, roots[task] / "devel", Reading())
    gold = [(m.text(s.text), m.concepts[0]) for s in dev for m in s.mentions]
    assert {concept for text, concept in gold if text.casefold() not in seen} == {"CUI-less"}
    assert sum(concept != "CUI-less" for text, concept in gold) > len(gold) / 3
    found = ConceptNormaliser.fit(known).predict([text for text, _ in gold])
    right = [guess == concept for guess, (_, concept) in zip(found, gold, strict=True)]
    assert sum(right) > 0.95 * len(right)


def test_questions_of_2017_have_ten_judged_answers(roots):
    for split, count in (("train", 12), ("dev", 4), ("test", 4)):
        path = roots["semeval2017t3"] / f"SemEval2017-practice-{split}-subtaskA.xml"
        reading = Reading(options={"subtask": "A"})
        samples = read("cqa", path, reading)
        assert len(samples) == count and not reading.warnings
        for sample in samples:
            assert sample.text.startswith("SYNTHETIC PRACTICE QUESTION")
            assert len(sample.pairs) == 10
            assert {pair.label for pair in sample.pairs} <= {"Good", "PotentiallyUseful", "Bad"}
            assert all(pair.relevant == (pair.label == "Good") for pair in sample.pairs)


def test_training_texts_hold_no_unseen_term(roots):
    truth = planted(SETTINGS)
    unseen = set(truth.class_of("semeval2014t7")) - truth.seen_in_training("semeval2014t7")
    text = " ".join(path.read_text("utf-8") for path in (roots["semeval2014t7"] / "train").glob("*.text"))
    words = set(text.casefold().replace(".", " ").replace(",", " ").split())
    assert not {term for term in unseen if " " not in term} & words


def test_files_do_not_depend_on_the_process_or_the_hash_seed(tmp_path, roots):
    script = (
        "import sys; from pathlib import Path\n"
        "from kaggle_kit.core.schema import PracticeConfig\n"
        "from kaggle_kit.data.practice import generate\n"
        "generate(Path(sys.argv[1]), PracticeConfig(seed=3, documents=12, terms=20))\n"
    )
    repository = Path(__file__).resolve().parents[3]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(repository)}
        subprocess.run([sys.executable, "-c", script, tmp_path / seed], check=True, env=environment)
    here = fingerprint(roots["semeval2014t7"].parent)
    assert fingerprint(tmp_path / "1") == fingerprint(tmp_path / "2") == here


def test_a_task_has_the_same_files_whichever_others_are_generated(tmp_path, roots):
    alone = generate(tmp_path, SETTINGS, ["semeval2021t6"])
    assert list(alone) == ["semeval2021t6"]
    assert fingerprint(alone["semeval2021t6"]) == fingerprint(roots["semeval2021t6"])


def test_the_cache_keeps_one_folder_per_settings_and_reuses_it(tmp_path):
    first = cached(SETTINGS, tmp_path, ["semeval2021t6"])["semeval2021t6"]
    built = first.stat().st_ino
    assert cached(SETTINGS, tmp_path, ["semeval2021t6"])["semeval2021t6"].stat().st_ino == built
    other = cached(PracticeConfig(seed=4, documents=12, terms=20), tmp_path, ["semeval2021t6"])
    assert other["semeval2021t6"] != first
    assert fingerprint(other["semeval2021t6"]) != fingerprint(first)


def test_pretraining_texts_are_the_training_texts_of_all_tasks(roots):
    texts = corpus_text(SETTINGS)
    assert len(texts) == 4 * 12 + 12 + 120
    on_disk = {path.read_text("utf-8") for path in (roots["semeval2014t7"] / "train").glob("*.text")}
    assert on_disk == set(texts[:12])


def test_a_folder_with_files_is_not_written_over(tmp_path):
    generate(tmp_path, SETTINGS, ["semeval2017t3"])
    with pytest.raises(ConfigError, match="already holds files"):
        generate(tmp_path, SETTINGS, ["semeval2017t3"])


def test_an_unknown_task_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="semeval2014t8.*did you mean 'semeval2014t7'"):
        generate(tmp_path, SETTINGS, ["semeval2014t8"])
    assert len(FIVE) == 5 and not list(tmp_path.iterdir())
