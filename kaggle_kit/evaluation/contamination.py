"""Layer 2 of the contamination report: does a causal model know documents that it is scored on?

    scores = order_scores(model, tokenizer, texts)
    exchangeability(scores, np.random.default_rng(seed)).p             # the verdict
    separation(min_k(model, tokenizer, texts), min_k(model, tokenizer, controls))     # evidence

**The verdict.** A model that has not read a file finds its documents no likelier in the released order than
in any other, as long as that order is exchangeable (Oren et al. 2024). Here the likelihood of an order is
that of each document's first tokens after the last tokens of the one before, so all orders come from one
matrix. p is the rank of the released order among random ones, which makes the rate of false positives exact.
Orders that say something, such as by type or by topic, are not exchangeable, and p means nothing there.

**The evidence.** Min-K%++ (Zhang et al. 2025) of the documents against those of a control that the model
cannot have read. Where a bag of words tells the two apart as well, it is a difference of texts, and none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kaggle_kit.core.types import UnifiedSample

ALPHA = 0.01  # of one task, so that five tasks together have at most 5 % false alarms
ORDERS = 1999  # random ones, beside the released one
LEAST_DOCUMENTS = 10  # that an order is tested with
BLOCK = 16  # documents that follow each other and are put in other orders among themselves
EDGE = 32  # tokens at the end of one document and at the beginning of the next
LOWEST = 0.2  # of a document's tokens, Min-K%++
MOST_TOKENS = 512  # of a document, Min-K%++
ROWS = 32  # sequences read together
BLIND = 0.15  # from 0.5: farther off, a bag of words tells texts and control apart


class Outcome(StrEnum):
    """What is said of a model and a task; that they are clean is never proven."""

    SUSPECTED = "suspected"
    UNKNOWN = "unknown"
    NO_SIGN = "no sign found"


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of several layers: one suspicion is enough, and what is unknown stays unknown."""
    found = set(outcomes)
    return next((one for one in (Outcome.SUSPECTED, Outcome.UNKNOWN) if one in found), Outcome.NO_SIGN)


