"""Relations between concepts: taught on all mentions of the two, found by any, written and scored once.

C1 is mentioned twice, D1 twice and D2 once; C1 induces D1. Every line is a passage.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_kit.batches.encode import encode
from kaggle_kit.core.types import ComponentSpec, Kind, Relation, TaskSpec, UnifiedSample
from kaggle_kit.data.candidates import (
    between_concepts,
    farthest,
    labelled,
    only_forward,
    seen_types,
    with_gold_concepts,
)
from kaggle_kit.data.formats import Reading, read, write
from kaggle_kit.data.normalise import concept_names, with_concepts
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.evaluation.metrics import documents, score
from kaggle_kit.heads.relations import Link
from kaggle_kit.heads.thresholds import UNDECIDED, choose_thresholds
from kaggle_kit.models.tiny import train_tokenizer

DOCUMENT = """\
1|t|Cocaine was given.
1|a|Cocaine led to fits. Coma in man. Coma as fits.
1	0	7	Cocaine	Chemical	C1
1	19	26	Cocaine	Chemical	C1
1	34	38	fits	Disease	D1
1	40	44	Coma	Disease	D2
1	53	57	Coma	Disease	D2
1	61	65	fits	Disease	D1
1	CID	C1	D1
"""
CID = ComponentSpec("relations", Kind.RELATIONS, 2, ("CID",))


@pytest.fixture
def sample(tmp_path, monkeypatch) -> UnifiedSample:
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "gold.PubTator").write_text(DOCUMENT)
    (found,) = read("pubtator", tmp_path / "gold.PubTator", Reading(strict=True))
    return found


def bare(sample: UnifiedSample, *relations: Relation, concepts: bool = True) -> UnifiedSample:
    mentions = sample.mentions if concepts else tuple(replace(m, concepts=()) for m in sample.mentions)
    return replace(sample, mentions=mentions, relations=relations)


def figures(folder: Path, *predicted: UnifiedSample) -> dict[str, float]:
    write("pubtator", predicted, folder / "pred")
    return score("bc5cdr", folder / "gold.PubTator", folder / "pred")


def test_every_pair_of_mentions_of_two_related_concepts_is_taught(sample):
    pairs = [("T1", "T3"), ("T1", "T6"), ("T2", "T3"), ("T2", "T6")]
    assert list(labelled(CID, sample)) == [(pair, "CID") for pair in pairs]
    assert between_concepts(CID, [sample]) and not between_concepts(CID, [bare(sample)])
    assert seen_types(CID, [sample]) == (("Chemical", "Disease"),)
    assert not only_forward(CID, [sample] * 24) and only_forward(CID, [sample] * 25)
    assert farthest(CID, [sample]) == 3  # from the second Cocaine to the first fits


def test_a_mention_of_both_concepts_is_not_related_to_itself(sample):
    both = replace(sample.mentions[2], concepts=("C1", "D1"))
    mentions = (*sample.mentions[:2], both, *sample.mentions[3:5])
    assert [pair for pair, _ in labelled(CID, replace(sample, mentions=mentions))] == [
        ("T1", "T3"),
        ("T2", "T3"),
    ]


@pytest.mark.parametrize(("segments", "positive", "apart"), [("sentences", 1, 0), ("windows", 4, 0)])
def test_one_passage_with_any_two_mentions_reaches_the_relation(sample, segments, positive, apart):
    spec = replace(CID, candidates=(("Chemical", "Disease"),), concepts=True)
    settings = PassageSettings(64, 0, segments=segments)
    encoded = encode([sample], TaskSpec("t", (spec,)), train_tokenizer([sample.text]), settings)
    labels = [row[3::4].tolist() for row in encoded.rows(range(len(encoded)))["candidates:relations"]]
    assert sum(map(sum, labels)) == positive
    assert (encoded.reach.relations, encoded.reach.apart) == (1, apart)
    assert encoded.reach.candidates == {"relations": [1, 1]}


def test_predicted_pairs_of_mentions_are_written_as_one_pair_of_concepts(sample, tmp_path):
    right = [Relation("R1", "CID", "T1", "T6"), Relation("R2", "CID", "T2", "T3")]
    found = figures(tmp_path, bare(sample, *right))
    assert [found[f"relation_{name}"] for name in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]
    lines = (tmp_path / "pred" / "predictions.PubTator.txt").read_text().splitlines()
    assert lines[6:] == ["1\tCID\tC1\tD1"]
    wrong = Relation("R3", "CID", "T1", "T4")
    found = figures(tmp_path, bare(sample, *right, wrong))
    assert [found[f"relation_{name}"] for name in ("precision", "recall")] == [0.5, 1.0]
    sides = tmp_path / "gold.PubTator", tmp_path / "pred"
    assert documents("bc5cdr", *sides, "relation_f1") == {"1": {"tp": 1, "fp": 1, "fn": 0}}


def test_a_predicted_mention_of_two_concepts_relates_both(sample, tmp_path):
    both = replace(sample.mentions[2], concepts=("D1", "D2"))
    predicted = bare(replace(sample, mentions=(*sample.mentions[:2], both)), Relation("R", "CID", "T1", "T3"))
    assert figures(tmp_path, predicted)["relation_precision"] == 0.5


def test_official_predictions_of_relations_alone_are_scored(sample, tmp_path):
    (tmp_path / "pred").mkdir()
    lines = ["1\tCID\tC1\tD1", "1\tCID\tC1\tD1\t0.9", "1\tCID\tC9\tD9", "2\tCID\tC1\tD1"]
    (tmp_path / "pred" / "p.PubTator").write_text("\n".join(lines))
    found = score("bc5cdr", tmp_path / "gold.PubTator", tmp_path / "pred")
    assert [found[f"relation_{name}"] for name in ("precision", "recall", "f1")] == [1 / 3, 1.0, 0.5]


def test_a_corpus_of_mentions_alone_has_no_relation_figure(tmp_path):
    (tmp_path / "gold.PubTator").write_text("1|t|Fits\n1|a|\n1\t0\t4\tFits\tDisease\tD1\n")
    assert "relation_f1" not in score("bc5cdr", tmp_path / "gold.PubTator", tmp_path / "gold.PubTator")


def test_mentions_get_the_concepts_that_training_gave_to_their_words(sample):
    composite = replace(sample.mentions[4], concepts=("D2", "D3"))
    unknown = replace(sample.mentions[2], concepts=())
    train = replace(sample, mentions=(sample.mentions[0], composite, unknown))
    (found,) = with_concepts(concept_names([train]), [bare(sample, concepts=False)])
    assert [m.concepts for m in found.mentions] == [("C1",)] * 2 + [(), ("D2", "D3"), ("D2", "D3"), ()]
    (given,) = with_concepts(concept_names([train]), [sample])
    assert given.mentions[2].concepts == ("D1",)
    assert with_concepts(concept_names([bare(sample, concepts=False)]), [bare(sample, concepts=False)]) == [
        bare(sample, concepts=False)
    ]


def test_steps_are_compared_by_golds_concepts_where_a_mention_is_found_exactly(sample, tmp_path):
    right, wrong = Relation("R1", "CID", "T1", "T3"), Relation("R2", "CID", "T1", "T6")
    found = bare(sample, right, wrong, concepts=False)
    moved = (*found.mentions[:5], replace(found.mentions[5], fragments=((61, 64),)))
    found = with_gold_concepts(sample, replace(found, mentions=moved))
    assert [m.concepts for m in found.mentions] == [("C1",), ("C1",), ("D1",), ("D2",), ("D2",), ()]
    assert figures(tmp_path, found)["relation_f1"] == 1.0


def test_the_threshold_is_that_of_concepts_whose_surest_mentions_decide(sample):
    part = replace(CID, concepts=True)
    dev = [replace(sample, document_id=str(number), split="dev") for number in range(8)]

    def links(none: dict[tuple[int, int], float]) -> list[list[Link]]:
        return [[Link(*ends, "CID", 1 - value, value) for ends, value in none.items()]] * 8

    # Of C1 and D1 one pair of mentions is sure and three are not; the wrong pair lies between.
    mixed = links({(0, 2): 0.22, (0, 5): 0.72, (1, 2): 0.72, (1, 5): 0.72, (0, 3): 0.45})
    assert all(0.22 < threshold <= 0.45 for threshold in choose_thresholds(part, mixed, dev, dev))
    only_wrong = links({(0, 3): 0.1})
    assert choose_thresholds(part, only_wrong, dev, dev) == (UNDECIDED,) * 3


BIORED = """\
1|t|GeneA binds hurt.
1|a|Hurt and GeneA.
1	0	5	GeneA	Gene	G1
1	12	16	hurt	Disease	D1
1	18	22	Hurt	Disease	D1
1	27	32	GeneA	Gene	G1
1	Association	{ends}	Novel
"""
ASSOCIATION = ComponentSpec("relations", Kind.RELATIONS, 2, ("Association", "Bind"))


@pytest.mark.parametrize("ends", ["G1\tD1", "D1\tG1"])
def test_a_pair_without_order_is_taught_in_the_order_of_the_text_alone(tmp_path, ends):
    """BioRED's relations are pairs: half of the directions were taught as unrelated."""
    (tmp_path / "gold.PubTator").write_text(BIORED.format(ends=ends))
    [sample] = read("pubtator", tmp_path / "gold.PubTator", Reading(strict=True))
    pairs = {names for names, _ in labelled(ASSOCIATION, sample)}
    assert pairs == {("T1", "T2"), ("T1", "T3"), ("T2", "T4"), ("T3", "T4")}
    assert only_forward(ASSOCIATION, [sample]) and not only_forward(CID, [sample])
    assert seen_types(ASSOCIATION, [sample]) == (("Disease", "Gene"), ("Gene", "Disease"))


