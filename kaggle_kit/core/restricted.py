"""Restricted text stays where it lies: what a message, a file or a service may see of it instead.

    with withholding(task.access):
        f"found offset {quoted(field)}"        # 'twelve', or for restricted text <6 characters withheld>
    for_files(sample)                          # offsets, labels and hashes, without a word of the text
    prediction_line(sample)                    # the same as JSON, of public and restricted corpora alike

A corpus under a data use agreement is `access: restricted`. Its text may be read into memory and into
the local cache (`core/cache.py`), and reaches nothing else.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import CorpusError, KitError
from kaggle_kit.core.records import plain
from kaggle_kit.core.types import Access, UnifiedSample

# The labels of ShARe/CLEF and SemEval 2014 and 2015, of THYME and Clinical TempEval, in lower case.
WORDS = """
yes no true false null cui-less none n/a unmarked
patient family_member donor_family_member donor_other other
changed increased decreased improved worsened resolved slight moderate severe
before overlap after before/overlap contains contains-subevent begins-on ends-on noted-on
aspectual evidential continues initiates reinitiates terminates most little pos neg
actual hypothetical hedged generic novel intermittent undetermined finite permanent
date time duration quantifier prepostexp set
"""
LABELS = frozenset(WORDS.split())
# A CUI, a MeSH, OMIM or other numbered id, several of them, offsets, a reference to an annotation, a hash.
NUMBERED = r"(?:(?:MESH|OMIM|UMLS|SNOMEDCT(?:_US)?|RXNORM|ICD\d*):)?[A-Z]{0,2}\d+(?:[.-]\d+)*"
IDENTIFIER = re.compile(
    rf"|-|-1|CUI-less|null|{NUMBERED}(?:[,;|+]{NUMBERED})*|\d+@[er]@[\w.-]+@\w+|sha256:[0-9a-f]{{16}}", re.I
)
LEFT_OUT = ("text", "metadata", "provenance")  # of predictions; readers may fill metadata with titles

_withheld: ContextVar[bool] = ContextVar("withheld", default=False)


@contextmanager
def withholding(access: Access | str) -> Iterator[None]:
    """Let `quoted` give nothing away of a restricted corpus for as long as the block lasts."""
    token = _withheld.set(Access(access) == Access.RESTRICTED)
    try:
        yield
    finally:
        _withheld.reset(token)


def quoted(text: str, most: int = 60) -> str:
    """Return a corpus file's text for a message: its beginning in quotes, or its length if withheld."""
    return f"<{len(text)} characters withheld>" if _withheld.get() else repr(text[:most])


def unless_withheld(message: str, instead: str) -> str:
    """Return a library's message on a corpus file, or `instead` of it where the text is withheld."""
    return instead if _withheld.get() else message


@contextmanager
def reading(path: Path, access: Access | str) -> Iterator[None]:
    """Limit the errors of a reader or scorer of a restricted corpus to path, line and kind.

    Tracebacks print the errors that an error came from, so those are cut off; and an error that nobody
    foresaw, whose message may hold anything, becomes a CorpusError that names its type.
    """
    with withholding(access):
        if Access(access) != Access.RESTRICTED:
            yield
            return
        try:
            yield
        except KitError as error:
            raise error from None
        except Exception as error:
            found = f"content that the reader did not foresee ({type(error).__name__})"
            raise CorpusError(path, found=found, expected="files of the corpus's format") from None


def hide_values() -> None:
    """Make a notebook print errors without the code and the values that some tracebacks show."""
    ipython = sys.modules.get("IPython")
    if ipython and (shell := ipython.get_ipython()):
        shell.InteractiveTB.set_mode("Minimal")


def for_files(sample: UnifiedSample) -> UnifiedSample:
    """Return a sample as it may be written outside the cache: unchanged, or restricted without its text.

    Offsets, types, ids and scores stay. An attribute's value stays where it is one of the labels of the
    official formats, a number or an id, and a concept where it is an id. A hash stands for any other, of one
    word or of many: the same for the same words, so scores do not change.
    """
    if sample.access != Access.RESTRICTED:
        return sample
    return replace(
        sample,
        text=None,
        mentions=tuple(
            replace(m, attributes=_labels(m.attributes), concepts=tuple(map(_concept, m.concepts)))
            for m in sample.mentions
        ),
        relations=tuple(replace(r, attributes=_labels(r.attributes)) for r in sample.relations),
        pairs=tuple(replace(pair, text="") for pair in sample.pairs),
    )


def _labels(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: v if v.lower() in LABELS else _concept(v) for name, v in attributes.items()}


def _concept(concept: str) -> str:
    if IDENTIFIER.fullmatch(concept):
        return concept
    return f"sha256:{hashlib.sha256(concept.encode()).hexdigest()[:16]}"


def prediction_line(sample: UnifiedSample) -> str:
    """Return one sample as one line of JSON, line end included."""
    record = _record(for_files(sample))
    for part in ("mentions", "relations", "pairs"):
        record[part] = [_record(annotation) for annotation in record[part]]
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"


def _record(part: Any) -> dict[str, Any]:
    return {item.name: getattr(part, item.name) for item in fields(part) if item.name not in LEFT_OUT}