def outcome_table(
    likelihood: Iterable[Mapping[str, Any]], flagged: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Return one row per task with the outcome of each layer and of all.

    `likelihood` are rows with task, n (its documents that have text) and outcome; `flagged`: task -> ids.
    """
    rows = []
    for row in likelihood:
        ids = flagged[row["task"]]
        data = Outcome.SUSPECTED if ids else Outcome.NO_SIGN if row["n"] else Outcome.UNKNOWN
        layers = {"data": data, "likelihood": row["outcome"], "behaviour": "not measured"}
        whole = overall((data, row["outcome"]))
        rows.append({"task": row["task"], **layers, "outcome": whole, "flagged": len(ids)})
    return rows


def why_untested(family: str, samples: Sequence[UnifiedSample], by_name: bool = False) -> str | None:
    """Return why the order of these documents says nothing of a model of this family; None where it does.

    `by_name`: the order of file names counts as a released one.
    """
    files = {sample.provenance.path for sample in samples if sample.provenance}
    if family != "decoder":
        return "an encoder gives no likelihood of a text"
    if len(samples) < LEAST_DOCUMENTS:
        return f"{len(samples)} documents, and {LEAST_DOCUMENTS} are needed"
    if not by_name and not 0 < len(files) < len(samples):
        return "every document is a file of its own, so none was released before another"
    return None


@dataclass(frozen=True)
class Exchangeability:
    """The released order among random ones: their log-likelihoods in nats, and p, its rank among all."""

    released: float
    random: np.ndarray
    p: float

    @property
    def outcome(self) -> Outcome:
        """Suspected where p is at most ALPHA."""
        return Outcome.SUSPECTED if self.p <= ALPHA else Outcome.NO_SIGN

    @property
    def row(self) -> dict[str, Any]:
        """The figures of a table."""
        figures = {"released": self.released, "random, mean": float(self.random.mean()), "p": self.p}
        return figures | {"outcome": self.outcome}


def order_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> np.ndarray:
    """Return log P(beginning of document j | end of document i) in nats, (blocks, BLOCK, BLOCK).

    `texts` stand in their order; a block is BLOCK of them in a row. The diagonal and what the last block
    lacks are NaN.
    """
    rows, first = _tokens(tokenizer, texts)
    line = tokenizer("\n", add_special_tokens=False)["input_ids"]
    scores = np.full((-(-len(rows) // BLOCK), BLOCK, BLOCK), np.nan)
    places = [place for place in np.ndindex(*scores.shape) if place[1] != place[2]]
    pairs = [(block, i, j) for block, i, j in places if block * BLOCK + max(i, j) < len(rows)]
    for start in range(0, len(pairs), ROWS):
        part = pairs[start : start + ROWS]
        ends = [[*first, *rows[block * BLOCK + i][-EDGE:], *line] for block, i, _ in part]
        wholes = [end + rows[block * BLOCK + j][:EDGE] for end, (block, _, j) in zip(ends, part, strict=True)]
        for place, end, (logs, ids) in zip(part, ends, _log_p(model, wholes), strict=True):
            begin = len(end) - 1
            scores[place] = float(logs[begin:].gather(-1, ids[begin:, None]).sum())
    return scores


def exchangeability(scores: np.ndarray, rng: np.random.Generator, orders: int = ORDERS) -> Exchangeability:
    """Test whether the released order is likelier than random orders within each block, one-sided.

    p = (1 + random orders at least as likely) / (1 + random orders). Of models that know nothing of an
    exchangeable order, at most a share of alpha gets a p of at most alpha.
    """
    released, random = 0.0, np.zeros(orders)
    for block in scores:
        given = np.arange(1 + np.isfinite(block[0]).sum())  # a document is no pair with itself
        released += block[given[:-1], given[1:]].sum()
        others = rng.permuted(np.tile(given, (orders, 1)), axis=1)
        random += block[others[:, :-1], others[:, 1:]].sum(axis=1)
    as_likely = int((random >= released - 1e-6).sum())
    return Exchangeability(float(released), random, (1 + as_likely) / (1 + orders))


def min_k(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], lowest: float = LOWEST
) -> np.ndarray:
    """Return Min-K%++ of each text's first tokens, (texts,): higher where its rarest tokens are likelier.

    A token's log-probability less its mean over the vocabulary, in standard deviations; of these the mean of
    the lowest fifth. NaN for a text without a token to predict.
    """
    rows, first = _tokens(tokenizer, texts)
    found = np.full(len(rows), np.nan)
    for place, row in enumerate(rows):
        if len(whole := [*first, *row][:MOST_TOKENS]) < 2:
            continue
        ((logs, ids),) = _log_p(model, [whole])
        weights = logs.exp()
        mean = (weights * logs).sum(-1)
        deviation = ((weights * logs.square()).sum(-1) - mean.square()).clamp(min=1e-6).sqrt()
        z = (logs.gather(-1, ids[:, None])[:, 0] - mean) / deviation
        found[place] = float(z.sort().values[: max(1, int(lowest * len(z)))].mean())
    return found


def separation(members: np.ndarray, controls: np.ndarray) -> dict[str, float]:
    """Return the AUROC of members above controls, its 95 % interval and one-sided p.

    The interval is Newcombe's (2006, score method): it has a width where all members are above.
    """
    members, controls = members[np.isfinite(members)], controls[np.isfinite(controls)]
    m, n = len(members), len(controls)
    test = mannwhitneyu(members, controls, alternative="greater")
    area = float(test.statistic / (m * n))
    ends = {"low": _lowest_area(area, m, n), "high": 1 - _lowest_area(1 - area, n, m)}
    return {"AUROC": area, **ends, "p": float(test.pvalue)}


def _lowest_area(area: float, m: int, n: int) -> float:
    """The smallest area from which the one found lies 1.96 standard errors away (Hanley, McNeil 1982)."""

    def beyond(true: float) -> float:
        variance = true * (1 - true) + (m - 1) * (true / (2 - true) - true**2)
        variance += (n - 1) * (2 * true**2 / (1 + true) - true**2)
        return area - true - 1.96 * math.sqrt(max(0.0, variance) / (m * n))

    return float(brentq(beyond, 0, area - 1e-9)) if area > 1e-9 else 0.0


def evidence(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], controls: Sequence[str]
) -> dict[str, Any]:
    """Return the `separation` of texts and controls by Min-K%++ and by words alone; of few, nothing."""
    if min(len(texts), len(controls)) < LEAST_DOCUMENTS:
        return {}
    found = separation(*(min_k(model, tokenizer, side) for side in (texts, controls)))
    blind = blind_separation(texts, controls)
    says = "likelier than the control" if found["p"] <= ALPHA else "no likelier than the control"
    says = "nothing, the words differ" if abs(blind - 0.5) > BLIND else says
    return {"n": len(texts), "control": len(controls), **found, "blind": blind, "says": says}


def blind_separation(texts: Sequence[str], controls: Sequence[str]) -> float:
    """Return the AUROC of a bag of words that has seen no model, cross-validated (Das et al. 2025)."""
    labels = [1] * len(texts) + [0] * len(controls)
    blind = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    folds = min(5, len(texts), len(controls))
    said = cross_val_predict(blind, [*texts, *controls], labels, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, said))


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
    """The tokens of each text, and those that a sequence begins with."""
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return rows, [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


@torch.inference_mode()
def _log_p(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> list[tuple[Tensor, Tensor]]:
    """For each row its next-token log-probabilities, (length - 1, vocabulary), and the tokens that came."""
    longest = max(map(len, rows))
    padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
    kept = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    logits = model(input_ids=padded, attention_mask=kept, use_cache=False).logits
    return [
        (F.log_softmax(given[: len(row) - 1].float(), dim=-1), ids[1 : len(row)])
        for row, given, ids in zip(rows, logits, padded, strict=True)
    ]
