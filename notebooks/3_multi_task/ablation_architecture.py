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
# # Ablations: one factor at equal parameters
#
# **Question.** Is it the architecture that helps, or the parameters that come with it? And which of its parts?
#
# **Hypothesis.** A model with shared and private adapters, fused by attention (A4), scores higher than one with only
# shared (A1) or only private adapters (A2), or with the sum of both (A3), although each trains equally many.
#
# ```text
#   A1   tokens ──▶ [ shared, rank 24 ] ───────────────────────────▶ head of the task
#   A2   tokens ──▶ [ private, rank 24 ] ──────────────────────────▶ head of the task
#   A3   tokens ──▶ [ shared, rank 16 ] + [ private, rank 8 ] ─────▶ head of the task
#   A4   tokens ──▶ [ shared, rank 16 ] ⊕ [ private, rank 8 ] ─────▶ head of the task       ⊕: fusion by attention
# ```
#
# Every other experiment named `ablation_…` changes one key of S3a or S3b and nothing else: gradient surgery, the
# fusion, what level 2 reads of level 1, or whether its losses reach level 1. Each run of this page trains one level of
# one factor. All levels train the same tasks by the same steps, with parameters for each task within 5 %.
#
# **What would refute it.** Over seeds, the interval of the difference to the reference lies below the smallest
# difference that matters, or on the other side of zero.
#
# Before this page: `s3a_flat` or `s3b_hierarchical`. After it: the other levels and seeds, by this same page, and
# `overview`. "Run all" is safe anywhere: the defaults are a smoke run on synthetic notes, a few minutes on two cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "a4"  # a1, a2, a3, a4; of any other factor: s3a_flat, s3b_hierarchical
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["experiment=ablation_architecture", "training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# An unknown key, a level that the experiment does not declare, and whatever would give a level other tokens stop the
# page here.

# %%
from kaggle_kit.experiments import ablation

asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
asked |= {"overrides": overrides, "runs_dir": runs_dir, "run_dir": run_dir}
exp = Experiment.open("ablation_architecture", **asked, settle=ablation.check)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each, the same in every level.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model: what the level changes
#
# These are all keys of a strategy in which the declared levels differ, this run's among them. Of a factor that is one
# key there is one row.

# %%
import pandas as pd

levels, experiment = ablation.levels(exp.config), exp.config.experiment
changes = pd.DataFrame(ablation.changes(levels)).fillna("–")
show.table(changes, f"Levels of {experiment['factor']}; this run: {experiment['level']}")

# %% [markdown]
# ## 4 By hand: equal parameters, equal tokens
#
# **Parameters.** What the tokens of a task pass through, in closed form: adapters, fusion and heads. The comparison
# holds for each task by itself, and more than 5 % apart stops the page before anything is trained. Ranks are as
# declared; `experiment.target=26000000` solves them for so many parameters. Then the model of this level is built with
# them and counted, and the sums must be those of the closed form.

# %%
from kaggle_kit.experiment.controlled_variables import active_groups
from kaggle_kit.models.build import build_model

matched, variants = ablation.matched_strategy(exp.config, exp.backbone, exp.specs)
show.parity(variants)
exp.model = build_model(exp.backbone, exp.specs.values(), matched)
(declared,) = [variant for variant in variants if variant.strategy == matched]
counted = [
    {
        "task": name,
        **{group.partition(":")[0]: size for group, size in groups.items()},
        "all": sum(groups.values()),
    }
    for name, groups in active_groups(exp.model).items()
]
passed = pd.DataFrame(counted)
show.table(passed, "Counted in the built model", dict.fromkeys(passed.columns[1:], "{:,.0f}"))
assert {row["task"]: row["all"] for row in counted} == declared.tasks, "as in closed form"

# %% [markdown]
# **Tokens.** The plan of every level, although this page trains one. The digest covers each row and token of each
# step, so equal digests mean that all levels read the same text in the same order.

# %%
plans = ablation.plans(exp.config, exp.encoded)
rows = [
    {"level": level, "steps": len(plan), **plan.tokens, "digest of the steps": plan.steps_sha256[:12]}
    for level, plan in plans.items()
]
show.table(pd.DataFrame(rows), "What each level reads", dict.fromkeys(("steps", *exp.plan.tokens), "{:,}"))
assert {plan.steps_sha256 for plan in plans.values()} == {exp.plan.steps_sha256}, "one plan for all levels"

# %% [markdown]
# ## 5 Training
#
# A1 to A4 take the plain sum of the tasks' gradients. With PCGrad, each task's shared gradient is set aside after its
# micro-batches, and one projection and one combination end the step. The last step is scored, in every level.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the smoke gate,
# and trains. Where the session ends first, a checkpoint is left and the page ends normally.

# %%
exp.train()
show.training(exp)

# %% [markdown]
# ## 6 Scores
#
# Predictions are written in each task's own format and scored by the official rules.

# %%
if exp.finished:
    exp.evaluate()
    show.scores(exp)

# %% [markdown]
# ## 7 Where it errs, and the record
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.
#
# Then adapters and heads are saved, and the manifest is written last: without it the folder counts as unfinished. A
# paused run goes on when this page is run again on its folder.

# %%
if exp.finished:
    show.errors(exp, n=1)
    exp.finish()
show.record(exp)

# %% [markdown]
# ## 8 What the factor did: levels against each other
#
# All finished runs of this experiment in this folder: each level minus the reference, which is A4 for the
# architectures and the first level of any other factor. The difference is one of means over seeds, with its interval,
# a Welch test adjusted by Holm over all declared differences, and the smallest difference that so many seeds can
# find. One seed gives no inference. Runs that differ in anything else are refused.

# %%
show.differences(exp, "ablation")

# %% [markdown]
# ## Checks
#
# What must hold of any level, and at smoke defaults of this one.

# %%
if exp.finished:
    own = exp.run.manifest()
    assert own["totals"]["tokens"] == exp.plan.tokens, "each task has seen what was planned for it"
    assert own["steps_sha256"] == [exp.plan.steps_sha256], (
        "the steps that were trained are those of all levels"
    )
    assert own["active_parameters"] == declared.tasks and own["selection"]["rule"] == "last"
    one_factor = experiment["factor"] == ablation.ARCHITECTURE or list(changes["key"]) == [
        experiment["factor"]
    ]
    assert one_factor, "levels differ in their factor and in nothing else"
    assert {metric.task for metric in exp.metrics} == set(exp.specs), "every task is scored"

# %% [markdown]
# ## How to read it
#
# One run is one level and one seed, and its score alone answers nothing. Section 8 answers once all levels are there
# with several seeds each. "No difference shown" is no proof of equality: the smallest difference that could be found
# says what may lie unseen. Parity holds for what a token passes; a level with private adapters trains more in total,
# as the last row of the parity table says (`experiment.parity=total` matches that instead). A run marked `smoke` or
# `practice` is no result.
