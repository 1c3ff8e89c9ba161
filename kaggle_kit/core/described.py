"""A model that is no file of `params/model`: a local folder or a repository of the hub, by its config.json.

entry = describe("/models/my-roberta")     # what a file of params/model would say, as plain values

Of a folder the contents count, not its place: `weights` is a digest of its files. Of a repository the
commit counts, which `revision` holds.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kaggle_kit.core.architectures import ARCHITECTURES, parameters, positions
from kaggle_kit.core.cache import cache_dir
from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.records import sha256_of, write_atomically
from kaggle_kit.core.schema import quantization_for
from kaggle_kit.core.secrets import HUB, hub_fault, read_secret

CONFIG = "config.json"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # the first that a folder has
TOKENIZER = ("*token*.json", "vocab.*", "merges.txt", "*.model")
LARGE_BYTES = 64 * 2**20


def is_place(name: str) -> bool:
    """Whether a model's name can only be a folder or a repository of the hub."""
    return "/" in name or (Path(name).expanduser() / CONFIG).is_file()


def describe(source: str, revision: str | None = None, taken: Iterable[str] = ()) -> dict[str, Any]:
    """Return the entry of a folder or a repository; a name among `taken` gets a digest's first digits.

    Raises ConfigError for a folder without a config.json, for a repository that cannot be reached, and for
    an architecture that is none of `ARCHITECTURES`.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        file = folder / CONFIG
        if not file.is_file():
            raise ConfigError(f"model {source!r}: the folder holds no {CONFIG}; give one with the weights")
        where = {"path": str(folder.resolve()), "weights": _digest(folder)}
        name, identity = _folder_name(folder.resolve()), where["weights"]
    elif source.count("/") == 1 and source[0] not in "./~":
        file = _from_hub(source, revision)
        where = {"hub_id": source, "revision": revision or file.parent.name}
        name, identity = source.rpartition("/")[2], file.parent.name
    else:
        raise ConfigError(f"model {source!r}: there is no such folder; give one that holds a {CONFIG}")
    return {
        "name": f"{name}-{identity[:8]}" if name in set(taken) else name,
        "title": source if "hub_id" in where else name,
        **where,
        **_read(source, file),
    }


def _read(source: str, file: Path) -> dict[str, Any]:
    """What the file says of the architecture, and the study's LoRA settings for a model of its size."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"model {source!r}: {file} is no model's {CONFIG} ({why})") from error
    if str(kind) not in ARCHITECTURES:
        named = f"{', '.join(ARCHITECTURES)}{nearest(str(kind), ARCHITECTURES)}"
        raise ConfigError(f"model {source!r} is of {kind!r}, which is not supported; supported: {named}")
    known = ARCHITECTURES[kind]
    try:
        size, longest = parameters(config), positions(config)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"model {source!r}: {file} does not say {error}; take its own {CONFIG}") from error
    rank = 32 if quantization_for(size) else 16
    return {
        "family": known.family,
        "architecture": kind,
        "parameters": size,
        "max_positions": longest,
        "lora": {"rank": rank, "alpha": 2 * rank, "dropout": 0.05, "targets": list(known.targets)},
    }


def _folder_name(folder: Path) -> str:
    """Return the folder's own name; in the hub's cache, where that is a commit, the repository's."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return folder.name


def _from_hub(source: str, revision: str | None) -> Path:
    """Return the repository's config.json in the hub's own cache, below a folder named by the commit."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, CONFIG, revision=revision, token=read_secret(HUB)))
    except (OSError, ValueError) as error:
        fault = hub_fault(error, f"{CONFIG} of it")
        raise ConfigError(f"model {source!r}: it is no folder here, and {fault}") from error


def _digest(folder: Path) -> str:
    """16 hex digits over the files that a model and its tokenizer are loaded from."""
    weights = next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    others = {file for pattern in TOKENIZER for file in folder.glob(pattern)}
    files = [folder / CONFIG, *weights, *sorted(others)]
    sums = {file.name: _sum(file) for file in files}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def _sum(file: Path) -> str:
    """Return the SHA-256 of a file; a large one is read once, as long as its place, size and time stay."""
    seen = file.stat()
    if seen.st_size < LARGE_BYTES:
        return sha256_of(file)
    key = f"{file.resolve()}:{seen.st_size}:{seen.st_mtime_ns}"
    note = cache_dir("weights") / hashlib.sha256(key.encode()).hexdigest()
    if not note.is_file():
        write_atomically(note, sha256_of(file))
    return note.read_text(encoding="utf-8")
