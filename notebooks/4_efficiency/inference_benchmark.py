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
# # Inference: what does a finished run cost to use?
#
# **Question.** How many texts a second does a run read, how long does one request take, and how much memory, energy and
# money is that?
#
# **Hypothesis.** Larger requests raise the rate and the latency together. Adapters that are added to the weights that
# they adapt cost nothing any more; kept apart they take some of the time.
#
# ```text
#   as trained    x ──▶ W ──▶ + ──▶         merged    x ──▶ W + B·A ──▶
#                 └──▶ A ─▶ B ─┘
#                 two small products more             the same numbers, but for rounding
# ```
#
# **What would refute it.** The rate of merged adapters is no higher, beyond the spread over requests.
#
# Before this page: any page that trains; its runs are read. After it: `04_pareto_frontier`. At its defaults it takes the
# newest practice run below `runs/`, and only where there is none does it first train one, in minutes.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
run = ""  # a finished run's id or folder; empty: the newest practice run
batches = "1,8"  # texts a request
repeats = 30  # requests that are timed, after three that warm up
dollars_per_hour = 0.0  # what an hour of this machine costs; of a free one nothing

# %% [markdown]
# ## 1 The run, and this machine
#
# A rate belongs to a machine. It is compared with rates of the same machine only.

# %%
import torch

from kaggle_kit.analysis.overview import TOYS, arm_of, flag_names
from kaggle_kit.experiment.finished_runs import practice_run
from kaggle_kit.experiment.load_trained_run import judged_split, load_trained_run

trained = load_trained_run(practice_run(runs_dir, run))
flags = flag_names(trained.run.facts["flags"])
note = " (no result)" if set(flags) & set(TOYS) else ""
decided = {name: one.value for name, one in trained.backbone.decisions.items()}
about = {"run": trained.run.run_id, "arm": arm_of(trained.run.manifest())}
about |= {key: decided[key] for key in ("device", "dtype", "quantization")}
show.table([about | {"threads": torch.get_num_threads()}], f"What is timed{note}")

# %% [markdown]
# ## 2 One request by hand
#
# From strings to mentions: cut into passages, encoded, read by the model, decoded. The clock stops when predictions lie
# on the CPU.

# %%
import time

from kaggle_kit.experiment.inference import bare

task = next(iter(trained.specs))
texts = bare(trained.samples(judged_split(trained))[task], trained.specs[task].gold_entities)
stages = []
for number in range(1, 4):
    start = time.perf_counter()
    (found,) = trained.predict(texts[:1], task)
    seconds = time.perf_counter() - start
    stages.append({"request": number, "ms": 1000 * seconds, "found": len(found.mentions) + len(found.pairs)})
show.table(
    stages, f"The first text of {task}, three times: the first time is the slowest{note}", {"ms": "{:.1f}"}
)

# %% [markdown]
# ## 3 Many requests
#
# `SD` is the spread of the rate over requests. p50 and p95 are the median and the 95th percentile of a request's time.
# Memory is what the GPU had allocated at most, or on a CPU the whole process. Energy is the GPU's own count.

# %%
import pandas as pd

from kaggle_kit.experiment.inference import Load, inference_rows

load = Load([int(size) for size in batches.split(",")], repeats, dollars_per_hour)
rows = pd.DataFrame(row for name in trained.specs for row in inference_rows(trained, name, load))
digits = dict.fromkeys(("texts/s", "SD", "p50 ms", "p95 ms", "size MiB"), "{:,.1f}")
digits |= dict.fromkeys(("memory MiB", "tokens/s"), "{:,.0f}") | {
    "$ per 1,000": "{:.4f}",
    "J a text": "{:.2f}",
}
show.table(rows.drop(columns="run").dropna(axis=1, how="all"), f"{repeats} requests a row{note}", digits)

# %% [markdown]
# ## 4 Rate against latency
#
# A user who waits for one note wants the left end, one who reads an archive the upper end.

# %%
from kaggle_kit.analysis.pareto import latency_figure

show.figure(latency_figure(rows, note))

# %% [markdown]
# ## 5 What merging gives

# %%
keys = ["task", "batch"]
sides = {name: part.set_index(keys) for name, part in rows.groupby("adapters")}
said = ["These adapters cannot be merged, so there is nothing to compare."]
if "merged" in sides:
    ratio = sides["merged"]["texts/s"] / sides["as trained"]["texts/s"]
    spread = (sides["merged"]["SD"] + sides["as trained"]["SD"]) / sides["as trained"]["texts/s"]
    said = [
        f"Merged, {key[0]} reads {one:.2f}× the texts/s at {key[1]} a request." for key, one in ratio.items()
    ]
    said += [f"Beyond the spread over requests: {(abs(ratio - 1) > spread).sum()} of {len(ratio)} rows."]
show.sentences(said, f"What it says{note}")

# %% [markdown]
# ## Checks
#
# A merged model predicts what it did before, and its weights are put back bit by bit.

# %%
from kaggle_kit.models.merging import merged, model_bytes, why_unmergeable

before = [parameter.clone() for parameter in trained.model.parameters()]
if why_unmergeable(trained.model) is None:
    apart = list(trained.predict(texts[:8], task))
    with merged(trained.model, task):
        together = list(trained.predict(texts[:8], task))
    places = [[[(m.fragments, m.type) for m in one.mentions] for one in side] for side in (apart, together)]
    assert places[0] == places[1]
assert all(map(lambda one, two: one.equal(two), before, trained.model.parameters()))
assert (rows["p95 ms"] >= rows["p50 ms"]).all() and (rows["texts/s"] > 0).all()
assert rows["size MiB"].nunique() == 1 and model_bytes(trained.model) > 0

# %% [markdown]
# ## How to read it
#
# - Rates of two machines, of two numbers of threads, or of a busy and a quiet machine do not compare.
# - p95 of thirty requests rests on two of them. Raise `repeats` before a promise is made with it.
# - The dollars are those of `dollars_per_hour`, for a machine that reads without a pause.
# - An exported adapter folder of S1 or S2 is stock PEFT, so servers that load LoRA folders can load it.
