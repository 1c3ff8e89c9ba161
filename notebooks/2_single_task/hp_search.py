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
# # Hyper-parameters: the same budget for every arm
#
# **Question.** Which learning rate, rank, batch, epochs, warm-up, sampling and loss weighting does a strategy want
# on a model?
#
# **Hypothesis.** Multi-task and single-task models want different ones. A comparison is fair only where both arms
# were searched alike.
#
# ```text
#   space and budget, declared once ──▶ trial 1 … trial n ──▶ the best on dev ──▶ overrides of every later run
#   (params/experiment/hp_search)          │      ▲
#                                          ▼      │  a trial behind the median of the earlier ones is given up,
#                                        reports ─┘  and has used up its place all the same
# ```
#
# **What would refute it.** The trials' scores lie closer together than runs that differ in the seed alone. Then
# the search chose by chance, and any configuration would do.
#
# Development data only: the test split is refused. With `experiment.twin=RUN_ID` (and `experiment.control`) the
# search is for the token-controlled baseline of that multi-task run, and every trial has its tokens and steps.
#
# Before this page: nothing. After it: `s1_single_task`, `s2_shared` and every other page that trains. "Run all" is
# safe anywhere: the defaults are three short trials on synthetic notes, about a minute on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"
task = "semeval2014t7"
strategy = "s1_single"
profile = "smoke"
seed = 42
overrides = [
    "experiment=hp_search",
    "experiment.full_models=[tiny]",
    "experiment.trials=3",
    "experiment.random_trials=1",
    "training.max_steps=8",
    "profile.max_train_samples=40",
    "profile.max_dev_samples=10",
]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# Names become one checked configuration; an unknown key stops the page here. In a search for a token-controlled
# baseline, tokens, steps and rank are read from the multi-task run that is named. What is shown is the
# configuration as it stands, before any trial changes it.

# %%
from kaggle_kit.experiment import preparation
from kaggle_kit.experiments import token_controlled, token_controlled_plan

multi = None


def settle(asked):
    global multi
    config, multi = token_controlled.searched(asked, runs_dir)
    return config


asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
places = {"overrides": overrides, "runs_dir": runs_dir, "run_dir": run_dir}
exp, targets = Experiment.open("hp_search", **asked, **places, settle=settle), None
if multi:
    exp.corpora = preparation.corpora_of(multi, exp.config)
    targets = token_controlled_plan.step_targets(multi, exp.config)
    exp.plan = preparation.plan_training(exp.config, exp.encoded, targets=targets)
show.setup(exp)

# %% [markdown]
# ## 2 Space and budget, arm by arm
#
# One declaration serves every arm. What has no effect on an arm is not searched there: sampling where there is one
# task, epochs where the tokens are given. The number of trials is the same. A model outside
# `experiment.full_models` gets the reduced configurations instead of the full space.

# %%
import pandas as pd

from kaggle_kit.experiments.hp_search_journal import Search, search_settings, settings_by_arm, space_rows

settings = search_settings(exp.config)
kind = "reduced configurations" if settings.reduced else "the full space"
title = f"{settings.trials} trials of {kind} for {exp.config.model.name}, under {exp.config.strategy.name}"
show.table(pd.DataFrame(space_rows(exp.config)), title)

# %% [markdown]
# ## 3 What is tuned for
#
# One training sample of each task.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 4 The figure that chooses, by hand
#
# Each task's primary score on development samples over the best published one (over 1 where none is known), and
# the mean of these over the tasks. Here it is for the model before any training, on the samples of a quick
# evaluation. So no task weighs more for having a metric with larger numbers.

# %%
from dataclasses import asdict

from kaggle_kit.analysis.anchors import published_best

figures = exp.quick()
best = {f"{name}.{one.primary_metric}": published_best(asdict(one)) for name, one in exp.config.tasks.items()}
rows = [(key, figures[key], known or 1.0) for key, known in best.items()]
by_hand = sum(score / known for _, score, known in rows) / len(rows)
columns = ["primary score on dev", "before training", "over"]
formats = {"before training": "{:.4f}", "over": "{:.3f}"}
title = f"Mean of the ratios by hand {by_hand:.4f}, as the search computes it {figures['selection']:.4f}"
show.table(pd.DataFrame(rows, columns=columns), title, formats)

# %% [markdown]
# ## 5 Search
#
# Before the first trial the configuration as it stands has to halve its loss in 50 steps. Everything tried stands
# in `study.journal`, so an interrupted search goes on where it was, with the checkpoint of the trial that it was
# in. Where the session ends first, the run is marked as paused and the page ends normally.

# %%
from kaggle_kit.experiments import hp_search

search = Search(settings, exp.run.path, exp.config.seed)
said = hp_search.run_search(exp, search, targets)
show.table(pd.DataFrame({"search": said.splitlines()}))

# %% [markdown]
# ## 6 Trials
#
# The score is taken over the whole development split. It chooses and is no result.

# %%
if search.counted():
    show.trials(exp.run)

# %% [markdown]
# ## 7 What the method did
#
# **Was a trial given up for good reason?** At each report a trial's best one so far is held against the median
# of the earlier trials that ran to their end. **Which values matter?** Trials share values, so a row says where to
# look and proves nothing.

# %%
if search.counted():
    show.values_tried(exp.run)

# %% [markdown]
# ## 8 The winner
#
# `trials.jsonl` holds every trial, `best.yaml` the overrides of the best one. The manifest is written last;
# without it the folder counts as unfinished.

# %%
if search.finished:
    words = hp_search.finish_search(exp, search)
    show.winner(exp.run.manifest()["search"], words)

# %% [markdown]
# ## Checks
#
# What must hold of any search, and at smoke defaults of this one.

# %%
from math import isclose

arms = settings_by_arm(exp.config).values()
assert isclose(by_hand, figures["selection"]), "the figure that chooses is the mean of the ratios"
assert {arm.trials for arm in arms} == {settings.trials}, "every arm has the same budget"
if search.finished:
    scores = [trial["score"] for trial in search.records() if trial["score"] is not None]
    assert len(search.records()) == settings.trials, "what was given up early used up its place"
    assert search.best()["score"] == max(scores), "the winner is the best of those that ran to their end"
    assert exp.run.manifest()["search"]["split"] == "dev" and "experiment.tuning.split=dev" in words
    assert not list(exp.run.path.glob("trials/*/metrics.json")), "no trial was scored on any other split"

# %% [markdown]
# ## How to read it
#
# The overrides above are what a run of this arm takes, on the command line by
# `$(sed 's/^- //' runs/<this folder>/best.yaml)`. Their last words tell the run's manifest how many trials stood
# behind its configuration, on which split and in which search, and have the run scored on the test split, which
# chose nothing. A comparison between arms with different budgets is refused. A search on practice data chooses
# nothing for the study.
