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
# # MIMIC exclusion: what the shared adapter owes to clinical notes
#
# **Question.** Does a shared adapter that never saw a MIMIC note serve the tasks on MIMIC notes as well as
# one that saw them? Each run of this page trains one arm of S3a or S3b, in two phases. First the strategy
# learns as it always does: in arm `full` on all five tasks, in `excluded` on the two public ones alone, in
# `leave_target_out` on all but the task `experiment.target`, to as many tokens in each. Then what is private
# starts afresh and learns the MIMIC tasks on the frozen shared adapter, by the same steps in each.
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
task = "semeval2014t7,semeval2015t14,semeval2016t12,semeval2021t6,semeval2017t3"
strategy = "s3a_flat"
profile = "smoke"
seed = 42
overrides = ["experiment=mimic_exclusion", "training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# Names become one checked configuration; an unknown key, arm or strategy stops the page here. The run folder
# counts as a result only once its manifest is written, in the last cell. The table tells what this machine
# offers and what will be done.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment.startup import check_startup
from kaggle_kit.experiments import mimic_exclusion

tasks = task.split(",")
config = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
mimic_exclusion.check(config)
evaluated = mimic_exclusion.evaluated(config)
run = start_run(config, page="mimic_exclusion", runs_dir=runs_dir, run_dir=run_dir)
print(f"arm {config.experiment['arm']}, first trained on {', '.join(mimic_exclusion.first_tasks(config))}")
print(f"evaluated: {', '.join(evaluated.tasks)}")
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
# The plans list every optimiser step before the first one is taken. The first phase has as many
# tokens and steps in every arm, both exactly, and the second phase is the same in every step.

# %%
import torch

torch.manual_seed(config.seed)
loaded = preparation.open_backbone(config)
encoded = preparation.encode_split(config, train, specs, loaded)
plans = mimic_exclusion.plan_phases(config, encoded)
for what, decision in loaded.decisions.items():
    print(f"{what}: {decision.value} — {decision.reason}")
for phase, plan in zip(("shared", "own"), plans, strict=True):
    tokens = sum(plan.tokens.values())
    print(f"{phase}: {len(plan)} steps {plan.steps_sha256[:12]}, {tokens:,} tokens {plan.tokens}")

# %% [markdown]
# ## Model
#
# The strategy's own adapters, of the same ranks in every arm: S3a's shared one and a private one per task,
# or S3b's shared one and one per level.

# %%
from kaggle_kit.models.build import build_model

network = build_model(loaded, specs.values(), config.strategy)
for group, members in network.parameter_groups().items():
    print(f"{group:32} {sum(p.numel() for p in members.parameters):>12,}  {', '.join(members.tasks)}")

# %% [markdown]
# ## Training
#
# First everything learns that the tasks of the arm reach. Then the MIMIC tasks' private adapters, fusions and
# heads (of S3b: the level adapters that these tasks reach, and the heads) are set back to their initial
# values and learn alone. An adapter that neither phase would train stops the page before the first step.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the
# smoke gate, and trains. Where the session ends first, a checkpoint is left, the run is marked as paused
# and the page ends normally.

# %%
from kaggle_kit.experiment import model_selection, training_session

quick_dev = preparation.quick_samples(evaluated, {name: dev[name] for name in evaluated.tasks})
encoded_quick = preparation.encode_split(evaluated, quick_dev, specs, loaded)
quick = model_selection.quick_evaluation(evaluated, network, loaded, encoded_quick, quick_dev)
phases = mimic_exclusion.phases(config, network, plans, quick)
session = training_session.run_session(config, run, network, loaded, encoded, corpora, phases)
print(session)

# %% [markdown]
# ## Evaluation
#
# Predictions for the MIMIC tasks (or the one that was left out) are written in each task's own format and
# scored by the official rules. A paused run skips this.

# %%
from kaggle_kit.experiment import rounds

if session.finished:
    metrics = rounds.evaluate_reported(evaluated, run, network, loaded, specs, corpora)
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
# ## Against the other arms
#
# All finished runs of this experiment: `full` minus each other arm, and what lies between those, on the
# MIMIC tasks. The difference is that of means over seeds, with its interval, a Welch test adjusted by Holm
# over all declared differences, and the smallest difference that so many seeds can find. One seed gives no
# inference. Runs that differ in anything else are refused, and so are seeds that never finished in one arm.

# %%
from kaggle_kit.analysis.contrasts import contrast_table, in_words, shown
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace

documents = shown("mimic_exclusion", find_runs(in_workspace(runs_dir)))
print(*in_words(documents), sep="\n")
contrast_table(documents)

# %% [markdown]
# ## How to read the result
#
# The arrow marks each task's primary metric, computed by the official scorer's rules on the reported
# split. A run marked `smoke` or `practice` is no result and can enter no table of the paper. Where `full` is
# better than `excluded`, the shared adapter had learnt something that the private adapters did not learn by
# themselves. The evaluated task's own data was part of what `full` read first: `full` minus
# `leave_target_out` is what that alone gives. The differences say nothing about how much a task gains from
# the others, which is the token-controlled page's question.
