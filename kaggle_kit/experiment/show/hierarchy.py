"""What S3b does: the way of a batch through its layers, and what level 2 takes from level 1."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kaggle_kit.analysis.figures import STYLE, WIDTH, no_data
from kaggle_kit.core.types import Access, relation_parts
from kaggle_kit.evaluation.levels import Passes, cross_level_figures, relations_reached, sentence_attention
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.results import predictions
from kaggle_kit.experiment.show.views import figure, show_html, table

NONE = "No task of this run has relations between mentions."
LONGEST = 32  # tokens of a sentence whose attention is drawn
COUNTS = ("relations", "both mentions found", "relation found")


def level_passes(passes: Passes, states: Sequence[Tensor]) -> None:
    """Show which layers ran one after the other with which adapters, and the states that came out.

    `passes` are those of `layer_passes`; `states` (tokens, hidden) what each stretch of them gave.
    """
    runs = _stretches(passes)
    order = ["once" if sum(layers == other for other, _ in runs) == 1 else "twice" for layers, _ in runs]
    rows = [
        {
            "pass": number,
            "layers": f"{layers[0]} to {layers[-1]}",
            "runs": often,
            "adapters": " + ".join(adapters),
            "norm of a state": float(given.float().norm(dim=-1).mean()),
            "moved from the pass before": _moved(given, states[number - 2]) if number > 1 else None,
        }
        for number, ((layers, adapters), often, given) in enumerate(zip(runs, order, states, strict=True), 1)
    ]
    formats = {"norm of a state": "{:.2f}", "moved from the pass before": "{:.3f}"}
    table(pd.DataFrame(rows), "The way of one batch, before training", formats)


def cross_level(exp: Experiment, split: str = "dev", samples: int = 20) -> None:
    """Show how much level 2 takes from level 1, and from which of its tokens, on a few samples."""
    found = cross_level_figures(exp.model, exp.batches(split, samples))
    rows = [{"task": task, **figures} for task, figures in found.items()]
    title = f"What level 2 takes from level 1, mean over tokens of at most {samples} {split} samples a task"
    formats = {name: "{:.3f}" for row in rows for name in row if name != "task"}
    table(pd.DataFrame(rows), title, formats)


def attention_map(exp: Experiment, task: str, split: str = "dev") -> None:
    """Show what the first sentence's tokens look at on level 1; words of restricted text are withheld."""
    batch = exp.batches(split, 1)[task][0]
    weights = sentence_attention(exp.model, batch)
    if weights is None:
        figure(no_data("the levels are joined by concatenation: there is no attention to show"))
        return
    words = exp.backbone.tokenizer.convert_ids_to_tokens(batch.input_ids[: len(weights)].tolist())
    if exp.samples(split)[task][0].access == Access.RESTRICTED:
        words = [str(number) for number in range(len(words))]
    figure(_map(weights[:LONGEST, :LONGEST], words[:LONGEST], f"{task}: attention across levels, {split}"))


def relations_within_reach(exp: Experiment, split: str = "dev") -> None:
    """Show which gold relations could be found at all: those with both mentions found on level 1."""
    rows = []
    for task, spec in exp.specs.items():
        gold = exp.samples(split)[task]
        if not relation_parts(spec) or not any(sample.relations for sample in gold):
            continue
        counts = relations_reached(gold, predictions(exp, task, gold))
        every, reached, found = (counts[name] for name in COUNTS)
        rows.append({"task": task, **counts, "within reach": reached / every, "recall": found / every})
    shares = dict.fromkeys(("within reach", "recall"), "{:.1%}")
    if not rows:
        show_html("", f"<div>{NONE}</div>", NONE)
        return
    table(pd.DataFrame(rows), f"Gold relations of {split}, and their mentions", shares)


def _stretches(passes: Passes) -> list[tuple[list[int], tuple[str, ...]]]:
    """([layers], adapters) of layers that ran in a row with the same adapters."""
    return [([layer for layer, _ in run], names) for names, run in groupby(passes, key=lambda one: one[1])]


def _moved(states: Tensor, before: Tensor) -> float:
    return float((states - before).float().norm() / before.float().norm())


def _map(weights: Tensor, words: Sequence[str], title: str) -> Figure:
    """(queries, keys) as a heat map with its words on both sides."""
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        drawn = Figure(figsize=(WIDTH, WIDTH * 0.8), layout="constrained")
        axes = drawn.subplots()
        image = axes.imshow(weights.numpy(), cmap="Blues", vmin=0.0)
        axes.set_xticks(range(len(words)), words, fontsize=6, rotation=90)
        axes.set_yticks(range(len(words)), words, fontsize=6)
        axes.set(title=f"{title}, {len(words)} tokens", xlabel="level-1 features of", ylabel="asking token")
        drawn.colorbar(image, label="weight", shrink=0.7)
        return drawn