def test_order_counts_in_the_scores_of_cid_and_not_in_those_of_biored(tmp_path):
    gold, pred = tmp_path / "gold.PubTator", tmp_path / "pred.PubTator"
    gold.write_text(BIORED.format(ends="G1\tD1"))
    pred.write_text(BIORED.format(ends="D1\tG1"))
    assert score("pubtator", gold, pred)["relation_f1"] == 1
    assert documents("pubtator", gold, pred, "relation_f1") == {"1": {"tp": 1, "fp": 0, "fn": 0}}
    both = pred.read_text() + "1\tAssociation\tG1\tD1\n"
    pred.write_text(both)
    assert score("pubtator", gold, pred)["relation_precision"] == 1  # the same pair again
    for path in (gold, pred):
        path.write_text(path.read_text().replace("Association", "CID"))
    figures = score("bc5cdr", gold, pred)
    assert (figures["relation_precision"], figures["relation_recall"]) == (0.5, 1)


def test_a_pair_without_order_that_is_found_both_ways_is_written_once(tmp_path):
    (tmp_path / "gold.PubTator").write_text(BIORED.format(ends="D1\tG1"))
    [sample] = read("pubtator", tmp_path / "gold.PubTator", Reading(strict=True))
    found = [Relation("R1", "Association", "T1", "T2"), Relation("R2", "Association", "T3", "T4")]
    [path] = write("pubtator", [replace(sample, relations=tuple(found))], tmp_path / "out")
    assert [line for line in path.read_text().splitlines() if "Assoc" in line] == ["1\tAssociation\tG1\tD1"]


def test_the_threshold_of_pairs_without_order_asks_for_them_in_either_direction(tmp_path):
    (tmp_path / "gold.PubTator").write_text(BIORED.format(ends="D1\tG1"))
    [sample] = read("pubtator", tmp_path / "gold.PubTator", Reading(strict=True))
    component = replace(ASSOCIATION, concepts=True)
    links = [[Link(0, 1, "Association", 0.9, 0.8)]]  # G1 to D1, and the corpus says D1 to G1
    assert choose_thresholds(component, links, [sample], [bare(sample)])[0] > 0.8
