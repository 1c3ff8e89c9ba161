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
# # 02: Has the model read what it will be scored on?
#
# **Question.** Do documents that a task is scored on stand in training text, of its own task or of another? Does the
# model know them before it is trained?
#
# **Hypothesis.** Neither: the documents are new to the training texts, and the model finds their released order no
# likelier than any other.
#
# ```text
#   layer 1, data          scored documents ──▶ the same text, 8- and 13-grams of words ──▶ in which training texts?
#   layer 2, likelihood    log P(order as released)  against  log P(random orders) ──▶ rank ──▶ p, exact
#                          Min-K%++ of the documents against a control ──▶ AUROC, beside a blind bag of words
#   layer 3, behaviour     zero-shot scores: not measured here yet
# ```
#
# **What would refute it.** One flagged document in layer 1, or p ≤ 0.01 in layer 2. The outcome is then *suspected*,
# else *no sign found*, or *unknown* where a layer cannot say. No outcome proves that a model is clean.
#
# Before this page: `01_data_exploration`. After it: the choice of tasks, then `s1_single_task`. This page trains
# nothing and shows no word of a text. "Run all" is safe anywhere: practice corpora and a tiny model, a minute or two.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2015t14,semeval2016t12,semeval2017t3,semeval2021t6"
profile = "smoke"  # smoke: practice corpora; open, t4: the real ones that are on this machine
seed = 42
overrides = []
control_overrides = ["practice.seed=8"]  # where documents lie that the model cannot have read; [] if nowhere
documents = 96  # of a task, the first ones, that layer 2 reads
by_file_name = False  # True: files of one document each count as released in the order of their names
out = "reports/contamination.json"

# %% [markdown]
# ## 1 What is looked into
#
# Of every task the test split, or dev where there is no test. The control is made of other documents of the same kind
# that the model cannot have read: at the defaults practice notes of another seed. For a real corpus give a newer one,
# such as `control_overrides=['tasks.ncbi_disease.path=FOLDER']`.

# %%
from kaggle_kit.core.config import compose
from kaggle_kit.data import exploration

setting = {"model": model, "task": task.split(","), "profile": profile, "seed": seed}
setting["strategy"] = "s2_shared" if "," in task else "s1_single"
config = compose(**setting, overrides=overrides)
corpora, missing = exploration.find_corpora(config)
others, _ = exploration.find_corpora(compose(**setting, overrides=[*overrides, *control_overrides]))
splits = {name: next((s for s in ("test", "dev") if s in c.splits), None) for name, c in corpora.items()}
scored = {name: corpora[name].splits[split] for name, split in splits.items() if split}
access = exploration.access_table(config, corpora).drop(columns="zero-shot from")
show.table(access, f"The tasks that {config.model.name} is tried on")
show.sentences([f"missing: {what}" for what in missing])
assert scored, "no scored split is here; 01_data_exploration says how to get the corpora"

# %% [markdown]
# ## 2 Layer 1: scored documents in training texts
#
# Against the training split of every task, as it lies on disk. `flagged`: the whole text, or at least 70 % of the
# 8-grams of words stand there. A 13-gram in common may be no more than the phrase of a form.

# %%
from kaggle_kit.data.overlap import overlap_summary, overlaps, whole_text

found = overlaps(scored, corpora)
show.table(overlap_summary(found), "Scored documents in training texts", {"8-grams, mean": "{:.1%}"})
marked = found[found["flagged"]].groupby("scored")["document"].unique()
flagged = {name: sorted(marked.get(name, ())) for name in scored}

# %% [markdown]
# ## 3 One document by hand
#
# Of the document with the largest share in common, the 8-grams are counted again, as plain tuples of words.

# %%
from kaggle_kit.data.segments import WORD


def grams(sample, n=8):
    words = [word for word in WORD.findall(whole_text(sample).casefold()) if word[0].isalnum()]
    return [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]


most = found.loc[found["8-grams"].fillna(0).idxmax()]
known = {gram for sample in corpora[most.training].splits["train"] for gram in grams(sample)}
own = grams(next(sample for sample in scored[most.scored] if sample.document_id == most.document))
common = sum(gram in known for gram in own)
said = f"{common:,} of {len(own):,} 8-grams of {most.document} stand in the training texts of {most.training}"
show.sentences([said], f"{most.scored}, {splits[most.scored]}")

