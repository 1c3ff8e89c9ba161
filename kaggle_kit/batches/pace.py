"""The pace of a token-controlled baseline: how many steps it takes, and its tokens by the end of each.

    targets = StepTargets.of([912, 887, 905])       # tokens of each step of the multi-task run
    targets.ends                                    # (912, 1799, 2704)
    targets.scaled(900)                             # the share control of 900 tokens: one step
    steps = follow(draws, targets)                  # lists of draws, one a step

Equal tokens must also mean equal optimisation: a baseline that spreads them over twice the steps, or half
of them, could lose by over- or undertraining alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from kaggle_kit.core.errors import ConfigError

FEWEST_ROWS = 2  # of a group on either side of a division: one candidate alone is compared with none
FEWEST_TOKENS = 8  # that a step leaves to the next one, where that one has so many


@dataclass(frozen=True)
class StepTargets:
    """`ends[i]` is how many tokens a run has seen after step i; rising, the last one is its total."""

    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.ends or min(np.diff(self.ends, prepend=0)) < 1:
            begin = list(self.ends)[:5]
            raise ConfigError(f"step targets {begin}… must rise by at least one token a step, from above 0")

    @classmethod
    def of(cls, tokens: Iterable[int]) -> StepTargets:
        """Sum up the tokens of each step."""
        return cls(tuple(accumulate(tokens)))

    @property
    def total(self) -> int:
        """Return the tokens that the run has seen at its end."""
        return self.ends[-1]

    def __len__(self) -> int:
        return len(self.ends)

    def scaled(self, total: int) -> StepTargets:
        """Scale the course to another total, and the number of steps alike, to at least one.

        So a step has about as many tokens as before.
        """
        steps = min(total, max(1, round(len(self) * total / self.total)))
        places = np.arange(1, steps + 1) * len(self) / steps
        course = np.interp(places, np.arange(len(self) + 1), (0, *self.ends)) * total / self.total
        before = np.arange(steps)
        rising = np.maximum.accumulate(np.round(course).astype(int) - before) + before
        ends = rising.clip(before + 1, total - before[::-1])  # rounding leaves no step without a token
        return StepTargets(tuple(int(end) for end in ends))


@dataclass(frozen=True)
class Draw:
    """Rows of one task that stay together: a passage, or a question's candidates.

    `lengths` are their tokens; `beginning` of them are the same in all and count once. `cut` tokens are
    taken off the last row.
    """

    task: str
    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    beginning: int = 0
    cut: int = 0

    @cached_property
    def ends(self) -> np.ndarray:
        """Count the tokens up to and with each row, shape (rows,)."""
        counted = np.array(self.lengths)
        counted[1:] -= self.beginning
        ends = np.cumsum(counted)
        ends[-1] -= self.cut
        return ends

    @property
    def tokens(self) -> int:
        """Return the tokens that count: a common beginning once, those cut off not at all."""
        return int(self.ends[-1])

    def part(self, start: int, stop: int) -> Draw:
        """Return the rows from `start` up to `stop`."""
        return replace(self, rows=self.rows[start:stop], lengths=self.lengths[start:stop])

    def trimmed(self, tokens: int) -> Draw:
        """Return the rows as far as `tokens` reach, the last of them cut to meet that number."""
        if self.tokens <= tokens:
            return self
        rows = int(np.searchsorted(self.ends, tokens)) + 1
        return replace(self.part(0, rows), cut=int(self.ends[rows - 1]) - tokens)

    def divided(self, left: int, room: int) -> tuple[Draw, Draw] | None:
        """Divide the rows in two, the first part near `left` tokens and within `room`; None if none fits."""
        most = len(self.rows) - FEWEST_ROWS
        places = [rows for rows in range(FEWEST_ROWS, most + 1) if self.ends[rows - 1] <= room]
        if not places:
            return None
        rows = min(places, key=lambda rows: abs(int(self.ends[rows - 1]) - left))
        return self.part(0, rows), self.part(rows, len(self.rows))


def follow(draws: Iterator[Draw], targets: StepTargets) -> Iterator[list[Draw]]:
    """Yield the draws as steps: exactly as many as the targets, exactly as many tokens, none of them empty.

    After each step the tokens so far are as near to its target as whole draws bring them, so no drift
    builds up. Where not even one more draw belongs into a step that is still empty, it takes a part: a
    group is divided, the rest opens the next step; a passage, or what cannot be divided, is cut. The last
    step ends on the total, its last sequence cut. `draws` must not end before.
    """
    done, waiting = 0, None
    for number, end in enumerate(targets.ends):
        last = number == len(targets) - 1
        # so that the next step, too, has tokens to take
        room_end = end if last else max(end, targets.ends[number + 1] - FEWEST_TOKENS)
        step: list[Draw] = []
        while done < end:
            draw, waiting = waiting or next(draws), None
            left, room = end - done, room_end - done
            taken = draw.trimmed(left) if last else draw
            if taken.tokens > min(2 * left, room):  # without it the step would end nearer to its target
                if step:
                    waiting = draw
                    break
                taken, waiting = draw.divided(left, room) or (draw.trimmed(left), None)
            step.append(taken)
            done += taken.tokens
        yield step


def fill(draws: Iterator[Draw], sequences: int, total: int | None) -> Iterator[list[Draw]]:
    """Yield steps of at least `sequences` rows until the draws end, or to the token at `total` tokens."""
    step: list[Draw] = []
    done = 0
    for draw in draws:
        taken = draw if total is None else draw.trimmed(total - done)
        step.append(taken)
        done += taken.tokens
        if sum(len(one.rows) for one in step) >= sequences or done == total:
            yield step
            step = []
        if done == total:
            return
    if step:
        yield step
