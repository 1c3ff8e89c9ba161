"""The run folder: claimed once, complete only with its manifest, and without a word of any corpus."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kaggle_kit.core.artifacts import Metric, RunFolder, Totals, find_runs, reserve
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.records import append_record, read_records, to_json, write_atomically
from kaggle_kit.core.runs import config_run_id, run_flags, start_run
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample

TOTALS = Totals(tokens={"toy": 120}, trainable_parameters=8, seconds=1.5)


def new_run(path: Path) -> RunFolder:
    return RunFolder.create(path, "seed: 3\n", "0123456789abcdef", {"smoke": True}, tasks=["toy"], seed=3)


def finish(run: RunFolder) -> Path:
    return run.finish(totals=TOTALS, device="cpu", data_hashes={"toy": "ff00"})


def test_a_run_counts_only_once_its_manifest_is_there(tmp_path):
    run = new_run(tmp_path / "a")
    assert find_runs(tmp_path) == []
    with pytest.raises(RunFolderError, match="unfinished"):
        RunFolder.open(run.path)
    assert RunFolder.open(run.path, finished=False).facts["seed"] == 3
    finish(run)
    assert [found.run_id for found in find_runs(tmp_path)] == ["a"]


def test_a_kaggle_session_finds_the_runs_that_are_attached_and_its_own_first(tmp_path, monkeypatch):
    mounted, own = tmp_path / "input", tmp_path / "working" / "runs"
    for path in (own / "a", mounted / "kernel" / "runs" / "a", mounted / "datasets" / "jane" / "study" / "b"):
        path.parent.mkdir(parents=True, exist_ok=True)
        finish(new_run(path))
    new_run(mounted / "kernel" / "runs" / "unfinished")
    foreign = mounted / "a-model"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("layers: 3\n")
    (foreign / "manifest.json").write_text("no JSON")
    monkeypatch.setattr("kaggle_kit.core.artifacts.KAGGLE_INPUT", mounted)
    assert [run.path for run in find_runs(own)] == [own / "a"]
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    found = [run.path.relative_to(tmp_path).as_posix() for run in find_runs(own)]
    assert found == ["working/runs/a", "input/datasets/jane/study/b"]


def test_the_manifest_holds_what_a_comparison_needs(tmp_path):
    run = new_run(tmp_path / "a")
    finish(run)
    manifest = RunFolder.open(run.path).manifest()
    assert manifest["complete"] is True
    assert manifest["config_hash"] == "0123456789abcdef"
    assert manifest["flags"] == {"smoke": True}
    totals = {"tokens": {"toy": 120}, "trainable_parameters": 8, "seconds": 1.5, "computed_tokens": {}}
    assert manifest["totals"] == totals
    assert manifest["data_hashes"] == {"toy": "ff00"}
    assert manifest["device"] == "cpu"
    assert manifest["seed"] == 3
    assert {"python", "numpy"} <= set(manifest["versions"])
    assert manifest["started"] <= manifest["finished"]


def test_a_folder_can_hold_one_run_only(tmp_path):
    new_run(tmp_path / "a")
    with pytest.raises(RunFolderError, match="already holds a run"):
        new_run(tmp_path / "a")


def test_a_finished_run_is_never_replaced(tmp_path):
    run = new_run(tmp_path / "a")
    finish(run)
    with pytest.raises(RunFolderError, match="already finished"):
        finish(run)


def test_a_taken_name_gets_the_next_free_number(tmp_path):
    assert [reserve(tmp_path, "a").name for _ in range(3)] == ["a", "a-2", "a-3"]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"complete": false}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    run = new_run(tmp_path / "a")
    run.manifest_json.write_text(text)
    with pytest.raises(RunFolderError, match=r"manifest\.json"):
        RunFolder.open(run.path)


def test_the_config_is_read_back_and_its_first_line_holds_the_hash(tmp_path):
    run = new_run(tmp_path / "a")
    assert run.config() == {"seed": 3}
    first = run.config_yaml.read_text().splitlines()[0]
    assert json.loads(first.removeprefix("# run: "))["config_hash"] == "0123456789abcdef"


def test_events_are_strict_json_even_for_a_loss_that_overflowed(tmp_path):
    run = new_run(tmp_path / "a")
    run.append_event({"step": 1, "losses": {"toy": 0.5}})
    run.append_event({"step": 2, "losses": {"toy": math.inf}})
    assert "Infinity" not in run.events_jsonl.read_text()
    assert [event["losses"]["toy"] for event in run.events()] == [0.5, None]


def test_a_last_line_that_a_crash_cut_is_left_out(tmp_path):
    log = tmp_path / "log.jsonl"
    append_record(log, {"step": 1, "note": "a line separator \u2028 is no line end"})
    log.write_text(log.read_text() + '{"step": 2, "lo')
    assert [record["step"] for record in read_records(log)] == [1]


def test_a_damaged_line_inside_a_log_is_an_error_with_its_line(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunFolderError, match=r"log\.jsonl:2"):
        read_records(log)


def test_scalars_of_an_array_library_become_plain_numbers():
    numpy = pytest.importorskip("numpy")
    record = {"step": numpy.int64(2), "loss": numpy.float32(0.5), "norms": (numpy.float64(1),)}
    assert to_json(record) == '{"step": 2, "loss": 0.5, "norms": [1.0]}'


def test_an_atomic_write_leaves_no_temporary_file(tmp_path):
    write_atomically(tmp_path / "deep" / "a.json", "1")
    write_atomically(tmp_path / "deep" / "a.json", "2")
    assert [(path.name, path.read_text()) for path in (tmp_path / "deep").iterdir()] == [("a.json", "2")]


def test_metrics_keep_unit_split_count_and_scorer(tmp_path):
    run = new_run(tmp_path / "a")
    figures = [Metric("strict_f1", 0.7785, "share", "dev", 787, "pubtator", "toy")]
    assert run.metrics() == []
    run.write_metrics(figures)
    assert run.metrics() == figures


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_metric_that_is_no_number_is_refused_at_the_door(tmp_path, value):
    run = new_run(tmp_path / "a")
    with pytest.raises(RunFolderError, match=r"metrics\.json: value of map on dev"):
        run.write_metrics([Metric("map", value, "share", "dev", 0, "semeval2017t3", "toy")])
    assert not run.metrics_json.exists()


SAMPLE = UnifiedSample(
    document_id="doc1",
    text="chest wall was sore",
    split="dev",
    access=Access.RESTRICTED,
    mentions=(
        Mention("T1", ((0, 5), (15, 19)), "Disorder", ("C01",), {"negation": "no"}, score=0.9),
        Mention("T2", ((0, 10),), "Anatomy"),
    ),
    relations=(Relation("R1", "LOCATED", "T1", "T2", ("From", "To"), {"Type": "CONTAINS"}, score=0.4),),
    pairs=(RankedPair("q1", "c1", "a secret answer", 1, "Good", True, score=0.25),),
    metadata={"subject": "a secret subject"},
)


def test_a_prediction_is_one_line_of_offsets_labels_scores_and_ids(tmp_path):
    path = new_run(tmp_path / "a").write_predictions("toy", "dev", [SAMPLE])
    record = json.loads(path.read_text())
    assert path.name == "toy.dev.jsonl" and record.keys().isdisjoint({"text", "metadata"})
    assert (record["document_id"], record["split"], record["access"]) == ("doc1", "dev", "restricted")
    assert record["mentions"][0] == {
        "id": "T1",
        "fragments": [[0, 5], [15, 19]],
        "type": "Disorder",
        "concepts": ["C01"],
        "attributes": {"negation": "no"},
        "score": 0.9,
    }
    (relation,), (pair,) = record["relations"], record["pairs"]
    assert (relation["type"], relation["source"], relation["target"]) == ("LOCATED", "T1", "T2")
    assert (relation["roles"], relation["attributes"]) == (["From", "To"], {"Type": "CONTAINS"})
    assert (pair["candidate_id"], pair["rank"], pair["relevant"], pair["score"]) == ("c1", 1, True, 0.25)


@pytest.mark.parametrize("words", ["sore", "secret", "chest"])
def test_no_word_of_the_corpus_reaches_a_predictions_file(tmp_path, words):
    assert words not in new_run(tmp_path / "a").write_predictions("toy", "dev", [SAMPLE]).read_text()


def test_a_run_id_is_readable_and_fit_for_a_folder():
    config = compose(seed=7)
    config.model.name = "a/b c"
    assert config_run_id(config, "s1") == (
        f"s1-semeval2014t7-a_b_c-s1_single-smoke-seed7-{config_hash(config)[:8]}"
    )


def test_a_page_that_is_run_twice_gets_two_folders(tmp_path):
    config = compose()
    first, second = (start_run(config, "page", runs_dir=tmp_path) for _ in range(2))
    assert second.run_id == f"{first.run_id}-2"
    assert first.facts["config_hash"] == config_hash(config)
    assert first.facts["tasks"] == ["semeval2014t7"]


def test_a_reserved_folder_is_used_as_it_is(tmp_path):
    run_dir = reserve(tmp_path, "reserved")
    (run_dir / "notebook.ipynb").touch()
    assert start_run(compose(), "page", run_dir=str(run_dir)).path == run_dir


def test_invented_notes_are_marked_practice_and_never_restricted():
    assert run_flags(compose()) == {"smoke": True, "practice": True, "restricted": False}


def test_a_real_restricted_corpus_is_marked_restricted():
    config = compose(task="semeval2014t7", profile="t4", model="llama3b")
    assert run_flags(config) == {"smoke": False, "practice": False, "restricted": True}
