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
# # 01: What the corpora hold
#
# **Question.** Are the corpora here what their organisers published? How long are their texts for this model, and
# what do they have in common?
#
# **Hypothesis.** Sizes are as declared, hardly an annotation is out of reach, and no two tasks share a document
# that one of them is scored on.
#
# ```text
#   corpus ──▶ splits ──▶ sizes, labels, lengths, shapes         against params/task
#                │
#                ├──▶ tokens of the model ──▶ training.max_length=auto ──▶ passages ──▶ gold that they hold
#                └──▶ documents and sentences of every other task ──▶ what two tasks have in common
# ```
#
# **What would refute it.** A split of another size than published: a release that is not the one of the papers.
# Gold annotations in no passage: a ceiling below 1 that no model can pass. Common documents: a leak that would look
# like transfer.
#
# Before this page: nothing. After it: `02_contamination_report`, then `s1_single_task`. This page trains nothing and
# shows no word of a text. "Run all" is safe anywhere: the defaults read practice corpora, under a minute.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
model = "tiny"  # whose tokens are counted: a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2015t14,semeval2016t12,semeval2017t3,semeval2021t6"
profile = "smoke"  # smoke: practice corpora; open, t4: the real ones that are on this machine
overrides = []

# %% [markdown]
# ## 1 What is here, and how to get the rest
#
# A corpus is looked for where a run would look for it. What is missing is named with the steps to get it. `risk` is
# that of a model having read the corpus, `zero-shot from` the score without training from which to suspect it.

# %%
from kaggle_kit.core.config import compose
from kaggle_kit.data import exploration

names = task.split(",")
setting = {"strategy": "s2_shared" if len(names) > 1 else "s1_single", "profile": profile}
config = compose(model=model, task=names, overrides=overrides, **setting)
corpora, missing = exploration.find_corpora(config)
show.table(exploration.access_table(config, corpora), "Access", {"zero-shot from": "{:.2f}"})
for what, steps in missing.items():
    show.sentences(steps.splitlines(), f"Missing: {what}")
assert corpora, "none of these corpora is here; the steps above say how to get them, or take profile smoke"

# %% [markdown]
# ## 2 Sizes, found and declared
#
# `declared` is the published size of the split on disk, in documents or questions, before anything was cut from it.

# %%
sizes = exploration.size_table(corpora)
counts = dict.fromkeys(("documents", "mentions", "relations", "candidates", "on disk", "declared"), "{:,}")
show.table(sizes, "Sizes of every split", counts)

# %% [markdown]
# ## 3 Labels
#
# Balance is the entropy of the labels over that of equal shares: 1 where all are as frequent, near 0 where one label
# is nearly all. A macro average then hangs on few items.

# %%
labels = exploration.label_table(corpora)
balance = exploration.balance_table(labels)
share = {"count": "{:,}", "n": "{:,}", "share": "{:.1%}", "largest share": "{:.1%}", "balance": "{:.2f}"}
show.table(balance, "Class balance of every component, training split", share)
show.table(labels[labels.groupby(["task", "component"]).cumcount() < 12], "The most frequent labels", share)

# %% [markdown]
# ## 4 Lengths in words
#
# Of the training split, signs counted as words.

# %%
words = exploration.length_table(corpora)
show.table(words, "Words", {"n": "{:,}", "median": "{:.0f}", "95 %": "{:.0f}", "most": "{:,}"})

# %% [markdown]
# ## 5 Lengths in the model's tokens, and what `training.max_length=auto` makes of them
#
# A sequence is a sentence; where relations leave their sentence it is a document, and of a ranking task a question
# with one candidate. `auto` takes what the longest 99th percentile needs (`auto95` the 95th), up to the model's
# positions and the token budget. Decide it here once for all tasks and give every run the number: runs of different
# lengths are not compared. What is longer is cut into windows that overlap, and nothing of a document is lost.

# %%
import numpy as np
import pandas as pd

from kaggle_kit.analysis.figures import COLOURS
from kaggle_kit.experiment.preparation import backbone_entry, reach_table, sequence_lengths, settle_max_length
from kaggle_kit.experiment.show.views import panel
from kaggle_kit.models.loading import load_tokenizer

