"""What every written file rests on: bytes forced to the disk, their checksum, and errors that name the place.

with writing(path):
    path.write_text(text)      # DiskError where the disk is full, read-only or closed to this user
sync(path)
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaggle_kit.core.errors import DiskError

ELSEWHERE = "or name a folder on another disk"
FORBIDDEN = f"this user has no permission there: change it, {ELSEWHERE}"
REMEDIES = {
    errno.ENOSPC: f"the disk is full: free some space there, {ELSEWHERE}",
    errno.EDQUOT: f"this user's quota is used up: free some space there, {ELSEWHERE}",
    errno.EROFS: f"the disk is read-only: mount it for writing, {ELSEWHERE}",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
}


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Turn an OSError of a full, read-only or forbidden place into a DiskError that names it.

    An empty `place` leaves it to the error to say where it was.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        where = place or error.filename or "a file"
        raise DiskError(error.errno, f"{where} cannot be used: {REMEDIES[error.errno]}") from error


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
