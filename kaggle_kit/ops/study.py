"""The embedded default study: train on every task, then show all finished runs in one report.

report = run_study()        # python -m kaggle_kit study
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runtime import logger
from kaggle_kit.ops.pages import page_path
from kaggle_kit.ops.run import execute_page, run_page

TASKS = ("semeval2014t7", "semeval2017t3")
TRAIN, OVERVIEW = "s1_single_task", "overview"


def run_study(
    runs_dir: Path = Path("runs"),
    report: Path = Path("reports/study.html"),
    tasks: Sequence[str] = TASKS,
    model: str = "tiny",
    profile: str = "smoke",
    seed: int = 42,
    say: Callable[[str], None] = logger.info,
) -> Path:
    """Run the study's pages in order and return the report's path. `say` hears one line per page.

    It can be stopped and started again: a page that has a finished run of the same configuration is
    not run a second time. Raises what `run_page` raises.
    """
    runs_dir, report = runs_dir.expanduser().resolve(), report.expanduser().resolve()
    choices = {"model": model, "strategy": "s1_single", "profile": profile, "seed": seed}
    pages = len(tasks) + 1
    for number, task in enumerate(tasks, start=1):
        wanted = config_hash(compose(task=task, **choices))
        if done := _finished(runs_dir, TRAIN, wanted):
            say(f"[{number}/{pages}] {TRAIN} {task}: reused {done.path} (remove it to run again)")
            continue
        say(f"[{number}/{pages}] {TRAIN} {task}: running")
        folder = run_page(TRAIN, task=task, runs_dir=runs_dir, **choices)
        say(f"[{number}/{pages}] {TRAIN} {task}: finished {folder}")
    say(f"[{pages}/{pages}] {OVERVIEW}: running")
    values = {"runs_dir": str(runs_dir), "report": str(report)}
    execute_page(page_path(OVERVIEW), values, report.with_suffix(".ipynb"))
    say(f"[{pages}/{pages}] {OVERVIEW}: report {report}")
    return report


def _finished(runs_dir: Path, page: str, wanted: str) -> RunFolder | None:
    """The newest finished run of a page with this configuration hash."""
    same = [r for r in find_runs(runs_dir) if (r.facts["page"], r.facts["config_hash"]) == (page, wanted)]
    return max(same, key=lambda run: run.manifest()["finished"], default=None)
