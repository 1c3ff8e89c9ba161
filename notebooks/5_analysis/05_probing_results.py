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
# # Probes: what does the shared adapter put into the representations?
#
# **Question.** Can a linear probe read more of four properties off the hidden states when the shared adapter is on:
# where mentions begin, which type they have, whether two are related, and what comes first in time?
#
# **Hypothesis.** An adapter that serves several tasks adds what these have in common, so the probes read boundaries and
# types at earlier layers, and better, than off the frozen base.
#
# ```text
#   text ──▶ embeddings ──▶ layer 1 ──▶ … ──▶ layer L        with the shared adapter, with none (the base),
#                │             │                 │           with an S1 adapter, with a random one
#                ▼             ▼                 ▼
#             ┌─────┐       ┌─────┐           ┌─────┐        a logistic regression each, fitted on half of the
#             │probe│       │probe│           │probe│        documents, asked of the other half
#             └─────┘       └─────┘           └─────┘
#   selectivity = accuracy − accuracy on labels drawn at random, one for each word
#   compression = n log₂ K ⁄ bits in which the labels can be sent, given the states
# ```
#
# **What would refute it.** The base is read as well at every layer; or a random adapter of the same size does as much;
# or selectivity stays where it was, so that the probe only learnt words by heart.
#
# Before this page: `s2_shared` or another training page, and `s1_single_task` for its tasks. After it:
# `06_calibration_plots`. At its defaults it takes the newest practice run with a shared adapter below `runs/`, and only
# where there is none does it first train one, in minutes.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
run = ""  # a finished run's id or folder; empty: the newest practice run with a shared adapter
split = "dev"  # dev, test: documents that no adapter was trained on
most = 600  # items of each property and task, drawn where there are more

# %% [markdown]
# ## 1 The run, and the single-task runs beside it
#
# What is probed is the adapter that all tasks of the run share, alone. Beside it stand the newest S1 runs of its tasks
# on the same model and corpora, as far as there are any.

# %%
from kaggle_kit.analysis.overview import TOYS, arm_of, flag_names
from kaggle_kit.experiment import probed_runs
from kaggle_kit.experiment.load_trained_run import load_trained_run

trained = load_trained_run(probed_runs.shared_run(runs_dir, run))
singles = probed_runs.single_task_runs(trained.run, runs_dir)
note = " (no result)" if {*flag_names(trained.run.facts["flags"])} & {*TOYS} else ""
readers = [
    {"run": one.run_id, "arm": arm_of(one.manifest()), "tasks": ", ".join(one.manifest()["tasks"])}
    for one in (trained.run, *singles)
]
show.table(readers, f"Whose adapters read{note}")

# %% [markdown]
# ## 2 What is asked
#
# - **mention boundary**: does a mention begin at a word, go on, or is the word outside?
# - **entity type**: of which type is a mention? Its state is the mean over its tokens.
# - **relation presence**: is a pair related? Both states side by side; as many pairs are as are not.
# - **temporal order**: which of two comes first, or does an event lie before, at or after its document's time?
#
# `always the commonest` is the accuracy without any state. What a task's annotations do not tell is left out.

# %%
import numpy as np
import pandas as pd

from kaggle_kit.evaluation import probing

probed = probed_runs.Probed.of(trained, split, most)
silent = {what: probing.chance(items, probed_runs.SEED) for what, items in probed.items.items()}
counts = [
    {"what": what, "items": len(items), "documents": len(np.unique(items.documents))}
    | {"word types": len(np.unique(items.words)), "classes": ", ".join(items.classes)}
    | {"always the commonest": silent[what]["accuracy"]}
    for what, items in probed.items.items()
]
show.table(counts, f"Items on {split}{note}", {"always the commonest": "{:.1%}"})
show.table(pd.DataFrame(probed.left_out.items(), columns=["left out", "because"]))

# %% [markdown]
# ## 3 One probe by hand
#
# The first property at the last layer: fit on half of the documents, ask the others; then the same with the control's
# labels, one for each word type, drawn from the labels as they are.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

example, by_hand = next(iter(probed.items)), []
items, (adapter, read) = probed.items[example], next(probed_runs.models(probed, []))
held = probing.asked_items(items.documents, probed_runs.SEED)
rows = read(example)[-1]
rows = StandardScaler().fit(rows[~held]).transform(rows)
control = probing.control_labels(items, probed_runs.SEED)
for what, labels in (("label", items.labels), ("control", control)):
    probe = LogisticRegression(C=1 / rows.shape[1], max_iter=1000).fit(rows[~held], labels[~held])
    by_hand.append({"probe of": what, "accuracy": probe.score(rows[held], labels[held])})
