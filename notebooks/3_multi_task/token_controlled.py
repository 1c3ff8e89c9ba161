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
# # Token-controlled baseline: one task, with the tokens and steps of a multi-task run
#
# **Question.** Would one task alone have scored as well, given all the tokens that its multi-task run read?
#
# **Hypothesis.** Other tasks teach what more passes over the task's own data cannot. Then the multi-task run stays
# ahead of a single-task run of the same tokens, optimiser steps, active parameters, schedule and seed.
#
# ```text
#   multi-task run           A B A A B A B …    N tokens in S steps
#   control=total            A A A A A A A …    task A again and again: N tokens in S steps
#   control=share            A A A A            the tokens that the run read of A, in fewer steps
#   placebo=true             A b A A b A b …    the run itself; the labels of B are permuted
# ```
#
# **What would refute it.** The `total` control scores as well, within the margin that was fixed beforehand; or the
# placebo gives the same gain, so that the partners taught nothing about any text.
#
# Before this page: a multi-task page, such as `s2_shared` or `s3a_flat`, with `experiment=token_controlled`. Its run
# id goes into `experiment.twin`. After it: the verdict over seeds in `08_token_controlled_analysis`. "Run all" is safe
# anywhere: the defaults are a smoke run on synthetic notes, and its multi-task run is made first if there is none.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7"
strategy = "s1_single"
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["experiment=token_controlled"]  # experiment.control=share, experiment.placebo=true
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# The control takes seed, model, schedule and rule of selection from the multi-task run's folder. Whatever was asked
# for otherwise stops the page here. The corpora must be, to the byte, those of that run. The plan is built to its
# steps and tokens, and a plan that misses either is refused.

# %%
from functools import partial

from kaggle_kit.core.config import compose
from kaggle_kit.experiment import preparation
from kaggle_kit.experiments import token_controlled, token_controlled_plan

asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
told = compose(**asked | {"task": task.split(",")}, overrides=overrides)
multi = token_controlled.multi_task_run(told, runs_dir)
settle = partial(token_controlled.control_of, multi)
exp = Experiment.open(
    "token_controlled", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir, settle=settle
)
exp.corpora = preparation.corpora_of(multi, exp.config)
exp.encoded = token_controlled_plan.labelled(exp.config, exp.encoded)
exp.plan = token_controlled_plan.plan_control(multi, exp.config, exp.encoded)
show.setup(exp)

# %% [markdown]
# ## 2 What the task looks like
#
# One training sample, with what the model has to find. The control reads the same samples as the multi-task run,
# more often.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model
#
# One adapter and the heads of the task. Its rank gives the parameters that a token of this task passed in the
# multi-task run, heads and fusion included. The built model is counted, and more than 5 % apart stops the page.

# %%
import pandas as pd

token_controlled.assert_active_parameters(multi, exp.model)
active = pd.DataFrame(token_controlled.active_beside(multi, exp.model))
counts = dict.fromkeys(("multi-task", "control"), "{:,}")
show.table(active, "Parameters that a token of the task passes", counts | {"difference": "{:+.2%}"})
show.adapters(exp)

# %% [markdown]
# ## 4 By hand: two ledgers of tokens
#
# The left ledger is what the multi-task run logged, task by task. The right one is the plan of this run. Nothing has
# been trained yet.

# %%
ledgers = token_controlled_plan.ledgers(multi, exp.config, exp.plan)
show.ledgers(ledgers, "Tokens of both runs")

# %% [markdown]
# Step by step, the control follows a mark: the tokens that the multi-task run had read by then (for `share`, scaled to
# its share). A passage is not divided, so a step may end a little before or after its mark. The difference never adds
# up, and the last step ends on its mark to the token.

# %%
pace = pd.DataFrame(token_controlled_plan.pace(multi, exp.config, exp.plan))
few = pd.concat([pace.head(5), pace.iloc[5:].tail(2)])
formats = dict.fromkeys(("tokens", "read so far", "mark"), "{:,}") | {"ahead": "{:+,}"}
show.table(few, f"The first steps and the last of {len(pace):,}", formats)

# %% [markdown]
# ## 5 Training
#
# The last step is scored in both runs. Scores on a few development samples, at every tenth of the tokens, are shown;
# they neither stop the run nor choose a step.
#
# One call resumes the run or starts it, lets it pass the smoke gate, and trains. Where the session ends first, a
# checkpoint is left and the page ends normally.

# %%
exp.train()
show.training(exp)

# %% [markdown]
# ## 6 Scores beside the multi-task run
#
# Both are scored by the official rules. A control that was trained too long would make the multi-task run look good.
# So the `total` control is scored at its best development point, too, in `best_development/`. The last step comes
# second, because its thresholds are those that are kept. A positive difference favours the multi-task run.

# %%
from kaggle_kit.experiment.manifest import curves

weights = {}
for curve in curves(exp.session.trainers) if exp.finished else ():
    if curve.keeps_best:
        with curve.at_best():
            weights["best development point"] = exp.scores_of(exp.run.best_development)
if exp.finished:
    weights["last step"] = exp.evaluate()
    show.scores(exp)
    beside = pd.DataFrame(token_controlled.side_by_side(multi, weights))
    digits = dict.fromkeys(("multi-task", "control"), "{:.4f}") | {"difference": "{:+.4f}"}
    show.table(beside, "Multi-task run minus control, primary metric", digits)

# %% [markdown]
# ## 7 Where it errs, and the record
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.
#
# Then adapters and heads are saved, and the manifest is written last: without it the folder counts as unfinished. A
# paused run goes on when this page is run again on its folder.

# %%
if exp.finished:
    show.errors(exp, n=3)
    exp.finish()
show.record(exp)

# %% [markdown]
# ## 8 What the control did: equal tokens, equal optimisation?
#
# Equal tokens do not make equal optimisation. The control went over its own data more often, and it may have been
# trained too long. Both manifests tell: passes over the data, final loss, and the development curve.

# %%
if exp.finished:
    (scored_task,) = exp.scored_config.tasks
    show.optimisation({"multi-task run": multi, "control": exp.run}, scored_task)

# %% [markdown]
# ## Checks
#
# What must hold of any control, and at smoke defaults of this one.

# %%
if exp.finished:
    theirs, own = multi.manifest(), exp.run.manifest()
    assert int(pace["ahead"].iloc[-1]) == 0 == own.get("token_parity_error", 0), "the tokens are equal"
    assert exp.session.tokens == exp.plan.tokens, "what was planned was trained"
    assert own["twin"]["control"] == "share" or own["optimiser_steps"] == theirs["optimiser_steps"]
    same = ("seed", "model", "profile", "selection")
    assert all(own[key] == theirs[key] for key in same), "nothing but the source of the tokens differs"
    assert [metric.task for metric in exp.metrics if metric.value < 0] == [], "scores are shares of 1"

# %% [markdown]
# ## How to read it
#
# A positive difference says that this seed's multi-task run scored higher than as many tokens of one task in as many
# steps. Look at section 8 before believing it. A control that went over its data fifty times, or whose curve falls at
# the end, was trained too long; then the difference at its best development point is the one to read.
#
# One pair is no verdict. A claim needs several seeds, the share control and the placebo, and
# `08_token_controlled_analysis` reads them all. A small difference does not show that both are equal: only an
# equivalence test does, at the margin that `experiment.margin` fixed before the runs. A run marked `smoke` or
# `practice` is no result.