# %% [markdown]
# ## 4 Layer 2, the verdict: is the released order likelier?
#
# Left: how likely each document's beginning is after the end of each other one, in blocks of 16. A model that has
# read the file shows a bright line just right of the diagonal. Right: the released order among random ones.

# %%
import numpy as np

from kaggle_kit.evaluation import contamination
from kaggle_kit.experiment.preparation import backbone_entry
from kaggle_kit.models.loading import load_language_model

decoder, tests, order = config.model.family == "decoder", {}, []
how = (config.profile.device, config.profile.precision, config.strategy.quantization)
reader = load_language_model(backbone_entry(config), *how) if decoder else ()
texts = {name: [whole_text(s) for s in samples[:documents] if s.text] for name, samples in scored.items()}
for name, samples in scored.items():
    row = {"task": name, "n": len(texts[name]), "outcome": contamination.Outcome.UNKNOWN}
    row["why"] = contamination.why_untested(config.model.family, samples[:documents], by_file_name) or ""
    if not row["why"]:
        pairs = contamination.order_scores(*reader, texts[name])
        tests[name] = test = contamination.exchangeability(pairs, np.random.default_rng(seed))
        show.order(name, pairs, test)
        row |= test.row
    order.append(row)
formats = {"released": "{:,.1f}", "random, mean": "{:,.1f}", "p": "{:.4f}"}
show.table(order, "Log-likelihood of the order, in nats", formats)

# %% [markdown]
# ## 5 Layer 2, the evidence: Min-K%++ against a control
#
# AUROC 0.5: the model finds the rare tokens of the scored documents no likelier than those of the control. `blind` is
# what a bag of words tells apart without any model. Where that is far from 0.5, the texts differ, and the figure
# beside it is no evidence: so it is with practice notes of another seed, which have other words.

# %%
here, evidence = frozenset().union(*exploration.documents(corpora).values()), []
for name in scored if decoder else ():
    new = others[name].splits.get(splits[name], ()) if name in others else ()
    control = [whole_text(s) for s in new if not exploration.fingerprints([s]) <= here][:documents]
    evidence.append({"task": name} | contamination.evidence(*reader, texts[name], control))
formats = dict.fromkeys(("AUROC", "low", "high", "p", "blind"), "{:.3f}")
show.table(evidence, "AUROC of Min-K%++, scored documents above the control", formats)

# %% [markdown]
# ## 6 Outcome and record
#
# One suspicion is enough; what no layer could look into stays unknown. Layer 3, zero-shot scores against 70 % of the
# published best, is not measured here. Report scores on all documents and on those that are not flagged.

# %%
from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.runtime import in_workspace

outcomes = contamination.outcome_table(order, flagged)
practised = [name for name, corpus in corpora.items() if corpus.practice]
show.table(outcomes, "Outcome" + (" — PRACTICE: not a result" if practised else ""))
record = {"model": config.model.name, "practice": practised, "outcomes": outcomes, "flagged": flagged}
path = write_atomically(in_workspace(out), to_json(record, indent=2) + "\n")
show.sentences([f"record: {path}"])

# %% [markdown]
# ## Checks
#
# The hashes count as a plain set does, p is a rank, and outcomes follow from the layers.

# %%
assert not own or abs(common / len(own) - most["8-grams"]) < 1e-9, "hashed and plain 8-grams agree"
assert all((1 + (t.random >= t.released - 1e-6).sum()) / (1 + len(t.random)) == t.p for t in tests.values())
assert all(row["outcome"] == "suspected" for row in outcomes if row["flagged"])

# %% [markdown]
# ## How to read it
#
# - *Suspected* in layer 1 is a leak between files: leave the flagged documents out, or replace the task.
# - *Suspected* in layer 2 means that this model knows the order of this file. A task that has it for every model should
#   be replaced; for one model, say it beside the score.
# - *No sign found* is weak where documents are few or long, or were read in another form than here.
# - An order that has a meaning, such as by type, can be likelier without having been read. Look at the file first.
