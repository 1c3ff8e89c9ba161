"""Running a page: a fast refusal, an executed copy in a finished run folder, an error that says where."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from kaggle_kit.core.allocator import NAMES, SETTING
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import ConfigError, CorpusMissing, DiskError, KitError, RunFolderError
from kaggle_kit.core.kaggle_outputs import inspect
from kaggle_kit.core.runtime import SOURCE_ROOT
from kaggle_kit.core.secrets import SecretLeak
from kaggle_kit.experiment import page_run as run_module
from kaggle_kit.experiment.page_run import (
    PageFailed,
    RunPaused,
    ThisInterpreter,
    claimed,
    execute_page,
    is_claimed,
    run_page,
)
from kaggle_kit.models.tiny import build_tiny

PARAMETERS = """\
# %% tags=["parameters"]
model = "tiny"
task = "semeval2014t7"
strategy = "s1_single"
profile = "smoke"
seed = 42
overrides = ["training.epochs=1"]
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


def test_a_page_runs_into_a_finished_folder_that_keeps_the_executed_copy(tmp_path, caplog):
    folder = run_toy(tmp_path, write_page(tmp_path, START, FINISH), overrides=["training.epochs=3"])
    assert "overrides" not in caplog.text  # papermill takes the page's own value for a mistake
    run = RunFolder.open(folder)
    assert folder.parent == tmp_path / "runs"
    assert run.manifest()["totals"]["tokens"] == {"semeval2017t3": 7}
    assert run.config()["training"]["epochs"] == 3
    executed = nbformat.read(run.notebook, as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    shown = executed.cells[2].outputs[0].text
    assert shown.split() == [sys.executable, str(Path(run_module.__file__).parents[1] / "__init__.py")]


def test_a_pages_defaults_hold_unless_that_very_key_or_another_setting_is_named(tmp_path):
    pages = write_page(tmp_path, START, FINISH)
    own = {"training.max_steps=2": 1.0, "training.epochs=3": 3.0}
    for override, epochs in own.items():
        stored = RunFolder.open(run_toy(tmp_path, pages, overrides=[override])).config()
        assert stored["training"]["epochs"] == epochs
    other = RunFolder.open(run_toy(tmp_path, pages, overrides=["experiment=token_controlled"])).config()
    assert other["training"]["epochs"] == 4.0  # of the smoke profile


def test_a_model_is_named_by_its_folder_and_the_run_is_found_again_where_the_folder_moved(tmp_path):
    place = build_tiny("llama", ["an invented note about nothing"], steps=0)
    pages, into = write_page(tmp_path, START, FINISH), tmp_path / "runs" / "mine"
    first = run_toy(tmp_path, pages, model=str(shutil.copytree(place, tmp_path / "a" / "mine")), into=into)
    moved = shutil.copytree(place, tmp_path / "b" / "mine")
    assert run_toy(tmp_path, pages, model=str(moved), into=into) == first
    stored = RunFolder.open(first).config()["model"]
    assert (stored["name"], stored["architecture"], stored["family"]) == ("mine", "llama", "decoder")
    (moved / "tokenizer_config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds page toy with configuration"):
        run_toy(tmp_path, pages, model=str(moved), into=into)


REFUSE = """
# %%
from kaggle_kit.core.errors import ConfigError
raise ConfigError("no GPU here; set profile.device=cpu")
"""


def test_a_page_that_refuses_before_it_trains_leaves_no_folder_and_says_only_why(tmp_path):
    with pytest.raises(KitError) as caught:
        run_toy(tmp_path, write_page(tmp_path, START, REFUSE))
    assert (str(caught.value), caught.value.exit_code) == ("no GPU here; set profile.device=cpu", 2)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_cache_that_cannot_be_written_leaves_no_folder_of_a_run(tmp_path, monkeypatch):
    pages = write_page(tmp_path, START)

    def full(name: str) -> Path:
        raise DiskError(28, f"{name} cannot be used: the disk is full")

    monkeypatch.setattr(run_module, "cache_dir", full)
    with pytest.raises(DiskError):
        run_toy(tmp_path, pages)
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_was_trained_and_what_was_there_before_stays_where_a_page_refuses(tmp_path):
    trained = START + "\nrun.append_event({'step': 1})\n"
    with pytest.raises(PageFailed) as caught:
        run_toy(tmp_path, write_page(tmp_path, trained, REFUSE), into=tmp_path / "runs" / "trained")
    assert caught.value.exit_code == 1
    assert (tmp_path / "runs" / "trained" / "notebook.ipynb").is_file()
    before = tmp_path / "runs" / "before"
    before.mkdir()
    (before / "note.txt").write_text("mine")
    with pytest.raises(KitError):
        run_toy(tmp_path, write_page(tmp_path, START, REFUSE), into=before)
    assert (before / "note.txt").read_text() == "mine"


def test_a_corpus_that_is_not_here_is_refused_before_a_kernel_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAGGLE_KIT_DATA", raising=False)
    monkeypatch.delenv("KAGGLE_KIT_NCBI_DISEASE", raising=False)
    with pytest.raises(CorpusMissing):
        run_toy(tmp_path, write_page(tmp_path, START, FINISH), task="ncbi_disease", profile="open")
    assert not (tmp_path / "runs").exists()


def test_the_headings_of_a_page_are_told_as_it_comes_to_them(tmp_path, caplog):
    pages = write_page(tmp_path, "\n# %% [markdown]\n# ## Data\n# Read.\n", START, FINISH)
    with caplog.at_level("INFO", logger="kaggle_kit"):
        run_page("toy", task="semeval2017t3", runs_dir=tmp_path / "runs", pages_dir=pages)
    assert "Data" in [record.getMessage() for record in caplog.records]


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


def test_a_page_that_is_paused_is_no_failure_and_says_how_to_go_on(tmp_path):
    pause = '\n# %%\nrun.pause(step=3, message="paused at step 3 of 9; go on with --resume FOLDER")\n'
    pages_dir = write_page(tmp_path, START, pause)
    with pytest.raises(RunPaused, match="paused at step 3 of 9") as caught:
        run_toy(tmp_path, pages_dir)
    assert (caught.value.exit_code, caught.value.label) == (75, "paused")
    (folder,) = (tmp_path / "runs").iterdir()
    assert str(folder) in str(caught.value)


WAIT = """
# %%
import time
from pathlib import Path
from kaggle_kit.training.session import StopSignals

with StopSignals() as signals:
    Path(run_dir, "training").touch()
    while not signals.received:
        time.sleep(0.01)
run.pause(step=3, message=f"paused at step 3 by {signals.received}")
"""
DIE = """
# %%
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_command_reaches_the_training_which_saves_and_pauses(tmp_path, name):
    pages_dir, own = write_page(tmp_path, START, WAIT), tmp_path / "own"
    code = (
        "import sys; from pathlib import Path\n"
        "from kaggle_kit.experiment.page_run import RunPaused, run_page\n"
        "try: run_page('toy', task='semeval2017t3', into=Path(sys.argv[1]), pages_dir=Path(sys.argv[2]))\n"
        "except RunPaused as paused: sys.exit(paused.exit_code)"
    )
    command = [sys.executable, "-c", code, str(own), str(pages_dir)]
    process = subprocess.Popen(command, cwd=SOURCE_ROOT)
    deadline = time.monotonic() + 120
    while not (own / "training").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    assert process.wait(60) == 75
    assert RunFolder.open(own, finished=False).paused()["message"] == "paused at step 3 by SIGTERM"


def test_a_kernel_that_dies_is_one_line_and_the_command_that_goes_on(tmp_path):
    with pytest.raises(PageFailed) as caught:
        run_toy(tmp_path, write_page(tmp_path, START, DIE), into=tmp_path / "own")
    assert f"run toy --resume {tmp_path / 'own'}" in str(caught.value)


def test_a_kernel_that_dies_before_its_run_began_is_to_be_run_again(tmp_path):
    """It was told to resume a folder that is no run."""
    with pytest.raises(PageFailed, match="run it again") as caught:
        run_toy(tmp_path, write_page(tmp_path, DIE), into=tmp_path / "own")
    assert "--resume" not in str(caught.value)


def test_no_traceback_shows_the_values_of_variables_whatever_the_users_own_profile_says(
    tmp_path, monkeypatch
):
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("get_config().InteractiveShell.xmode = 'Verbose'")
    monkeypatch.setenv("IPYTHONDIR", str(profile.parent))
    fail = '\n# %%\ndef read(note):\n    raise ValueError("odd")\nread("zqca" + "nary")\n'
    with pytest.raises(PageFailed):
        run_toy(tmp_path, write_page(tmp_path, START, fail))
    (copy,) = (tmp_path / "runs").glob("*/notebook.ipynb")
    assert "zqcanary" not in copy.read_text()


def test_a_run_goes_into_its_own_folder_goes_on_there_and_is_not_repeated(tmp_path):
    own = tmp_path / "mine"
    with pytest.raises(PageFailed):
        run_toy(tmp_path, write_page(tmp_path, START, FAIL), into=own)
    started = RunFolder.open(own, finished=False).facts["started"]
    assert run_toy(tmp_path, write_page(tmp_path, START, FINISH), into=own) == own
    run = RunFolder.open(own)
    assert run.facts["started"] == started and not (tmp_path / "runs").exists()
    before = run.notebook.stat().st_mtime_ns
    assert run_toy(tmp_path, write_page(tmp_path, FAIL), into=own) == own  # finished: nothing is executed
    assert run.notebook.stat().st_mtime_ns == before


def test_a_finished_run_is_not_resumed_and_nothing_in_it_changes(tmp_path):
    own = tmp_path / "mine"
    run_toy(tmp_path, write_page(tmp_path, START, FINISH), into=own)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in own.iterdir() if path.is_file()}
    with pytest.raises(RunFolderError, match="mine is a finished run; a result is never replaced") as caught:
        run_toy(tmp_path, write_page(tmp_path, START, FINISH), resume=own)
    assert caught.value.exit_code == 2
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in own.iterdir() if path.is_file()}
    assert after == before and own / "notebook.ipynb" in before


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_holds_no_run_is_not_resumed_and_stays_as_it_was(tmp_path, exists):
    typo = tmp_path / "runs" / "typo"
    if exists:
        typo.mkdir(parents=True)
    with pytest.raises(RunFolderError, match="typo is no run folder: it has no config.yaml; give a"):
        run_toy(tmp_path, write_page(tmp_path, START, FINISH), resume=typo)
    assert typo.exists() == exists and not (exists and list(typo.iterdir()))


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    own = tmp_path / "mine"
    run_toy(tmp_path, write_page(tmp_path, START, FINISH), into=own)
    with pytest.raises(RunFolderError, match="holds page toy with configuration .* name another folder"):
        run_toy(tmp_path, write_page(tmp_path, START, FINISH), into=own, seed=7)
    with pytest.raises(ConfigError, match="give one"):
        run_toy(tmp_path, write_page(tmp_path, START, FINISH), into=own, resume=own)


def test_a_run_that_settled_its_configuration_on_the_way_is_known_by_what_it_was_asked(tmp_path):
    own_rank = "import copy\nasked = copy.deepcopy(config)\nconfig.strategy.rank = 8\n"
    settle = START.replace("run = start_run(config,", f"{own_rank}run = start_run(config, asked=asked,")
    own = tmp_path / "mine"
    run_toy(tmp_path, write_page(tmp_path, settle, FINISH), into=own)
    asked = compose(task="semeval2017t3", overrides=["training.epochs=1"])  # the page's own default
    assert RunFolder.open(own).facts["config_hash"] != config_hash(asked)
    assert inspect(own, config_hash(asked)).complete  # a chain of kernels takes it for its own, too
    assert run_toy(tmp_path, write_page(tmp_path, FAIL), into=own) == own


def test_two_processes_never_work_in_one_run_folder(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    assert not is_claimed(folder)
    with claimed(folder):
        assert is_claimed(folder)
        with pytest.raises(RunFolderError, match="another process"), claimed(folder):
            pass
    (folder / ".lock").chmod(0o444)  # as on a disk that is mounted for reading
    opened: list[str] = []
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **more: opened.append(mode) or real(path, mode, **more)
    )
    assert not is_claimed(folder) and opened == ["r"]


def test_a_page_gets_the_allocator_setting_that_the_user_chose_else_ours(monkeypatch):
    monkeypatch.delenv(NAMES[0], raising=False)
    monkeypatch.delenv(NAMES[1], raising=False)
    assert {ThisInterpreter().kernel_spec.env[name] for name in NAMES} == {SETTING}
    monkeypatch.setenv(NAMES[1], "max_split_size_mb:128")
    assert {ThisInterpreter().kernel_spec.env[name] for name in NAMES} == {"max_split_size_mb:128"}
