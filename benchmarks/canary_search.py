"""Find planted words in everything below some folders, in archives and in kits that pages carry, too.

findings, looked = search([folder], {"canary": words, "token": tokens})
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = re.compile(rb'b85decode\((?:\\"|"){3}(?:\\n|\s)*([!#-&(-+\-0-Z^-~\\n\s]{100,}?)(?:\\"|"){3}')


@dataclass(frozen=True)
class Finding:
    """What was found, and in which file; the word itself is not repeated."""

    what: str
    path: Path
    times: int

    def __str__(self) -> str:
        return f"FOUND {self.what}: {self.times} in {self.path}"


def search(
    folders: Iterable[Path], planted: Mapping[str, Sequence[str]]
) -> tuple[list[Finding], dict[str, int]]:
    """Findings, and how many files and bytes were looked at. Upper and lower case are one."""
    findings, looked = [], {"files": 0, "bytes": 0}
    for path in files(folders):
        looked["files"] += 1
        counts = dict.fromkeys(planted, 0)
        for content in (path.name.encode(), *contents(path.read_bytes())):
            looked["bytes"] += len(content)
            for what, words in planted.items():
                counts[what] += count(content, words)
        findings += [Finding(what, path, times) for what, times in counts.items() if times]
    return findings, looked


def files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
        yield from (path for path in found if path.is_file() and not path.is_symlink())


def count(content: bytes, words: Sequence[str]) -> int:
    lowered = content.lower()
    return sum(lowered.count(word.lower().encode()) for word in words)


def contents(raw: bytes) -> Iterator[bytes]:
    """The bytes as they are, then whatever is packed in them."""
    yield raw
    for match in EMBEDDED.finditer(raw):
        try:
            text = match[1].replace(b"\\n", b"").translate(None, b" \n")
            yield from contents(base64.b85decode(text))
        except (binascii.Error, ValueError):
            continue
    try:
        if raw[:2] == b"\x1f\x8b":
            yield from contents(gzip.decompress(raw))
        elif raw[:6] == b"\xfd7zXZ\x00":
            yield from contents(lzma.decompress(raw))
        elif raw[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                for name in archive.namelist():
                    yield from contents(archive.read(name))
        elif raw[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
                for member in archive:
                    if member.isfile():
                        yield archive.extractfile(member).read()
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError):
        return
