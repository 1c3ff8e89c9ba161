"""The errors a user meets. Each says what was wrong, the value, what is allowed and what to do.

raise CorpusError(path, line=3, found="4 fields", expected="5, 7, 9 … fields")
"""

import difflib
from collections.abc import Iterable
from pathlib import Path

STOPPED = 130  # exit code after Ctrl-C, as shells have it


class KitError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 2  # of the command that it ends: 2 for what the user can mend beforehand
    label = "error"  # what a command line calls it


class ConfigError(KitError):
    """A configuration that cannot be run: unknown key, wrong type, impossible combination."""


class CorpusMissing(KitError):
    """A corpus is not where it was looked for; the message lists the steps to get it."""


class CorpusError(KitError):
    """A corpus file that does not follow its format.

    `files_read` is how many files of the corpus had been read without fault before this one.
    """

    def __init__(
        self, path: Path | str, *, found: str, expected: str, line: int | None = None, files_read: int = 0
    ) -> None:
        self.path = Path(path)
        self.line = line
        self.found = found
        self.expected = expected
        self.files_read = files_read
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line is not None else f"{self.path}"
        before = f"({self.files_read} file(s) read before it)"
        return f"{where}: found {self.found}; expected {self.expected} {before}"


class StartupError(KitError):
    """The machine cannot carry the run; the message lists every reason at once."""


class ScoreError(KitError):
    """The official scorer would refuse these files; the message says which line and why."""


class RunFolderError(KitError):
    """A run folder that is unfinished, damaged, or not what was asked for."""


class DiskError(KitError, OSError):
    """A place that cannot be written: full, read-only, or closed to this user. `errno` says which."""

    def __str__(self) -> str:
        return str(self.strerror)


class IncomparableRuns(KitError):
    """Runs that differ in what their comparison holds fixed; `field` is its name in the manifest."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


MOST_HINTS = 3  # allowed names that a hint lists


def refuse(problems: Iterable[str]) -> None:
    """Raise ConfigError with a line for each problem, unless there is none."""
    if found := list(problems):
        raise ConfigError("\n".join(found))


def unknown(what: str, name: str, allowed: Iterable[str]) -> ConfigError:
    """Return the error for a name of something that is none of those allowed, with the nearest one."""
    known = list(allowed)
    return ConfigError(f"unknown {what} {name!r}; allowed: {', '.join(known)}{nearest(name, known)}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return the closest allowed names as a hint: `" — did you mean 'minilm'?"`, or an empty string.

    Names that begin with what was typed come before those that hold it, and these before similar ones.
    """
    known, typed = list(allowed), name.lower()
    begun = [one for one in known if typed and one.lower().startswith(typed)]
    holding = [one for one in known if len(typed) > 1 and typed in one.lower()]
    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    initials = [one for one in known if "".join(word[:1] for word in one.split("_")) == typed]
    close = begun or holding or similar or initials
    return f" — did you mean {' or '.join(map(repr, close[:MOST_HINTS]))}?" if close else ""
