"""Answers of a model behind an API: public text only, each request paid for at most once, and kept.

    reader = ApiReader(model, ledger, ApiSettings(max_output=512, seed=42))
    for answer in reader(prompts): ...

A request is one chat completion with a strict JSON schema. Its answer lies in the cache under the hash of
the whole request and the address. A second run asks for nothing, and one that goes on after a crash for what
is missing. Every attempt is reserved in the ledger at the most that it can cost. What the service has not
done (429, a refused connection, a faulty request) costs nothing. What it may have done (a timeout, 5xx, an
answer that is no completion) counts in full, as does an answer without a sound count of tokens.
"""

import hashlib
import importlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from kaggle_kit.core.cache import cache_dir
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.secrets import API, read_secret, redact
from kaggle_kit.core.types import Access
from kaggle_kit.evaluation.api_answers import (
    AnswerCache,
    ApiError,
    Json,
    assert_within,
    completion,
    cost_of,
    tokens_of,
)
from kaggle_kit.evaluation.api_ledger import Ledger
from kaggle_kit.evaluation.api_prices import ApiModel, RestrictedText, own_host
from kaggle_kit.evaluation.local_reader import CUT, TOO_LONG
from kaggle_kit.evaluation.zero_shot import Answer, Prompt
from kaggle_kit.experiment import api_batches

ATTEMPTS = 6
LONGEST_PAUSE = 120.0  # seconds before another attempt, whatever the service says
REFUSED = "answers refused by the model"


@dataclass(frozen=True)
class ApiSettings:
    """How a model is asked. `max_output`: tokens of an answer; `parallel`: requests at a time."""

    max_output: int
    seed: int
    parallel: int = 4
    timeout_seconds: float = 120.0
    batches: bool = False
    wait_seconds: float = 86_400.0


@dataclass
class ApiReader:
    """Asks one model. `counts`: requests sent, answers from the cache, tokens of all answers."""

    model: ApiModel
    ledger: Ledger
    settings: ApiSettings
    sleep: Callable[[float], None] = time.sleep
    cache: AnswerCache = field(default_factory=lambda: AnswerCache(cache_dir("api")))
    counts: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)  # of the model, as the service names them

    def __post_init__(self) -> None:
        self.sdk = sdk()
        key = read_secret(API) or ("none" if own_host(self.model.host) else None)
        if key is None:
            raise ConfigError(f"{API} was not found; set the variable, or attach it as a Kaggle secret")
        options = {"base_url": self.model.base_url, "timeout": self.settings.timeout_seconds}
        self.client = self.sdk.OpenAI(api_key=key, max_retries=0, **options)
        self._lock = threading.Lock()

    def __call__(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return one answer per prompt, in order. After OverBudget and ApiError, the cache has what came."""
        if any(prompt.access != Access.PUBLIC for prompt in prompts):
            raise RestrictedText("a prompt holds restricted text, which goes to no API; take a local model")
        requests = [self.request(prompt) for prompt in prompts]
        if self.settings.batches:
            api_batches.ask(self, requests)
        stopped = threading.Event()  # nothing more is sent after an error

        def answer(request: Json) -> Answer:
            try:
                return Answer(None) if stopped.is_set() else self._answer(request)
            except BaseException:
                stopped.set()
                raise

        pool = ThreadPoolExecutor(self.settings.parallel)
        try:
            return list(pool.map(answer, requests))
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def request(self, prompt: Prompt) -> Json:
        """Return the body of the request for a prompt."""
        form = {"name": "answer", "strict": True, "schema": prompt.schema}
        return {
            "model": self.model.id,
            "messages": list(prompt.messages),
            "response_format": {"type": "json_schema", "json_schema": form},
            "max_completion_tokens": self.settings.max_output,
            "temperature": 0,
            "seed": self.settings.seed,
            **self.model.more,
        }

    def key(self, request: Mapping[str, Any]) -> str:
        """Return the hash of a request and the address that it goes to."""
        whole = json.dumps([self.model.base_url, request], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def count(self, **more: int) -> None:
        """Add to the counts; any thread may."""
        with self._lock:
            self.counts.update(more)

    def _answer(self, request: Json) -> Answer:
        key = self.key(request)
        body = self.cache.get(key)
        if body is None:
            body = self._ask(key, request)
        else:
            self.count(from_cache=1)
        if body is None:
            return Answer(None, TOO_LONG)
        prompt, answer = tokens_of(body) or (0, 0)
        self.count(prompt_tokens=prompt, answer_tokens=answer)
        named = (body.get(name) for name in ("model", "system_fingerprint"))
        with self._lock:
            self.versions.add(" ".join(str(name) for name in named if name))
        choice = body["choices"][0]
        said = choice["message"].get("content")
        return Answer(said, CUT if choice.get("finish_reason") == "length" else "" if said else REFUSED)

    def _ask(self, key: str, request: Json) -> Json | None:
        """Ask until there is an answer; None where the prompt is too long. ApiError where nothing helps."""
        most, why = self.model.most(request), ""
        for attempt in range(ATTEMPTS):
            token = self.ledger.reserve(most)
            self.count(requests=1, retries=int(attempt > 0))
            pause = min(LONGEST_PAUSE, 2.0**attempt)
            try:
                body = completion(self.client.chat.completions.with_raw_response.create(**request).text)
            except ValueError as error:
                self.ledger.settle(token, most)
                why = f"an answer that is no chat completion ({error})"
            except self.sdk.APIError as error:
                why = redact(f"{type(error).__name__}: {error}")[:300]
                self.ledger.settle(token, most if self._may_be_billed(error) else 0)
                if getattr(error, "code", None) == "context_length_exceeded":
                    return None
                if not self._may_be_mended(error):
                    break
                pause = _told_pause(error, pause)
            else:
                self.cache.put(key, request, body)
                self.ledger.settle(token, cost := cost_of(self.model, body, most))
                assert_within(cost, most, self.model.host)
                return body
            if attempt + 1 < ATTEMPTS:
                self.sleep(pause)
        raise ApiError(
            f"{self.model.id} at {self.model.host} gave no answer: {why}. Answers so far are kept; the same "
            "command goes on from them"
        )

    def _may_be_billed(self, error: Exception) -> bool:
        """Whether the service may have answered: not where it says that it did not, or was never reached."""
        if isinstance(error, self.sdk.APIStatusError):
            return error.status_code >= 500
        return type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")

    def _may_be_mended(self, error: Exception) -> bool:
        if isinstance(error, self.sdk.APIStatusError):
            out_of_money = getattr(error, "code", None) == "insufficient_quota"
            return error.status_code >= 500 or (error.status_code in (408, 409, 429) and not out_of_money)
        return isinstance(error, self.sdk.APIConnectionError)


def sdk() -> ModuleType:
    """Return the package openai. ConfigError where it is not installed."""
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise ConfigError("an API is asked by the package openai: pip install -e '.[api]'") from error


def _told_pause(error: Any, otherwise: float) -> float:
    """The seconds that the service asks to wait for, else those given."""
    response = getattr(error, "response", None)
    try:
        told = float(response.headers.get("retry-after", "nan")) if response is not None else math.nan
    except ValueError:  # a date
        return otherwise
    return min(told, LONGEST_PAUSE) if told >= 0 else otherwise
