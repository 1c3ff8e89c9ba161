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
# # RQ5: transfer between tasks, or only more data?
#
# **Question.** A multi-task model has seen more tokens than a model of one task. Does it still win when
# the single-task model is trained on exactly as many tokens, all of its own task? And if it does, is there
# no other reason than what the tasks teach each other?
#
# This page trains nothing and needs no torch. It reads the run folders of a multi-task strategy and of
# their token-controlled baselines (page `token_controlled`), judges them, and explains the verdict. Every
# number below comes from the verdict's document.

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
runs_dir = "runs"
strategy = ""  # of the multi-task runs, such as s3b_hierarchical; needed where several have twins
backbone = ""  # needed where several models have twins
split = ""  # needed where the runs report several
verdict = ""  # a verdict document to explain, instead of judging the runs
report = "reports/verdict.json"  # where the document is written

# %% [markdown]
# ## The verdict
#
# The judge compares only runs that agree on everything but the tasks that their tokens come from: token
# totals to the token, active parameters within the parity, data, scorer, split, training settings, tuning
# budget, the rule that chose the weights, and the seeds. Where they do not, it refuses and names the field.
# It refuses, too, where a run of the same configuration began and never finished.
#
# *Genuine transfer* takes a gain over every control: all tokens at the last step, the same run at its best
# development point, and the task's own share of the tokens. The specification's rule, the first control
# alone, stands beside it.

# %%
from kaggle_kit.analysis.survivorship import unfinished_in_words
from kaggle_kit.analysis.verdict import judged, read_verdict, write_verdict
from kaggle_kit.analysis.verdict_words import in_words
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runtime import in_workspace

if verdict:
    document = read_verdict(in_workspace(verdict))
else:
    runs = find_runs(in_workspace(runs_dir))
    document = judged(runs, strategy=strategy, model=backbone, split=split)
for sentence in (*in_words(document), *unfinished_in_words(document)):
    print(sentence)
if not document["tasks"]:
    print("\nBoth arms run under experiment=token_controlled, with the seeds of experiment.seeds:")
    print("  python -m kaggle_kit run s3b_hierarchical --seed SEED experiment=token_controlled")
    print("  python -m kaggle_kit run token_controlled --task TASK --seed SEED \\")
    print("      experiment=token_controlled experiment.twin=RUN_ID experiment.control=total")
    print("and once more with experiment.control=share; with experiment.placebo=true for a placebo.")

# %% [markdown]
# ## In a picture
#
# Left of the line the multi-task model is worse than its control, right of it better. The band is the
# equivalence margin that was declared before the runs: a difference inside it counts as none. An interval
# that stays clear of the line shows a difference; one that stays inside the band shows that there is none
# worth the name; one that does neither shows nothing. Open marks are the other controls.

# %%
from IPython.display import Image, display

from kaggle_kit.analysis.figures import png
from kaggle_kit.analysis.verdict_figure import verdict_figure, verdict_table

display(Image(png(verdict_figure(document)), width=760))
verdict_table(document)

# %% [markdown]
# ## Where a gain comes from
#
# Against a control with the task's own share of the tokens a multi-task run has two advantages: more tokens,
# and tokens of other tasks. The control with all tokens stands between them and tells them apart.

# %%
from kaggle_kit.analysis.verdict_words import gains_in_words

for sentence in gains_in_words(document):
    print(sentence)
if not any("share" in found["contrasts"] for found in document["tasks"].values()):
    print("no control with the task's own share of the tokens (experiment.control=share)")

# %% [markdown]
# ## How both arms trained
#
# Equal tokens are a fair comparison only if both arms were optimised alike: as many steps, and a control that
# was not trained past its best. Runs that lie far from the others of their arm may not have learnt at all.

# %%
from kaggle_kit.analysis.verdict_words import training_in_words

for sentence in training_in_words(document):
    print(sentence)

# %% [markdown]
# ## What it rests on
#
# The rule that the runs declared, the runs by the hash of their manifests, and what differs between them
# although nothing in the comparison should depend on it.

# %%
for name, value in document.get("rule", {}).items():
    print(f"{name}: {value}")
for run in document["inputs"]:
    print(
        f"{run['run_id']}  manifest {run['sha256']['manifest.json'][:12]}  configuration {run['config_hash']}"
    )
for field, values in document.get("differences_not_held_fixed", {}).items():
    print(f"differs, not held fixed: {field}: {', '.join(values)}")

# %% [markdown]
# ## Record

# %%
if not verdict:
    print(f"verdict: {write_verdict(document, in_workspace(report))}")

# %% [markdown]
# ## How to read it
#
# - **genuine transfer**: the multi-task model is better than every control. **Negative transfer**: it is
#   worse than the same number of tokens of one task. Both need tests, adjusted over all tasks.
# - **data exposure only**: the difference is *shown* to lie within the margin, by a test of its own.
# - **regularisation**: there is a gain, but partner tasks with permuted labels give it, too.
# - **undecided**: neither is shown. It does not mean that there is no difference; the words say which control
#   was not beaten, or how many more seeds would decide. Looking again at more seeds costs error.
# - **interim**: judged on other seeds than `experiment.seeds` declares. It may not be quoted as a result.
# - Intervals hold the luck of a training run and the choice of the test documents. They are wide with few
#   seeds, and rightly so.
# - F1 and MAP are never averaged: over all tasks, each score counts in units of the distance from a trivial
#   baseline to the best published score of its task.
# - Training sets are fixed: a verdict is about these corpora, not about every corpus of such a task.
# - A verdict on `smoke` or `practice` runs shows that the machinery works. It is no result.
