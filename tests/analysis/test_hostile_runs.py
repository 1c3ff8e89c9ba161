"""Run folders of strangers: what is malformed is named and left out, and nothing in them becomes markup."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from kaggle_kit.analysis.overview import overview_table
from kaggle_kit.analysis.report import sound_runs, style_table, write_report
from kaggle_kit.core.artifacts import Metric, RunFolder, Totals
from kaggle_kit.core.config import compose, read_config
from kaggle_kit.core.errors import KitError, RunFolderError
from kaggle_kit.core.runs import start_run
from tests.analysis.test_report import add_run
from tests.signing import sign

DEEP, DEEP_BLOCKS = b"[" * 100_000, b"- " * 100_000
MALFORMED = [
    b"",
    b"\xff\xfe\x00",
    b"[]",
    b"[1]",
    b"7",
    b"null",
    b'{"a": 1}',
    DEEP,
    DEEP_BLOCKS,
    b"{a: [",
    b"'",
]
FILES = ["config.yaml", "metrics.json", "events.jsonl", "manifest.json"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Two sound runs, of which a report can be written."""
    folder = tmp_path_factory.mktemp("sound")
    add_run(folder, task="ncbi_disease", metric="strict_f1")
    add_run(folder, model="tiny", profile="smoke")
    runs, left_out = sound_runs(folder)
    assert len(runs) == 2 and not left_out
    write_report(runs[1:], folder / "report.html")
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """A sound run and one to be spoilt, whose name comes first."""
    return shutil.copytree(sound, tmp_path / "runs", ignore=shutil.ignore_patterns("report.html"))


def spoilt(folder) -> RunFolder:
    (path,) = (path for path in folder.iterdir() if "ncbi" in path.name)
    return RunFolder.open(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: repr(content[:8]))
@pytest.mark.parametrize("signed", [False, True])
def test_a_malformed_file_is_named_and_stops_no_overview(folder, name, content, signed):
    run = spoilt(folder)
    (run.path / name).write_bytes(content + b"\n")
    if signed and name != "manifest.json":
        sign(run)
    runs, left_out = sound_runs(folder)
    nothing_recorded = signed and (name, content) == ("metrics.json", b"[]")  # a run may have no figure
    assert ["ncbi" in sound.run_id for sound in runs] == [True, False][not nothing_recorded :]
    assert nothing_recorded or (len(left_out) == 1 and run.path.name in left_out[0])
    if nothing_recorded:  # what is left otherwise has its report already
        write_report(runs, folder / "report.html")


FIELDS = {
    "totals": {"tokens": {"ncbi_disease": "many"}, "trainable_parameters": 1, "seconds": 1},
    "tasks": 5,
    "flags": {"smoke": True, "practice": True} | {"x": []},
    "seed": "one",
    "versions": "none",
    "data_hashes": {"ncbi_disease": 7},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_signed_manifest_of_other_types_stops_no_overview(folder, field):
    run = spoilt(folder)
    sign(run, json.loads(run.manifest_json.read_text()) | {field: FIELDS[field]})
    runs, left_out = sound_runs(folder)
    assert len(runs) + len(left_out) == 2
    assert all(run.path.name in why for why in left_out)
    write_report(runs, folder / "report.html")


@pytest.mark.parametrize("field", ["tasks", "model", "seed", "versions", "git_sha"])
def test_a_missing_field_is_named(folder, field):
    run = spoilt(folder)
    manifest = json.loads(run.manifest_json.read_text())
    del manifest[field]
    sign(run, manifest)
    with pytest.raises(RunFolderError, match=f"does not record {field}"):
        run.manifest()[field]
    assert sound_runs(folder)[1]


MARKUP = "<script>alert(1)</script>"


def test_no_name_in_a_run_becomes_markup(tmp_path):
    config = compose(task="semeval2014t7")
    config = replace(config, model=replace(config.model, name=MARKUP))
    config.tasks["semeval2014t7"] = replace(config.tasks["semeval2014t7"], primary_metric=MARKUP)
    run = start_run(config, page="page", runs_dir=tmp_path)
    split = f"{MARKUP}$\\frac"
    run.append_event({"step": 1, "losses": {"semeval2014t7": 1.0}})
    run.write_metrics([Metric(MARKUP, 0.5, MARKUP, split, 1, MARKUP, "semeval2014t7")])
    run.finish(totals=Totals(), device=MARKUP, data_hashes={MARKUP: MARKUP})
    runs, left_out = sound_runs(tmp_path)
    assert not left_out
    text = write_report(runs, tmp_path / "report.html").read_text()
    assert "<script" not in text and "&lt;script" in text
    assert "<script" not in style_table(overview_table(runs)).to_html()


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: repr(content[:8]))
def test_every_reader_of_a_run_folder_raises_no_error_but_the_project_s(tmp_path, content):
    run = RunFolder.create(tmp_path / "a", "seed: 3\n", "00", {})
    for name in ("config.yaml", "events.jsonl", "tokens.jsonl", "metrics.json", "paused.json"):
        (run.path / name).write_bytes(content + b"\n")
    run.documents.mkdir()
    (run.documents / "t.test.jsonl").write_bytes(content + b"\n")
    readers = (
        run.config,
        run.events,
        run.tokens,
        run.metrics,
        run.paused,
        lambda: run.read_documents("t", "test"),
        lambda: RunFolder.open(run.path, finished=False),
    )
    for read in readers:
        try:
            read()
        except KitError as error:
            assert str(run.path) in str(error)


@pytest.mark.parametrize(
    "content", [*MALFORMED, b"a: ${oc.env:HOME}", b"!!timestamp abc", b"seed: " + b"9" * 5000]
)
def test_a_stored_configuration_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(RunFolderError) as caught:
        read_config(tmp_path / "config.yaml")
    assert str(tmp_path / "config.yaml") in str(caught.value)
