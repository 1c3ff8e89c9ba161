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
# # Transfer between pairs of tasks, and what predicts it
#
# **Question.** Which task helps which, and which harms it, at equal tokens; and could one have known from
# how alike they are (RQ4)? The matrix is read from finished two-task runs and their token-controlled
# twins; what is missing stays missing, and the page says which command makes it. What might predict it
# is measured here: the corpora beside each other, and a short training on all tasks that looks ahead
# (what does a step on one task do to the loss of another?) and counts conflicts between gradients.
#
# "Run all" is safe anywhere: the defaults are a smoke run on synthetic practice notes, about a minute on
# two CPU cores. Its figures show that the machinery works and nothing else.

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
task = "semeval2014t7,semeval2015t14,semeval2016t12,semeval2017t3,semeval2021t6"
strategy = "s2_shared"
profile = "smoke"
seed = 42
overrides = ["experiment=transfer_matrix", "training.max_steps=20", "profile.max_train_samples=40"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# Names become one checked configuration; an unknown key stops the page here. The run folder counts as
# a result only once its manifest is written, in the last cell.

# %%
from kaggle_kit.analysis.transfer import declared, transfer_matrix
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment.startup import check_startup

tasks = task.split(",")
config = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
asked = declared(config)
tasks = asked["tasks"]
run = start_run(config, page="transfer_matrix", runs_dir=runs_dir, run_dir=run_dir)
print(f"{config.profile.title}\nrun folder {run.path.name}, configuration {config_hash(config)}")
print(check_startup(config, run))

# %% [markdown]
# ## Data, and how alike the corpora are
#
# Labels in common, words in common (Jaccard of the vocabularies, Jensen–Shannon divergence of the word
# frequencies in bits), and the log of the size ratio, the known confounder. Only these figures are kept.

# %%
from kaggle_kit.experiment import preparation
from kaggle_kit.experiments import transfer_similarity

corpora = preparation.open_corpora(config)
specs = preparation.task_specs(config, corpora)
train = preparation.split_samples(config, corpora, "train")
transfer_similarity.write_similarity(run, specs, train)
for name, corpus in corpora.items():
    kind = "PRACTICE, synthetic" if corpus.practice else corpus.access.value
    print(f"{name}: {len(train[name])} train samples ({kind})")

# %% [markdown]
# ## Model and plan

# %%
import torch

from kaggle_kit.models.build import build_model

torch.manual_seed(config.seed)
loaded = preparation.open_backbone(config)
encoded = preparation.encode_split(config, train, specs, loaded)
plan = preparation.plan_training(config, encoded)
network = build_model(loaded, specs.values(), config.strategy)
print(f"{len(plan)} steps, tokens per task {plan.tokens}")

# %% [markdown]
# ## Training that looks ahead
#
# Every few steps each task takes one step on the shared adapter alone, all losses are measured again, and
# the step is taken back. On every second step each task's batch is halved, and conflicts between halves of
# two tasks are counted beside those between halves of one: noisy gradients conflict half of the time.

# %%
from kaggle_kit.experiment import training_session

watch = transfer_similarity.watch_affinity(config, encoded)
phases = [training_session.Phase(plan, watches=[watch])]
session = training_session.run_session(config, run, network, loaded, encoded, corpora, phases)
transfer_similarity.write_affinity(run, watch)
print(session)

# %% [markdown]
# ## The matrix
#
# Row i, column j: the score of i trained with j, minus the score of i alone at the same total tokens, over
# the seeds that have both. A two-task run that is made is followed by the commands of its two twins.

# %%
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace

data = {name: corpus.sha256 for name, corpus in corpora.items()}
found = transfer_matrix(find_runs(in_workspace(runs_dir)), data=data, **asked)
print(f"{len(found.cells)} cells known, {len(found.missing)} missing; {len(found.needed)} runs to make next:")
for words in found.needed[:4]:
    print("python -m kaggle_kit", *words)

# %% [markdown]
# ## What predicts it
#
# Entry [i, j] of every predictor is about what j may do to i. Mantel's test relabels the tasks: exact,
# two-sided, given the log size ratio, and adjusted over the declared predictors (Holm). With five tasks no p
# is below 1/120, so this is exploratory whatever it says; the power tells what it could have seen.

# %%
from kaggle_kit.analysis import qap
from kaggle_kit.analysis.predictors import predictors

measured = predictors(run, tasks, config.experiment["predictors"])
result = qap.exploratory(found.relative, measured, alpha=config.experiment["alpha"], seed=config.seed)
print(qap.told(result))

# %% [markdown]
# ## Figures

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import png
from kaggle_kit.analysis.transfer_figures import predictor_heatmaps, transfer_heatmap

for figure in (transfer_heatmap(found, toy=not config.profile.paper), predictor_heatmaps(measured, tasks)):
    display(Image(png(figure), width=700))

# %% [markdown]
# ## Record
#
# `transfer.json` holds the matrix and the tests, `similarity.json` and `affinity.json` what they rest on. The
# manifest is written last; without it the folder counts as unfinished.

# %%
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.experiment import rounds

if session.finished:
    write_atomically(run.path / "transfer.json", to_json({**found.record(), "prediction": result}, indent=2))
    rounds.record(config, run, network, loaded, session.trainers, corpora)
print(f"finished: {run.path.name}" if session.finished else session.end.message)

# %% [markdown]
# ## How to read the result
#
# A red cell is negative transfer of that partner at equal tokens, on the official metric; whether one cell
# stands out of the noise is the judge's to say, over seeds. Cells of tasks with different metrics are
# compared only relative to the score alone. "Exploratory" means: a reason for another experiment, not a
# finding. A matrix of `smoke` or `practice` runs is no result and can enter no table of the paper.
