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
# # Zero-shot: what does a model score that was only asked?
#
# **Question.** What does a prompt reach on a task, by a local decoder or by a model behind an API, without any training?
#
# **Hypothesis.** Fine-tuned small models score higher on these tasks. This page gives the reference point beside them, and
# no competitor: what such a model has read is not known, nor how large it is.
#
# ```text
#   document ──▶ one prompt ──▶ local decoder ─────────────────▶ JSON ──▶ words to offsets ──▶ official score
#                     │              or                           │            │
#                     └──▶ ledger ──▶ API, public text only ──▶ cache     counted, never guessed
# ```
#
# **What would refute it.** A zero-shot score above that of trained runs on the same documents; then ask
# `02_contamination_report` whether the model has read them.
#
# Before this page: `02_contamination_report`. After it: `07_error_analysis`, which reads its run like any other. "Run all"
# is safe anywhere: at its defaults a tiny local model answers, in seconds, and no request is made.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a decoder that answers, where no experiment.api_model is named
task = "semeval2021t6"
strategy = "s1_single"  # one task a run; nothing is trained
profile = "smoke"  # smoke: practice corpora; open: real ones that anybody may download
seed = 42
overrides = ["experiment=zero_shot", "experiment.max_output=32"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Who is asked
#
# An API is `experiment.api_model=ID`, with `experiment.base_url` for any server that speaks OpenAI's protocol. Prices are
# those of `params/api`, or `experiment.prices`. Restricted corpora are refused before anything is sent.

# %%
from kaggle_kit.experiment import zero_shot_run

names = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
folders = {"runs_dir": runs_dir, "run_dir": run_dir}
exp = Experiment.open("zero_shot", **names, overrides=overrides, **folders, settle=zero_shot_run.settle)
reader = zero_shot_run.open_reader(exp)
split = exp.config.profile.report[0]
gold, spec = exp.samples(split)[task], exp.specs[task]
show.table([zero_shot_run.plan(exp, reader)], f"{task}, {split}")

# %% [markdown]
# ## 2 One prompt
#
# Instructions, the text, and a strict schema of the answer, made from the task's labels. No example and no gold is in it.

# %%
from kaggle_kit.core.types import Access
from kaggle_kit.evaluation import zero_shot

asked, left_out = zero_shot.askable(spec)
prompt = zero_shot.prompt_for(asked, gold[0])
public = gold[0].access == Access.PUBLIC
says = [{"who": m["role"], "says": m["content"][:600] if public else "withheld"} for m in prompt.messages]
show.table(says, f"{gold[0].document_id}: the prompt{', cut to 600 characters' if public else ''}")
lists = [
    {"list": name, "field": key, "allowed": ", ".join(rule.get("enum", [rule["type"]]))}
    for name, fields in zero_shot.Form(asked).items.items()
    for key, rule in fields.items()
]
show.table(lists, f"The answer's form{'; not asked for: ' if left_out else ''}{', '.join(left_out)}")

# %% [markdown]
# ## 3 By hand: from words to offsets
#
# The perfect answer to this prompt, read back. The first answer with some words gets their first occurrence, the next one
# the next. What is read back of perfect answers to all documents is the most that any model can score in this form.

# %%
best = zero_shot.Answer(zero_shot.perfect_answer(asked, gold[0]))
back, found = zero_shot.read_answer(asked, gold[0], best)
placed = [{"words": m.text(gold[0].text), "type": m.type, "offsets": str(m.fragments)} for m in back.mentions]
placed += [
    {"candidate": pair.candidate_id, "score": pair.score, "relevant": pair.relevant} for pair in back.pairs
]
of_gold = len(gold[0].mentions) + len(gold[0].pairs)
show.table(
    placed[:8] if public else [], f"{len(placed)} of {of_gold} gold items read back", {"score": "{:.4f}"}
)

# %% [markdown]
# ## 4 Ask, and score by the official rules
#
# Answers of an API are kept under their whole request: this page, run again, asks only for what is missing. A request
# leaves only if the most that it can cost fits into what is left for this run, and for all runs together.

# %%
from time import perf_counter

began = perf_counter()
counts = zero_shot_run.evaluate(exp, reader)
show.scores(exp)
ceiling = zero_shot_run.ceiling(exp, split)
beside = zero_shot_run.against_published(exp, split, ceiling)
best_score = beside[0]["perfect answers"]
formats = dict.fromkeys(("score", "perfect answers", "trivial", "published", "threshold"), "{:.4f}")
show.table(beside, "Beside what is known", formats | {"share of the way": "{:.1%}"})

# %% [markdown]
# ## 5 What could not be read
#
# Answers that are no JSON of the form, items of another form, words that are not in the text, loose relations, candidates
# without a rating. Each lowers the score; none is mended.

# %%
rows = [{"split": name, **found} for name, found in counts[task].items()]
show.table(rows, f"Answers on {task}, counted")
lost = sum(found.get(what, 0) for found in counts[task].values() for what in zero_shot_run.LOST)
said = [f"Nothing could be read of {lost} of {sum(found['documents'] for found in rows)} answers."]
said += [f"In this form {best_score:.4f} can be reached; {beside[0]['score']:.4f} was."]
show.sentences(said, "In words")

# %% [markdown]
# ## 6 Record, and the errors
#
# The manifest is written last, with the costs. The run is then read like any other: its errors by kind, as
# `07_error_analysis` shows them at length. Comparisons with trained runs refuse it.

# %%
import pandas as pd

from kaggle_kit.experiment.finished_runs import errors_of, judged, opened

zero_shot_run.finish(exp, reader, counts, perf_counter() - began)
finished = opened(exp.run)
kinds = errors_of(finished, task, *judged(finished, task, split))
errors = pd.DataFrame({what: each.counts.sum() for what, each in kinds.items()}).T.fillna(0).astype(int)
show.table(errors.rename_axis("of").reset_index(), f"Errors by kind, {exp.run.run_id}")
spent = zero_shot_run.request_facts(reader)
if spent:
    show.table([spent], "Requests and dollars")
else:
    show.sentences(["No request was made."])

# %% [markdown]
# ## Checks
#
# What must hold of any zero-shot run.

# %%
manifest, totals = (
    exp.run.manifest(),
    {name: sum(f["documents"] for f in s.values()) for name, s in counts.items()},
)
assert totals == {task: sum(len(exp.samples(name)[task]) for name in exp.config.profile.report)}
assert manifest["totals"]["trainable_parameters"] == 0 and manifest["selection"]["rule"] == "untrained"
assert beside[0]["score"] <= beside[0]["perfect answers"] + 1e-9, "no answer says more than a perfect one"
said = best.text.count('"text": ')
assert len(back.mentions) + found[zero_shot.ABSENT] == said, "each mention is placed or counted"
assert not spent or spent["usd_of_this_run"] <= exp.config.experiment["most_usd"], "the cap holds"

# %% [markdown]
# ## How to read it
#
# - A low score may be a low score of the form: look at `perfect answers` and at what could not be read.
# - `share of the way` is (score − trivial) / (published − trivial). Where a trivial order of candidates scores 0.73, a
#   threshold of 0.62 says nothing; this share does.
# - A score above the threshold is a sign that the model may have read the task, and no proof: competence looks the same.
# - A base model that was never taught to follow instructions mostly answers with no JSON. Take an instructed one.
# - An API's model may change behind its name; the manifest lists the versions that answered.
