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
# # S1: one task, one LoRA adapter
#
# **Question.** How well does a small language model do on one task, trained on that task alone? This is the
# baseline of every multi-task claim.
#
# **Hypothesis.** A low-rank change of a frozen model is enough to learn the task. Its score rises with the tokens
# it sees, and levels off before the last of them.
#
# ```text
#                 W, frozen: out × in
#        x ──┬──▶ W·x ─────────────────────────┐
#            │                                 ├──▶ W·x + (alpha / rank) · B·A·x ──▶ head of the task
#            └──▶ A: rank × in ─▶ B: out × rank┘
#
#   A starts at random and B at zero, so the first step starts at the frozen model itself.
# ```
#
# **What would refute it.** The loss on training data stays where it began, or the dev score is still rising when
# the tokens end. In the second case a multi-task gain over this run may be nothing but more tokens.
#
# Before this page: nothing, or `hp_search` for its learning rate. After it: `s2_shared`, and `token_controlled`,
# which trains the same model to exactly the tokens of a multi-task run. With `training.target_tokens=N` among the
# overrides, this page does so for a number of your own. "Run all" is safe anywhere: the defaults are a smoke run
# on synthetic notes, a few minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7"  # one task
strategy = "s1_single"
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = []
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# Names become one checked configuration; an unknown key stops the page here. The plan lists every optimiser step
# before the first one is taken, so the tokens of this run are known now.

# %%
asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
exp = Experiment.open("s1_single_task", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
show.setup(exp)

# %% [markdown]
# ## 2 What the task looks like
#
# Two training samples, with what the model has to find in them.

# %%
show.samples(exp, per_task=2)

# %% [markdown]
# ## 3 The model
#
# The base stays frozen. One adapter and one head for each component learn.

# %%
show.adapters(exp)

# %% [markdown]
# ## 4 One step by hand: from a loss to what LoRA adds
#
# The plan's first step, as the trainer takes it. Each component's loss is a mean over all that its micro-batches
# count, so it does not depend on how the step is cut.

# %%
from kaggle_kit import component_losses

((name, batches),) = exp.step(0).by_task()
losses = component_losses(exp.model, batches)
show.component_losses(exp, batches, losses)

# %% [markdown]
# Now the first layer that has an adapter. B is zero, so its A gets no gradient at all and only B moves. One step
# of unit length down B's gradient is taken here, looked at, and taken back. What the layer then adds to W·x is
# (alpha / rank) · B·A·x, and nothing else.

# %%
import pandas as pd
import torch

layer, (adapter,) = exp.model.lora.layers[0].eval(), exp.model.adapters_of(name)
A, B = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
slopes = torch.autograd.grad(sum(losses.values()), [A, B])
x = torch.randn(8, A.shape[1], generator=torch.Generator().manual_seed(seed)).to(exp.model.backbone.device)
x = x.to(exp.model.backbone.dtype)
with torch.no_grad():
    B -= slopes[1] / slopes[1].norm().clamp(min=1e-12)
    by_hand = layer.scaling[adapter] * x.float() @ A.T @ B.T
    plain = layer.base_layer(x).float()
    gap = (layer(x).float() - plain - by_hand).abs().max()
    B.zero_()
layer.train()
rows = [
    ("W, frozen", f"{A.shape[1] * B.shape[0]:,}", "none", f"{plain.norm():.3f}"),
    ("A", f"{A.numel():,}", f"{slopes[0].norm():.3g}", "–"),
    ("B", f"{B.numel():,}", f"{slopes[1].norm():.3g}", "–"),
    ("(alpha / rank) · B·A after the step", "–", "–", f"{by_hand.norm():.3f}"),
    ("layer's own output − W·x − the row above", "–", "–", f"{gap:.1e} at most"),
]
columns = ["matrix", "parameters", "norm of its gradient", "norm of its output on 8 random inputs"]
show.table(pd.DataFrame(rows, columns=columns), "The first adapted layer, one step by hand")

# %% [markdown]
# ## 5 Training
#
# The best of the quick evaluations on development samples is kept. The run stops early when
# `training.patience` epochs bring no new best.
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
# Predictions are written in the task's own format and scored by the official rules.

# %%
if exp.finished:
    exp.evaluate()
    show.scores(exp)

# %% [markdown]
# ## 7 What the method did
#
# **What did the tokens buy?** Steps differ in length, so they are no measure of data. Here loss and dev score
# stand over the real tokens seen, which is also what the token-controlled comparison holds equal. Where the curve
# still falls at its right end, more tokens of this task alone would help.
#
# **Where does the adapter work?** The size of what it adds to each frozen layer, beside what that layer says
# itself. It was zero before the first step.

# %%
if exp.finished:
    show.curve_over_tokens(exp)
    show.adapter_shares(exp)

# %% [markdown]
# ## 8 Where it errs
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.

# %%
if exp.finished:
    show.errors(exp, n=3)

# %% [markdown]
# ## 9 Record and checks
#
# The adapter and the head are saved, and the manifest is written last: without it the folder counts as
# unfinished. A paused run goes on when this page is run again on its folder. Then: what must hold of any finished
# run, and at smoke defaults of this one.

# %%
from kaggle_kit.analysis.token_curves import token_curve

if exp.finished:
    exp.finish()
show.record(exp)

assert not slopes[0].any() and slopes[1].any(), "while B is zero, only B has a gradient"
assert gap <= 16 * torch.finfo(x.dtype).eps * (plain.abs().max() + by_hand.abs().max()), "B·A·x by hand"
if exp.finished:
    curve, events = token_curve(exp.run, name), exp.run.events()
    stopped = any(event.get("quick_evaluation", {}).get("stopped") for event in events)
    assert stopped or exp.session.tokens == exp.plan.tokens, "the run saw the tokens that were planned"
    assert curve["tokens"].iloc[-1] == exp.session.tokens[name], "both logs tell of the same tokens"
    third = len(curve) // 3
    fell = curve["loss"].tail(third).mean() < curve["loss"].head(third).mean()
    assert fell or third < 10, "the loss of the last third lies below that of the first"

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result and can enter no table of the paper. A real one stands for one
# seed, and its dev score chose its weights where `training.selection` is `best`. A multi-task model beats it only
# at equal tokens: compare with `token_controlled`, and let `08_token_controlled_analysis` judge over seeds.
