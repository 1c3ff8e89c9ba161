"""The command line as a user meets it: figures, tables, exit codes, and one clean message per error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.errors import STOPPED, KitError
from kaggle_kit.experiment import page_run as run_module

ROOT = Path(__file__).resolve().parents[2]
TEXT = "aspirin causes bleeding"
GOLD = "T1\tDrug 0 7\taspirin\nT2\tEffect 15 23\tbleeding\n"
PRED = "T1\tDrug 0 7\taspirin\nT2\tEffect 8 14\tcauses\n"


def kit(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _case(folder: Path, gold: str = GOLD, pred: str = PRED) -> Path:
    for side, lines in (("gold", gold), ("pred", pred)):
        (folder / side).mkdir(parents=True)
        (folder / side / "d1.txt").write_text(TEXT)
        (folder / side / "d1.ann").write_text(lines)
    return folder


def test_score_prints_one_flat_json_object_of_floats(tmp_path):
    case = _case(tmp_path / "case")
    result = kit("score", "brat", "--gold", case / "gold", "--pred", case / "pred", "--json")
    figures = json.loads(result.stdout)
    assert result.exit_code == 0 and all(isinstance(value, float) for value in figures.values())
    assert figures["entity_precision"] == figures["entity_recall"] == figures["entity_f1"] == 0.5


def test_score_takes_a_task_id_for_its_scorer_and_prints_a_table(tmp_path):
    case = _case(tmp_path / "case")
    result = kit("score", "ddi2013", "--gold", case / "gold", "--pred", case / "pred")
    rows = dict(line.split() for line in result.stdout.splitlines())
    assert rows["entity_f1"] == "0.5000" and len({len(line) for line in result.stdout.splitlines()}) == 1


def test_score_takes_many_cases_in_one_go(tmp_path):
    _case(tmp_path / "half")
    _case(tmp_path / "perfect", pred=GOLD)
    (tmp_path / "notes").mkdir()  # no case: it lacks gold/ and pred/
    figures = json.loads(kit("score", "brat", "--cases", tmp_path, "--json").stdout)
    assert {case: values["entity_f1"] for case, values in figures.items()} == {"half": 0.5, "perfect": 1.0}


def test_an_unknown_task_is_told_with_the_nearest_name_and_no_traceback(tmp_path):
    case = _case(tmp_path / "case")
    result = kit("score", "semeval2014t", "--gold", case / "gold", "--pred", case / "pred")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: unknown") and "did you mean 'semeval2014t7'?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("given", [["--gold", "x"], [], ["--cases", "x", "--gold", "y"]])
def test_score_needs_two_folders_or_a_folder_of_cases(given):
    result = kit("score", "brat", *given)
    assert result.exit_code == 2 and "--gold DIR with --pred DIR, or --cases DIR alone" in result.stderr


def test_data_list_names_every_task_with_its_format():
    rows = {line.split()[0]: line for line in kit("data", "list").stdout.splitlines()[1:]}
    assert {"semeval2014t7", "semeval2021t6", "ncbi_disease"} <= set(rows)
    assert "anafora" in rows["semeval2016t12"] and "restricted" in rows["semeval2016t12"]


def _brat_corpus(root: Path, **annotations: str) -> Path:
    for split in ("train", "dev", "test"):
        (root / split).mkdir(parents=True)
        (root / split / f"{split}1.txt").write_text(TEXT)
        (root / split / f"{split}1.ann").write_text(annotations.get(split, GOLD))
    return root


def test_data_check_of_a_sound_corpus_ends_with_zero(tmp_path):
    result = kit("data", "check", "semeval2021t6", "--path", _brat_corpus(tmp_path))
    assert result.exit_code == 0 and "0 error(s), 0 warning(s)" in result.stdout
    held = "1 document(s), 2 mentions (Drug 1, Effect 1)"
    assert result.stdout.splitlines()[1:] == [f"{split}: {held}" for split in ("train", "dev", "test")]


def test_data_check_lists_every_problem_with_its_line_and_ends_with_one(tmp_path):
    past_the_end = GOLD + "T3\tDrug 90 95\twhere\n"
    root = _brat_corpus(tmp_path, train=past_the_end, test="T1\tDrug zero 7\taspirin\n")
    result = kit("data", "check", "semeval2021t6", "--path", root, "--strict")
    assert result.exit_code == 1 and "2 error(s)" in result.stdout
    assert "train1.ann:3" in result.stdout and "test1.ann:1" in result.stdout


def test_a_missing_corpus_is_told_with_the_places_and_the_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kit("data", "locate", "bc5cdr")
    assert result.exit_code == 2 and "How to get it" in result.stderr
    assert str(tmp_path / "data" / "bc5cdr") in result.stderr


def test_data_locate_prints_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_SEMEVAL2021T6", str(_brat_corpus(tmp_path)))
    result = kit("data", "locate", "semeval2021t6")
    assert result.stdout.strip() == str(tmp_path)
    for told in (
        "reference: none; SemEval-2021",
        "licence: that of the corpus",
        "entity_f1; also relation_f1",
    ):
        assert told in result.stderr


def test_data_practice_writes_the_five_corpora_and_they_check_clean(tmp_path):
    result = kit("data", "practice", "--out", tmp_path, "documents=6", "terms=40")
    assert result.exit_code == 0, result.stderr
    folders = dict(line.split() for line in result.stdout.splitlines())
    assert len(folders) == 5
    for task, folder in folders.items():
        assert kit("data", "check", task, "--path", folder).exit_code == 0


def test_data_practice_refuses_an_unknown_knob():
    result = kit("data", "practice", "--out", "x", "documnts=6")
    assert result.exit_code == 2 and "did you mean 'documents'?" in result.stderr


def test_run_hands_its_options_to_the_page_and_prints_the_folder(tmp_path, monkeypatch):
    handed = {}

    def run_page(page, **options):
        handed.update(options, page=page)
        return tmp_path / "a_run"

    monkeypatch.setattr(run_module, "run_page", run_page)
    result = kit(
        "run",
        "s1_single_task",
        "--task",
        "ncbi_disease",
        "--seed",
        7,
        "--runs-dir",
        tmp_path,
        "training.epochs=5",
    )
    assert result.stdout.strip() == str(tmp_path / "a_run")
    assert handed["page"] == "s1_single_task" and handed["task"] == "ncbi_disease" and handed["seed"] == 7
    assert handed["profile"] is None and list(handed["overrides"]) == ["training.epochs=5"]


def test_run_refuses_an_unknown_page_parameter_before_a_kernel_starts(tmp_path):
    result = kit("run", "s1_single_task", "--runs-dir", tmp_path, "training.epoch=5")
    assert result.exit_code == 2 and "did you mean 'epochs'?" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_fails_is_one_message_and_exit_code_one(tmp_path, monkeypatch):
    def run_page(*_, **__):
        raise run_module.PageFailed("cell 5 of s1_single_task raised ValueError")

    monkeypatch.setattr(run_module, "run_page", run_page)
    result = kit("run", "s1_single_task")
    assert result.exit_code == 1 and result.stderr == "error: cell 5 of s1_single_task raised ValueError\n"


def test_a_paused_run_is_one_message_and_an_exit_code_of_its_own(monkeypatch):
    def run_page(*_, **__):
        raise run_module.RunPaused("step 400 of 900; go on with --resume runs/x")

    monkeypatch.setattr(run_module, "run_page", run_page)
    result = kit("run", "s1_single_task")
    assert result.exit_code == 75 and result.stderr == "paused: step 400 of 900; go on with --resume runs/x\n"


def test_ctrl_c_is_one_line_and_the_exit_code_that_shells_have(monkeypatch):
    def run_page(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "run_page", run_page)
    result = kit("run", "s1_single_task")
    assert result.exit_code == 130 and result.stderr.count("\n") == 1
    assert "the same command" in result.stderr


def test_an_unknown_scorer_is_named_before_a_missing_option():
    result = kit("score", "foo")
    assert result.exit_code == 2 and "unknown scorer 'foo'" in result.stderr


def test_every_documented_exit_code_is_one_that_commands_end_with():
    text = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)}
    raised = {KitError.exit_code, run_module.PageFailed.exit_code, run_module.RunPaused.exit_code, STOPPED}
    assert documented == {0, *raised}


def test_pages_execute_hands_values_to_a_page_that_reads_runs(tmp_path, monkeypatch):
    handed = {}

    def execute_page(page, values, output):
        handed.update(values, page=page.stem)
        return output

    monkeypatch.setattr(run_module, "execute_page", execute_page)
    result = kit("pages", "execute", "overview", f"runs_dir={tmp_path}", "report=a=b", "--out", "x.ipynb")
    assert result.stdout.strip() == "x.ipynb"
    assert handed == {"page": "overview", "runs_dir": str(tmp_path), "report": "a=b"}


def test_pages_execute_refuses_what_the_page_does_not_declare():
    result = kit("pages", "execute", "overview", "runs_dirs=x")
    assert result.exit_code == 2 and "no parameter 'runs_dirs' — did you mean 'runs_dir'" in result.stderr
    result = kit("pages", "execute", "overview", "runs_dir")
    assert result.exit_code == 2 and "expected NAME=VALUE" in result.stderr


def test_the_module_is_a_program_that_starts_without_torch():
    code = (
        "import sys\nfrom kaggle_kit.cli.app import app\n"
        "app(['score', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'hydra', 'jupytext'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    told = subprocess.run(
        [sys.executable, "-m", "kaggle_kit", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert told.returncode == 0 and "python -m kaggle_kit" in told.stdout
