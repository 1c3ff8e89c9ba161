"""Execute a notebook page into a run folder, in a kernel of this very interpreter.

folder = run_page("s1_single_task", model="minilm", task="ncbi_disease", profile="open", seed=42)
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import papermill
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from kaggle_kit.core import errors
from kaggle_kit.core.allocator import NAMES, set_allocator
from kaggle_kit.core.artifacts import RunFolder, reserve
from kaggle_kit.core.cache import cache_dir
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import STOPPED, ConfigError, DiskError, KitError, RunFolderError
from kaggle_kit.core.page_files import PAGES_DIR, check_declared, notebook, page_path, parameters
from kaggle_kit.core.records import alone, is_locked, write_atomically, writing
from kaggle_kit.core.request import given_names, with_page_defaults
from kaggle_kit.core.runs import config_run_id, refuse_misuse, unfinished
from kaggle_kit.core.runtime import handling, logger, python_path
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.secrets import redact, refuse_secrets
from kaggle_kit.data.locate import locate

# papermill cannot read a parameter whose value holds "="; `check_declared` has read them all by then
MISTAKEN = ("Unable to parse line", "Passed unknown parameter")
LAUNCHER = "ipykernel_launcher"
LOCK = ".lock"  # in a run folder, held by the process that runs its page


class PageFailed(RunFolderError):
    """A page failed; the message names the cell, the error, and where the executed page lies."""

    exit_code = 1
    refusal: str | None = None  # what an error of `core.errors` said, which the user can mend


class Headings(NBClientEngine):
    """Logs a page's headings as it comes to them."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **more: Any) -> None:
        """Execute the cells as papermill does, with a line in the log at each heading of level 2."""
        begin = nb_man.cell_start

        def cell_start(cell: NotebookNode, *where: Any, **also: Any) -> None:
            if cell.cell_type == "markdown" and cell.source.startswith("## "):
                logger.info("%s", cell.source.partition("\n")[0].removeprefix("## "))
            begin(cell, *where, **also)

        nb_man.cell_start = cell_start
        super().execute_managed_notebook(nb_man, kernel_name, **more)


papermill_engines.register("headings", Headings)
for _name in ("papermill", "papermill.translators"):
    logging.getLogger(_name).addFilter(lambda record: not record.getMessage().startswith(MISTAKEN))


