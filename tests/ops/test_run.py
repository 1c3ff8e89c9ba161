"""Running a page: a fast refusal, an executed copy in a finished run folder, an error that says where."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.secrets import SecretLeak
from kaggle_kit.ops import study
from kaggle_kit.ops.run import PageFailed, execute_page, run_page

PARAMETERS = """\
# %% tags=["parameters"]
model = "tiny"
task = "semeval2014t7"
strategy = "s1_single"
profile = "smoke"
seed = 42
overrides = []
runs_dir = "runs"
run_dir = ""
"""
START = """
# %%
import sys
import kaggle_kit
from kaggle_kit.core.artifacts import Totals
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run

print(sys.executable, kaggle_kit.__file__)
config = compose(model=model, task=task, strategy=strategy, profile=profile, seed=seed, overrides=overrides)
run = start_run(config, page="toy", runs_dir=runs_dir, run_dir=run_dir)
"""
FINISH = """
# %%
run.finish(totals=Totals(tokens={task: 7}), device="cpu", data_hashes={})
"""
FAIL = """
# %%
# the reader of this test knows why
raise ValueError("no luck")
"""


def write_page(folder: Path, *cells: str) -> Path:
    path = folder / "pages" / "toy.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PARAMETERS + "".join(cells))
    return path.parent


def run_toy(tmp_path: Path, pages_dir: Path, **choices) -> Path:
    choices = {"model": "tiny", "task": "semeval2017t3"} | choices
    return run_page("toy", runs_dir=tmp_path / "runs", progress=False, pages_dir=pages_dir, **choices)


def test_a_page_runs_into_a_finished_folder_that_keeps_the_executed_copy(tmp_path):
    folder = run_toy(tmp_path, write_page(tmp_path, START, FINISH), overrides=["training.epochs=3"])
    run = RunFolder.open(folder)
    assert folder.parent == tmp_path / "runs"
    assert run.manifest()["totals"]["tokens"] == {"semeval2017t3": 7}
    assert run.config()["training"]["epochs"] == 3
    executed = nbformat.read(run.notebook, as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    shown = executed.cells[2].outputs[0].text
    assert shown.split() == [sys.executable, str(Path(study.__file__).parents[1] / "__init__.py")]


def test_a_failing_page_names_the_cell_and_the_error_and_keeps_its_copy(tmp_path):
    with pytest.raises(PageFailed) as caught:
        run_toy(tmp_path, write_page(tmp_path, START, FAIL))
    (copy,) = (tmp_path / "runs").glob("*/notebook.ipynb")
    assert "raise ValueError" in str(caught.value)
    assert "In [4]" in str(caught.value)
    assert "ValueError: no luck" in str(caught.value)
    assert str(copy) in str(caught.value)
    with pytest.raises(RunFolderError, match="unfinished"):
        RunFolder.open(copy.parent)


def test_a_token_is_kept_out_of_an_executed_page_and_of_its_error(tmp_path, monkeypatch):
    token = "hf_0123456789abcdef"
    monkeypatch.setenv("HF_TOKEN", token)
    shown = "\n# %%\nimport os\nraise ValueError(os.environ['HF_TOKEN'])\n"
    with pytest.raises(PageFailed, match=r"ValueError: \[HF_TOKEN\]") as caught:
        run_toy(tmp_path, write_page(tmp_path, START, shown))
    assert token not in str(caught.value)
    written = [path.read_text() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(written) >= 2 and token not in "".join(written)
    with pytest.raises(SecretLeak, match="a parameter of toy holds the value of HF_TOKEN"):
        run_toy(tmp_path, write_page(tmp_path, START, FINISH), overrides=[f"model.path={token}"])


def test_a_page_that_does_not_finish_its_run_is_an_error(tmp_path):
    with pytest.raises(RunFolderError, match="unfinished"):
        run_toy(tmp_path, write_page(tmp_path, START))


def test_a_wrong_name_fails_before_any_folder_or_kernel(tmp_path):
    pages_dir = write_page(tmp_path, START, FINISH)
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        run_toy(tmp_path, pages_dir, model="tinny")
    with pytest.raises(ConfigError, match="epochs"):
        run_toy(tmp_path, pages_dir, overrides=["training.epocs=3"])
    assert not (tmp_path / "runs").exists()


def test_a_parameter_that_the_page_does_not_declare_is_refused(tmp_path):
    page = write_page(tmp_path) / "toy.py"
    with pytest.raises(ConfigError, match="no parameter 'sed' — did you mean 'seed'"):
        execute_page(page, {"sed": 1}, tmp_path / "copy.ipynb")
    assert not (tmp_path / "copy.ipynb").exists()


def test_a_study_trains_each_task_once_and_writes_its_report(tmp_path, monkeypatch):
    toy = write_page(tmp_path, START, FINISH) / "toy.py"
    monkeypatch.setattr(study, "TRAIN", "toy")
    monkeypatch.setitem(run_page.__kwdefaults__, "pages_dir", toy.parent)
    said: list[str] = []
    for _ in range(2):
        report = study.run_study(
            tmp_path / "runs", tmp_path / "reports" / "study.html", tasks=("semeval2017t3",), say=said.append
        )
    assert [line.split(": ")[1].split()[0] for line in said] == [
        "running",
        "finished",
        "running",
        "report",
        "reused",
        "running",
        "report",
    ]
    assert "SMOKE / PRACTICE" in report.read_text()
    assert len(list((tmp_path / "runs").iterdir())) == 1
