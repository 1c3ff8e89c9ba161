"""Linear probes: what logistic regression reads off representations, beyond what it could learn by heart.

    outcome = probe_layers(states, items, seed=0)          # (layers, items, width) of numbers
    outcome.right.mean(axis=1), outcome.control.mean(axis=1)

A probe is fitted on half of the documents and asked of the others, once: were all asked in turn, each by a
probe of the others, they would depend on each other, and a test over documents would reject 10 % at 5 %. Two
figures tell whether a probe shows what representations hold, or only how much it can learn:

- selectivity (Hewitt & Liang 2019): the accuracy less that of a control task, in which every word type has
  one label, drawn at random from the labels as they are. Only who knows the word by heart knows its label.
- online code (Voita & Titov 2020): the bits in which the labels could be sent to somebody who has the
  representations. The first block costs log2 K a label; each further block is sent by the probe of all
  blocks before it, and costs -log2 p. Compression is n log2 K over this length.

Here is neither torch nor a word of text: word types are numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the items, at which a block of the code ends


@dataclass(frozen=True)
class Items:
    """What representations are asked: n items of one property.

    `labels` (n,) are places among `classes`, `words` (n,) numbers of word types, `documents` (n,) names of
    what is kept whole: a document, or all of one patient or question. `places` (n, ends, 3) say where each
    end of an item stands: the row of a token file, first token, last token.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    words: np.ndarray
    documents: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Outcome:
    """What probes make of items at each layer.

    `right` and `control` (layers, asked) are 1.0 where the probe of the property, or of the control task, was
    right, of the items that are `asked` (n,); `bits` (layers, n) what the online code takes for each.
    """

    asked: np.ndarray
    right: np.ndarray
    control: np.ndarray
    bits: np.ndarray


def probe_layers(states: np.ndarray, items: Items, seed: int) -> Outcome:
    """Probe each layer's states, (layers, n, width). Equal seeds draw the same control task and blocks."""
    control, blocks = control_labels(items, seed), blocks_of(items.documents, seed)
    asked = asked_items(items.documents, seed)
    right, learnt = (
        np.array([read_off(layer, labels, asked) for layer in states]) for labels in (items.labels, control)
    )
    bits = np.array([code_lengths(layer, items, blocks) for layer in states])
    return Outcome(asked, right, learnt, bits)


def asked_items(documents: np.ndarray, seed: int) -> np.ndarray:
    """Draw half of the documents, and return True for their items: (n,). The others are to fit on."""
    names, place = np.unique(documents, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % 2 == 0)[place]


def control_labels(items: Items, seed: int) -> np.ndarray:
    """Draw one label for each word type, from the labels as they are, and return it for each item: (n,)."""
    names, place = np.unique(items.words, return_inverse=True)
    return np.random.default_rng(seed).choice(items.labels, size=len(names))[place]


def read_off(rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return 1.0 where a probe of the other items gives an asked one's label: (n, width) -> (asked,)"""
    p = _probabilities(rows[~asked], labels[~asked], rows[asked], labels.max() + 1)
    return np.equal(p.argmax(axis=1), labels[asked]).astype(float)


def code_lengths(rows: np.ndarray, items: Items, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the bits of each item's label, (n,), in an online code over the blocks; rows are (n, width)."""
    bits = np.full(len(items), np.log2(len(items.classes)))
    known = blocks[0]
    for block in blocks[1:]:
        p = _probabilities(rows[known], items.labels[known], rows[block], len(items.classes))
        bits[block] = -np.log2(p[np.arange(len(block)), items.labels[block]])
        known = np.concatenate([known, block])
    return bits


def blocks_of(documents: np.ndarray, seed: int) -> list[np.ndarray]:
    """Split the items at `SHARES` into blocks of whole documents, which come in a drawn order."""
    names, place = np.unique(documents, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(len(names))[place]
    order = np.argsort(rank, kind="stable")
    ends: np.ndarray = np.flatnonzero(np.diff(rank[order], append=-1)) + 1
    cuts = np.unique([ends[np.searchsorted(ends, share * len(order))] for share in SHARES])
    return np.split(order, cuts[:-1])


def chance(items: Items, seed: int) -> dict[str, float]:
    """Return what each figure is without any representation: by counts of the labels alone."""
    bits = code_lengths(np.zeros((len(items), 1)), items, blocks_of(items.documents, seed))
    most = np.bincount(items.labels).max() / len(items)
    told = len(items) * np.log2(len(items.classes)) / bits.sum()
    return {"accuracy": float(most), "selectivity": 0.0, "compression": float(told)}


def _probabilities(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Return p of every class for the rows that are asked, (asked, classes).

    As if each class had been seen once more: (n p + 1) / (n + K). So a class that was not seen has a code,
    too, and where rows say nothing the code is Laplace's.
    """
    p, seen = np.zeros((len(asked), classes)), np.unique(labels)
    if len(seen) == 1:
        p[:, seen] = 1.0
    else:
        # weights so small beforehand that log-odds have variance 1, however wide the rows: on noise a weaker
        # prior makes a probe sure of what it cannot know, and the code longer than that of the counts alone
        probe = LogisticRegression(C=1 / known.shape[1], max_iter=1000)
        probe = make_pipeline(StandardScaler(), probe).fit(known, labels)
        p[:, seen] = probe.predict_proba(asked)
    return (len(labels) * p + 1) / (len(labels) + classes)
