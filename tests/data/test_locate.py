"""Where corpora are looked for: the fixed order, and what a missing one says."""

from __future__ import annotations

import pytest

from kaggle_kit.core.errors import CorpusMissing
from kaggle_kit.data import locate as locate_module
from kaggle_kit.data.locate import locate
from kaggle_kit.data.registry import task


@pytest.fixture
def bc5cdr(tmp_path, monkeypatch):
    monkeypatch.setattr(locate_module, "REPOSITORY", tmp_path / "repository")
    return task("bc5cdr")


def put(folder):
    folder.mkdir(parents=True)
    (folder / "CDR_TrainingSet.PubTator.txt").write_text("1|t|Title\n1|a|Abstract\n")
    return folder


def test_the_places_are_tried_in_the_fixed_order(tmp_path, bc5cdr):
    kaggle, working = tmp_path / "input", tmp_path / "working"
    environ = {"KAGGLE_KIT_BC5CDR": str(tmp_path / "own"), "KAGGLE_KIT_DATA": str(tmp_path / "all")}
    bc5cdr.path = str(tmp_path / "explicit")
    places = [
        put(tmp_path / "explicit"),
        put(tmp_path / "own"),
        put(tmp_path / "all" / "bc5cdr"),
        put(kaggle / "bc5cdr"),
        put(kaggle / "datasets" / "somebody" / "bc5cdr"),
        put(kaggle / "bc5cdr-corpus"),
        put(working / "data" / "bc5cdr"),
        put(tmp_path / "repository" / "data" / "bc5cdr"),
    ]
    for place in places:
        found = locate(bc5cdr, working_dir=working, environ=environ, kaggle_input=kaggle)
        assert found == place
        (place / "CDR_TrainingSet.PubTator.txt").unlink()
        if place.name == "explicit":
            bc5cdr.path = None
        if place.name == "own":
            del environ["KAGGLE_KIT_BC5CDR"]
    with pytest.raises(CorpusMissing):
        locate(bc5cdr, working_dir=working, environ=environ, kaggle_input=kaggle)


def test_an_explicit_path_that_is_not_there_is_never_skipped(tmp_path, bc5cdr):
    put(tmp_path / "data" / "bc5cdr")
    bc5cdr.path = str(tmp_path / "typo")
    with pytest.raises(CorpusMissing, match=r"tasks\.bc5cdr\.path: .*typo \(not there\)"):
        locate(bc5cdr, working_dir=tmp_path, environ={}, kaggle_input=tmp_path / "input")


def test_an_environment_variable_that_names_a_wrong_folder_is_never_skipped(tmp_path, bc5cdr):
    put(tmp_path / "data" / "bc5cdr")
    (tmp_path / "empty").mkdir()
    environ = {"KAGGLE_KIT_BC5CDR": str(tmp_path / "empty")}
    with pytest.raises(CorpusMissing, match="nothing in it matches"):
        locate(bc5cdr, working_dir=tmp_path, environ=environ, kaggle_input=tmp_path / "input")


def test_a_folder_without_the_layout_does_not_count(tmp_path, bc5cdr):
    (tmp_path / "all" / "bc5cdr").mkdir(parents=True)
    found = put(tmp_path / "data" / "bc5cdr")
    environ = {"KAGGLE_KIT_DATA": str(tmp_path / "all")}
    assert locate(bc5cdr, working_dir=tmp_path, environ=environ, kaggle_input=tmp_path / "input") == found


def test_a_missing_corpus_lists_every_place_the_layout_and_the_steps(tmp_path, bc5cdr):
    with pytest.raises(CorpusMissing) as caught:
        environ = {"KAGGLE_KIT_DATA": str(tmp_path / "all")}
        locate(bc5cdr, working_dir=tmp_path, environ=environ, kaggle_input=tmp_path / "input")
    message = str(caught.value)
    for place in (
        "all/bc5cdr",
        "input/bc5cdr",
        "input/datasets/<owner>/bc5cdr",
        "data/bc5cdr",
        "repository/data/bc5cdr",
    ):
        assert str(tmp_path / place) in message
    assert "**/CDR_TrainingSet.PubTator.txt" in message
    assert "1. Download the CDR corpus" in message
    assert "$KAGGLE_KIT_BC5CDR" in message


def test_practice_data_is_not_a_place(tmp_path):
    restricted = task("semeval2014t7")
    (tmp_path / "practice" / "semeval2014t7" / "train").mkdir(parents=True)
    with pytest.raises(CorpusMissing):
        locate(restricted, working_dir=tmp_path, environ={}, kaggle_input=tmp_path / "input")


@pytest.fixture
def on_the_hub(bc5cdr):
    """A task whose files lie on the hub, where no folder has them."""
    bc5cdr.options = {"dataset": "somebody/cdr", "revision": "v1"}
    return bc5cdr


def test_a_dataset_of_the_hub_is_taken_where_no_folder_has_the_corpus(tmp_path, on_the_hub, monkeypatch):
    asked = {}

    def snapshot_download(dataset, **settings):
        asked.update(settings, dataset=dataset)
        return str(put(tmp_path / "snapshot"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    nowhere = {"working_dir": tmp_path, "environ": {}, "kaggle_input": tmp_path / "input"}
    assert locate(on_the_hub, **nowhere) == tmp_path / "snapshot"
    assert (asked["dataset"], asked["revision"], asked["repo_type"]) == ("somebody/cdr", "v1", "dataset")
    assert "CDR_TrainingSet.PubTator.txt" in asked["allow_patterns"]
    asked.clear()
    folder = put(tmp_path / "data" / "bc5cdr")
    assert locate(on_the_hub, **nowhere) == folder and not asked


def test_a_dataset_that_the_hub_does_not_give_is_refused_with_what_to_do(tmp_path, on_the_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(
        CorpusMissing, match="dataset 'somebody/cdr' lies in no folder here, and the hub gives no"
    ):
        locate(on_the_hub, working_dir=tmp_path, environ={}, kaggle_input=tmp_path / "input")
