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
# # S5: the better multi-task model on a 4-bit base
#
# **Question.** What does the better of S3a and S3b lose when its base is quantised to NF4? Training on the quantised
# base (QLoRA) is what lets 7B models fit a T4.
#
# **Hypothesis.** Adapters are trained on the base as it is, errors included, so they learn around most of them. The
# loss in scores is small beside the memory that is saved.
#
# ```text
#   S3a or S3b, the better on dev                      S5
#
#   base, 16 or 32 bits a weight ──┐                   base, 4 bits a weight, frozen ──┐
#                                  ├──▶ heads                                          ├──▶ heads
#   adapters, float32 ─────────────┘                   adapters, float32 ──────────────┘
#
#   NF4: of each block of 64 weights the largest absolute value is kept as its scale, and of each weight the
#        nearest of 16 levels. The levels lie where a normal distribution has equal shares.
# ```
#
# **What would refute it.** Scores fall, over seeds, by more than the interval of the difference below allows for; or
# some matrices of the base change far more than the others, so that a few layers are lost.
#
# Before this page: `s3a_flat` and `s3b_hierarchical`, with the same seeds, profile and model. After it: the verdict
# in `08_token_controlled_analysis`. "Run all" is safe anywhere: the defaults are a smoke run on synthetic notes, a
# few minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "s5_qlora"
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# Names become one checked configuration; an unknown key stops the page here. Which of S3a and S3b is quantised
# follows from what their finished runs score on dev, and stays when a paused run goes on.

# %%
from kaggle_kit.experiment.model_selection import better_candidate

reasons = []


def settle(config):
    config, because = better_candidate(config, runs_dir, run_dir)
    reasons.append(because)
    return config


asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
parts = {"overrides": overrides, "runs_dir": runs_dir, "run_dir": run_dir, "settle": settle}
exp = Experiment.open("s5_qlora", **asked, **parts)
show.candidate(exp, *reasons)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each: the same as in the candidate's runs.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model
#
# The candidate's adapters and heads, in float32, on the quantised base. Embeddings and norms are not quantised.

# %%
show.adapters(exp)

# %% [markdown]
# ## 4 By hand: one matrix to NF4 and back
#
# The first matrix of the base as its file holds it. Each block of 64 weights is divided by its largest absolute
# weight, every weight goes to the nearest of 16 levels, and the scale is multiplied back. The library also keeps
# the scales in 8 bits (double quantisation), which changes little more.
#
# Then the same measure for every matrix of the base: the Frobenius norm of the change over that of the matrix.

# %%
import pandas as pd
import torch
from bitsandbytes.functional import get_4bit_type

from kaggle_kit.models.four_bit import base_bytes, quantised_layers, quantised_weights

path, original, by_library = next(quantised_weights(exp.backbone))
levels = get_4bit_type("nf4", device="cpu")
blocks = original.reshape(-1, 64)
scales = blocks.abs().amax(dim=1, keepdim=True)
nearest = torch.bucketize(blocks / scales, (levels[1:] + levels[:-1]) / 2)
by_hand = (levels[nearest] * scales).view_as(original)
show.nf4_levels(blocks / scales, levels, path)
changed = {"by hand": by_hand - original, "by the library": by_library - original}
sizes = [(who, float(change.norm() / original.norm())) for who, change in changed.items()]
show.table(pd.DataFrame(sizes, columns=["quantised", "relative error"]), f"What NF4 changes in {path}")
errors = show.nf4_errors(exp)

# %% [markdown]
# ## 5 Training
#
# As the candidate trains, step by step; the base stays as it is.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the smoke gate,
# and trains. Where the session ends first, a checkpoint is left and the page ends normally.

# %%
layer = quantised_layers(exp.backbone.backbone)[path]
before = layer.weight.data.clone()
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
# **What does it save?** The bytes of the frozen base, scales included. Activations, adapters and the optimiser's
# state take as much as without quantisation. On a small model the embeddings, which stay, are most of the base.
#
# **Did tasks conflict more?** Only the excess over half batches of one task says that tasks conflict.

# %%
show.base_memory(exp)
if exp.finished:
    show.conflict_excess(exp)

# %% [markdown]
# ## 8 Where it errs
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.

# %%
if exp.finished:
    show.errors(exp, n=1)

# %% [markdown]
# ## 9 Record, and the difference to the candidate
#
# Adapters and heads are saved, and the manifest is written last: without it the folder counts as unfinished. A
# paused run goes on when this page is run again on its folder.
#
# **What does NF4 cost?** All finished runs of S5, minus those of the strategy that they chose. The difference is that
# of means over seeds, with its interval, a Welch test adjusted by Holm over all declared differences, and the
# smallest difference that so many seeds can find. One seed gives no inference. Runs that differ in anything else are
# refused, and so are seeds that never finished in one arm.

# %%
if exp.finished:
    exp.finish()
show.record(exp)
show.differences(exp, "s5")

# %% [markdown]
# ## Checks
#
# What must hold of any run of this page, and of the trained one.

# %%
packed = before.flatten().cpu()
codes = torch.stack([packed >> 4, packed & 15], dim=1).view_as(nearest)
kept, whole = base_bytes(exp.backbone)["matrices in NF4"]
assert (codes == nearest).float().mean() > 0.99, "the library takes the levels that are taken by hand"
assert sizes[0][1] < 0.15, "16 levels lie near enough to the weights of a block"
assert kept < whole / 2, "the base is quantised"
assert torch.equal(layer.weight.data, before), "training leaves the base as it is"
assert abs(sizes[0][1] - sizes[1][1]) < 0.01, "the library restores what was quantised by hand"
assert all(0.0 < error < 0.2 for error in errors.values()), "each matrix is near its original"
if exp.finished:
    assert exp.session.tokens == exp.plan.tokens, "each task has seen the tokens that were planned for it"

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result and can enter no table of the paper. The difference over seeds is
# the answer of this page: an interval that excludes a loss worth caring for says that NF4 is free; one that holds 0
# and such a loss says that there are too few seeds. A gain over S1 counts only against S1 trained to the same total
# tokens.
