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
# **Question.** What does the better of S3a and S3b lose when its base is quantised to NF4? Training on
# the quantised base (QLoRA) is what lets 7B models fit a T4.
#
# "Run all" is safe anywhere: the defaults are a smoke run on synthetic practice notes, a matter of
# minutes on two CPU cores. Its scores show that the machinery works and nothing else.

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
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "s5_qlora"
profile = "smoke"
seed = 42
overrides = ["training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# Names become one checked configuration; an unknown key stops the page here. Which of S3a and S3b is
# quantised follows from what their finished runs score on dev, and stays when a paused run goes on. The
# run folder counts as a result only once its manifest is written, in the last cell. The table tells what
# this machine offers and what will be done.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import model_selection
from kaggle_kit.experiment.startup import check_startup

tasks = task.split(",")
asked = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
config, because = model_selection.better_candidate(asked, runs_dir, run_dir)
run = start_run(config, page="s5_qlora", runs_dir=runs_dir, run_dir=run_dir, asked=asked)
print(f"{because}\n{config.profile.title}\nrun folder {run.path.name}, configuration {config_hash(config)}")
print(check_startup(config, run))

# %% [markdown]
# ## Data
#
# Official files in, samples out. What the readers found odd is counted, not hidden.

# %%
from kaggle_kit.experiment import preparation

corpora = preparation.open_corpora(config)
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
# The plan lists every optimiser step before the first one is taken, so the tokens that this run will
# see are known now, for each task.

# %%
import torch

torch.manual_seed(config.seed)
loaded = preparation.open_backbone(config)
encoded = preparation.encode_split(config, train, specs, loaded)
plan = preparation.plan_training(config, encoded)
for what, decision in loaded.decisions.items():
    print(f"{what}: {decision.value} — {decision.reason}")
print(f"{len(plan)} steps, tokens per task {plan.tokens}")

# %% [markdown]
# ## Model
#
# A shared adapter sees every task, a private one only its own; a fusion layer weighs their outputs. Only
# groups that several tasks touch are projected.

# %%
from kaggle_kit.models.build import build_model

network = build_model(loaded, specs.values(), config.strategy)
for group, members in network.parameter_groups().items():
    print(f"{group:32} {sum(p.numel() for p in members.parameters):>12,}  {', '.join(members.tasks)}")

# %% [markdown]
# ## Training
#
# Each task's shared gradient is set aside after its micro-batches; one projection and one combination
# end the step. Now and then every task's batch is halved, to see how often noise alone makes gradients
# conflict.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the
# smoke gate, and trains. Where the session ends first, a checkpoint is left, the run is marked as paused
# and the page ends normally.

# %%
from kaggle_kit.experiment import training_session

quick_dev = preparation.quick_samples(config, dev)
encoded_quick = preparation.encode_split(config, quick_dev, specs, loaded)
quick = model_selection.quick_evaluation(config, network, loaded, encoded_quick, quick_dev)
phases = [training_session.Phase(plan, quick)]
session = training_session.run_session(config, run, network, loaded, encoded, corpora, phases)
print(session)

# %% [markdown]
# ## Evaluation
#
# Predictions are written in each task's own format and scored by the official rules. A paused run
# skips this.

# %%
from kaggle_kit.experiment import rounds

if session.finished:
    metrics = rounds.evaluate_reported(config, run, network, loaded, specs, corpora)
    run.write_metrics(metrics)
    for metric in metrics:
        star = " ←" if metric.name == config.tasks[metric.task].primary_metric else ""
        print(f"{metric.task} {metric.split} {metric.name:36} {metric.value:8.4f}{star}")

# %% [markdown]
# ## Figures

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import loss_curves, png

display(Image(png(loss_curves([run])), width=700))

# %% [markdown]
# ## Record
#
# The manifest is written last; without it the folder counts as unfinished. A paused run goes on when
# this page is run again on its folder.

# %%
from kaggle_kit.models.adapter_files import save_adapters

if session.finished:
    save_adapters(network, run.adapters)
    rounds.record(config, run, network, loaded, session.trainers, corpora)
print(f"finished: {run.path.name}" if session.finished else session.end.message)

# %% [markdown]
# ## Conflicts
#
# How often two gradients point against each other. Halves of two tasks' batches are compared with halves of
# one task's batch, which are as noisy: only the excess over those says that tasks conflict. Components of one
# task (mentions and relations) are measured too; nothing is projected between them.

# %%
from kaggle_kit.analysis.conflict_table import conflict_table

if session.finished:
    print(conflict_table(run).to_string(index=False))

# %% [markdown]
# ## Against the model that is not quantised
#
# All finished runs of S5, minus those of the strategy that they chose. The difference is that of means over
# seeds, with its interval, a Welch test adjusted by Holm over all declared differences, and the smallest
# difference that so many seeds can find. One seed gives no inference. Runs that differ in anything else are
# refused, and so are seeds that never finished in one arm.

# %%
from kaggle_kit.analysis.contrasts import contrast_table, in_words, shown
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace

documents = shown("s5", find_runs(in_workspace(runs_dir)))
print(*in_words(documents), sep="\n")
contrast_table(documents)

# %% [markdown]
# ## How to read the result
#
# The arrow marks each task's primary metric, computed by the official scorer's rules on the development
# split. A run marked `smoke` or `practice` is no result and can enter no table of the paper. A gain over S1
# counts only against S1 trained to the same total tokens, and conflicts count only as excess over those
# within one task.