selectivity = -np.diff([row["accuracy"] for row in by_hand]).item()
title = f"{example}, {adapter}: {held.sum():,} items asked, selectivity {selectivity:+.3f}{note}"
show.table(by_hand, title, {"accuracy": "{:.3f}"})

# %% [markdown]
# ## 4 All probes, layer by layer
#
# Bars are 95 % intervals that draw documents; the dotted line is what the labels' counts alone give.

# %%
from kaggle_kit.analysis.instrument_figures import probing_figure
from kaggle_kit.analysis.probe_results import in_words, layer_table, layer_tests, reach_in_words

generator = np.random.default_rng(probed_runs.SEED)
outcomes, tables = {what: {} for what in probed.items}, {what: {} for what in probed.items}
for name, read in probed_runs.models(probed, singles):
    for what, asked in probed.items.items():
        outcomes[what][name] = found = probing.probe_layers(read(what), asked, probed_runs.SEED)
        tables[what][name] = layer_table(asked, found, generator)
for figure in ("accuracy", "selectivity", "compression"):
    show.figure(probing_figure(tables, figure, {what: one[figure] for what, one in silent.items()}, note))

# %% [markdown]
# ## 5 Every model at the layer where it is read best
#
# A best of several layers is a little too good, for all models alike.

# %%
formats = {"layer": "{:.0f}"} | dict.fromkeys(("accuracy", "accuracy low", "accuracy high"), "{:.1%}")
formats |= dict.fromkeys(("selectivity", "selectivity low", "selectivity high"), "{:+.1%}")
formats["compression"] = "{:.2f}"
for what, several in tables.items():
    best = [table.loc[table["accuracy"].idxmax(), [*formats]] for table in several.values()]
    found = [{"model": name} | dict(row) for name, row in zip(several, best, strict=True)]
    show.table(found, f"{what}{note}", formats)

# %% [markdown]
# ## 6 Does the adapter beat the base?
#
# The difference in accuracy at every layer behind the embeddings, which no adapter changes. p is that of a sign-flip
# test over documents, adjusted over all properties and layers (Holm).

# %%
from kaggle_kit.analysis.stats import holm

pairs = {what: (several[adapter], several[probed_runs.BASE]) for what, several in outcomes.items()}
tested = {what: layer_tests(probed.items[what], *pair, generator) for what, pair in pairs.items()}
tests = pd.concat(tested, names=["what"]).reset_index("what")
tests["p, Holm"] = holm(tests["p"])
signed = dict.fromkeys(("difference", "difference low", "difference high"), "{:+.1%}")
show.table(
    tests, f"{adapter} less {probed_runs.BASE}{note}", signed | dict.fromkeys(("p", "p, Holm"), "{:.3f}")
)

# %% [markdown]
# ## 7 In words

# %%
said = [in_words(what, several, tests[tests["what"] == what]) for what, several in tables.items()]
show.sentences([*said, reach_in_words(tests)], f"What it says{note}")

# %% [markdown]
# ## Checks
#
# The probe by hand is the library's, all models share the embeddings, no document is both fitted on and asked.

# %%
assert abs(tables[example][adapter]["selectivity"].iloc[-1] - selectivity) < 0.02
for several in outcomes.values():
    base = several[probed_runs.BASE]
    assert all((one.right[0] == base.right[0]).all() for one in several.values()), "layer 0 is no adapter's"
assert not set(items.documents[held]) & set(items.documents[~held])
assert (tests["layer"] > 0).all() and (tests["p, Holm"] >= tests["p"]).all()

# %% [markdown]
# ## How to read it
#
# - Selectivity, not accuracy, says that a property lies in the states: a probe with many features learns words by heart,
#   and then the control is as good. A little below 0 is what noise shows, where frequent words make the control easy.
# - Compression needs no choice of how long a probe trains: above the dotted line the states say more than the counts of
#   the labels. It depends on the number of items, so it compares models here, and not pages.
# - An adapter that does no better than a random one of its size moved the states without adding the property.
# - What a probe cannot read may still be there, in a form that is not linear; what it can read need not be used.
# - One run is one seed. Whether multi-task training gains is what `08_token_controlled_analysis` judges over seeds.
