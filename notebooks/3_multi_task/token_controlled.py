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
# # Token-controlled: one task, as many tokens and steps as the multi-task run had
#
# **Question.** Would one task alone have done as well, given the tokens that its multi-task run saw?
# `experiment.twin` names that finished run. The control takes seed, model, schedule and rule of selection
# from its folder and has as many active parameters.
#
# | control | trains on | tokens | optimiser steps |
# |---|---|---|---|
# | `experiment.control=total` | the one task, again and again | all that the run saw | the run's |
# | `experiment.control=share` | the one task | what the run saw of this task | scaled alike |
# | `experiment.placebo=true` | all tasks, the others' labels permuted | the run's, step by step | the run's |
#
# A gain that the placebo also gives is regularisation: the partners taught nothing about any text.
#
# "Run all" is safe anywhere: the defaults are a smoke run on synthetic practice notes, a matter of
# minutes on two CPU cores. With no `experiment.twin` named, its multi-task run is made first. The scores
# show that the machinery works and nothing else.

# %%
import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("kaggle_kit") is None:  # not installed: look above this page, then on Kaggle
    page = Path(globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or ".").resolve()
    near = (folder for start in (Path.cwd(), page) for folder in (start, *start.parents))
    mounted = (file.parents[1] for file in Path("/kaggle/input").glob("**/kaggle_kit/__init__.py"))
    root = next((r for r in near if (r / "kaggle_kit/__init__.py").is_file()), None) or next(mounted, None)
    if root is None:
        raise ModuleNotFoundError("no kaggle_kit: run `make setup` in a checkout, or add it as Kaggle input")
    sys.path.insert(0, str(root))

from kaggle_kit.core.allocator import set_allocator

set_allocator()  # of CUDA memory; it counts only before torch is imported

