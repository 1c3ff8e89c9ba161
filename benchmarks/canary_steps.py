"""What the canary run does: every page and every command, on restricted corpora, sound and damaged.

    python -m benchmarks.canary_steps FOLDER [--quick]        # called by benchmarks.canary

`FOLDER/steps.json` says how each step ended; what it printed lies in `FOLDER/shown`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from typer.testing import CliRunner

from benchmarks.canary import HELD_OUT, RESTRICTED
from kaggle_kit.cli.app import app
from kaggle_kit.core.cache import cache_dir
from kaggle_kit.core.page_files import find_pages, notebook, parameters
from kaggle_kit.core.runtime import SOURCE_ROOT
from kaggle_kit.experiment.page_run import ThisInterpreter, execute_page, run_page
from kaggle_kit.kaggle.bundle import build_dataset

RUNS = SOURCE_ROOT / "runs"
FULL = ("training.epochs=0.5", "training.max_length=64", "training.effective_batch=16")
QUICK = (
    "training.epochs=0.2",
    "training.effective_batch=2",
    "profile.max_train_samples=2",
    "profile.max_dev_samples=2",
)
FIRST = ("s2_shared", "token_controlled", "ood")  # each reads the runs of those before it
PAIR = ",".join((RESTRICTED[0], RESTRICTED[2]))
# What a page needs beyond its defaults; a page that is not named here gets the pair, or its first task.
TASKS = {
    "s1_single_task": RESTRICTED[1],
    "hp_search": RESTRICTED[1],
    "mimic_exclusion": "semeval2014t7,semeval2015t14,semeval2016t12,semeval2021t6,semeval2017t3",
}
OVERRIDES = {
    "s2_shared": ("experiment=token_controlled",),
    "token_controlled": ("experiment.twin={s2_shared}",),
    "ood": (f"experiment.corpus={HELD_OUT}", "experiment.types={{Disease: Disease_Disorder}}"),
}
READ = {  # finished runs that a page without tasks reads
    "05_probing_results": {"run": "{s2_shared}"},
    "06_calibration_plots": {"run": "{s2_shared}"},
    "predict": {"run": "{s2_shared}"},
    "inference_benchmark": {"run": "{s2_shared}"},
    "04_pareto_frontier": {"runs": "{token_controlled},{s2_shared}"},
    "07_error_analysis": {"runs": "{token_controlled},{s2_shared}"},
}
TOO_FEW = ("05_probing_results",)  # pages that refuse so few documents
QUICK_OVERRIDES = {
    "ablation_architecture": ("experiment.target=2971276",)
}  # fusion is no trifle of a model so small
SMALL = """\
import torch
from kaggle_kit.models import tiny
from kaggle_kit.experiment import preparation
from kaggle_kit.training.smoke import SmokeReport, smoke_test

