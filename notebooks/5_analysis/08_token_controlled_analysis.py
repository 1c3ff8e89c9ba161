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
# **Question.** A multi-task model has seen more tokens than a model of one task. Does it still win when the
# single-task model trains on exactly as many tokens, all of its own task?
#
# **Hypothesis.** Tasks teach each other something that more text of one task cannot.
#
# ```text
#                                       tokens of the task    tokens of other tasks    what a gain over it rules out
#   multi-task run                      ▇▇▇▇                  ▇▇▇▇▇▇▇▇
#   control total                       ▇▇▇▇▇▇▇▇▇▇▇▇                                   more tokens
#   control total, best point           ▇▇▇▇▇▇▇▇                                       a control trained too long
#   control share                       ▇▇▇▇                                           a control worn out by its data
#   placebo (optional)                  ▇▇▇▇                  ░░░░░░░░ permuted        the mere presence of other text
# ```
#
# **What would refute it.** One control that is not beaten. Two more answers are possible: tests *show* that the
# difference lies within the margin that was declared before the runs (*data exposure only*), or the multi-task runs
# are worse (*negative transfer*). A test that finds nothing shows nothing; then the page says *undecided*.
#
# Before this page: a multi-task page (`s2_shared`, `s3a_flat`, `s3b_hierarchical`) and `token_controlled`, both with
# `experiment=token_controlled` and for every declared seed. After it: `overview`, with all verdicts of a study. This
# page trains nothing and needs no torch.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
strategy = ""  # of the multi-task runs, such as s3b_hierarchical; needed where several have controls
backbone = ""  # needed where several models have controls
tasks = ""  # of the multi-task runs, commas between; needed where several sets of tasks have controls
split = ""  # needed where the runs report several
verdict = ""  # a verdict document to explain, instead of judging the runs
report = "reports/verdict.json"  # where the document is written

# %% [markdown]
# ## 1 The answer
#
# The judge compares only runs that agree on everything but the tasks that their tokens come from. Where they do
# not, it refuses and names the field; so it does where a run of the same configuration began and never finished.

# %%
from kaggle_kit.analysis.verdict import read_verdict, verdict_or_refusal, write_verdict
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.runtime import in_workspace

if verdict:
    document = read_verdict(in_workspace(verdict))
else:
    runs = find_runs(in_workspace(runs_dir))
    document = verdict_or_refusal(runs, strategy=strategy, model=backbone, split=split, tasks=tasks)
show.answers(document)

# %% [markdown]
# ## 2 The evidence
#
# Left of the line the multi-task model is worse than its control, right of it better. The band is the declared
# margin: a difference inside it counts as none. The full mark is the control with all tokens; the open marks above
# it are the other controls, each with its interval. Dots are single seeds.
#
# An interval clear of the line shows a difference. One that lies within the band shows that there is none worth the
# name. One that does neither shows nothing.

# %%
show.evidence(document)

# %% [markdown]
# ## 3 Where a gain comes from
#
# Against a control with its own share of the tokens a multi-task run has two advantages: more tokens, and tokens of
# other tasks. The control with all tokens stands between them and tells them apart.

# %%
show.gains(document)

# %% [markdown]
# ## 4 How both arms trained
#
# Equal tokens are a fair comparison only if both arms were optimised alike: as many steps, and a control that was
# not trained past its best. A run that lies far from the others of its arm may not have learnt at all.

# %%
show.arms_training(document)

# %% [markdown]
# ## 5 The rule, once more by hand
#
# A task's gain is *genuine transfer* only if **every** control is beaten. The p of that claim is the largest of the
# controls' own: an intersection–union test, which needs no correction over controls. Over tasks Holm corrects: the
# smallest p counts as many times as there are tasks, the next once less, and none may fall below the one before.

# %%
import pandas as pd

from kaggle_kit.analysis.stats import holm
from kaggle_kit.analysis.verdict_rule import Contrast, decide, transfer_p

family = {
    task: {name: Contrast.of(estimates) for name, estimates in found["contrasts"].items()}
    for task, found in document["tasks"].items()
}
largest = [transfer_p(controls) for controls in family.values()]
by_hand = pd.DataFrame({"task": list(family), "largest p": largest, "after Holm": holm(largest)})
decided = decide(family, document["rule"]["level"]) if family else {}
by_hand["verdict"] = [decided[task].verdict for task in by_hand["task"]]
show.rule(document)
show.table(by_hand, "All controls at once", {"largest p": "{:.3g}", "after Holm": "{:.3g}"})

# %% [markdown]
# ## 6 What would decide
#
# Of everything that is undecided: the control that is missing or not beaten, the command that trains it, or how many
# seeds more would do. Without any runs of this comparison: how to begin.

# %%
from kaggle_kit.analysis.verdict_words import undecided_in_words

BEGIN = [
    document.get("reason", ""),
    "1. python -m kaggle_kit run s3b_hierarchical --seed SEED experiment=token_controlled",
    "2. python -m kaggle_kit run token_controlled --task TASK --seed SEED experiment=token_controlled "
    "experiment.twin=RUN_ID experiment.control=total",
    "3. the same with experiment.control=share; with experiment.placebo=true for a placebo",
]
show.sentences([*undecided_in_words(document)] or (["nothing is undecided"] if family else BEGIN), "To do")

# %% [markdown]
# ## 7 What it rests on
#
# The runs, by the hashes of their manifests; the rule that they declared; and what differs between them although
# nothing in the comparison should depend on it. The document is written last.

# %%
show.inputs(document)
if not verdict:
    show.sentences([f"verdict: {write_verdict(document, in_workspace(report))}"])

# %% [markdown]
# ## Checks
#
# The verdict follows from its own numbers, the controls had the tokens of their run.

# %%
assert all(decided[task].verdict == document["tasks"][task]["verdict"] for task in family), "the rule by hand"
genuine = by_hand[by_hand["verdict"] == "genuine transfer"]
assert (genuine["after Holm"] <= document.get("rule", {}).get("level", 0)).all(), (
    "all controls beaten, corrected"
)
given = {run["run_id"]: run["twin"] for run in document["inputs"] if run["twin"]}
asked_of = {run["run_id"]: str(run["seed"]) for run in document["inputs"]}
for run_id, twin in given.items():
    seen = document["comparison"]["tokens"][asked_of[run_id]].values()
    assert twin["control"] != "total" or twin["target_tokens"] == sum(seen), f"{run_id}: equal tokens"

# %% [markdown]
# ## How to read it
#
# - **genuine transfer**: the multi-task model is better than every control. **Negative transfer**: it is worse than
#   the same number of tokens of one task. Both need tests, adjusted over all tasks.
# - **data exposure only**: the difference is *shown* to lie within the margin, by a test of its own.
# - **regularisation**: there is a gain, but partner tasks with permuted labels give it, too.
# - **undecided**: neither is shown. It does not mean that there is no difference. Looking again at more seeds costs
#   error, unless `experiment.looks` declares the looks.
# - **interim**: judged on other seeds than `experiment.seeds` declares. It may not be quoted as a result.
# - Intervals hold the luck of a training run and the choice of the test documents. Training sets are fixed: a
#   verdict is about these corpora, not about every corpus of such a task.
# - F1 and MAP are never averaged: over all tasks, each score counts in units of the distance from a trivial baseline
#   to the best published score of its task.
# - A verdict on `smoke` or `practice` runs shows that the machinery works. It is no result.
