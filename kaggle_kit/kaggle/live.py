"""The live table of a chain: redrawn in a terminal, one line per change in a log file.

with live_table(links) as show: Chain(client, links).run(show)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kaggle_kit.kaggle.link import Link

COLUMNS = ("experiment", "phase", "session", "step", "tries", "note")


def row(link: Link) -> tuple[str, ...]:
    """One experiment as text, in the order of COLUMNS."""
    tries = str(link.retries + link.refusals)
    return link.ref.rpartition("/")[2], link.phase.value, str(link.session), str(link.step), tries, link.note


def table(links: Sequence[Link]) -> Table:
    shown = Table(*COLUMNS, box=None)
    for link in links:
        shown.add_row(*row(link))
    return shown


@contextmanager
def live_table(
    links: Sequence[Link], console: Console | None = None
) -> Iterator[Callable[[Sequence[Link]], None]]:
    """What `Chain.run` calls after every change."""
    console = console or Console()
    if console.is_terminal:
        with Live(table(links), console=console, auto_refresh=False) as live:
            yield lambda changed: live.update(table(changed), refresh=True)
        return
    said: dict[str, tuple[str, ...]] = {}

    def show(changed: Sequence[Link]) -> None:
        for link in changed:
            if said.get(link.ref) != row(link):
                said[link.ref] = row(link)
                console.print("  ".join(row(link)), soft_wrap=True, markup=False, highlight=False)

    yield show
