"""Views of the pages that look at corpora before anything is trained."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from kaggle_kit.analysis.figures import COLOURS, STYLE, WIDTH
from kaggle_kit.evaluation.contamination import Exchangeability
from kaggle_kit.experiment.show.views import figure


def order(task: str, scores: np.ndarray, test: Exchangeability) -> None:
    """Show what `order_scores` found in the first block, and the released order among random ones."""
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        chart = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        left, right = chart.subplots(1, 2, width_ratios=(1, 1.4))
        block = scores[0][: int(np.isfinite(scores[0, 0]).sum() + 1)]
        image = left.imshow(block[:, : len(block)], cmap="viridis")
        left.set(title=f"{task}: log P(start | end), nats", xlabel="document begun", ylabel="document before")
        chart.colorbar(image, ax=left, shrink=0.85)
        right.hist(test.random, bins=40, color="#b9bec6")
        right.axvline(test.released, color=COLOURS[1], lw=1.8)
        right.set(title=f"released among random orders, p = {test.p:.4f}")
        right.set(xlabel="log-likelihood of the order, nats", ylabel="orders")
    figure(chart)
