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
# # RQ4: which task helps which, and could one have known?
#
# **Question.** At equal tokens, what does a second task do to the first? And does anything that is cheap to measure
# predict it?
#
# **Hypothesis.** Tasks that are alike help each other: in labels, in words, or in what a step on one does to the loss
# of the other.
#
# ```text
#   transfer[i, j] =  score of i trained with j   −   score of i alone, on as many tokens        from finished runs
#   affinity[i, j] =  1 − loss of i after a step on j / loss of i before it                      measured here
#
#                       θ ── one step on j's loss ──▶ θ'          loss of i at θ and at θ': below 1 the step helps
# ```
#
# **What would refute it.** A predictor's correlation with the matrix is no larger than under relabelled tasks (Mantel),
# given that larger corpora help more. With five tasks no p is below 1/120, so a positive answer is a reason for
# another experiment and no finding.
#
# Before this page: `s2_shared` for every pair of tasks and `token_controlled` for both tasks of each, under
# `experiment=token_controlled`. After it: `docs/transfer.md` and `overview`. "Run all" is safe anywhere: the defaults
# are a smoke run on synthetic notes, about a minute on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"
task = "semeval2014t7,semeval2015t14,semeval2016t12,semeval2017t3,semeval2021t6"
strategy = "s2_shared"
profile = "smoke"
seed = 42
overrides = ["experiment=transfer_matrix", "training.max_steps=20", "profile.max_train_samples=40"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# The matrix comes from finished runs; the run of this page is a short training on all tasks that measures what may
# predict it.

# %%
from kaggle_kit.analysis.transfer import transfer_matrix, transfer_settings

asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
exp = Experiment.open("03_transfer_heatmap", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
wanted, settings = transfer_settings(exp.config), exp.config.experiment
show.setup(exp)

# %% [markdown]
# ## 2 The matrix, as far as its runs are there
#
# Row i, column j: the score of i trained with j, minus the score of i alone at the same total tokens, over the seeds
# that have both. What is missing stays missing. A two-task run is followed by its two controls.

# %%
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.runtime import in_workspace

wanted["data"] = {name: corpus.sha256 for name, corpus in exp.corpora.items()}
matrix = transfer_matrix(find_runs(in_workspace(runs_dir)), **wanted)
show.transfer(matrix, toy=not exp.config.profile.paper)

# %% [markdown]
# ## 3 How alike the corpora are
#
# One sample of each task, then words and labels: what they have in common is the first group of predictors. Only
# counts are kept, no word of a text is.

# %%
from kaggle_kit.experiments import transfer_similarity

transfer_similarity.write_similarity(exp.run, exp.specs, exp.samples())
show.samples(exp, per_task=1)
show.table(transfer_similarity.corpus_table(exp.specs, exp.samples()), "Training splits", {"words": "{:,}"})

# %% [markdown]
# ## 4 One look ahead by hand
#
# Take one gradient step on the first task, on the shared adapter alone. Measure every loss again. Take the step back.
# An affinity above zero says that the step lowered that task's loss.

# %%
import pandas as pd
import torch

from kaggle_kit.training.affinity import lookahead
from kaggle_kit.training.gradients import shared_parameters, task_loss

watch = transfer_similarity.watch_affinity(exp.config, exp.encoded)
device, shared = exp.model.backbone.device, shared_parameters(exp.model)
batches = {name: probe[0].to(device).micro_batches for name, probe in watch.probes.items()}
exp.model.eval()  # dropout would add noise of its own
first, step_size = next(iter(batches)), settings["affinity"]["step_size"]
start = [parameter.detach().clone() for parameter in shared]
found = torch.autograd.grad(task_loss(exp.model, batches[first]), shared, materialize_grads=True)
with torch.no_grad():
    before = [task_loss(exp.model, batches[name]).item() for name in batches]
    for parameter, gradient in zip(shared, found, strict=True):
        parameter.sub_(step_size * gradient)
    after = [task_loss(exp.model, batches[name]).item() for name in batches]
    for parameter, value in zip(shared, start, strict=True):
        parameter.copy_(value)
look = pd.DataFrame({"loss of": [*batches], "before": before, "after": after})
look["affinity"] = 1 - look["after"] / look["before"]
formats = {"before": "{:.5f}", "after": "{:.5f}", "affinity": "{:+.2e}", "mean of training": "{:+.2e}"}
show.table(look, f"A step on {first}, before any training", formats)

# %% [markdown]
# ## 5 Training that looks ahead
#
# The same for every task, every few steps of a short training on all of them. On every second step each task's batch
# is halved as well, and conflicts between halves of two tasks are counted beside those between halves of one: noisy
# gradients conflict half of the time.

# %%
from kaggle_kit.experiment.training_session import Phase

at_start = lookahead(lambda name: task_loss(exp.model, batches[name]), batches, shared, step_size)
restored = all(torch.equal(parameter, value) for parameter, value in zip(shared, start, strict=True))
exp.phases = [Phase(exp.plan, watches=[watch])]
exp.train()
transfer_similarity.write_affinity(exp.run, watch)
show.training(exp)

# %% [markdown]
# ## 6 What was measured
#
# Entry [i, j] of every predictor is about what j may do to i, laid out as the matrix above. Blank: not measured, as a
# question alone in its batch cannot be halved.

# %%
from kaggle_kit.analysis.predictors import predictors
from kaggle_kit.analysis.transfer_figures import predictor_heatmaps

measured = predictors(exp.run, wanted["tasks"], settings["predictors"])
show.figure(predictor_heatmaps(measured, wanted["tasks"]))
look["mean of training"] = [watch.affinity[first][name] for name in batches]
show.table(look, f"A step on {first}: the first look, and the mean of {watch.points} in training", formats)

# %% [markdown]
# ## 7 What predicts the matrix
#
# Mantel's test relabels the tasks: exact, two-sided, given the log size ratio, adjusted over the declared predictors.
# The second table says what five tasks could have shown: the share of true correlations that such a test finds.

# %%
from kaggle_kit.analysis import qap

result = qap.exploratory(matrix.relative, measured, alpha=settings["alpha"], seed=seed)
show.predictions(result)

# %% [markdown]
# ## 8 Record
#
# `transfer.json` holds the matrix and the tests, `similarity.json` and `affinity.json` what they rest on. The manifest
# is written last: without it the folder counts as unfinished.

# %%
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.experiment.manifest import record_run

if exp.finished:
    answer = to_json(matrix.record() | {"prediction": result}, indent=2)
    write_atomically(exp.run.path / "transfer.json", answer)
    record_run(exp, exp.session.trainers)
show.record(exp)

# %% [markdown]
# ## Checks
#
# The look ahead by hand is the one that training measures, and it left no trace; predictors are what they claim.

# %%
import numpy as np

assert np.allclose(look["affinity"], list(at_start[first].values()), rtol=1e-2, atol=1e-6), "by hand"
assert restored and before[0] > after[0], "a step lowers its own loss, and was taken back"
assert np.allclose(measured["log_size_ratio"], -measured["log_size_ratio"].T, equal_nan=True), "a log"
assert not exp.finished or exp.session.tokens == exp.plan.tokens, "the tokens that were planned"
assert not exp.finished or watch.points == len(exp.plan) // settings["affinity"]["every"], "every look"

# %% [markdown]
# ## How to read it
#
# A red cell is negative transfer of that partner at equal tokens, on the official metric. Whether one cell stands out
# of the noise is the judge's to say, over seeds. Cells of tasks with different metrics are compared only relative to
# the score alone. "Exploratory" means: a reason for another experiment, not a finding. A matrix of `smoke` or
# `practice` runs is no result and can enter no table of the paper.
