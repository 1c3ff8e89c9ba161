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
# # Encoder baselines: what the field has used before
#
# **Question.** What does a BERT of 110M parameters score on each task, trained as a whole as the field does it, or by
# LoRA? Is it within two points of the best published score?
#
# **Hypothesis.** With the same readers, heads and scorers as every model of the study, an encoder comes within two
# points of what was published. Then a gap of a larger model to the published score is the model's own, and not the
# suite's.
#
# ```text
#   training.full_finetuning=true      words ─▶ [ layers, all weights learn ] ─▶ head of the task
#   experiment=encoder_baselines_lora  words ─▶ [ layers frozen + B·A learns ] ─▶ head of the task
#
#   memory per parameter that learns: 4 bytes weight + 4 gradient + 8 AdamW
# ```
#
# **What would refute it.** A score on the official test split that lies more than two points below the published one,
# for every encoder and both ways of training.
#
# Before this page: `01_data_exploration`. After it: `s1_single_task` on the models of the study. One run is one
# encoder (`bert`, `biobert`, `clinicalbert`, `modernbert`), one task, one way; the table at the end gathers all
# finished ones. "Run all" is safe anywhere: a toy stands in for the encoder, on synthetic notes, under a minute.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # bert, biobert, clinicalbert, modernbert, minilm; a folder, or a hub id
task = "semeval2014t7"  # one task; with strategy s2_shared several
strategy = "s1_single"
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["experiment=encoder_baselines", "training.learning_rate=1e-3", "training.epochs=2"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# Where the whole model learns, all of it is float32. The row `memory` says what its weights, gradients and AdamW's
# two states take before the first token.

# %%
asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
exp = Experiment.open("encoder_baselines", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
show.setup(exp)

# %% [markdown]
# ## 2 What the task looks like

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 What learns
#
# A copy of every weight that learns is kept, to see afterwards how far training has moved it.

# %%
import torch

learns = {name: weight for name, weight in exp.model.named_parameters() if weight.requires_grad}
first = {name: weight.detach().to("cpu", copy=True) for name, weight in learns.items()}
show.adapters(exp)

# %% [markdown]
# ## 4 One step by hand: how far AdamW goes at first
#
# AdamW divides a gradient by the size of its past. At the first step there is no other past than this gradient g, so
# every weight moves by rate · g / (|g| + 10⁻⁸): by the whole learning rate, however small its gradient. A weight
# without one stays, such as the embedding of a word that the step does not read. The optimiser's step is taken here
# without dropout, held against that formula, and taken back.

# %%
import pandas as pd

from kaggle_kit import component_losses
from kaggle_kit.evaluation.adapter_figures import part_of


def step_loss():
    several = [component_losses(exp.model, batches) for _, batches in exp.step(0).by_task()]
    return sum(loss for losses in several for loss in losses.values())


exp.model.eval()
rate, loss = exp.config.training.learning_rate, step_loss()
slopes = torch.autograd.grad(loss, [*learns.values()], allow_unused=True, materialize_grads=True)
for weight, slope in zip(learns.values(), slopes, strict=True):
    weight.grad = slope
torch.optim.AdamW(learns.values(), lr=rate, weight_decay=0.0).step()
gap, rows = 0.0, []
with torch.no_grad():
    loss_after = step_loss()
    for (name, weight), g in zip(learns.items(), slopes, strict=True):
        step = weight - first[name].to(g)
        gap = max(gap, (step + rate * g / (g.abs() + 1e-8)).abs().max().item())
        rows.append((part_of(name), g.numel(), g.square().sum().item(), g.ne(0).sum().item()))
        weight.copy_(first[name])
exp.model.train().zero_grad(set_to_none=True)
frame = pd.DataFrame(rows, columns=["part", "weights", "gradient", "reached"])
by_part = frame.groupby("part", as_index=False).sum()
by_part["gradient"], by_part["reached"] = by_part["gradient"] ** 0.5, by_part["reached"] / by_part["weights"]
formats = {"weights": "{:,}", "gradient": "{:.3g}", "reached": "{:.1%}"}
show.table(
    by_part, "The first step: norm of the gradient, and the share of the weights that it reaches", formats
)
words = f"Loss of these samples: {loss.item():.4f} before the step, {loss_after.item():.4f} after it."
show.sentences([words, f"No weight is off the formula by more than {gap:.1e}, at a rate of {rate:g}."])

# %% [markdown]
# ## 5 Training

# %%
show.live(exp)
exp.train()
show.training(exp)

# %% [markdown]
# ## 6 Scores

# %%
if exp.finished:
    exp.evaluate()
    show.scores(exp)

# %% [markdown]
# ## 7 What the method did: how far each layer has moved
#
# The length of the way from the pre-trained weights, beside the length of these. Fine-tuning moves a model little; the
# layers near the head usually move most, and embeddings least. The heads began at random, and so did the half of LoRA
# that did not begin at zero.

# %%
if exp.finished:
    show.weights_moved(exp, first)

# %% [markdown]
# ## 8 Where it errs

# %%
if exp.finished:
    show.errors(exp, n=3)

# %% [markdown]
# ## 9 Published best, ours, and the two-point rule
#
# All finished single-task runs of encoders in this folder, this one among them; `score` is the mean over seeds, with a
# 95 % interval over documents. `reproduced` is said of the official test split alone.

# %%
from kaggle_kit.analysis.reproduction import reproduction_in_words, reproduction_table
from kaggle_kit.core.artifacts import find_runs

if exp.finished:
    exp.finish()
show.record(exp)
found = reproduction_table(find_runs(exp.run.path.parent))
cells = dict.fromkeys(("published", "score", "low", "high"), "{:.4f}") | {"difference": "{:+.4f}"}
show.table(found, "Encoder baselines", cells)
show.sentences(reproduction_in_words(found))

# %% [markdown]
# ## 10 Checks

# %%
largest = max(start.abs().max().item() for start in first.values())
assert gap <= 4 * torch.finfo(torch.float32).eps * (largest + rate), "AdamW's first step by hand"
assert loss_after < loss, "a step down the gradient lowers the loss of its own samples"
if exp.finished:
    stayed = [name for name, weight in learns.items() if torch.equal(weight.detach().cpu(), first[name])]
    assert not stayed, f"these were to learn and have not moved: {stayed}"
    assert exp.session.tokens == exp.plan.tokens, "the run saw the tokens that were planned"
    assert strategy != "s1_single" or task in set(found["task"]), "the table holds this run"

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result, and practice corpora have no published score. Published systems used
# dictionaries, rules, ensembles or more data, so a plain encoder may stay below the rule without a fault. If every
# encoder stays far below on one task, suspect the reader or the scorer before the models. One seed is one draw: take
# three or more before a difference of a point means anything.
