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
# # Ablations: one factor at equal parameters
#
# **Question.** Is it the architecture that helps, or the parameters that come with it? One shared adapter
# (A1), one private adapter per task (A2), both added up (A3) and both fused by attention (A4) train equally
# many parameters for every task, within 5 %, fusion and heads included. The other experiments named
# `ablation_…` change one key of S3a or S3b and nothing else: PCGrad, the fusion, what level 2 reads of level
# 1, whether its losses reach level 1. Each run of this page trains one level of one factor. All levels
# train the same tasks by the same step plan, so their tokens and their steps are equal.
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
strategy = "a4"
profile = "smoke"
seed = 42
overrides = ["experiment=ablation_architecture", "training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# Names become one checked configuration; an unknown key, a level or strategy that the experiment does not
# declare, and whatever would give a level other tokens stop the page here. The run folder counts as a result
# only once its manifest is written, in the last cell. The table tells what this machine offers and what will
# be done.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment.startup import check_startup
from kaggle_kit.experiments import ablation

tasks = task.split(",")
config = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
levels = ablation.levels(config)
print(f"{config.experiment['factor']} = {config.experiment['level']}, out of {', '.join(levels)}")
run = start_run(config, page="ablation_architecture", runs_dir=runs_dir, run_dir=run_dir)
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
# see are known now, for each task. The digest of the steps is the same for every level of the factor and
# stands in the manifest as `steps_sha256`.

# %%
import torch

torch.manual_seed(config.seed)
loaded = preparation.open_backbone(config)
encoded = preparation.encode_split(config, train, specs, loaded)
plan = preparation.plan_training(config, encoded)
for what, decision in loaded.decisions.items():
    print(f"{what}: {decision.value} — {decision.reason}")
print(f"{len(plan)} steps {plan.steps_sha256[:12]}, tokens per task {plan.tokens}")

# %% [markdown]
# ## Model
#
# Parity is asserted before anything trains, for each task by itself: the adapters, fusion and heads that
# its tokens pass through. Ranks are as declared; `experiment.target=26000000` solves them for that many.

# %%
from kaggle_kit.models.build import build_model

matched, table = ablation.matched_strategy(config, loaded, specs)
print(table)
network = build_model(loaded, specs.values(), matched)

# %% [markdown]
# ## Training
#
# A1 to A4 take the plain sum of the tasks' gradients. With PCGrad each task's shared gradient is set aside
# after its micro-batches, and one projection and one combination end the step. Now and then every task's
# batch is halved, to see how often noise alone makes gradients conflict.
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
# ## The levels against each other
#
# All finished runs of this experiment: each level minus the reference, which is A4 for the architectures
# and the first level of any other factor. The difference is that of means over seeds, with its interval, a
# Welch test adjusted by Holm over all declared differences, and the smallest difference that so many seeds
# can find. One seed gives no inference. Runs that differ in anything else are refused, and so are seeds
# that never finished in one arm.

# %%
from kaggle_kit.analysis.contrasts import contrast_table, in_words, shown
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace

documents = shown("ablation", find_runs(in_workspace(runs_dir)))
print(*in_words(documents), sep="\n")
contrast_table(documents)

# %% [markdown]
# ## How to read the result
#
# The arrow marks each task's primary metric, computed by the official scorer's rules on the reported
# split. A run marked `smoke` or `practice` is no result and can enter no table of the paper. "No difference
# shown" is no proof of equality: the smallest difference that could be found says what may lie unseen.
