"""Predictions of a finished run, read back from `predictions/<task>.<split>.jsonl`.

samples = read_predictions(run, "semeval2014t7", "dev")
"""

from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.integrity import assert_unchanged
from kaggle_kit.core.records import read_records, reading
from kaggle_kit.core.types import Access, Mention, RankedPair, Relation, UnifiedSample


def read_predictions(run: RunFolder, task: str, split: str) -> list[UnifiedSample]:
    """Return the predicted samples of a split, without texts, in the order in which they were predicted.

    RunFolderError where the run kept none, and where the file was edited since or is damaged.
    """
    path = run.predictions / f"{task}.{split}.jsonl"
    if not path.is_file():
        kept = ", ".join(sorted(file.stem for file in run.predictions.glob("*.jsonl"))) or "none"
        raise RunFolderError(f"{run.run_id} kept no predictions of {task} on {split}; it has {kept}")
    assert_unchanged(run.path, run.manifest()["files"], ("predictions",))
    with reading(path):
        return [_sample(**record) for record in read_records(path)]


def _sample(access: str, mentions: list, relations: list, pairs: list, **fields: Any) -> UnifiedSample:
    return UnifiedSample(
        text=None,
        access=Access(access),
        mentions=tuple(Mention(**_tuples(one, "fragments", "concepts")) for one in mentions),
        relations=tuple(Relation(**_tuples(one, "roles")) for one in relations),
        pairs=tuple(RankedPair(text="", **one) for one in pairs),
        **fields,
    )


def _tuples(record: dict[str, Any], *names: str) -> dict[str, Any]:
    """The record with tuples for the lists, and for the lists in them, under these names."""
    lists = {name: (tuple(one) if isinstance(one, list) else one for one in record[name]) for name in names}
    return record | {name: tuple(found) for name, found in lists.items()}
