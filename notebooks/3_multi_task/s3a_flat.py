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
# # S3a: shared and private LoRA with gradient surgery
#
# **Question.** Does it help to keep apart what tasks share and what is their own, and to take away the part of
# each task's gradient that opposes another's?
#
# **Hypothesis.** Tasks share some of what they need. One adapter learns that from all of them, a private adapter
# learns the rest of each task, and PCGrad keeps one task from undoing another's step.
#
# ```text
#              ┌── shared adapter ── all tasks ──┐
#   tokens ──▶ │                                 ├── fusion ──▶ head of the task
#              └── private adapter ── one task ──┘
#
#   PCGrad:  where the gradients of two tasks point apart (cosine below 0), each loses the part that opposes
#            the other: g₁ ← g₁ − (g₁·g₂ / g₂·g₂) g₂. Only the shared adapter is projected.
# ```
#
# **What would refute it.** Gradients of two tasks conflict no more often than two half batches of one task; or the
# fusion stays at one half; or S1, trained to the same total tokens, scores as well (page `token_controlled`).
#
# Before this page: `s1_single_task` and `s2_shared`. After it: `ablation_architecture`, `token_controlled` and the
# verdict in `08_token_controlled_analysis`. "Run all" is safe anywhere: the defaults are a smoke run on synthetic
# notes, a few minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "s3a_flat"
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# Names become one checked configuration; an unknown key stops the page here. The plan lists every optimiser step
# before the first one is taken, so the tokens of each task are known now.

# %%
asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
exp = Experiment.open("s3a_flat", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each, with what its model has to find. The three tasks have labels of their own; what they
# may share is how clinical language marks an entity.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model
#
# One shared adapter, one private adapter for each task, and a fusion that weighs the two token by token. A group is
# projected where several tasks train it.

# %%
from kaggle_kit import MultiTaskModel, SharedPrivateLoRA
from kaggle_kit.models.build import adapter_ranks

base, settings = exp.backbone, exp.config.strategy
ranks = adapter_ranks(settings, base.config.lora, list(exp.specs))
lora = SharedPrivateLoRA(
    base.backbone, base.config.lora, ranks, fusion=settings.fusion, fusion_rank=settings.fusion_rank
)
exp.model = MultiTaskModel(lora, exp.specs.values(), causal=base.causal, decoder=base.decoder).to(
    base.backbone.device
)
show.adapters(exp)

# %% [markdown]
# ## 4 One step by hand: do these tasks disagree?
#
# Each task's gradient of the shared adapter, from a step of the plan that holds all of them. Their inner products make a small matrix,
# and PCGrad needs nothing else: whatever it takes away from one gradient is a multiple of another. A weight of 1
# in the update means that nothing was taken away.

# %%
from torch import Generator

from kaggle_kit import gram_matrix, project_coefficients, shared_gradient

gradients = {name: shared_gradient(exp.model, batches) for name, batches in exp.step().by_task()}
gram = gram_matrix(list(gradients.values()))
weights = project_coefficients(gram, Generator().manual_seed(seed)).sum(dim=0)
show.conflicts(gram, weights, tasks=list(gradients))

# %% [markdown]
# The same by the formula, for the two gradients that oppose each other most. After the projection they are at a
# right angle, and the first has lost what pulled against the second. Where no two oppose each other, nothing changes.

# %%
import pandas as pd

names, norms = list(gradients), gram.diagonal().sqrt()
one, other = divmod(int((gram / norms.outer(norms)).argmin()), len(names))
opposed = min(float(gram[one, other]), 0.0)
removed = opposed / float(gram[other, other])  # how much of the other gradient is taken away
pair = {"gradients": f"{names[one]} and {names[other]}", "inner product": float(gram[one, other])}
pair |= {"after": float(gram[one, other]) - removed * float(gram[other, other])}
pair |= {"norm": float(norms[one]), "norm after": float(gram[one, one] - removed * opposed) ** 0.5}
show.table(pd.DataFrame([pair]), "The most opposed pair, before and after the projection")

# %% [markdown]
# ## 5 Training
#
# In every step the tasks' sentences lie one behind the other in one row, which goes forward and backward once. The
# gradient of a shared matrix is a sum over tokens, so each task's part of it comes apart on the way. One projection and
# one combination end the step. Now and then every task's batch is halved, to see how often noise alone makes gradients
# conflict.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the smoke gate,
# and trains. Where the session ends first, a checkpoint is left and the page ends normally.

# %%
show.live(exp)
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
# ## 7 What the method did
#
# **Did tasks conflict?** Halves of two tasks' batches are compared with halves of one task's batch, which are as
# noisy: only the excess over those says that tasks conflict. Components of one task (mentions and relations) are
# measured too; nothing is projected between them.
#
# **Did tasks use what they share?** The weight of the shared adapter starts at one half in every layer. A task that
# leans on its own adapter lies below.

# %%
if exp.finished:
    show.conflict_excess(exp)
    show.fusion_weights(exp)

# %% [markdown]
# ## 8 Where it errs, and the record
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found. Then adapters and heads are
# saved, and the manifest is written last: without it the folder counts as unfinished. A paused run goes on when this
# page is run again on its folder.

# %%
if exp.finished:
    show.errors(exp, n=1)
    exp.finish()
show.record(exp)

# %% [markdown]
# ## Checks
#
# What must hold of any finished run, and at smoke defaults of this one.

# %%
import math

if exp.finished:
    assert exp.session.tokens == exp.plan.tokens, "each task has seen the tokens that were planned for it"
    assert all(math.isfinite(loss) for event in exp.run.events() for loss in event["losses"].values())
    assert float(weights.min()) > 0.0 and (gram.diagonal() > 0).all(), "every task had a say in the step"
    assert {metric.task for metric in exp.metrics} == set(exp.specs), "each of the tasks is scored"
assert set(ranks) == {"shared", *(f"private_{name}" for name in exp.specs)}, (
    "one adapter for all, one for each"
)
assert exp.session.trainers[-1].pcgrad is not None or not settings.pcgrad, "gradient surgery is on as asked"
assert pair["after"] >= -1e-6, "nothing opposes the other gradient any more"

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result and can enter no table of the paper. A real one stands for one
# seed. A gain over S1 counts only against S1 trained to the same total tokens, which `token_controlled` makes and
# `08_token_controlled_analysis` judges over seeds. Conflicts count only as excess over those within one task.
