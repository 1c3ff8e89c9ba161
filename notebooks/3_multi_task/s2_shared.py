# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # S2: all tasks, one shared LoRA adapter
#
# **Question.** Does one adapter that all tasks share do better than one adapter each (S1)? If it does, the
# gain may be transfer or merely more data; the token-controlled twins of S1 tell the two apart.
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
strategy = "s2_shared"
profile = "smoke"
seed = 42
overrides = ["training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# Names become one checked configuration; an unknown key stops the page here. The run folder counts as
# a result only once its manifest is written, in the last cell. The table tells what
# this machine offers and what will be done.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment.startup import check_startup

tasks = task.split(",")
config = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
run = start_run(config, page="s2_shared", runs_dir=runs_dir, run_dir=run_dir)
print(f"{config.profile.title}\nrun folder {run.path.name}, configuration {config_hash(config)}")
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
# The base stays frozen; one adapter learns from all tasks, and each component has its own head.

# %%
from kaggle_kit.models.build import build_model

network = build_model(loaded, specs.values(), config.strategy)
for group, members in network.parameter_groups().items():
    print(f"{group:32} {sum(p.numel() for p in members.parameters):>12,}  {', '.join(members.tasks)}")

# %% [markdown]
# ## Training
#
# In every step each task goes forward and backward over its own micro-batches before the next one does.
# The best of the quick evaluations is kept.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the
# smoke gate, and trains. Where the session ends first, a checkpoint is left, the run is marked as paused
# and the page ends normally.

# %%
from kaggle_kit.experiment import model_selection, training_session

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
# ## How to read the result
#
# The arrow marks each task's primary metric, computed by the official scorer's rules on the development
# split. A run marked `smoke` or `practice` is no result and can enter no table of the paper. A real
# one stands for one seed: a gain over S1 counts only against S1 trained to
# the same total tokens.