torch.set_num_threads(1)
tiny.SHAPE.update(hidden_size=64, intermediate_size=128, num_hidden_layers=2)
build = tiny.build_tiny
preparation.build_tiny = lambda architecture, texts: build(architecture, texts, steps=0)
smoke_test.__kwdefaults__.update(steps=5, samples=10)
SmokeReport.faults = property(lambda report: ())  # random weights on random words need not learn
"""


@dataclass(frozen=True)
class Step:
    """`well`: without an error. `expected`: whether that was to be so; None where both will do."""

    name: str
    well: bool
    expected: bool | None
    ended: str


class Steps:
    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, []
        (folder / "shown").mkdir(exist_ok=True)

    def take(self, name: str, action: Callable[[], str], expected: bool | None = True) -> bool:
        """Run one step, keep what it shows, and take down how it ended."""
        try:
            shown, well, ended = action(), True, "well"
        except Exception as error:
            shown = "".join(traceback.format_exception(error))
            well, ended = False, f"{type(error).__name__}"
            if expected:
                ended = f"{ended}: {str(error).splitlines()[0][:150] if str(error) else ''}"
        (self.folder / "shown" / f"{len(self.done):03d}.txt").write_text(f"{name}\n{shown}")
        self.done.append(Step(name, well, expected, ended))
        return well

    def command(self, *arguments: str, expected: bool | None = True) -> None:
        def call() -> str:
            result = CliRunner().invoke(app, list(arguments))
            if result.exit_code:
                raised = "".join(traceback.format_exception(result.exception)) if result.exception else ""
                raise CommandFailed(f"exit code {result.exit_code}\n{result.output}\n{raised}")
            return result.output

        short = [_short(argument) for argument in arguments]
        self.take(f"kaggle_kit {' '.join(short)}", call, expected)


def _short(argument: str) -> str:
    """The last two parts of a path; anything else as it is."""
    name, equals, value = argument.rpartition("=")
    parts = Path(value).parts
    return argument if len(parts) < 4 else f"{name}{equals}…/{parts[-2]}/{parts[-1]}"


class CommandFailed(Exception):
    """Holds all that the command showed."""


class SharedKernel:
    """One kernel for all pages; torch is imported once. Executed copies go to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manager = folder, ThisInterpreter()
        folder.mkdir()
        self._loop = asyncio.new_event_loop()
        cell = nbformat.v4.new_code_cell(SMALL)
        self.execute(nbformat.v4.new_notebook(cells=[cell]), "prepare")

    def execute(self, book: NotebookNode, name: str) -> str:
        client = NotebookClient(book, km=self.manager, timeout=600, resources={"metadata": {"path": "."}})
        try:
            self._loop.run_until_complete(client.async_execute())
        finally:
            nbformat.write(book, self.folder / f"{name}.ipynb")
        return ""

    def close(self) -> None:
        self._loop.run_until_complete(self.manager.shutdown_kernel())


def page_values(page: Path, quick: bool) -> dict[str, Any]:
    """Restricted corpora for a page that declares tasks; anything else keeps the page's own default."""
    runs = {name: next((run.name for run in RUNS.glob(f"{name}-*")), "") for name in FIRST}
    own, values = parameters(page), {}
    values |= {name: told.format(**runs) for name, told in READ.get(page.stem, {}).items()}
    if "task" in own:
        values["task"] = TASKS.get(page.stem, PAIR if "," in own["task"] else RESTRICTED[0])
    if "overrides" in own:
        more = [override.format(**runs) for override in OVERRIDES.get(page.stem, ())]
        more += QUICK_OVERRIDES.get(page.stem, ()) if quick else ()
        followed = not quick or page.stem == "s1_single_task"  # the service is slow to refuse
        more += ["training.report_to=wandb"] if followed else []
        values["overrides"] = [*own["overrides"], "profile.corpora=any", *(QUICK if quick else FULL), *more]
    return values


