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
# # Overview: what the finished runs say together
#
# **Question.** What does a study show once all its comparisons are judged at one error rate? Which runs is that
# built on, what did each score, and what did it cost in tokens and seconds?
#
# **Hypothesis.** A verdict that stands alone also stands among the others.
#
# ```text
#   run folders ──▶ sound? ──▶ one row per run and task ──▶ report.html
#                     │
#                     ├──▶ pairs of arms (ablation, exclusion, S5, ood) ──▶ differences with intervals, Holm
#                     └──▶ verdicts on transfer ──▶ study:  primary comparison    at α
#                                                           all other comparisons at α, corrected over each other
# ```
#
# **What would refute it.** Of 24 independent comparisons without any effect, at least one passes a test at 0.05 in
# seven studies of ten (1 − 0.95²⁴). A claim that falls once all others are corrected for may be one of those.
#
# Before this page: `python -m kaggle_kit verdict --study NAME --out FILE.json` for the study's verdict, and
# `08_token_controlled_analysis` for a single comparison. After it: the paper. This page trains nothing and needs no
# torch.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
report = "reports/overview.html"
verdicts = ""  # documents of `python -m kaggle_kit verdict`, commas between: the report begins with them
study_verdict = ""  # a document of `python -m kaggle_kit verdict --study NAME --out FILE.json`

# %% [markdown]
# ## 1 The answer
#
# The study's verdict, if one is named, then those on single comparisons. Only folders with a complete manifest count
# as runs, and only with the files that it signed: a run that was edited or is damaged is left out and named.

# %%
import json

from kaggle_kit.analysis.overview import arm_table, overview_table, summary_in_words
from kaggle_kit.analysis.report import FORMATS, sound_runs, write_report
from kaggle_kit.analysis.verdict_study import study_in_words
from kaggle_kit.core.runtime import in_workspace


def read(file: str) -> dict:
    return json.loads(in_workspace(file).read_text(encoding="utf-8"))


whole = read(study_verdict) if study_verdict else None
single = [read(file) for file in filter(None, verdicts.split(","))]
runs, left_out = sound_runs(in_workspace(runs_dir))
found = overview_table(runs)
unjudged = ["No study was judged: name its document in study_verdict."]
show.sentences(study_in_words(whole) if whole else unjudged, "Answer of the study")
for document in single:
    show.answers(document)
show.sentences(summary_in_words(found, left_out), "What it rests on")

# %% [markdown]
# ## 2 The study's verdict
#
# The primary comparison was declared before the runs and is tested alone. Every other verdict, over all tasks and on
# each task, is one of a single family. `by itself` is what the comparison says without its neighbours.

# %%
if whole:
    show.study(whole)

# %% [markdown]
# ## 3 Scores of every arm
#
# The primary metric of each task: mean, lowest and highest run. Dotted: the best published figure, where the runs used
# the published corpus; `trivial`: the score without a model. Arms stand beside each other here; only a verdict compares them, for it looks at what else differs.

# %%
from kaggle_kit.analysis.figures import arm_ranges, loss_curves, tokens_per_task

arms = arm_table(found)
show.figure(arm_ranges(arms))
numbers = ("mean", "lowest", "highest", "published", "trivial")
show.table(arms, "Arms by task", dict.fromkeys(numbers, "{:.4f}"))

# %% [markdown]
# ## 4 One score by hand
#
# A score is the sum over its documents: hits, false alarms and misses for an F1, values for a mean. Every recorded
# score is added up again from the parts that the run kept.

# %%
import pandas as pd

from kaggle_kit.evaluation.documents import document_table, figure

again = []
for row in found[found["score"].notna()].to_dict("records"):
    run = next(run for run in runs if run.run_id == row["run"])
    if (run.documents / f"{row['task']}.{row['split']}.jsonl").is_file():
        names, parts = document_table(run.read_documents(row["task"], row["split"]))
        by_hand = float(figure(parts.sum(axis=0)))
        again.append((row["task"], len(names), abs(by_hand - row["score"])))
recount = pd.DataFrame(again, columns=["task", "documents", "gap"])
by_task = recount.groupby("task")["gap"].agg(scores="size", largest_gap="max").reset_index()
show.table(by_task, "Scores added up again", {"largest_gap": "{:.1e}"})

# %% [markdown]
# ## 5 Differences between arms
#
# Ablations, MIMIC exclusion, S5 and the page `ood` (RQ2), as far as they have finished. A difference is that of means
# over seeds; its p is adjusted over all declared differences of the question. One seed gives no inference. Runs that
# differ in anything else are refused. Whether a gain is transfer is the page `08_token_controlled_analysis`.

# %%
from kaggle_kit.analysis.contrasts import COMPARISONS, contrasts_or_refusals

differences = [document for question in COMPARISONS for document in contrasts_or_refusals(question, runs)]
show.contrasts(differences)

# %% [markdown]
# ## 6 How they trained, and what it cost
#
# The training loss over optimiser steps; the real tokens that each task has seen; and the whole table. A loss that
# falls while the score stays at zero points at the evaluation, not at the training.

# %%
show.figure(loss_curves(runs))
show.figure(tokens_per_task(runs))
show.table(found.drop(columns="run"), "Every finished run", FORMATS)

# %% [markdown]
# ## 7 Record
#
# The same as one HTML file that opens anywhere without a network, the verdicts first.

# %%
path = write_report(runs, in_workspace(report), single)
show.sentences([f"report: {path}, {path.stat().st_size / 1024:,.0f} KiB"])

# %% [markdown]
# ## Checks
#
# Every score follows from its documents, no toy is unmarked.

# %%
assert (recount["gap"] < 1e-6).all(), "a score is the sum of its documents"
assert found[found["profile"] == "smoke"]["flags"].str.contains("smoke").all(), "toys are marked"
assert path.read_text(encoding="utf-8").count("data:image/png") == (3 if runs else 0)
assert not whole or whole["verdict"] == whole["comparisons"][whole["primary"]]["all tasks"]["verdict"]

# %% [markdown]
# ## How to read it
#
# - The study's verdict is the one to quote. A verdict that is right by itself and gone in the study was one test of
#   many.
# - Two rows of a table are comparable only where task, corpus and metric agree; their token and parameter columns say
#   whether the comparison is also fair.
# - A row marked `smoke` or `practice` must never be quoted: the model, the data or both are toys.
# - *No difference shown* is no proof of equality. `detectable` is the smallest difference that so many seeds find.
