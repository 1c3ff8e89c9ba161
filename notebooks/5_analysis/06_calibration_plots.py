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
# # Calibration: is a run as sure as it is right?
#
# **Question.** Where a model says 0.8, is it right eight times in ten? Of mentions, relations, ranked candidates and
# single words of one finished run.
#
# **Hypothesis.** It is not: trained networks are mostly too sure, and dividing their log-odds by one number, fitted on
# development data, mends most of it.
#
# ```text
#   share right ▲            ╱
#               │          ╱  ·  ●        on the diagonal      calibrated
#               │        ╱  ·             below it             too sure
#               │      ╱ ●                above it             not sure enough
#               │    ╱·
#               │  ╱●                     ECE: the mean distance to it, bin by bin
#               └─────────────▶ confidence
# ```
#
# **What would refute it.** An ECE that a perfectly calibrated model shows as well, for with few predictions it is far
# above 0; or an ECE at the fitted temperature that is no lower.
#
# Before this page: any page that trains; its run is read. After it: `07_error_analysis`. At its defaults it takes the
# newest practice run below `runs/`, and only where there is none does it first train one, in minutes.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import show

# %% tags=["parameters"]
runs_dir = "runs"
run = ""  # a finished run's id or folder; empty: the newest practice run
bins = 10
words = True  # load the model, too, for the probabilities of single words

# %% [markdown]
# ## 1 The run
#
# Its predictions are those that it stored for the split that it reports, each with a probability. Gold comes from its
# corpora, which must be the very ones it was trained on.

# %%
from kaggle_kit.analysis.overview import TOYS, arm_of, flag_names
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.experiment import finished_runs
from kaggle_kit.experiment.load_trained_run import judged_split

trained = finished_runs.opened(finished_runs.practice_run(runs_dir, run))
split, flags = judged_split(trained), flag_names(trained.run.facts["flags"])
note = " (no result)" if set(flags) & set(TOYS) else ""
about = {"run": trained.run.run_id, "arm": arm_of(trained.run.manifest()), "split": split}
show.table([about | {"marked": ", ".join(flags) or "nothing"}], f"What is calibrated{note}")

# %% [markdown]
# ## 2 What has a probability
#
# - **mentions**: the product of the probabilities of a mention's words, or fragments and links; right where place and
#   type are gold's. A mention that was missed has no probability: what is calibrated is precision.
# - **relations**: the probability of the likeliest label; right where ends, direction and label are gold's. Of these,
#   too, misses do not count.
# - **ranking**: the probability that a candidate is relevant, of every candidate.
# - **words**: the probability of a word's likeliest tag, before tags are decoded together, of every word.


# %%
def probabilities(task: str, of: str) -> dict:
    found = finished_runs.scores_of(trained, task, *finished_runs.judged(trained, task, of))
    tags = finished_runs.word_scores(trained, task, of) if words else {}
    return {f"{task}, {name}": kind for name, kind in found.items()} | {
        f"{task}, words of {n}": s for n, s in tags.items()
    }


tasks = trained.scored_config.tasks
scored = {what: found for task in tasks for what, found in probabilities(task, split).items()}
dev = (
    scored
    if split == "dev"
    else {what: found for task in tasks for what, found in probabilities(task, "dev").items()}
)

# %% [markdown]
# ## 3 One ECE by hand
#
# Five bins for the first row: how sure, how often right, and how far apart. Each distance counts by the predictions
# in its bin, and the sum is the ECE.

# %%
from kaggle_kit.analysis.calibration import ece, reliability_table

if not scored:
    raise ConfigError(
        f"{trained.run.run_id} predicts nothing that has a probability; name another run by run"
    )
first = next(iter(scored))
example = scored[first]
by_hand = reliability_table(example, bins=5)
by_hand["distance"] = (by_hand["share right"] - by_hand["confidence"]).abs()
by_hand["adds to the ECE"] = by_hand["distance"] * by_hand["n"] / len(example)
shares = dict.fromkeys(by_hand.columns.drop(["bin", "n"]), "{:.3f}")
show.table(by_hand, f"{first}: ECE {by_hand['adds to the ECE'].sum():.4f} in five bins{note}", shares)

# %% [markdown]
# ## 4 Reliability
#
# Bins of equal width. Bars are 95 % Wilson intervals of the share that is right; the lower panels count predictions.
# A point far off the diagonal with a bar that reaches it says little.

