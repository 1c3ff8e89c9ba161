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
# # Errors: what kind are they, and which does multi-task training remove?
#
# **Question.** Which kinds of errors cost a run most, and which of a single-task run's errors does the multi-task run
# on the same documents not make, or make anew?
#
# **Hypothesis.** Other tasks teach what a mention is, so the multi-task run misses fewer; boundaries, which follow the
# guidelines of each corpus, gain least.
#
# ```text
#   gold        ▇▇▇▇▇▇▇ Drug     ▇▇▇▇▇▇▇ Drug     ▇▇▇▇▇▇▇ Drug     ▇▇▇▇▇▇▇ Drug                      ▇▇▇▇▇▇▇ Drug
#   predicted   ▇▇▇▇▇▇▇ Sign     ▇▇▇▇ Drug        ▇▇▇▇ Sign        ▇▇▇▇▇▇▇ Drug    ▇▇▇▇▇ Drug
#                                                                  ▇▇▇▇ Drug
#               type             boundary         both             duplicate       spurious          missed
# ```
#
# **What would refute it.** The multi-task run adds as many errors of a kind as it removes, document by document; or
# what it removes are boundaries and types alone.
#
# Before this page: `token_controlled`, or any two runs on one task. After it: `06_calibration_plots`. At its defaults it
# takes the newest token-controlled pair of practice runs below `runs/`, and only where there is none does it first train
# one, in minutes.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
runs = ""  # ids or folders of one or two finished runs, the first one's errors being removed by the second

# %% [markdown]
# ## 1 The runs
#
# Read as they stored their predictions, on the split that they report. Two runs are compared on the tasks that both
# have, and only on the very same documents.

# %%
from kaggle_kit.analysis.overview import TOYS, arm_of, flag_names
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.experiment.finished_runs import errors_of, judged, opened
from kaggle_kit.experiment.load_trained_run import judged_split
from kaggle_kit.experiments.transfer_runs import practice_arms

runs_read = enumerate(practice_arms(runs_dir, runs), 1)
arms = {f"{place}: {arm_of(run.manifest())}": opened(run) for place, run in runs_read}
flags = {flag for arm in arms.values() for flag in flag_names(arm.run.facts["flags"])}
note = " (no result)" if flags & set(TOYS) else ""
about = [{"arm": name, "run": arm.run.run_id, "split": judged_split(arm)} for name, arm in arms.items()]
show.table(about, f"Runs, marked {', '.join(sorted(flags)) or 'nothing'}")
gold, found = {}, {}  # by task; by (arm, task, mentions or a kind of relation)
for name, arm in arms.items():
    for task in arm.scored_config.tasks:
        gold[task], predicted = judged(arm, task, judged_split(arm))
        for what, errors in errors_of(arm, task, gold[task], predicted).items():
            found[name, task, what] = errors
if not found:
    raise ConfigError(f"{', '.join(arms)}: no mentions or relations between them; name other runs")

# %% [markdown]
# ## 2 One document by hand
#
# The document with most kinds of errors. Gold and predicted mentions are paired one to one: equal ones first, then
# equal places, then the largest overlap with an equal type, then any overlap. What is left over is a duplicate where
# it meets gold that is paired already, else spurious or missed.

# %%
from kaggle_kit.experiment.show.error_examples import case_table

(name, task, what), errors = next(iter(found.items()))
document = errors.counts.drop(columns="correct").gt(0).sum(axis=1).idxmax()
cases = [case for case in errors.cases if case.document == document]
title = f"{task}, {document}, {what}, {name}: {len(cases)} cases, at most two of a kind{note}"
show.table(case_table(cases, gold[task], 2), title, {"score": "{:.2f}"})

# %% [markdown]
# ## 3 How many of each, and what they cost
#
# ΔF1 is what strict F1 would gain were every error of the category mended, all others left: a pair becomes right, a
# missed mention is found, a spurious one is gone. Intervals draw documents. The gains do not add up to 1.

# %%
import numpy as np
import pandas as pd

from kaggle_kit.analysis.instrument_figures import confusion_figure, error_bars

generator = np.random.default_rng(0)
kinds = sorted({key[2] for key in found})
for what in kinds:
    bars = {f"{key[1]}, {key[0]}": each.counts.sum() for key, each in found.items() if key[2] == what}
    show.figure(error_bars(pd.DataFrame(bars).T.drop(columns="correct"), f"Errors of {what}{note}"))
