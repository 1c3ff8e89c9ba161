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
# # MIMIC exclusion: what the shared adapter owes to MIMIC notes
#
# **Question.** Does a shared adapter that never read a MIMIC note serve the tasks on MIMIC notes as well as one that
# read them?
#
# **Hypothesis.** The shared adapter learns something about this kind of text that private adapters, trained after it
# on the same notes, do not learn by themselves. Then arm `full` scores higher than arm `excluded`.
#
# ```text
#   phase 1: shared and private learn, equally many tokens                     phase 2: the shared adapter is frozen,
#                                                                              the private part starts afresh
#   full              ██ MIMIC ██│▒▒ other clinical ▒▒│░░░ public ░░░░    ──▶  MIMIC tasks, the same steps ──▶ scores
#   leave_target_out  █ MIMIC █│▒▒▒ other clinical ▒▒▒│░░░ public ░░░░    ──▶  MIMIC tasks, the same steps ──▶ scores
#   excluded          ░░░░░░░░░░░░░░░░░ public ░░░░░░░░░░░░░░░░░░░░░░░    ──▶  MIMIC tasks, the same steps ──▶ scores
# ```
#
# **What would refute it.** Over seeds, `full` minus `excluded` is not above zero; or it is, and `full` minus
# `leave_target_out` is as large, so that the evaluated task's own data alone explains it.
#
# Before this page: `s3a_flat` or `s3b_hierarchical`. After it: the other arms and seeds, by this same page, and
# `overview`. "Run all" is safe anywhere: the defaults are a smoke run on synthetic notes, a few minutes on two cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2015t14,semeval2016t12,semeval2021t6,semeval2017t3"
strategy = "s3a_flat"  # s3a_flat, s3b_hierarchical
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["experiment=mimic_exclusion", "training.epochs=1"]  # experiment.arm=excluded
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# An unknown key, arm or strategy stops the page here. Scored are the MIMIC tasks, or the one that the arm leaves out
# of the first phase. The plan in this table is that of the first phase.

# %%
from kaggle_kit.experiments import mimic_exclusion

asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
where = {"runs_dir": runs_dir, "run_dir": run_dir}
exp = Experiment.open("mimic_exclusion", **asked, overrides=overrides, **where, settle=mimic_exclusion.check)
exp.scored_config = mimic_exclusion.evaluated(exp.config)
exp.plan, second = mimic_exclusion.plan_phases(exp.config, exp.encoded)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each. The first two read MIMIC notes, the third other clinical notes, the last two public text.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model
#
# The strategy's own adapters, built for all tasks in every arm, so that all arms start from the same values. S3a has
# a shared adapter and a private one for each task; S3b has a shared one and one for each level.

# %%
show.adapters(exp)

# %% [markdown]
# ## 4 By hand: tokens by source in the first phase
#
# The first phase of every arm, planned from the same token files, although this page trains one arm. All read equally
# many tokens in equally many steps. Only the kind of text differs.

# %%
arms = mimic_exclusion.every_arm(exp.config)
firsts = {name: mimic_exclusion.plan_first(arm, exp.encoded) for name, arm in arms.items()}
ledgers = {
    name: [mimic_exclusion.by_source(exp.config, step.tokens) for step in plan.steps]
    for name, plan in firsts.items()
}
show.ledgers(ledgers, "Tokens of the first phase by source")
assert len({(len(plan), sum(plan.tokens.values())) for plan in firsts.values()}) == 1, "equal in every arm"
assert exp.plan.steps_sha256 in {plan.steps_sha256 for plan in firsts.values()}, "this run is one of them"

# %% [markdown]
# What each phase trains in this run. Private groups begin the second phase as they were built, whether or not the
# first has trained them. So the arms differ in what is frozen by then, above all the shared adapter.

# %%
import pandas as pd

exp.phases = mimic_exclusion.phases(exp.config, exp.model, (exp.plan, second), exp.quick)
rows = []
for phase in exp.phases:
    phase.prepare()
    learn = [g for g, of in exp.model.parameter_groups().items() if of.parameters[0].requires_grad]
    tokens, steps = sum(phase.plan.tokens.values()), len(phase.plan)
    rows.append({"phase": phase.name, "steps": steps, "tokens": tokens, "learns": ", ".join(learn)})
show.table(pd.DataFrame(rows), f"Two phases of arm {exp.config.experiment['arm']}", {"tokens": "{:,}"})

# %% [markdown]
# ## 5 Training
#
# An adapter that neither phase would train stops the page before the first step. Then one call resumes the run or
# starts it, finds the fastest batch that fits (on a GPU), lets it pass the smoke gate, and trains both phases. Where
# the session ends first, a checkpoint is left and the page ends normally.

# %%
exp.train()
show.training(exp)

# %% [markdown]
# ## 6 Scores on MIMIC notes
#
# Predictions are written in each task's own format and scored by the official rules.

# %%
if exp.finished:
    exp.evaluate()
    show.scores(exp)

# %% [markdown]
# ## 7 Where it errs, and the record
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.
#
# Then adapters and heads are saved, and the manifest is written last: without it the folder counts as unfinished. A
# paused run goes on when this page is run again on its folder.

# %%
if exp.finished:
    show.errors(exp, n=2)
    exp.finish()
show.record(exp)

# %% [markdown]
# ## 8 What the exclusion did: arms against each other
#
# All finished runs of this experiment in this folder, on the MIMIC tasks: `full` minus each other arm, and what lies
# between those. The difference is one of means over seeds, with its interval, a Welch test adjusted by Holm over all
# declared differences, and the smallest difference that so many seeds can find. One seed gives no inference. Runs
# that differ in anything else are refused.

# %%
show.differences(exp, "mimic_exclusion")

# %% [markdown]
# ## Checks
#
# What must hold of any arm, and at smoke defaults of this one.

# %%
from collections import Counter

if exp.finished:
    own, mimic = exp.run.manifest(), exp.config.experiment["mimic"]
    assert own["steps_sha256"] == [exp.plan.steps_sha256, second.steps_sha256], "both phases as planned"
    planned = Counter(exp.plan.tokens) + Counter(second.tokens)
    assert Counter(exp.session.tokens) == planned, "each task has seen the tokens of both phases"
    assert list(exp.plan.tokens) == mimic_exclusion.first_tasks(exp.config) and list(second.tokens) == mimic
    assert {metric.task for metric in exp.metrics} == set(exp.scored_config.tasks) <= set(mimic)
    begin = {name: loss for event in reversed(exp.run.events()) for name, loss in event["losses"].items()}
    final = own["final_training_loss"]
    assert sum(final[name] for name in mimic) < sum(begin[name] for name in mimic), "MIMIC tasks were learnt"

# %% [markdown]
# ## How to read it
#
# One run is one arm and one seed, and its score alone answers nothing. Section 8 answers once all arms are there with
# several seeds each. Where `full` is better than `excluded`, the shared adapter had learnt something that the private
# adapters did not learn by themselves. But `full` read the evaluated task's own data first: `full` minus
# `leave_target_out` is what that alone gives, and `leave_target_out` minus `excluded` is what the other clinical
# notes give. How much a task gains from the others is the question of `token_controlled`, not of this page. A run
# marked `smoke` or `practice` is no result.
