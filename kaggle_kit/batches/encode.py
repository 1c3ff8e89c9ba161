"""Tokenise a split once into a memory-mapped Arrow file, cached by the content it was made from.

encoded = encode(samples, spec, tokenizer, PassageSettings(max_length=128))
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from transformers import PreTrainedTokenizerBase

from kaggle_kit.batches.encoded import EncodedTask, encoded_task, features_of, records
from kaggle_kit.batches.reach import Reach
from kaggle_kit.core.cache import build_once, cache_dir
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.data.passages import PassageSettings

VERSION = 9  # raise when the meaning of a column changes: cached files of older versions are not read


def encode(
    samples: Sequence[UnifiedSample],
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    settings: PassageSettings,
) -> EncodedTask:
    """Tokenise the samples of a split, or open the cached file of the same content.

    Raises CorpusError for samples without text and ConfigError where there is nothing to encode.
    """
    digest = hashlib.sha256(json.dumps([VERSION, asdict(spec), asdict(settings)]).encode())
    digest.update(_tokenizer_state(tokenizer).encode())
    for sample in samples:
        digest.update(repr(sample).encode())

    def build(folder: Path) -> None:
        reach, features = Reach(), {name: _feature(kind) for name, kind in features_of(spec).items()}
        with ArrowWriter(path=str(folder / "rows.arrow"), features=Features(features)) as writer:
            for record in records(samples, spec, tokenizer, settings, reach):
                writer.write(record)
            writer.finalize()
        (folder / "reach.json").write_text(json.dumps(asdict(reach)), encoding="utf-8")

    folder = build_once(cache_dir("tokens") / digest.hexdigest()[:24], build)
    reach = Reach(**json.loads((folder / "reach.json").read_text(encoding="utf-8")))
    table = Dataset.from_file(str(folder / "rows.arrow")).with_format("numpy")
    if len(table) == 0:
        raise ConfigError(f"{spec.name}: the split holds no text to encode; check its layout and limits")
    return encoded_task(table, reach, spec)


def _feature(kind: str) -> Value | List:
    return List(Value(kind.removesuffix("[]"))) if kind.endswith("[]") else Value(kind)


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that decides on tokens; what the last call truncated and padded to stays in it, and does not."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({name: part for name, part in state.items() if name not in ("truncation", "padding")})
