"""What the corpora hold: counted by hand on two small ones, and what is missing is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample
from kaggle_kit.data import exploration
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.data.registry import task

TEXT = "No left or right atrial pain today. A cough came with fever."


def note(name: str, split: str = "train", text: str = TEXT) -> UnifiedSample:
    """Two mentions that share `pain`, the first in pieces; one within another; one over two sentences."""
    places = {
        "T1": ((3, 7), (24, 28)),
        "T2": ((17, 28),),
        "T3": ((24, 28),),
        "T4": ((29, 43),),
        "T5": ((54, 59),),
    }
    kinds = dict.fromkeys(places, "Symptom") | {"T5": "Drug"}
    mentions = tuple(Mention(name, fragments, kinds[name]) for name, fragments in places.items())
    links = (Relation("R1", "TREATS", "T5", "T2"),)
    return UnifiedSample(name, text, split, Access.PUBLIC, mentions, links)


@pytest.fixture
def corpora(tmp_path):
    slot = replace(task("semeval2021t6"), train_size=3, test_size=2)
    splits = {
        "train": (note("a"), note("b", text="B" + TEXT[1:])),
        "test": (note("t", "test"), note("u", "test")),
    }
    pairs = tuple(RankedPair("q", f"q{n}", "Take a rest.", n, relevant=n == 1) for n in (1, 2, 3, 4))
    question = UnifiedSample("q", "What helps against a cough today?", "train", Access.PUBLIC, pairs=pairs)
    ranking = {"train": (question,)}
    return {
        "semeval2021t6": Corpus(slot, tmp_path, splits, (), "", 0, False),
        "semeval2017t3": Corpus(task("semeval2017t3"), tmp_path, ranking, (), "", 0, True),
    }


def test_sizes_are_counted_and_compared_with_the_declared_ones(corpora):
    table = exploration.size_table(corpora).set_index(["task", "split"])
    train, test, asked = (table.loc[key] for key in table.index)
    assert (train["documents"], train["mentions"], train["relations"]) == (2, 10, 2)
    assert (train["declared"], train["as declared"]) == (3, "no")
    assert (test["declared"], test["as declared"]) == (2, "yes")
    assert asked["candidates"] == 4 and asked.isna()["as declared"], "a practice corpus declares nothing"


def test_what_is_cut_from_a_split_counts_there(corpora):
    cut = compose(task="ddi2013").tasks["ddi2013"]
    splits = {"train": (note("a"),) * 3, "dev": (note("b"),)}
    table = exploration.size_table({"ddi2013": replace(corpora["semeval2021t6"], task=cut, splits=splits)})
    assert table.set_index("split")["on disk"].to_dict()["train"] == 4


def test_labels_have_shares_within_their_component_and_a_balance(corpora):
    labels = exploration.label_table(corpora)
    ner = labels[labels["component"] == "ner"].set_index("label")
    assert ner["count"].to_dict() == {"Symptom": 8, "Drug": 2} and ner["share"]["Drug"] == 0.2
    assert labels["component"].tolist() == ["ranking", "ranking", "ner", "ner", "relations"]
    balance = exploration.balance_table(labels).set_index("component")
    assert balance["largest share"].to_dict() == {"ner": 0.8, "relations": 1.0, "ranking": 0.75}
    assert balance["balance"]["ner"] == pytest.approx(0.7219, abs=1e-4)  # the entropy of 0.8 and 0.2 in bits
    assert balance["balance"].isna()["relations"], "one label has no balance"


def test_lengths_are_words_of_documents_sentences_and_mentions(corpora):
    lengths = exploration.length_table({"one": corpora["semeval2021t6"]}).set_index("words per")
    assert lengths["n"].to_dict() == {"document": 2, "sentence": 4, "mention": 10}
    assert lengths["median"].to_dict() == {"document": 14, "sentence": 7, "mention": 2}
    assert lengths["most"].to_dict() == {"document": 14, "sentence": 8, "mention": 4}


def test_shapes_are_shares_of_the_mentions(corpora):
    (row,) = exploration.shape_table(corpora).to_dict("records")
    assert row["mentions"] == 10
    assert row["discontiguous"] == 0.2, "T1"
    assert row["nested"] == 0.4, "T3 lies in T2, and both between the ends of T1"
    assert row["overlapping"] == 0.6, "T1, T2 and T3 share a word"
    assert row["over two sentences"] == 0.2, "T4"


def test_documents_and_sentences_in_common_are_counted_by_their_text(corpora):
    other = replace(corpora["semeval2021t6"], splits={"dev": (note("z", "dev", TEXT.upper()),)})
    both = {"one": corpora["semeval2021t6"], "other": other}
    shared = exploration.in_common(exploration.documents(both)).set_index("task")
    assert shared.to_numpy().tolist() == [[2, 1], [1, 1]], "another case is no other text"
    assert exploration.in_common(exploration.long_sentences(both)).set_index("task").to_numpy()[0, 1] == 2


def test_what_is_missing_is_named_with_the_steps_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "semeval2021t6" / "train"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("aspirin helps")
    (folder / "a.ann").write_text("T1\tDrug 0 7\taspirin\n")
    config = compose(task=["semeval2021t6", "ncbi_disease"], strategy="s2_shared", profile="open")
    corpora, missing = exploration.find_corpora(config)
    assert list(corpora) == ["semeval2021t6"] and list(corpora["semeval2021t6"].splits) == ["train"]
    assert list(missing) == ["semeval2021t6, dev", "semeval2021t6, test", "ncbi_disease"]
    assert "Unpack NCBItrainset_corpus.txt" in missing["ncbi_disease"]
    access = exploration.access_table(config, corpora).set_index("task")
    assert access["here"].to_dict() == {"semeval2021t6": "yes", "ncbi_disease": "no"}
