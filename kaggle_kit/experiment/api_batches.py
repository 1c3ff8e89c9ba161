"""Many requests as one batch, at a part of the price and within a day.

    ask(reader, requests)          # fills the reader's cache; what a batch leaves out is asked one by one

What is under way stands in a file beside the cache: the reservation before anything is sent, then the id of
the batch. A run that goes on after a crash waits for the same batch. One that crashed between the two looks
for a batch with its own mark at the service before it makes another.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.core.records import to_json, write_atomically
from kaggle_kit.core.runtime import logger
from kaggle_kit.evaluation.api_answers import ApiError, assert_within, completion, cost_of

if TYPE_CHECKING:
    from kaggle_kit.experiment.api_reader import ApiReader

ADDRESS = "/v1/chat/completions"
POLL_SECONDS = 30.0
LOOKED_AT = 200  # batches at the service, the newest
ENDED = ("completed", "expired", "cancelled", "failed")
MARK = "kaggle_kit"


def ask(reader: ApiReader, requests: Sequence[dict[str, Any]]) -> None:
    """Send the requests that have no answer yet, wait, and keep the answers. ApiError after too long."""
    by_key = {reader.key(request): request for request in requests}
    mark = hashlib.sha256("".join(sorted(by_key)).encode()).hexdigest()
    path = reader.cache.folder / "batches" / f"{mark}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the same batch is made by one process
        state = _begun(path) or _reserved(reader, by_key, path)
        if state is None:
            return
        if state["batch"] is None:
            state["batch"] = _sent(reader, {key: by_key[key] for key in state["keys"]}, mark)
            write_atomically(path, to_json(state))
        batch = _waited_for(reader, state["batch"])
        most = {key: reader.model.most(by_key[key], batch=True) for key in state["keys"]}
        costs = most if batch.status == "completed" else dict.fromkeys(most, Decimal(0))
        for line in _lines(reader, batch):
            costs = costs | _kept(reader, by_key, line)
        path.unlink()  # before the sum is settled: a crash in between counts too much, not too little
        reader.ledger.settle(state["token"], cost := sum(costs.values(), Decimal(0)))
        assert_within(cost, sum(most.values(), Decimal(0)), reader.model.host)


def _begun(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _reserved(reader: ApiReader, by_key: dict[str, Any], path: Path) -> dict[str, Any] | None:
    missing = [key for key in by_key if reader.cache.get(key) is None]
    if not missing:
        return None
    most = sum((reader.model.most(by_key[key], batch=True) for key in missing), Decimal(0))
    state = {"token": reader.ledger.reserve(most), "keys": missing, "batch": None}
    write_atomically(path, to_json(state))
    return state


def _sent(reader: ApiReader, by_key: dict[str, Any], mark: str) -> str:
    """Return the id of the batch with this mark; it is made unless it is there."""
    batches = reader.client.batches
    for known in islice(batches.list(limit=100), LOOKED_AT):
        if (known.metadata or {}).get(MARK) == mark and known.status not in ("failed", "cancelled"):
            return str(known.id)
    lines = (
        json.dumps({"custom_id": key, "method": "POST", "url": ADDRESS, "body": request})
        for key, request in by_key.items()
    )
    file = reader.client.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch")
    reader.count(requests=len(by_key))
    made = batches.create(
        input_file_id=file.id, endpoint=ADDRESS, completion_window="24h", metadata={MARK: mark}
    )
    return str(made.id)


def _waited_for(reader: ApiReader, name: str) -> Any:
    until = time.monotonic() + reader.settings.wait_seconds
    while (batch := reader.client.batches.retrieve(name)).status not in ENDED:
        if time.monotonic() >= until:
            raise ApiError(f"batch {name} is {batch.status}; the same command goes on waiting for it")
        logger.info("batch %s is %s", name, batch.status)
        reader.sleep(POLL_SECONDS)
    return batch


def _lines(reader: ApiReader, batch: Any) -> list[str]:
    names = [name for name in (batch.output_file_id, batch.error_file_id) if name]
    return [line for name in names for line in reader.client.files.content(name).text.splitlines() if line]


def _kept(reader: ApiReader, by_key: dict[str, Any], line: str) -> dict[str, Decimal]:
    """Keep the answer in a line of a batch's files; return its key with what it costs, an error 0."""
    try:
        said = json.loads(line)
        key, response = said["custom_id"], said["response"] or {}
        request, status = by_key[key], response.get("status_code")
        body = completion(json.dumps(response.get("body"))) if status == 200 else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    if body is None:
        return {key: Decimal(0)}
    reader.cache.put(key, request, body)
    return {key: cost_of(reader.model, body, reader.model.most(request, batch=True), batch=True)}
