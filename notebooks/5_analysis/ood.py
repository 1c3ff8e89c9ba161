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
# # RQ2: shared adapters on a corpus that nobody trained on
#
# **Question.** Do adapters that learnt several tasks lose less on a corpus of the same kind, but of other documents
# and words, than single-task adapters with as many parameters and as many tokens?
#
# **Hypothesis.** What several tasks share is less tied to the words of one corpus.
#
# ```text
#                          trained on           inside: the run's own split        outside: held-out corpus
#   multi-task run         A + B + …     ──▶    score ───────── drop ──────────▶   score
#   single-task control    A             ──▶    score ───────── drop ──────────▶   score
#                          equal tokens, steps and, within 5 %, active parameters
# ```
#
# **What would refute it.** The multi-task runs drop as much as their controls, over several seeds; or their smaller
# drop comes with a lower score inside, so that there was less to lose.
#
# Before this page: a multi-task page and `token_controlled`, both with `experiment=token_controlled`, for every seed.
# After it: `overview`. This page loads finished runs and trains none of its own. "Run all" is safe anywhere: at its
# defaults it takes the newest pair of the practice task below `runs/`, and only where there is none does it first train
# one, in minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

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
# ## 1 The runs that are compared
#
# `experiment.runs` names them, multi-task and single-task ones of the same seeds. They must agree in all but the tasks
# that their tokens come from; the first field that differs stops the page.

# %%
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiments import ood
from kaggle_kit.experiments.transfer_runs import comparable_arms

names = {"model": model, "task": task.split(","), "strategy": strategy, "profile": profile, "seed": seed}
config = compose(**names, overrides=overrides)
ood.check(config)
folders = comparable_arms(config, runs_dir)
entry = ood.held_out_task(config, folders)
exp = Experiment(config, start_run(config, page="ood", runs_dir=runs_dir, run_dir=run_dir, also=[entry]))
compared = ood.run_table(folders, task)
show.table(compared, "Arms", {"tokens": "{:,}", "active parameters": "{:,}"})

# %% [markdown]
# ## 2 The held-out corpus, and how far it is
#
# Base, adapters, fusion and heads are put together again from the run folders. A held-out document whose text an arm
# was trained on, in whichever task, stops the page. `new` is the share of words and of mentions that the training
# split does not have.

# %%
from kaggle_kit.experiment.load_trained_run import load_trained_run
from kaggle_kit.experiment.show.marked import sample_view
from kaggle_kit.experiment.show.views import show_html

arms = [load_trained_run(folder, config.model.path) for folder in folders]
held_out = ood.open_held_out(config, arms)
kind = "practice, synthetic" if held_out.corpus.practice else held_out.corpus.access.value
far = ood.shift_table(arms[0].corpora[task].splits["train"], held_out.samples)
show.table(far, "What is new", {"words": "{:,}", "new words": "{:.1%}", "new mentions": "{:.1%}"})
shown = next((sample for sample in held_out.samples if sample.mentions), held_out.samples[0])
show_html(
    f"{held_out.entry.name} {held_out.split} ({kind}), document {shown.document_id}", *sample_view(shown)
)

# %% [markdown]
# ## 3 Scores inside and outside
#
# First every reloaded arm must score on the split that its run reports (test before dev) what was recorded: a model
# that does not is not the one that was trained. Then the held-out corpus is predicted and scored by its own rules.

# %%
results = [ood.evaluate_arm(exp.run, arm, held_out) for arm in arms]
exp.run.write_metrics(ood.metrics_by_arm(results))
drops = ood.arm_table(exp.run, results)
formats = dict.fromkeys(("inside", "outside"), "{:.4f}") | dict.fromkeys(("drop", "low", "high"), "{:+.4f}")
show.figure(ood.drop_figure(drops, "" if config.profile.paper else " (no result)"))
show.table(drops, f"Drop per arm, {len(held_out.samples)} held-out documents", formats)

# %% [markdown]
# ## 4 One drop by hand
#
# The score of the first arm on the held-out corpus, added up from its documents, and the drop that follows. Then the
# documents are drawn again with replacement, 500 times: how much of the score is the choice of these documents?

# %%
import numpy as np

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.evaluation.documents import document_table, figure

first = results[0]
records = RunFolder(exp.run.path / "arms" / first.run.run_id).read_documents(task, ood.SPLIT)
if records:  # a metric without parts per document cannot be added up
    _, parts = document_table(records)  # (documents, columns)
    generator, many = np.random.default_rng(seed), len(parts)
    drawn = [parts[generator.integers(many, size=many)].sum(axis=0) for _ in range(500)]
    outside, (low, high) = (
        float(figure(parts.sum(axis=0))),
        np.quantile(figure(np.array(drawn)), [0.025, 0.975]),
    )
    redrawn = f"95 % of redrawn corpora {low:.4f} to {high:.4f}"
    said = f"outside {outside:.4f}, {redrawn}; drop {first.inside - outside:+.4f}"
    show.sentences([said], f"{first.run.run_id}, {many} documents")

# %% [markdown]
# ## 5 Where the arms disagree
#
# Held-out documents side by side: which parts of the score does each arm get there? The documents with the largest
# difference come first.

# %%
if records:
    beside = ood.document_scores(exp.run, results)
    show.table(beside.head(5), "Scores of single documents", dict.fromkeys(beside.columns[1:], "{:.3f}"))

# %% [markdown]
# ## 6 Record
#
# The manifest, written last, names the arms by their run ids with what each had seen and scored.

# %%
ood.record(exp.run, arms, results, held_out)
show.record(exp)

# %% [markdown]
# ## 7 Over seeds
#
# All finished runs of this page: multi-task minus single-task, for the score outside and for the drop. The test is
# adjusted over all declared differences. One seed gives no inference. Runs that differ in anything else are refused,
# and so are seeds that never finished in one arm.

# %%
show.differences(exp, "ood")

# %% [markdown]
# ## Checks
#
# Nobody saw the held-out documents, scores follow from their documents, and arms had equal tokens.

# %%
assert not records or abs(outside - first.outside) < 1e-6, "the score outside is the sum of its documents"
assert not records or many == len(held_out.samples), "every held-out document is scored"
assert (compared.groupby("seed")["tokens"].nunique() == 1).all(), "the arms of a seed saw as many tokens"
assert far["new words"][0] == 0.0 < far["new words"][1], "the held-out corpus has words of its own"
assert [arm["drop"] for arm in exp.run.manifest()["arms"]] == drops["drop"].to_list(), "the manifest says so"

# %% [markdown]
# ## How to read it
#
# The drop is a run's primary metric on the split that it reports (test where it reports that, else development) minus
# that on the held-out corpus; the held-out split chose nothing. A smaller drop is worth little if the arm was worse
# inside already, so both figures stand beside each other. The intervals of section 3 hold the choice of documents and
# not the luck of a training run: one pair stands for one seed, and a claim needs several, which section 7 judges. Runs
# marked `smoke` or `practice` are no results.
