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
# # Out of distribution: shared adapters on a corpus that nobody trained on
#
# **Question.** Do adapters that learnt several tasks lose less on a corpus of the same kind, but of other
# documents and words, than single-task adapters with as many parameters (RQ2)?
#
# This page loads finished runs and trains none of its own. "Run all" is safe anywhere: at its defaults
# it takes the newest token-controlled pair of the practice task below `runs/`, and only where there is
# none does it first train one, in minutes on two CPU cores.

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
overrides = ["experiment=ood", "training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## Configuration, runs and run folder
#
# `experiment.runs` names the finished runs, multi-task and single-task ones of the same seeds. They must
# agree in all but the tasks that their tokens come from: in settings, data, device, tokens, steps and, within
# 5 %, in the active parameters of the task. The first field that differs stops the page. The run folder
# counts as a result only once its manifest is written.

# %%
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiments import ood
from kaggle_kit.experiments.transfer_runs import comparable_arms

tasks = task.split(",")
config = compose(model=model, task=tasks, strategy=strategy, profile=profile, overrides=overrides, seed=seed)
ood.check(config)
folders = comparable_arms(config, runs_dir)
entry = ood.held_out_task(config, folders)
run = start_run(config, page="ood", runs_dir=runs_dir, run_dir=run_dir, also=[entry])
print(f"{config.profile.title}\nrun folder {run.path.name}, configuration {config_hash(config)}")
for folder in folders:
    active = folder.manifest()["active_parameters"][task]
    print(f"{folder.run_id}: tasks {', '.join(folder.facts['tasks'])}, {active:,} active parameters")

# %% [markdown]
# ## The arms and the held-out corpus
#
# Base, adapters, fusion and heads are put together again from the run folders. A held-out document whose
# text an arm was trained on, in whichever task, stops the page.

# %%
from kaggle_kit.experiment.load_trained_run import reload_run

arms = [reload_run(folder, config.model.path) for folder in folders]
held_out = ood.open_held_out(config, arms)
kind = "PRACTICE, synthetic" if held_out.corpus.practice else held_out.corpus.access.value
print(f"{held_out.entry.name} {held_out.split}: {len(held_out.samples)} samples ({kind})")

# %% [markdown]
# ## Evaluation
#
# First every arm must score on the split that its run reports (test before dev) what was recorded. Then
# the held-out corpus is predicted and scored by that corpus's official rules.

# %%
results = [ood.evaluate_arm(run, arm, held_out) for arm in arms]
metrics = ood.metrics_by_arm(results)
run.write_metrics(metrics)
for result in results:
    figures = f"{result.inside:.4f} inside, {result.outside:.4f} outside, drop {result.drop:+.4f}"
    print(f"{result.run.facts['strategy']} seed {result.run.facts['seed']}: {figures}")

# %% [markdown]
# ## Figures

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import png, score_bars

display(Image(png(score_bars(ood.comparison_table(results))), width=700))

# %% [markdown]
# ## Record
#
# The manifest, written last, names the arms by their run ids with what each had seen and scored.

# %%
ood.record(run, arms, results, held_out)
print(f"finished: {run.path.name}")

# %% [markdown]
# ## Over seeds
#
# All finished runs of this page: multi-task minus single-task, for the score on the held-out corpus and for
# the drop to it from inside. The difference is that of means over seeds, with its interval, a Welch test
# adjusted by Holm over all declared differences, and the smallest difference that so many seeds can find.
# One seed gives no inference. Runs that differ in anything else are refused, and so are seeds that never
# finished in one arm.

# %%
from kaggle_kit.analysis.contrasts import contrast_table, in_words, shown
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace

documents = shown("ood", find_runs(in_workspace(runs_dir)))
print(*in_words(documents), sep="\n")
contrast_table(documents)

# %% [markdown]
# ## How to read the result
#
# The drop is a run's primary metric on the split that it reports (test where it reports that, else
# development) minus that on the held-out corpus; the held-out split chose nothing. A smaller drop is worth
# little if the arm was worse inside already, so both figures stand beside each other. One pair of runs
# stands for one seed, and a claim needs several: this page once for each seed, or all runs in one go by
# `experiment.runs`. Both arms saw as many tokens in as many steps. Runs marked `smoke` or `practice` are no
# results.
