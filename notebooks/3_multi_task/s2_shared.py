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
# # S2: all tasks, one shared LoRA adapter
#
# **Question.** Does one adapter that all tasks share do better than one adapter each (S1)?
#
# **Hypothesis.** Tasks share some of what they need. An adapter that reads all of them learns that from more
# text than any one task has, and a small task gains the most.
#
# ```text
#   task 1 ──┐  drawn in proportion to size^(1/T)            ┌──▶ head of task 1
#   task 2 ──┼──▶ frozen model + one shared adapter ─────────┼──▶ head of task 2
#   task 3 ──┘                                               └──▶ head of task 3
#
#   update of the shared adapter  =  Σ wᵢ gᵢ,   wᵢ = 1 / (2σᵢ²) learnt with it
#   Nothing is projected: where gᵢ and gⱼ point apart, the longer one wins.
# ```
#
# **What would refute it.** Each task scores as well or better with an adapter of its own; or S1, trained to the
# same total tokens, scores as well (page `token_controlled`). Then the gain was more data and no transfer.
#
# Before this page: `s1_single_task` for each of the tasks. After it: `s3a_flat`, which keeps apart what is shared
# and what is not, and `token_controlled`. "Run all" is safe anywhere: the defaults are a smoke run on synthetic
# notes, a few minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "s2_shared"
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
exp = Experiment.open("s2_shared", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each, with what its model has to find. The tasks have labels of their own; the adapter
# has to serve all of them at once.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model
#
# One adapter that every token of every task passes through, and a head for each component. Nothing else learns.

# %%
from kaggle_kit import MultiTaskModel, SharedPrivateLoRA

assert exp.config.strategy.kind == "shared", "this page trains one adapter that all tasks share"
base, lora = exp.backbone, exp.backbone.config.lora
adapter = SharedPrivateLoRA(base.backbone, lora, {"shared": exp.config.strategy.rank or lora.rank})
network = MultiTaskModel(adapter, exp.specs.values(), causal=base.causal, decoder=base.decoder)
exp.model = network.to(base.backbone.device)
show.adapters(exp)

# %% [markdown]
# ## 4 How the tasks are mixed
#
# Drawn in proportion to their data, large tasks would drown small ones. Drawn uniformly, small ones would be
# repeated until they are known by heart. A temperature T lies between: a task of n samples is drawn in proportion
# to n^(1/T). T = 1 is proportional, and a very large T is uniform. A draw is one passage, or one question with all
# of its candidates, so shares of draws are not shares of tokens; section 8 counts those.

# %%
from dataclasses import replace

from kaggle_kit.batches.sampler import MultiTaskBatchSampler

rows = {name: encoded.plan_rows for name, encoded in exp.encoded.items()}
temperature = exp.config.strategy.temperature
sizes = {name: len(held.bounds) - 1 for name, held in rows.items()}
power = {name: size ** (1 / temperature) for name, size in sizes.items()}
by_hand = {name: value / sum(power.values()) for name, value in power.items()}
proportional = {name: size / sum(sizes.values()) for name, size in sizes.items()}
settings = replace(exp.plan.settings, sampling="temperature", temperature=temperature)
sampler = MultiTaskBatchSampler(rows, settings, seed)
this_run = MultiTaskBatchSampler(rows, exp.plan.settings, seed).shares()
show.sampling({"proportional": proportional, f"T = {temperature:g}": by_hand, "this run": this_run})

# %% [markdown]
# ## 5 One step by hand: whom does the plain sum follow?
#
# Each task's gradient of the shared adapter, from the first step that holds the most tasks. S2 adds them up as
# they are; all loss weights are one half here. A cosine below 0 means that two tasks disagree. The share of a task
# says how much of the sum's squared length is its doing. A task with a negative share is made worse by this step.

# %%
from kaggle_kit import gram_matrix, shared_gradient

number = max(range(len(exp.plan)), key=lambda n: (len(exp.plan.steps[n].tokens), -n))
gradients = {name: shared_gradient(exp.model, batches) for name, batches in exp.step(number).by_task()}
gram = gram_matrix(list(gradients.values()))
show.plain_sum(gram, tasks=list(gradients))

# %% [markdown]
# ## 6 Training
#
# In every step the tasks' sentences lie one behind the other in one row, which goes forward and backward once. The
# best of the quick evaluations is kept where `training.selection` is `best`.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the smoke gate,
# and trains. Where the session ends first, a checkpoint is left and the page ends normally.

# %%
show.live(exp)
exp.train()
show.training(exp)

# %% [markdown]
# ## 7 Scores
#
# Predictions are written in each task's own format and scored by the official rules.

# %%
if exp.finished:
    exp.evaluate()
    show.scores(exp)

# %% [markdown]
# ## 8 What the method did
#
# **Who was read how much?** Tokens planned before the first step against tokens counted in training. A task that
# was passed over many times may be known by heart.
#
# **Whom did the loss listen to?** Each weight 1/(2σ²) starts at one half and is learnt with the adapter. It
# settles where it is 1/(2L), so a task that is learnt well counts more and more. A weight far from there had too
# few steps.

# %%
if exp.finished:
    ledger = show.token_ledger(exp)
    weights = show.loss_weights(exp)

# %% [markdown]
# ## 9 Where it errs
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.

# %%
if exp.finished:
    show.errors(exp, n=1)

# %% [markdown]
# ## 10 Record and checks
#
# The adapter and the heads are saved, and the manifest is written last: without it the folder counts as
# unfinished. A paused run goes on when this page is run again on its folder. Then: what must hold of any finished
# run, and at smoke defaults of this one.

# %%
from math import isclose

if exp.finished:
    exp.finish()
show.record(exp)

assert list(exp.model.lora.ranks) == ["shared"], "no task has an adapter of its own"
assert all(isclose(sampler.shares()[name], share) for name, share in by_hand.items()), "T by hand"
assert (gram.diagonal() > 0).all(), "every task of the step has a gradient"
if exp.finished:
    stopped = any(event.get("quick_evaluation", {}).get("stopped") for event in exp.run.events())
    assert stopped or (ledger["seen"] == ledger["planned"]).all(), "tokens seen are tokens planned"
    assert (ledger["seen"] > 0).all(), "every task was trained"
    assert (weights["weight now"] > 0).all(), "every task had a say"

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result and can enter no table of the paper. A real one stands for one
# seed. A gain over S1 counts only against S1 trained to the same total tokens, which `token_controlled` makes and
# `08_token_controlled_analysis` judges over seeds. One step's cosines are an example and no measurement: `s3a_flat`
# counts conflicts over a whole training, against what noise alone does.
