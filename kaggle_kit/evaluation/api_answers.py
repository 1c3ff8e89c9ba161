"""Responses of an API: whether one is a chat completion, what it cost, and the cache that keeps it.

cache = AnswerCache(cache_dir("api"))
cache.put(key, request, completion(text)); cache.get(key)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from kaggle_kit.core.errors import KitError
from kaggle_kit.core.records import write_atomically
from kaggle_kit.evaluation.api_prices import ApiModel

Json = dict[str, Any]
COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")


class ApiError(KitError):
    """The service gave no answer that another attempt would mend; answers so far are kept."""


@dataclass(frozen=True)
class AnswerCache:
    """Responses in a folder of files, by the hash of their requests; a damaged file counts as none."""

    folder: Path

    def get(self, key: str) -> Json | None:
        """Return the response to a request; None where there is none."""
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))["response"]
            return completion(json.dumps(found))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def put(self, key: str, request: Mapping[str, Any], response: Json) -> None:
        """Keep a response, whole or not at all."""
        write_atomically(self._path(key), json.dumps({"request": request, "response": response}))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def completion(text: str) -> Json:
    """Return the response in a body. ValueError for one that is no chat completion."""
    try:
        body = json.loads(text)
        message = body["choices"][0]["message"]
        if isinstance(message, dict) and isinstance(message.get("content"), str | None):
            return body
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__} in its fields") from error
    raise ValueError("its message holds no text")


def tokens_of(body: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the tokens of prompt and answer; None where the service's count is missing or contradictory."""
    usage = body.get("usage")
    counts = [usage.get(name) for name in COUNTED] if isinstance(usage, dict) else []
    prompt, answer, total = (count if type(count) is int else 0 for count in counts or [None] * 3)
    return (prompt, answer) if min(prompt, answer) > 0 and prompt + answer == total else None


def cost_of(model: ApiModel, body: Mapping[str, Any], most: Decimal, *, batch: bool = False) -> Decimal:
    """Return the dollars that a response costs, `most` where its tokens are not known.

    A service that counts more than `most` is believed: the sum is what it will ask for.
    """
    tokens = tokens_of(body)
    return most if tokens is None else model.cost(*tokens, batch=batch)


def assert_within(cost: Decimal, most: Decimal, host: str) -> None:
    """Raise ApiError where a service counts more than what was asked can cost: its prices are others."""
    if cost > most:
        raise ApiError(
            f"{host} counts ${cost:f} for what costs at most ${most:f} at the known prices; look at its "
            "bill, and correct params/api or experiment.prices before you go on"
        )
