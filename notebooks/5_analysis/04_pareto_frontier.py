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
# # The Pareto frontier: which model for which budget?
#
# **Question.** Of finished runs on one task, which are beaten by none in everything at once: score, size, latency and
# calibration?
#
# **Hypothesis.** Small models and 4-bit bases stay on the frontier, because they are cheaper, whatever they lose.
#
# ```text
#   score ▲            ● C         on the frontier: A, B and C
#         │      ● B               D is beaten by B, which scores more and costs less
#         │         ○ D
#         │  ● A
#         └──────────────▶ cost    how sure? Documents are drawn anew, and the frontier with them
# ```
#
# **What would refute it.** A larger model that is better in every figure, in nearly all draws.
#
# Before this page: runs of several models or bases on one task, such as `s5_qlora` and its candidate. After it: `overview`.
# At its defaults it takes the newest token-controlled pair of practice runs below `runs/`, and only where there is
# none does it first train one, in minutes.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
runs = ""  # ids or folders of finished runs on one task, commas between
task = ""  # which of their tasks; empty: the first that all have
batch = 8  # texts a request
repeats = 30
dollars_per_hour = 0.0  # what an hour of this machine costs
memory_budget = 500.0  # MiB of weights
latency_budget = 1000.0  # ms, the 95th percentile of a request

# %% [markdown]
# ## 1 The runs
#
# They are compared on the very same documents, and timed on this machine one after the other.

# %%
from kaggle_kit.analysis.overview import TOYS, arm_of, flag_names
from kaggle_kit.analysis.pareto import on_same_documents
from kaggle_kit.experiment.load_trained_run import judged_split, load_trained_run
from kaggle_kit.experiments.transfer_runs import practice_arms

found = [load_trained_run(run) for run in practice_arms(runs_dir, runs, most=20)]
names = [
    f"{place}: {arm_of(one.run.manifest())}, {one.config.model.name}" for place, one in enumerate(found, 1)
]
trained = dict(zip(names, found, strict=True))
flags = {flag for one in found for flag in flag_names(one.run.facts["flags"])}
note = " (no result)" if flags & set(TOYS) else ""
task = task or next(name for name in found[0].specs if all(name in one.specs for one in found))
split = judged_split(found[0])
parts = on_same_documents({name: one.run for name, one in trained.items()}, task, split)
about = [{"run": one.run.run_id, "name": name, "documents": parts.shape[1]} for name, one in trained.items()]
show.table(about, f"Runs on {task}, {split}{note}")

# %% [markdown]
# ## 2 What each scores, weighs and takes
#
# Size is that of all weights in memory. Latency is that of a request, adapters merged where that is possible. ECE is
# the calibration error of `06_calibration_plots`, the mean over kinds of predictions.

# %%
import numpy as np
import pandas as pd

from kaggle_kit.analysis.calibration import ece
from kaggle_kit.analysis.stats import resampled_scores
from kaggle_kit.evaluation.documents import figure
from kaggle_kit.experiment.finished_runs import judged, scores_of
from kaggle_kit.experiment.inference import Load, inference_rows

load = Load([batch], repeats, dollars_per_hour)
draws = resampled_scores(parts, 2000, np.random.default_rng(0))
rows = []
for place, (name, one) in enumerate(trained.items()):
    *_, fastest = inference_rows(one, task, load)  # merged, where that is possible
    errors = [ece(kind) for kind in scores_of(one, task, *judged(one, task, split)).values()]
    low, high = np.quantile(draws[:, place], [0.025, 0.975])
    row = {"name": name, "score": float(figure(parts[place].sum(0))), "low": low, "high": high}
    rows.append(row | {"ECE": np.mean(errors) if errors else np.nan} | fastest)
table = pd.DataFrame(rows)
costs = ["size MiB", "p95 ms", "ECE"] if table["ECE"].notna().all() else ["size MiB", "p95 ms"]

# %% [markdown]
# ## 3 Dominance by hand
#
# The first two rows, figure by figure. One beats the other if it is nowhere worse and somewhere better.

# %%
figures = ["score", *costs]
values = table[figures] * [1, *[-1] * len(costs)]  # better where higher
first, second = values.iloc[0], values.iloc[min(1, len(values) - 1)]
better = np.where(first == second, "equal", np.where(first > second, names[0], names[min(1, len(names) - 1)]))
by_hand = [{"figure": name, "better": word} for name, word in zip(figures, better, strict=True)]
show.table(by_hand, f"Which of the first two is better{note}")

# %% [markdown]
# ## 4 The frontier, and how sure it is
#
# Documents are drawn anew 2,000 times, the same ones for all runs. `on the frontier` is the share of draws in which
# nothing beats a run. Full points are on it in half of the draws or more.

# %%
from kaggle_kit.analysis.pareto import frontier_probability, is_dominated, pareto_figure

table["beaten"] = is_dominated(values.to_numpy())
assert not table["beaten"].all(), "something is always on the frontier"
table["on the frontier"] = frontier_probability(draws, table[costs].to_numpy())
kept = ["name", *figures, "low", "high", "memory MiB", "$ per 1,000", "beaten", "on the frontier"]
digits = dict.fromkeys(("score", "low", "high", "ECE"), "{:.3f}") | {"on the frontier": "{:.0%}"}
digits |= dict.fromkeys(("size MiB", "p95 ms", "memory MiB"), "{:,.1f}") | {"$ per 1,000": "{:.4f}"}
show.table(table[kept], f"The frontier of {len(table)} runs{note}", digits)
show.figure(pareto_figure(table, costs, note))

# %% [markdown]
# ## 5 Which one to take

# %%
from kaggle_kit.analysis.pareto import recommended

budget = {"size MiB": memory_budget, "p95 ms": latency_budget}
asked = f"at most {memory_budget:,.0f} MiB and {latency_budget:,.0f} ms"
taken = recommended(table, budget)
said = [
    f"Within {asked}: {taken['name']}, score {taken['score']:.3f}." if taken else f"No run keeps to {asked}."
]
sure = table.loc[table["on the frontier"] >= 0.95, "name"]
said.append(f"On the frontier in 95 of 100 draws or more: {', '.join(sure) or 'none'}.")
show.sentences(said, f"What it says{note}")

# %% [markdown]
# ## Checks

# %%
assert table["on the frontier"].between(0, 1).all() and (table["low"] <= table["high"]).all()
metric = {name: one.config.tasks[task].primary_metric for name, one in trained.items()}
official = {
    name: [m.value for m in one.run.metrics() if (m.task, m.name, m.split) == (task, metric[name], split)]
    for name, one in trained.items()
}
assert np.allclose([value for (value,) in official.values()], table["score"]), "scores are the official ones"
within = table.loc[(table[list(budget)] <= pd.Series(budget)).all(axis=1), "score"]
assert (taken is None) == within.empty and (within.empty or taken["score"] == within.max())

# %% [markdown]
# ## How to read it
#
# - A run off the frontier in nearly all draws is not worth having. One that is on it in half of the draws is as good as
#   another on these documents.
# - The draws hold the choice of documents and not the luck of a training: each point is one run. Name runs of several
#   seeds to see that luck.
# - Latency is this machine's. Sizes of 4-bit bases are as they are packed.
# - The more figures count, the more runs are on the frontier, for each only has to be best in one.