# %% tags=["parameters"]
model = "tiny"
task = "semeval2014t7"
strategy = "s1_single"
profile = "smoke"
seed = 42
overrides = ["experiment=token_controlled"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# What was asked for is checked against the multi-task run, and a difference stops the page here: a control of
# another seed, model or setting is none. Parity of the active parameters is asserted before anything
# trains. The run folder counts as a result only once its manifest is written, in the last cell.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import controlled_variables
from kaggle_kit.experiment.startup import check_startup
from kaggle_kit.experiments import token_controlled

tasks = task.split(",")
asked = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
multi = token_controlled.multi_task_run(asked, runs_dir)
config, parity = token_controlled.control_of(multi, asked)
run = start_run(config, page="token_controlled", runs_dir=runs_dir, run_dir=run_dir, asked=asked)
scored = controlled_variables.scored(config)
print(f"{controlled_variables.control_kind(config)} control of {multi.run_id}\n{parity}")
print(f"{config.profile.title}\nrun folder {run.path.name}, configuration {config_hash(config)}")
print(check_startup(config, run))

# %% [markdown]
# ## Data
#
# Official files in, samples out. What the readers found odd is counted, not hidden. The corpus must be, to
# the byte, the one that the multi-task run was trained on, without the documents that it left out.

# %%
from kaggle_kit.experiment import preparation

corpora = token_controlled.open_corpora(multi, config)
specs = preparation.task_specs(config, corpora)
train = preparation.split_samples(config, corpora, "train")
dev = preparation.split_samples(config, corpora, "dev")
for name, corpus in corpora.items():
    kind = "PRACTICE, synthetic" if corpus.practice else corpus.access.value
    counts = f"{len(train[name])} train and {len(dev[name])} dev samples"
    print(f"{name}: {counts} ({kind}), {len(corpus.warnings)} oddities")

# %% [markdown]
# ## Backbone and plan
#
# The plan lists every optimiser step before the first one is taken. Tokens and steps are the multi-task
# run's, asserted here: each step follows that run's step, and the last sequence is cut to the token.

# %%
import torch

from kaggle_kit.experiments import token_controlled_plan

torch.manual_seed(config.seed)
loaded = preparation.open_backbone(config)
encoded = token_controlled_plan.labelled(config, preparation.encode_split(config, train, specs, loaded))
plan = token_controlled_plan.plan_control(multi, config, encoded)
for what, decision in loaded.decisions.items():
    print(f"{what}: {decision.value} — {decision.reason}")
print(f"{len(plan)} steps, tokens per task {plan.tokens}")

# %% [markdown]
# ## Model
#
# The base stays frozen; adapters and one head per component learn. The built model is counted too.

# %%
from kaggle_kit.models.build import build_model

network = build_model(loaded, specs.values(), config.strategy)
token_controlled.assert_active_parameters(multi, network)
for group, members in network.parameter_groups().items():
    print(f"{group:32} {sum(p.numel() for p in members.parameters):>12,}  {', '.join(members.tasks)}")

# %% [markdown]
# ## Training
#
# The last step is scored in both arms. Quick evaluations and the development curve, at every tenth of the
# tokens, are shown; they neither stop nor choose.
#
# One call resumes the run or starts it, lets it pass the smoke gate, and trains. Where the session ends
# first, a checkpoint is left, the run is marked as paused and the page ends normally.

# %%
from kaggle_kit.experiment import model_selection, training_session

quick_dev = preparation.quick_samples(scored, dev)
encoded_quick = preparation.encode_split(scored, quick_dev, specs, loaded)
quick = model_selection.quick_evaluation(scored, network, loaded, encoded_quick, quick_dev)
phases = [training_session.Phase(plan, quick)]
session = training_session.run_session(config, run, network, loaded, encoded, corpora, phases)
print(session)

# %% [markdown]
# ## Evaluation
#
# Predictions are written in each task's own format and scored by the official rules: with the weights of
# the last step, and for the total control also with those of its best development point, below
# `best_development/`, in case it was trained too long. A paused run skips this.

# %%
from kaggle_kit.experiment import optimisation, rounds

if session.finished:
    metrics = rounds.evaluate_reported(scored, run, network, loaded, specs, corpora)
    run.write_metrics(metrics)
    for metric in metrics:
        star = " ←" if metric.name == config.tasks[metric.task].primary_metric else ""
        print(f"{metric.task} {metric.split} {metric.name:36} {metric.value:8.4f}{star}")
    print(token_controlled.side_by_side(multi, metrics))
    for curve in optimisation.curves(session.trainers):
        if curve.keeps_best:
            with curve.at_best():
                best = rounds.evaluate_reported(scored, run.best_development, network, loaded, specs, corpora)
            run.best_development.write_metrics(best)
            print(f"at its best development point:\n{token_controlled.side_by_side(multi, best)}")

# %% [markdown]
# ## Figures

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import loss_curves, png

display(Image(png(loss_curves([multi, run])), width=700))

# %% [markdown]
# ## Record
#
# The manifest is written last; without it the folder counts as unfinished. A paused run goes on when
# this page is run again on its folder. The table tells how far both arms were optimised.

# %%
from kaggle_kit.models.adapter_files import save_adapters

if session.finished:
    save_adapters(network, run.adapters)
    rounds.record(config, run, network, loaded, session.trainers, corpora)
    print(optimisation.side_by_side([multi, run]))
print(f"finished: {run.path.name}" if session.finished else session.end.message)

# %% [markdown]
# ## How to read the result
#
# A positive difference says that this seed's multi-task run did better than the same number of tokens of
# one task, in as many steps. Look at the table above before believing it: a control that went over its data
# fifty times, or whose curve falls at the end, lost by overtraining, and then the difference at its best
# development point is the one to read. One pair is no verdict: a claim needs several seeds, the share control
# and the placebo, and the judge reads them all. Equal to the
# control is not shown by a small difference either, only by an equivalence test at the margin that
# `experiment.margin` fixed before the runs. A run marked `smoke` or `practice` is no result.
