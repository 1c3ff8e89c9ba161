"""One HTML file that shows finished runs anywhere: table, figures and details, nothing fetched.

    write_report(find_runs(Path("runs")), Path("reports/study.html"))

Figures are data URIs. A report with smoke or practice runs says at its top that they are no results.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from kaggle_kit.analysis.figures import arm_ranges, loss_curves, loss_points, png, tokens_per_task
from kaggle_kit.analysis.overview import TOY_FLAGS, arm_table, flag_names, overview_table
from kaggle_kit.analysis.verdict_words import in_words, with_interim_mark
from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.records import reading, write_atomically
from kaggle_kit.core.runtime import git_sha

FORMATS = dict.fromkeys(("score", "published", "trivial"), "{:.4f}")
FORMATS |= dict.fromkeys(("n", "tokens", "parameters"), "{:,}") | {"seconds": "{:,.0f}"}
RIGHT = [{"selector": "th, td", "props": "text-align: right; font-variant-numeric: tabular-nums"}]
FACTS = ("tasks", "started", "device", "seed", "config_hash", "git_sha", "data_hashes", "versions")
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Study report</title><style>
  body { margin: 2.5rem auto; max-width: 72rem; padding: 0 1rem; color: #22262c; overflow-wrap: break-word;
         font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  .banner { border-left: 6px solid #c05621; background: #fdf1e7; padding: .8rem 1rem; }
  div { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .84rem; margin: .7rem 0; }
  th, td { padding: .35rem .5rem; text-align: left; border: 0 solid #eceef1; border-bottom-width: 1px; }
  img { width: 100%; max-width: 50rem; }
</style></head><body>
<h1>Study report</h1>
"""
BANNER = (
    '<p class="banner"><strong>SMOKE / PRACTICE — not a result.</strong> {toys} of the {runs} run(s) below '
    "used a toy scale or invented corpora. They show that the suite works; their scores say nothing about "
    "any model or task and must not be quoted.</p>"
)
NO_RUN = "No finished run was found. A run counts once its page has ended and written its manifest."
CAPTIONS = (
    "Primary metric of each arm: mean, lowest and highest run. The best published figures belong to the "
    "official test split; they are shown only for runs on the published corpus.",
    "Training loss per optimiser step.",
    "Tokens that each run trained on, padding left out.",
)


def style_table(table: pd.DataFrame) -> Styler:
    """Return the overview table for reading: figures aligned, rows that are no results in grey."""
    grey = table["flags"].str.contains(TOY_FLAGS).map({True: "color: #8a8f98", False: ""})
    styler = Styler(table.drop(columns="run"), uuid="runs", cell_ids=False).hide(axis="index")
    styler = styler.format(FORMATS, na_rep="—", escape="html").set_table_styles(dict.fromkeys(FORMATS, RIGHT))
    return styler.apply(lambda _: grey)


def sound_runs(runs_dir: Path) -> tuple[list[RunFolder], list[str]]:
    """Return the finished runs that can be tabled, drawn and reported, and why each other is left out."""
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
    arms = arm_table(table)
    commit = f" from commit {git_sha()}" if git_sha() else ""
    written = f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC{commit} · {len(runs)} finished run(s)"
    parts = [HEAD, f"<p>{written}</p>"]
    if toys := table[table["flags"].str.contains(TOY_FLAGS)]["run"].nunique():
        parts.append(BANNER.format(toys=toys, runs=len(runs)))
    for document in verdicts:
        parts += _answer(document, arms)
    parts += ["<h2>Runs</h2>", f"<div>{style_table(table).to_html()}</div>" if runs else f"<p>{NO_RUN}</p>"]
    if runs:
        figures = (arm_ranges(arms), loss_curves(runs), tokens_per_task(runs))
        parts += ["<h2>Figures</h2>", *map(_picture, figures, CAPTIONS), "<h2>Details</h2>"]
        parts += [_details(run) for run in runs]
    return write_atomically(path, "\n".join([*parts, "</body></html>\n"]))


def _answer(document: Mapping[str, Any], arms: pd.DataFrame) -> list[str]:
    """Return a verdict, its words, and each arm's scores over seeds beside that of no model, as HTML."""
    split = document["comparison"]["split"] if document["tasks"] else ""
    scores = arms[arms["task"].isin(document["tasks"]) & (arms["split"] == split)]
    words = [f"<p>{escape(sentence)}</p>" for sentence in in_words(document)]
    verdict = escape(with_interim_mark(document, document["verdict"]))
    return [f"<h2>The answer: {verdict}</h2>", *words, f"<div>{_html(scores, index=False)}</div>"]


def _picture(figure: Figure, caption: str) -> str:
    source = f"data:image/png;base64,{b64encode(png(figure)).decode()}"
    return f'<figure><img src="{source}" alt=""><figcaption>{caption}</figcaption></figure>'


def _details(run: RunFolder) -> str:
    """A run's name with its flags, where it comes from, and its scores."""
    manifest = run.manifest()
    facts = pd.Series({name: _listed(manifest[name]) for name in FACTS}).to_frame()
    metrics = pd.DataFrame([asdict(metric) for metric in run.metrics()])
    name = escape(" ".join((run.run_id, *flag_names(manifest["flags"]))))
    tables = _html(facts, header=False) + _html(metrics, index=False)
    return f"<details><summary>{name}</summary><div>{tables}</div></details>"


def _html(table: pd.DataFrame, index: bool = True, header: bool = True) -> str:
    with pd.option_context("display.max_colwidth", None):
        form = "{:.4f}".format
        return table.to_html(border=0, float_format=form, na_rep="—", index=index, header=header)


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
