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
# # Hyper-parameters: the same budget for every arm
#
# **Question.** Which learning rate, rank, batch, epochs, warm-up, sampling and loss weighting does a strategy
# want on a model? A multi-task model that was tuned longer than its single-task baseline would win for that
# alone, so the space and the number of trials are declared once (`params/experiment/hp_search.yaml`),
# for both arms, and every run that takes the result records the budget behind it. Development data
# only: the test split is refused. With `experiment.twin=RUN_ID` (and `experiment.control`) the search is for
# the token-controlled baseline of that multi-task run, and every trial has its tokens and steps.
#
# "Run all" is safe anywhere: the defaults are three short trials on synthetic practice notes, under a
# minute on two CPU cores. Their scores show that the machinery works and nothing else.

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
overrides = [
    "experiment=hp_search",
    "experiment.full_models=[tiny]",
    "experiment.trials=3",
    "experiment.random_trials=1",
    "training.max_steps=8",
    "profile.max_train_samples=40",
    "profile.max_dev_samples=10",
]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration and run folder
#
# Names become one checked configuration; an unknown key stops the page here. The run folder counts as
# a result only once its manifest is written, in the last cell.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment.startup import check_startup
from kaggle_kit.experiments import token_controlled, token_controlled_plan
from kaggle_kit.experiments.hp_search_journal import Search, search_settings

tasks = task.split(",")
asked = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
config, multi = token_controlled.searched(asked, runs_dir)
settings = search_settings(config)
run = start_run(config, page="hp_search", runs_dir=runs_dir, run_dir=run_dir, asked=asked)
print(f"{config.profile.title}\nrun folder {run.path.name}, configuration {config_hash(config)}")
print(check_startup(config, run))

# %% [markdown]
# ## Space and budget
#
# A model outside `experiment.full_models` gets the reduced configurations instead of the full space.

# %%
kind = f"{len(settings.reduced)} reduced configurations" if settings.reduced else "the full space"
print(f"{settings.trials} trials of {kind} for {config.model.name} under {config.strategy.name}, on dev")
for key, allowed in settings.space.items():
    print(f"{key:32} {allowed}")

# %% [markdown]
# ## Data

# %%
from kaggle_kit.experiment import preparation

corpora = token_controlled.open_corpora(multi, config) if multi else preparation.open_corpora(config)
for name, corpus in corpora.items():
    kind = "PRACTICE, synthetic" if corpus.practice else corpus.access.value
    print(f"{name}: {len(corpus.splits['train'])} train and {len(corpus.splits['dev'])} dev samples ({kind})")

# %% [markdown]
# ## Search
#
# Before the first trial the configuration as it stands has to halve its loss in 50 steps. A trial that lies
# behind the median of the earlier ones is stopped early; it has used up its place in the budget all
# the same. Everything tried stands in `study.journal`, so an interrupted search goes on where it was, with
# the checkpoint of the trial that it was in. Where the session ends first, the run is marked as paused and
# the page ends normally.

# %%
from kaggle_kit.experiments import hp_search

search = Search(settings, run.path, config.seed)
targets = token_controlled_plan.step_targets(multi, config) if multi else None
print(hp_search.run_search(config, run, corpora, search, targets))

# %% [markdown]
# ## Figures
#
# The figure that chooses: the mean of the tasks' primary scores on development data, each over its best
# published one. It chooses and is no result.

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import png
from kaggle_kit.analysis.trials import trial_curves, trials_table

display(Image(png(trial_curves(run)), width=700))
trials_table(run)

# %% [markdown]
# ## Record
#
# `trials.jsonl` holds every trial, `best.yaml` the overrides of the best one. The manifest is written
# last; without it the folder counts as unfinished.

# %%
if search.finished:
    words = hp_search.finish_search(run, corpora, search)
    print(f"finished: {run.path.name}\nevery run of this arm takes:\n" + "\n".join(words))

# %% [markdown]
# ## How to read the result
#
# The list above is what a run of this arm takes as its overrides, on the command line by
# `$(sed 's/^- //' runs/<this folder>/best.yaml)`. Its last words tell the run's manifest how many
# trials stood behind its configuration, on which split and in which search, and have the run scored on
# the test split, which chose nothing; a comparison between arms with different budgets is refused. A
# search on practice data chooses nothing for the study.