class RunPaused(KitError):
    """The session was over before the training; the page ended normally, and the run can go on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later
    label = "paused"


class ThisInterpreter(AsyncKernelManager):
    """A kernel of `sys.executable`, whatever kernelspecs are installed, that imports this checkout."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """Return the command and the environment that start the kernel."""
        # The kernel's own log would only add notes on its transport; what a page raises comes by message.
        # A traceback with the values of variables would write notes of a restricted corpus into the page.
        quiet = ["--IPKernelApp.log_level=CRITICAL", "--InteractiveShell.xmode=Minimal"]
        command = [sys.executable, "-m", LAUNCHER, "-f", "{connection_file}", *quiet]
        # A user's own IPython profile may run anything at the start, and change what is shown.
        environ = {"PYTHONPATH": python_path(), "IPYTHONDIR": str(cache_dir("ipython"))}
        environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # an executed page keeps a bar as it last stood
        environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else ipykernel 6.17 notes how one would debug
        environ |= {name: os.environ[name] for name in NAMES if name in os.environ}  # the user's choice
        set_allocator(environ, modules=())  # the kernel is new: torch is not imported in it yet
        return KernelSpec(argv=command, env=environ, display_name="Python 3", language="python")


def run_page(
    page: str,
    *,
    model: str | None = None,
    task: str | None = None,
    profile: str | None = None,
    strategy: str | None = None,
    seed: int = 42,
    overrides: Sequence[str] = (),
    runs_dir: Path = Path("runs"),
    resume: Path | None = None,
    into: Path | None = None,
    progress: bool = True,
    pages_dir: Path = PAGES_DIR,
) -> Path:
    """Run a training page and return its finished run folder, the executed page inside.

    The configuration is composed here first, so a wrong name fails before a kernel starts. `task` names
    several tasks with commas between them. Where the model, task, strategy or profile is not named, the
    experiment's holds, and the page's own default where the experiment has none. The page's own
    overrides hold as `with_page_defaults` says. `resume` is an unfinished run's folder to go on with. `into`
    is the run's own folder: a run of this configuration is started in it, gone on with if it is unfinished,
    and returned if it is finished.

    Raises ConfigError for an unknown page, name or override; PageFailed when a cell raises;
    RunPaused when its session is over before its training; RunFolderError when the page ends without
    finishing its run, for a folder that holds another configuration or that another process works in, and
    for a `resume` that is no run or a finished one.
    """
    source = page_path(page, pages_dir)
    named = {"model": model, "task": task, "strategy": strategy, "profile": profile}
    own = parameters(source)
    choices = given_names(own, named, overrides) | {"seed": seed}
    overrides = with_page_defaults(own, profile, overrides)
    config = compose(**choices | {"task": str(choices["task"]).split(",")}, overrides=overrides)
    refuse_misuse(config, page)
    if resume and into:
        raise ConfigError("resume and into both name a folder; give one: into starts a run or goes on")
    if into and _is_finished(into := into.expanduser().resolve(), config, page):
        return into
    for corpus in config.tasks.values() if config.profile.corpora != "practice" else ():
        locate(corpus)  # before anything is written
    own_folder = unfinished(resume.expanduser().resolve()).path if resume else into
    is_new = own_folder is None or not own_folder.exists()
    run_dir = own_folder or reserve(runs_dir.expanduser().resolve(), config_run_id(config, page))
    values = choices | {"overrides": overrides, "runs_dir": str(run_dir.parent), "run_dir": str(run_dir)}
    with _cleared_if_refused(run_dir, is_new), claimed(run_dir):
        execute_page(source, values, run_dir / "notebook.ipynb", progress=progress)
    if note := RunFolder.open(run_dir, finished=False).paused():
        raise RunPaused(f"{note['message']}\nrun folder: {run_dir}")
    return RunFolder.open(run_dir).path


def claimed(run_dir: Path) -> AbstractContextManager[Any]:
    """Keep other processes out of a run folder. The system lets go of it however this process ends.

    RunFolderError where another process works in the folder.
    """
    then = "another process runs a page in it; wait for it, or stop it"
    return alone(run_dir / LOCK, RunFolderError(f"{run_dir}: {then}"))


def is_claimed(run_dir: Path) -> bool:
    """Return whether a process works in the folder at this moment."""
    return is_locked(run_dir / LOCK)


@contextmanager
def _cleared_if_refused(run_dir: Path, is_new: bool) -> Iterator[None]:
    """Reduce a page that refuses before it trains to its reason, and remove the folder if it was new."""
    try:
        yield
    except PageFailed as error:
        if error.refusal is None or (run_dir / "events.jsonl").exists():
            raise
        if is_new:
            _clear(run_dir)
        raise KitError(error.refusal) from error
    except DiskError:  # of a folder that the page needs beside its own
        if is_new and not (run_dir / "config.yaml").exists():
            _clear(run_dir)
        raise


def _clear(run_dir: Path) -> None:
    """Remove what a page leaves before it trains; a folder that holds anything else stays."""
    for name in ("notebook.ipynb", "config.yaml", LOCK):
        (run_dir / name).unlink(missing_ok=True)
    with suppress(OSError):
        for folder in (*filter(Path.is_dir, run_dir.iterdir()), run_dir):
            folder.rmdir()


def _is_finished(run_dir: Path, config: RunConfig, page: str) -> bool:
    """Return whether the folder holds this very run, finished; RunFolderError where it holds another."""
    if not (run_dir / "manifest.json").is_file():
        return False  # the page itself goes on with its own configuration only
    run, wanted = RunFolder.open(run_dir), config_hash(config)
    found = run.facts.get("page"), run.facts.get("asked_hash", run.facts["config_hash"])
    if found != (page, wanted):
        holds = f"{run_dir} holds page {found[0]} with configuration {found[1]}, not {page} with {wanted}"
        raise RunFolderError(f"{holds}; name another folder, or ask for what its config.yaml says")
    return True


def execute_page(page: Path, values: Mapping[str, Any], output: Path, *, progress: bool = True) -> Path:
    """Execute one page with `values` for its parameters and keep the executed copy, failed or not.

    A signal that asks this process to stop is handed to the page, whose training then saves and pauses; a
    second one ends it at once. Raises ConfigError for a parameter that the page does not declare, PageFailed
    when a cell raises or the kernel dies.
    """
    check_declared(page, values)
    refuse_secrets(str(dict(values)), f"a parameter of {page.stem}")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    logger.info("running %s, executed copy in %s", page.stem, output)
    try:
        with _signals_to_the_kernel() as stopped, writing(output):
            papermill.execute_notebook(
                notebook(page),
                output,
                parameters=dict(values),
                kernel_manager_class=ThisInterpreter,
                progress_bar=False,
                engine_name="headings" if progress else None,
            )
    except DeadKernelError as error:
        why = "was stopped before it could pause" if stopped else "died, as it does when memory runs out"
        then = f"{_how_to_go_on(page, values)}\nexecuted page: {output}"
        failed = PageFailed(f"the kernel of page {page.stem} {why}; {then}")
        failed.exit_code = STOPPED if stopped else 1
        raise failed from error
    except PapermillExecutionError as error:
        code = [line.strip() for line in error.source.splitlines() if line.strip()[:1] not in ("", "#")]
        where = f"failed at In [{error.exec_count}], which begins {code[0]!r}: {error.ename}"
        failed = PageFailed(f"page {page.stem} {where}: {redact(error.evalue)}\nexecuted page: {output}")
        if isinstance(getattr(errors, error.ename, None), type):
            failed.refusal = redact(error.evalue)
        raise failed from error
    finally:
        if output.is_file():  # a library may have shown a token in an error of its own
            text = output.read_text(encoding="utf-8")
            if (safe := redact(text)) != text:
                write_atomically(output, safe)
    return output


@contextmanager
def _signals_to_the_kernel() -> Iterator[list[int]]:
    """Send `SIGNALS` on to the kernel, which lies in a session of its own; yield the numbers received."""
    met: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        met.append(number)
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # it may end at this very moment
                if LAUNCHER in child.cmdline():
                    child.send_signal(signal.SIGTERM if len(met) == 1 else signal.SIGKILL)

    if threading.current_thread() is not threading.main_thread():
        yield met
        return
    with handling(hand_on):
        yield met


def _how_to_go_on(page: Path, values: Mapping[str, Any]) -> str:
    run_dir = values.get("run_dir")
    if not run_dir or not (Path(run_dir) / "config.yaml").is_file():  # it had not begun
        return "run it again"
    return f"go on with `python -m kaggle_kit run {page.stem} --resume {run_dir}`"