def injected(page: Path, values: dict[str, Any]) -> NotebookNode:
    book = notebook(page)
    (place,) = (n for n, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", ()))
    source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    book.cells.insert(place + 1, nbformat.v4.new_code_cell(source))
    return book


def run_pages(steps: Steps, quick: bool) -> None:
    """Training pages first; the others then find runs to read."""
    pages = find_pages()
    rest = sorted(pages.keys() - set(FIRST), key=lambda name: ("model" not in parameters(pages[name]), name))
    order = [name for name in FIRST if name in pages] + rest
    kernel = SharedKernel(steps.folder / "executed") if quick else None
    for name in order:
        page, values = pages[name], page_values(pages[name], quick)  # by the runs that are there by now
        enough = name not in TOO_FEW
        if kernel:
            steps.take(
                f"page {name}", lambda p=page, v=values: kernel.execute(injected(p, v), p.stem), enough
            )
        elif "run_dir" in parameters(page):
            steps.take(f"page {name}", lambda n=name, v=values: str(run_page(n, progress=False, **v)))
        else:
            copy = steps.folder / "executed" / f"{name}.ipynb"
            steps.take(f"page {name}", lambda p=page, v=values, c=copy: str(execute_page(p, v, c)), enough)
    damaged = injected(
        pages["s1_single_task"],
        {
            "overrides": [
                "profile.corpora=any",
                f"tasks.{RESTRICTED[0]}.path={steps.folder}/damaged/{RESTRICTED[0]}",
            ]
        },
    )
    if kernel:
        steps.take("page s1_single_task, damaged", lambda: kernel.execute(damaged, "damaged"), expected=False)
        kernel.close()


def run_commands(steps: Steps, quick: bool) -> None:
    folder = steps.folder
    steps.command("data", "list")
    steps.command("pages", "list")
    for task in RESTRICTED:
        damaged = folder / "damaged" / task
        steps.command("data", "locate", task)
        steps.command("data", "check", task)
        steps.command("data", "check", task, "--path", str(damaged), expected=False)
        run = next(RUNS.glob(f"*/predictions/official/{task}/pred"), None)
        if run:
            steps.command("score", task, "--gold", str(run.with_name("gold")), "--pred", str(run), "--json")
        for part in sorted(path for path in damaged.rglob("*") if path.is_dir())[:8]:
            steps.command("score", task, "--gold", str(part), "--pred", str(part), expected=None)
        if not quick:
            path = f"tasks.{task}.path={damaged}"
            steps.command(
                "run", "s1_single_task", "--task", task, "profile.corpora=any", path, expected=False
            )


def run_study(steps: Steps) -> None:
    """A study on a damaged corpus: Snakemake's log and the pages' own are kept."""
    task = RESTRICTED[0]
    wrong = f"overrides=[profile.corpora=any,tasks.{task}.path={steps.folder}/damaged/{task}]"
    study = (f"tasks=[{task}]", "strategies=[s1_single]", "seeds=[1]", "controls=[]", "verdict=false", wrong)
    steps.command("study", "run", "first_look", "parts=[]", *study, "--runs-dir", str(RUNS), expected=False)


def run_readers(steps: Steps) -> None:
    """What reads finished runs, and what plans them."""
    steps.command("verdict", "--runs", str(RUNS), "--out", "verdict.json", expected=None)
    steps.command("study", "status", "first_look")
    if run := next((path.parent for path in RUNS.glob("s1_single_task-*/manifest.json")), None):
        built = next(path for path in cache_dir("tiny").iterdir() if path.is_dir())  # by the pages
        os.environ["KAGGLE_KIT_MODEL_TINY"] = str(built)
        stated = ("--agreement", "It allows this test.")
        steps.command("export", str(run), "--out", "refused", expected=False)
        steps.command("export", str(run), "--out", "shared", *stated)
        steps.command("hub", "push", str(run), "--repo", "jane/run", *stated, expected=False)
    steps.command("study", "plan", "first_look", f"tasks=[{','.join(RESTRICTED)}]", expected=None)


def run_kernels(steps: Steps, quick: bool) -> None:
    """Build, and push through the real client to a service that refuses."""
    tasks = ",".join(RESTRICTED)
    steps.command("kernels", "init", "--owner", "jane")
    study = ("s2_shared", "--model", "minilm", "--task", tasks, "--profile", "t4", "--owner", "jane")
    steps.command("kernels", "build", *study)
    steps.take("kernels dataset, without wheels", lambda: str(build_dataset(Path("build/kit"), "jane", ())))
    (built,) = Path("build/kernels").iterdir()
    steps.command("kernels", "push", str(built), expected=False)
    steps.command("kernels", "resume", str(built), expected=False)
    steps.command("kernels", "status", "jane/page", expected=False)
    steps.command("kernels", "pull", "jane/page", expected=False)
    if not quick:
        steps.command("kernels", "chain", *study, "--poll", "0.1", expected=False)
        overrides = ("profile.corpora=any", "training.max_steps=2")
        steps.command("kernels", "side-by-side", "s1_single_task", "--task", RESTRICTED[0], *overrides)
    described = json.loads((built / "kernel-metadata.json").read_text())
    (built / "kernel-metadata.json").write_text(json.dumps(described | {"is_private": False}))
    steps.command("kernels", "push", str(built), expected=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    steps = Steps(arguments.folder)
    run_pages(steps, arguments.quick)
    run_commands(steps, arguments.quick)
    run_study(steps)
    run_readers(steps)
    run_kernels(steps, arguments.quick)
    (arguments.folder / "steps.json").write_text(json.dumps([asdict(step) for step in steps.done]))


if __name__ == "__main__":
    sys.exit(main())
