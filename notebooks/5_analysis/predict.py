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
# # Predict: a finished run reads new text
#
# **Question.** What does a trained model find in texts that belong to no corpus, how sure is it, and where do the
# findings go?
#
# **Hypothesis.** A run folder and its backbone are enough: what the run found in its own corpus it finds again without
# the corpus.
#
# ```text
#   text ──▶ passages ──▶ backbone + adapters ──▶ heads ──▶ mentions ──▶ relations ──▶ JSONL, BRAT, …
#            (in memory)                                    │ score: probability of all its words
#                                                           └ concepts: those of training mentions
# ```
#
# **What would refute it.** Texts of the split that the run reports, read as new ones, give other annotations or other
# scores than those that the run stored.
#
# Before this page: any page that trains; its run is read. At its defaults it takes the newest practice run below `runs/`,
# and only where there is none does it first train one, in minutes. The same from a shell:
# `python -m kaggle_kit predict RUN --in notes --out found`.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import load_trained_run, show

# %% tags=["parameters"]
runs_dir = "runs"
run = ""  # a finished run's id or folder; empty: the newest practice run
task = ""  # one of the run's tasks; empty: its first
texts = []  # strings, or objects of the format JSONL; empty: the first texts of the split that it reports
place = ""  # a .txt or .jsonl file or a folder of them, to be read instead of `texts`
out = ""  # a new folder for the predictions; empty: they are only shown

# %% [markdown]
# ## 1 The run
#
# What the model can find: the labels, and between which types relations are looked for, as training saw them. All of it
# lies in the run folder.

# %%
from kaggle_kit.analysis.overview import TOYS, flag_names
from kaggle_kit.experiment.finished_runs import practice_run

trained = load_trained_run(practice_run(runs_dir, run))
task = task or next(iter(trained.specs))
spec, flags = trained.specs[task], flag_names(trained.run.facts["flags"])
able = [
    {
        "component": part.name,
        "finds": part.kind.value.replace("_", " "),
        "labels": ", ".join(part.labels),
        "between": ", ".join(" and ".join(types) for types in part.candidates),
    }
    for part in spec.components
]
note = " (no result)" if set(flags) & set(TOYS) else ""
show.table(
    able, f"{trained.run.run_id} on {task}, {spec.access.value}, marked {', '.join(flags) or 'nothing'}{note}"
)

# %% [markdown]
# ## 2 What it finds
#
# Every annotation is marked in the text. A text of restricted access is read in the same way and not shown.

# %%
from pathlib import Path

from kaggle_kit.evaluation.texts import read_texts
from kaggle_kit.experiment.load_trained_run import judged_split
from kaggle_kit.experiment.show.marked import sample_view
from kaggle_kit.experiment.show.views import show_html

new = list(read_texts(Path(place), spec.access)) if place else texts
split = judged_split(trained)
known = () if new else trained.samples(split)[task][:20]  # with gold, which prediction does not look at
found = list(trained.predict(new or known, task))
for sample in found[:3]:
    show_html(f"Found in {sample.document_id}", *sample_view(sample))

# %% [markdown]
# ## 3 How sure it is
#
# A mention's score is the probability that all of its words are as they were decoded, a relation's that of its label.
# They are as sure as the model is; `06_calibration_plots` asks whether it is right as often.

# %%
import pandas as pd

rows = [("mention", m.type, m.score) for sample in found for m in sample.mentions]
rows += [("relation", link.type, link.score) for sample in found for link in sample.relations]
rows += [("candidate", "relevant" if p.relevant else "not relevant", p.score) for s in found for p in s.pairs]
scores = pd.DataFrame(rows, columns=["annotation", "label", "score"]).astype({"score": float})
sure = scores.groupby(["annotation", "label"])["score"].agg(["count", "min", "median", "max"]).reset_index()
shown = {"count": "{:,.0f}"} | dict.fromkeys(("min", "median", "max"), "{:.3f}")
show.table(sure, f"Scores of what was found in {len(found)} texts", shown)

# %% [markdown]
# ## 4 One text by hand
#
# From text to sequence: the first text is cut into passages, each of which the backbone reads once. A word that two
# windows hold is answered for by one of them alone, so the owned words are all words, each once.

# %%
from kaggle_kit.data.passages import passages
from kaggle_kit.experiment.preparation import passage_settings

first = next((sample for sample in found if not sample.pairs), None)
if first is not None:
    settings = passage_settings(trained, trained.config.tasks[task])
    cut = list(passages(first.text, trained.backbone.tokenizer, settings))
    lengths = [
        {"passage": n, "tokens": len(p.input_ids), "words": sum(p.owned)} for n, p in enumerate(cut, 1)
    ]
    show.table(
        lengths[:10], f"{first.document_id}: {len(cut)} passages of at most {settings.max_length} tokens"
    )

# %% [markdown]
# ## 5 Where it goes
#
# The same predictions as JSON lines, BRAT, BigBIO or the task's official format. Of restricted text no word is written.

# %%
from kaggle_kit.experiment.new_text import Destination, write_predictions

if out:
    counts = write_predictions(trained, task, list(new or known), Destination(Path(out)))
    show.sentences([f"{number:,} {what}" for what, number in counts.items()], f"Written to {out}")

# %% [markdown]
# ## Checks
#
# Read as new text, the corpus's own texts give what the run stored of them.

# %%
from kaggle_kit.core.artifacts import read_predictions

kept = {s.document_id: s for s in read_predictions(trained.run, task, split)} if known else {}
for sample in found if known else ():
    stored = kept[sample.document_id]
    same = [(m.type, m.fragments) for m in sample.mentions] == [
        (m.type, m.fragments) for m in stored.mentions
    ]
    assert same, f"{sample.document_id}: other mentions than those that the run stored"
    far = [abs(a.score - b.score) for a, b in zip(sample.pairs, stored.pairs, strict=True)]
    assert max(far, default=0.0) < 1e-4, f"{sample.document_id}: other scores than those that the run stored"
assert scores["score"].between(0, 1).all(), "a score is a probability"
assert len(found) == len(new or known), "every text has a prediction"

# %% [markdown]
# ## How to read it
#
# What is found in texts of another kind than the training corpus (another hospital, another language, tweets) is a guess,
# and the scores do not say so. `ood` measures what such a change costs. A run marked `practice` has learnt invented words.