gains = {key: errors.gains(generator) for key, errors in found.items()}
signed = {"share": "{:.1%}"} | dict.fromkeys(("ΔF1", "low", "high"), "{:+.4f}")
for (name, task, what), gain in gains.items():
    total = found[name, task, what].counts.to_numpy().sum(axis=0)
    show.table(gain, f"{task}, {what}, {name}: F1 {found[name, task, what].f1(total):.4f}{note}", signed)

# %% [markdown]
# ## 4 Where it is hard
#
# Mentions in several fragments, mentions within others, and predictions at offsets that the text does not have. A
# relation is where either of its ends is.

# %%
for what in kinds:
    rows = {key[:2]: errors.subsets() for key, errors in found.items() if key[2] == what}
    hard = pd.concat(rows, names=["arm", "task"]).reset_index(["arm", "task"])
    show.table(hard, f"{what} by subset{note}", {"recall": "{:.1%}"})

# %% [markdown]
# ## 5 Which types are taken for which
#
# Of pairs, and in the last row and column of what has no partner.

# %%
for (name, task, what), errors in found.items():
    if len(table := errors.confusion()) > 2:
        show.figure(confusion_figure(table, f"{task}, {what}, {name}{note}"))

# %% [markdown]
# ## 6 Side by side
#
# `removed`: errors of the first run that the second does not make. `added`: those that only the second makes. p is
# that of a sign-flip test over documents, adjusted over the categories (Holm).

# %%
from kaggle_kit.analysis.error_comparison import compared

beside, (first, *second) = {}, arms
for (name, task, what), errors in found.items():
    if name in second and (first, task, what) in found:
        beside[task, what] = compared(found[first, task, what], errors, generator)
        title = f"{task}, {what}: from {first} to {name}{note}"
        show.table(beside[task, what], title, {"p": "{:.3f}", "p, Holm": "{:.3f}"})

# %% [markdown]
# ## 7 Examples
#
# Two of every category; in a live notebook the browser below shows all of them in their text. Text of a restricted
# corpus is withheld.

# %%
(_, task, _), errors = max(found.items(), key=lambda one: (one[0][0], one[0][2] == "mentions"))
show.error_browser(errors, gold[task])

# %% [markdown]
# ## 8 In words

# %%
said, points = [], "{:+.1f} points of F1 ({:+.1f} to {:+.1f})"
for (name, task, what), gain in gains.items():
    worst = gain.loc[gain["ΔF1"].idxmax()]
    gained = points.format(*(100 * worst[["ΔF1", "low", "high"]]))
    mended = f"Mending those that are {worst['category']} ({worst['n']:,}) would gain most: {gained}."
    said.append(f"{task}, {what}, {name}: {gain['n'].sum():,} errors. {mended}")
for (task, what), table in beside.items():
    total, sure = table.iloc[-1], table[table["p, Holm"] <= 0.05]
    moved = ", ".join(f"{row.category} {row.change:+,}" for row in sure.itertuples()) or "none beyond chance"
    change = f"{total['removed']:,} errors removed, {total['added']:,} added"
    said.append(f"{task}, {what}: {change}. Categories that changed: {moved}.")
show.sentences(said, f"What it says{note}")

# %% [markdown]
# ## Checks
#
# Every item has one category, changes are what was added less what was removed, and mending never harms.

# %%
for errors in found.values():
    counts = errors.counts.sum()
    known = counts[["correct", *errors.categories[:3], "missed"]].sum()
    assert errors.table["gold"].notna().sum() == known, "every gold item is in one case"
    assert errors.confusion().to_numpy().sum() == len(errors.cases)
assert all((table["change"] == table["added"] - table["removed"]).all() for table in beside.values())
assert all(gain["ΔF1"].between(-1e-9, 1).all() for gain in gains.values()), "mending never harms"

# %% [markdown]
# ## How to read it
#
# - Read ΔF1, not only counts: a spurious mention costs precision alone, a wrong type costs both.
# - F1 here is strict, of the types that the task predicts, and each prediction counts. An official scorer may count
#   equal predictions once or look at places alone, so its figure can differ a little.
# - One pair of runs stands for one seed. A category that changed is a lead; whether multi-task training gains is what
#   `08_token_controlled_analysis` judges over seeds.
# - An error that moved from *missed* to *boundary* counts as removed and added: the sum over all categories is the
#   last row.
