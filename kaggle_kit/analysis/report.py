"""One HTML file that shows finished runs anywhere: table, figures and details, nothing fetched.

    write_report(find_runs(Path("runs")), Path("reports/study.html"))

Figures are data URIs. A report with smoke or practice runs says at its top that they are no results.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from kaggle_kit.analysis.figures import loss_curves, loss_points, png, score_bars, tokens_per_task
from kaggle_kit.analysis.overview import arm_of, flag_names, overview_table
from kaggle_kit.analysis.report_page import PAGE
from kaggle_kit.analysis.verdict_words import in_words, marked
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.integrity import reading
from kaggle_kit.core.records import write_atomically
from kaggle_kit.core.runtime import git_sha

TOYS = ("smoke", "practice")
FORMATS = {
    "score": "{:.4f}",
    "published": "{:.4f}",
    "trivial": "{:.4f}",
    "n": "{:,}",
    "tokens": "{:,}",
    "parameters": "{:,}",
    "seconds": "{:,.0f}",
}


def style_table(table: pd.DataFrame) -> Styler:
    """The overview table for reading: figures aligned, rows that are no results in grey."""
    styler = Styler(table.drop(columns="run"), uuid="runs", cell_ids=False).hide(axis="index")
    right = [{"selector": "th, td", "props": "text-align: right; font-variant-numeric: tabular-nums"}]
    styler = styler.format(FORMATS, na_rep="—", escape="html").set_table_styles(dict.fromkeys(FORMATS, right))
    return styler.apply(_grey_toys, axis=1)


def sound_runs(runs_dir: Path) -> tuple[list[RunFolder], list[str]]:
    """The finished runs that can be tabled, drawn and reported, and why each of the others is left out."""
    left_out: list[str] = []
    sound = []
    for run in find_runs(runs_dir, left_out):
        try:
            run.verify()
            with reading(run.path):
                overview_table([run])
                _details(run)
                sum(run.manifest()["totals"]["tokens"].values())
                for task in run.facts["tasks"]:
                    loss_points(run.events(), task)
        except RunFolderError as error:
            left_out.append(str(error))
        else:
            sound.append(run)
    return sound, left_out


def write_report(runs: Sequence[RunFolder], path: Path, verdicts: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write the report of finished runs, the answers of `verdicts` first; without runs it says so."""
    table = overview_table(runs)
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)
    text = page.render(
        title="Study report",
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=git_sha(),
        runs=[_details(run) for run in runs],
        toys=sum(any(run.manifest()["flags"].get(name) for name in TOYS) for run in runs),
        answers=[_answer(document, runs, table) for document in verdicts],
        table=style_table(table).to_html(),
        figures=[(caption, _data_uri(figure)) for caption, figure in _figures(runs, table)],
    )
    return write_atomically(path, text)


def _answer(document: Mapping[str, Any], runs: Sequence[RunFolder], table: pd.DataFrame) -> dict[str, Any]:
    """A verdict in words, and each arm's mean score over seeds beside that of no model at all."""
    arms = {run.run_id: arm_of(run.manifest()) for run in runs}
    split = document["comparison"]["split"] if document["tasks"] else ""
    rows = table[table["task"].isin(document["tasks"]) & (table["split"] == split)]
    rows = rows.assign(arm=rows["run"].map(arms))
    means = rows.groupby(["task", "arm"])["score"].mean().unstack("arm")
    means["without a model"] = rows.groupby("task")["trivial"].first()
    verdict = marked(document, document["verdict"])
    return {
        "verdict": verdict,
        "words": [*in_words(document)],
        "table": means.to_html(float_format="{:.3f}".format, na_rep="—"),
    }


def _figures(runs: Sequence[RunFolder], table: pd.DataFrame) -> list[tuple[str, Figure]]:
    published = (
        "Primary metric of each run on the split named beside it. The best published figures belong to the "
        "official test split; they are shown only for runs on the published corpus."
    )
    return [
        (published, score_bars(table)),
        ("Training loss per optimiser step.", loss_curves(runs)),
        ("Tokens that each run trained on, padding left out.", tokens_per_task(runs)),
    ]


def _details(run: RunFolder) -> dict[str, Any]:
    manifest = run.manifest()
    return {
        "id": run.run_id,
        "flags": flag_names(manifest["flags"]),
        "facts": {
            "tasks": ", ".join(manifest["tasks"]),
            "started": manifest["started"],
            "device": manifest["device"],
            "seed": manifest["seed"],
            "config hash": manifest["config_hash"],
            "commit": manifest["git_sha"] or "not a checkout",
            "data": ", ".join(f"{name} {digest[:12]}" for name, digest in manifest["data_hashes"].items()),
            "versions": ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
        },
        "metrics": run.metrics(),
    }


def _grey_toys(row: pd.Series) -> list[str]:
    toy = any(name in row["flags"] for name in TOYS)
    return ["color: #8a8f98" if toy else ""] * len(row)


def _data_uri(figure: Figure) -> str:
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode()
