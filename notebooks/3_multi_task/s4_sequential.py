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
# # S4: the shared adapter first, then each task its own
#
# **Question.** Is it better to learn from all tasks first and to adapt to each one afterwards than to do both at once
# (S3a)?
#
# **Hypothesis.** While shared and private adapters learn together, each chases what the other is about to explain.
# Learnt one after the other, the shared adapter holds what all tasks need, and the private ones the rest.
#
# ```text
#   phase "shared", first half of the plan          phase "own", second half
#
#   tokens ──▶ shared adapter ──▶ head              tokens ──▶ shared adapter (frozen) ──┐
#              all tasks          of the task                                            ├── fusion ──▶ head
#                                                   tokens ──▶ the task's own adapter ───┘
#
#   Both phases together follow the plan of S2 and S3a with this seed: the same steps, the same tokens.
# ```
#
# **What would refute it.** Scores do not rise in the second phase; or the tasks' own updates stay near zero beside the
# shared one; or S3a with the same tokens scores as well (page `s3a_flat`).
#
# Before this page: `s1_single_task`, `s2_shared` and `s3a_flat`. After it: `token_controlled` and the verdict in
# `08_token_controlled_analysis`. "Run all" is safe anywhere: the defaults are a smoke run on synthetic notes, a few
# minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "s4_sequential"
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
exp = Experiment.open("s4_sequential", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each. The first phase must serve all of them with one adapter.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model and its two phases
#
# A shared adapter, one private adapter for each task, and a fusion of the two. The plan is cut in the middle. A phase
# is a half of the plan, and what it prepares: which groups learn, and whether private adapters take part.
# `strategy.adapt_shared=continued` lets the shared adapter learn on in the second phase.

# %%
from kaggle_kit.experiment.preparation import HALVES, plan_training
from kaggle_kit.experiment.training_session import Phase

sequential, then = exp.model, exp.config.strategy.adapt_shared
halves = [plan_training(exp.config, exp.encoded, part) for part in HALVES]
exp.phases = [
    Phase(halves[0], exp.quick, name="shared", prepare=sequential.pretrain_shared),
    Phase(halves[1], exp.quick, name="own", prepare=lambda: sequential.adapt(then)),
]
show.adapters(exp)

# %% [markdown]
# ## 4 By hand: which groups learn in which phase
#
# One step of the plan, forward and backward, under either phase. Nothing is updated. A group without a gradient is
# frozen or takes no part. Private adapters begin with a zero matrix, so half of their parameters have a gradient at
# first.

# %%
from kaggle_kit.training.gradients import task_loss

step, norms = exp.step(), {}
sequential.eval()  # without dropout
for phase in exp.phases:
    phase.prepare()
    sum(task_loss(sequential, batches) for _, batches in step.by_task()).backward()
    squares = {
        name: [float(p.grad.square().sum()) for p in group.parameters if p.grad is not None]
        for name, group in sequential.parameter_groups().items()
    }
    norms[phase.name] = {name: sum(found) ** 0.5 for name, found in squares.items() if found}
    sequential.zero_grad(set_to_none=True)
show.phase_gradients(exp, norms)

# %% [markdown]
# ## 5 Training
#
# First the shared adapter and the heads learn from all tasks; then each task's own adapter, fusion and head do. At
# the end of each phase the model is scored on a few development samples.
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
# ## 7 What the method did
#
# **What did each phase reach?** The quick scores of the weights that either phase left. They are made of fewer
# samples than the scores above, and the second phase has had all of the tokens: a rise alone does not show that
# private adapters are needed, a fall shows that they harm.
#
# **What did the second phase add?** The norm of each task's own update beside that of the shared one, and the weight
# that the fusion gives the shared adapter, which starts at one half.

# %%
if exp.finished:
    show.scores_by_phase(exp)
    show.own_updates(exp)
    show.fusion_weights(exp)

# %% [markdown]
# ## 8 Where it errs
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.

# %%
if exp.finished:
    show.errors(exp, n=1)

# %% [markdown]
# ## 9 Record
#
# Adapters and heads are saved, and the manifest is written last: without it the folder counts as unfinished. A
# paused run goes on when this page is run again on its folder.

# %%
if exp.finished:
    exp.finish()
show.record(exp)

# %% [markdown]
# ## Checks
#
# What must hold of any run of this page, and of the trained one.

# %%
from collections import Counter

from kaggle_kit.evaluation.adapter_figures import adapter_sizes

heads = {f"heads:{name}" for name, _ in step.by_task()}
assert set(norms["shared"]) == {"shared", *heads}, "private adapters take no part in the first phase"
assert ("shared" in norms["own"]) == (then == "continued"), "the second phase leaves the shared one alone"
if exp.finished:
    assert exp.session.tokens == Counter(halves[0].tokens) + Counter(halves[1].tokens) == exp.plan.tokens
    assert all(size > 0 for own in adapter_sizes(sequential.lora).values() for size in own.values())

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result and can enter no table of the paper. A real one stands for one
# seed. S4 and S3a see the same tokens in the same steps, so their official scores may be compared; the quick scores
# of the phases may not. A gain over S1 counts only against S1 trained to the same total tokens.