auto = compose(model=model, task=names, overrides=[*overrides, "training.max_length=auto"], **setting)
auto.tasks = {name: auto.tasks[name] for name in corpora}
settled, decided = settle_max_length(auto, corpora)
tokenizer, longest = load_tokenizer(backbone_entry(auto)), settled.training.passage_tokens()
tokens = {
    name: np.sort(sequence_lengths(corpus.task, corpus.splits["train"], tokenizer))
    for name, corpus in corpora.items()
}
with panel("Sequences of the training split", xlabel="tokens", ylabel="share not longer") as axes:
    for colour, (name, found) in zip(COLOURS, tokens.items(), strict=False):
        axes.ecdf(found, color=colour, label=f"{name}, n = {len(found):,}")
    axes.axvline(longest, color="#3a3f47", ls=":")
    axes.set(xscale="log", ylim=(0, 1.01))
    axes.figure.legend(loc="outside right upper")
figures = {name: pd.Series(found).describe(percentiles=[0.5, 0.95, 0.99]) for name, found in tokens.items()}
quantiles = pd.DataFrame(figures).T.drop(columns=["mean", "std", "min"]).rename_axis("task").reset_index()
quantiles["longer"] = [(found > longest).mean() for found in tokens.values()]
form = dict.fromkeys(quantiles.columns[1:], "{:,.0f}") | {"longer": "{:.2%}"}
show.table(quantiles, f"Tokens of {config.model.name}, and the share beyond {longest}", form)
show.sentences([f"training.max_length={longest}: {decided.reason}"])

# %% [markdown]
# ## 6 Shapes that a tag per token cannot say
#
# Shares of the training mentions. Discontiguous ones consist of pieces; nested ones lie within another.

# %%
shapes = exploration.shape_table(corpora)
show.table(shapes, "Mentions", {"mentions": "{:,}"} | dict.fromkeys(shapes.columns[2:], "{:.2%}"))

# %% [markdown]
# ## 7 The gold that passages can hold
#
# At this length. `outside`: mentions in no passage. `inexact`: they begin or end inside a word. `apart`: relations
# whose ends share no passage. `no candidate`: those, and pairs farther apart or of other types than in training.

# %%
reach = reach_table(settled, corpora, tokenizer)
show.table(reach, "Annotations out of reach", dict.fromkeys(reach.columns[2:], "{:,}"))

# %% [markdown]
# ## 8 What two tasks have in common
#
# Documents by their text, case and blanks aside, and different sentences of five words and more. The diagonal is what
# a task has by itself. A run leaves out of training what another of its tasks is scored on.

# %%
whole, sentences = exploration.documents(corpora), exploration.long_sentences(corpora)
shared, alike = exploration.in_common(whole), exploration.in_common(sentences)
show.table(shared, "Documents in common")
show.table(alike, "Sentences in common")

# %% [markdown]
# ## Checks, and what this page found
#
# Counts agree with each other, and the length holds what it promises.

# %%
from itertools import combinations

beyond = (reach["outside"] + reach["apart"]) / (reach["mentions"] + reach["relations"])
practised = sum(corpus.practice for corpus in corpora.values())
said = [f"{len(corpora)} of {len(names)} corpora are here, {practised} of them practice: no result"]
said += [f"{(sizes['as declared'] == 'no').sum()} of their splits differ in size from the published ones"]
for row, part in zip(reach.itertuples(), beyond, strict=True):
    said += [f"{row.task}, {row.split}: {part:.2%} of the gold is in no passage"] if part > 0 else []
table = shared.set_index("task")
common = [(one, two, table[one][two]) for one, two in combinations(whole, 2) if table[one][two]]
said += [f"{one} and {two} have {count} documents in common" for one, two, count in common]
show.sentences(said, "Found")
assert np.allclose(labels.groupby(["task", "component"])["share"].sum(), 1), "shares of a component make 1"
assert all(sizes.groupby("task")["documents"].sum() >= [len(whole[name]) for name in sorted(whole)])
limits = config.model.max_positions, config.training.token_budget
assert quantiles["longer"].max() <= 0.01 or longest == min(limits), "99 % fit whole"
assert (reach["outside"] + reach["inexact"] <= reach["mentions"]).all()

# %% [markdown]
# ## How to read it
#
# - A size that differs from the published one means another release, or files that were left out: `data check TASK`.
# - Gold out of reach bounds recall from above. Raise `training.max_length` or `training.stride`, or set
#   `tasks.TASK.segments=windows`, until what is left does not matter.
# - Practice corpora show how the page works. Nothing here is then a figure of a real corpus.
# - Common documents between a training and a scored split are what `02_contamination_report` looks into.