# %%
from kaggle_kit.analysis.instrument_figures import reliability_figure

diagrams = {name: reliability_table(found, bins) for name, found in scored.items()}
show.figure(reliability_figure(diagrams, note))

# %% [markdown]
# ## 5 How far off, and whether chance explains it
#
# `gap` is confidence minus share right, with an interval over documents: above 0 the model is too sure. `null` is the
# ECE that a perfectly calibrated model would show at these confidences, the mean of a thousand draws; `excess` is what
# is left, and p the share of draws as large, adjusted over all rows (Holm).

# %%
import numpy as np
import pandas as pd

from kaggle_kit.analysis.calibration import ece_rows, in_words, summary
from kaggle_kit.analysis.stats import holm

generator = np.random.default_rng(0)
gaps = [{"what": name, **summary(found, generator)} for name, found in scored.items()]
percent = {"confidence": "{:.1%}", "share right": "{:.1%}", "Brier": "{:.4f}"}
percent |= dict.fromkeys(("gap", "low", "high"), "{:+.1%}")
show.table(gaps, f"Confidence and share right{note}", percent)
rows = [{"what": name, **row} for name, found in scored.items() for row in ece_rows(found, generator, bins)]
errors = pd.DataFrame(rows).assign(p_holm=lambda table: holm(table["p"]))
formats = dict.fromkeys(("ECE", "null"), "{:.4f}") | {"excess": "{:+.4f}", "p": "{:.3f}", "p_holm": "{:.3f}"}
show.table(errors, f"Expected calibration error{note}", formats)

# %% [markdown]
# ## 6 One temperature
#
# Log-odds are divided by T, the value of the highest likelihood on dev. Where the figures are those of dev itself,
# each half of its documents has the T of the other half, so that no document decides on itself. The order of the
# predictions of a run stays, and with it every score. A kind that is all right or all wrong in a half has no T.

# %%
cooled = []
for name, found in scored.items():
    if name not in dev:  # nothing of the kind was predicted there, so no temperature can be fitted
        continue
    fitted = finished_runs.temperatures(split, found, dev[name])
    if np.isfinite(fitted).all():
        before, after = (ece(one, bins) for one in (found, found.at(fitted)))
        row = {"what": name, "T": " and ".join(map("{:.2f}".format, np.unique(fitted)))}
        cooled.append(row | {"ECE": before, "ECE at T": after, "lower by": before - after})
digits = {"ECE": "{:.4f}", "ECE at T": "{:.4f}", "lower by": "{:+.4f}"}
show.table(cooled, f"ECE before and after, {bins} bins of equal width{note}", digits)

# %% [markdown]
# ## 7 In words

# %%
said = [in_words(row["what"], row, errors.iloc[2 * place].to_dict()) for place, row in enumerate(gaps)]
better = sum(row["lower by"] > 0 for row in cooled)
said.append(f"One temperature lowers the ECE of {better} of {len(cooled)} kinds of predictions.")
show.sentences(said, f"What it says{note}")

# %% [markdown]
# ## Checks
#
# The sum by hand is the library's, Brier's score is scikit-learn's, no temperature changes an order.

# %%
from sklearn.metrics import brier_score_loss

order = np.argsort(example.confidence)
assert abs(by_hand["adds to the ECE"].sum() - ece(example, 5)) < 1e-9
assert abs(gaps[0]["Brier"] - brier_score_loss(example.correct, example.confidence)) < 1e-9
assert all(diagrams[row["what"]]["n"].sum() == row["n"] for row in gaps), "every prediction is in a bin"
assert (errors["null"] > 0).all() and errors["p_holm"].between(0, 1).all()
assert example.logits.shape[1] > 2 or (np.diff(example.at(2.0).confidence[order]) >= -1e-12).all()

# %% [markdown]
# ## How to read it
#
# - An ECE means nothing without its n, its bins and its null: of 200 predictions of a perfect model it is about 0.06.
# - p rests on predictions that err independently of each other. Errors of one document often come together; then p is
#   too small, and the interval of the gap, which draws documents, is the one to go by.
# - A p that is not small proves no calibration. It says that so few predictions show no fault.
# - A calibrated model is not a good one: a share right of 20 % at a confidence of 20 % is calibrated. Brier's score
#   takes both together, and lower is better.
# - A temperature moves all confidences one way. It cannot mend a model that is too sure of some and not sure enough of
#   other predictions.
