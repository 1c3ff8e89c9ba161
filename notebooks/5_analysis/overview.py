# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Overview: what the finished runs say
#
# **Question.** Which runs are finished, what did each one score on its task's primary metric, and what
# did it cost in tokens and seconds?
#
# This page trains nothing and needs no torch. It reads the run folders, shows them as one table and
# three figures, and writes the same as an HTML report that opens anywhere without a network.

# %%
import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("kaggle_kit") is None:  # not installed: look above this page, then on Kaggle
    page = Path(globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or ".").resolve()
    near = (folder for start in (Path.cwd(), page) for folder in (start, *start.parents))
    mounted = (file.parents[1] for file in Path("/kaggle/input").glob("**/kaggle_kit/__init__.py"))
    root = next((r for r in near if (r / "kaggle_kit/__init__.py").is_file()), None) or next(mounted, None)
    if root is None:
        raise ModuleNotFoundError("no kaggle_kit: run `make setup` in a checkout, or add it as Kaggle input")
    sys.path.insert(0, str(root))

from kaggle_kit.core.allocator import set_allocator

set_allocator()  # of CUDA memory; it counts only before torch is imported

# %% tags=["parameters"]
runs_dir = "runs"
report = "reports/overview.html"
verdicts = ""  # documents of `python -m kaggle_kit verdict`, commas between: the report begins with them
study_verdict = ""  # a document of `python -m kaggle_kit verdict --study NAME --out FILE.json`

# %% [markdown]
# ## The runs
#
# Only folders with a complete manifest count, and only with the files that it signed: a run that was edited
# or is damaged is left out and named. `smoke` and `practice` mark runs that show that the
# machinery works; they are not results.

# %%
from kaggle_kit.analysis.overview import overview_table
from kaggle_kit.analysis.report import sound_runs, style_table, write_report
from kaggle_kit.core.runtime import in_workspace

runs, left_out = sound_runs(in_workspace(runs_dir))
table = overview_table(runs)
print(f"{len(runs)} finished run(s) in {runs_dir}")
for why in left_out:
    print("left out:", why)
style_table(table)

# %% [markdown]
# ## Figures
#
# The primary metric, beside the best published figure where the run used the published corpus; the
# training loss over optimiser steps; and the real tokens that each task has seen.

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import loss_curves, png, score_bars, tokens_per_task

for figure in (score_bars(table), loss_curves(runs), tokens_per_task(runs)):
    display(Image(png(figure), width=700))

# %% [markdown]
# ## Differences between arms
#
# Ablations, MIMIC exclusion, S5 and the page `ood` (RQ2), as far as they have finished. The difference is
# that of means over seeds, with its interval, a Welch test adjusted by Holm over all declared differences,
# and the smallest difference that so many seeds can find. One seed gives no inference. Runs that differ in
# anything else are refused, and so are seeds that never finished in one arm. Whether a gain is transfer is
# the page `08_token_controlled_analysis`.

# %%
from kaggle_kit.analysis.contrasts import COMPARISONS, contrast_table, in_words, shown

documents = [document for question in COMPARISONS for document in shown(question, runs)]
print(*in_words(documents), sep="\n")
contrast_table(documents)

# %% [markdown]
# ## The study's verdict
#
# All models and strategies of a study together, at one error rate: the primary comparison that its file
# declares, and all others corrected over each other.

# %%
import json

from kaggle_kit.analysis.verdict_study import study_in_words, study_table

if study_verdict:
    judged = json.loads(in_workspace(study_verdict).read_text(encoding="utf-8"))
    print(*study_in_words(judged), sep="\n")
    display(study_table(judged))
else:
    print("no study was judged; name the document of `kaggle_kit verdict --study` in study_verdict")

# %% [markdown]
# ## Record

# %%
answers = [
    json.loads(in_workspace(file).read_text(encoding="utf-8")) for file in filter(None, verdicts.split(","))
]
path = write_report(runs, in_workspace(report), answers)
print(f"report: {path}")

# %% [markdown]
# ## How to read it
#
# - Two rows are comparable only where task, corpus and metric agree; their token and parameter columns
#   say whether the comparison is also fair.
# - A row marked `smoke` or `practice` must never be quoted: the model, the data or both are toys.
# - A loss curve that falls while the score stays at zero points at the evaluation, not at the training.
