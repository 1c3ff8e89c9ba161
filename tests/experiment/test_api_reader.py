"""Asking an API: faults, retries, money, cache and batches, against a service on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from decimal import Decimal

import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Access, ComponentSpec, Kind, TaskSpec, UnifiedSample
from kaggle_kit.evaluation.api_answers import AnswerCache, ApiError
from kaggle_kit.evaluation.api_ledger import Ledger, OverBudget
from kaggle_kit.evaluation.api_prices import ApiModel, RestrictedText
from kaggle_kit.evaluation.zero_shot import Answer, prompt_for
from kaggle_kit.experiment import api_batches
from kaggle_kit.experiment.api_reader import ATTEMPTS, LONGEST_PAUSE, ApiReader, ApiSettings
from tests.experiment.chat_service import Service, body, completion, cut, ok, slow, status

TASK = TaskSpec("task", (ComponentSpec("ner", Kind.TOKENS, 1, ("Drug",)),))
EMPTY = '{"mentions": []}'
COST = Decimal("0.00014")  # of 100 tokens at $1 and 20 at $2 a million


def prompts(number: int = 1, access: Access = Access.PUBLIC) -> list:
    notes = [UnifiedSample(f"d{n}", f"Note {n} on aspirin.", "dev", access) for n in range(number)]
    return [prompt_for(TASK, note) for note in notes]


@pytest.fixture
def service():
    with Service() as one:
        yield one


@pytest.fixture
def reader(service, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback-key")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    model = ApiModel("m", service.url, Decimal(1), Decimal(2), Decimal("0.5"))
    return opened(model, tmp_path)


def opened(model, folder, most=5.0, in_all=80.0, **settings):
    """A reader as a process of its own would open it."""
    own = ApiSettings(**{"max_output": 50, "seed": 1, "parallel": 2, "timeout_seconds": 5.0} | settings)
    slept: list[float] = []
    one = ApiReader(
        model,
        Ledger(folder / "ledger.json", "run", most, in_all),
        own,
        slept.append,
        AnswerCache(folder / "api"),
    )
    one.slept = slept
    return one


def again(reader, **settings):
    folder = reader.cache.folder.parent
    return opened(reader.model, folder, reader.ledger.most_usd, **settings)


def test_an_answer_is_asked_for_once_with_a_strict_schema_and_settled_at_its_tokens(reader, service):
    (prompt,) = prompts()
    assert reader([prompt]) == [Answer(EMPTY)]
    (request,) = service.requests
    assert request["response_format"]["json_schema"] == {
        "name": "answer",
        "strict": True,
        "schema": prompt.schema,
    }
    sent = {name: request[name] for name in ("model", "temperature", "seed", "max_completion_tokens")}
    assert sent == {"model": "m", "temperature": 0, "seed": 1, "max_completion_tokens": 50}
    assert request["messages"] == list(prompt.messages)
    assert reader.ledger.spent() == (COST, COST)
    assert reader.counts == {"requests": 1, "retries": 0, "prompt_tokens": 100, "answer_tokens": 20}
    assert reader.versions == {"m-1 fp"}


def test_a_second_run_asks_for_nothing_and_pays_nothing(reader, service):
    first = reader(prompts(3))
    other = again(reader)
    assert other(prompts(3)) == first and len(service.requests) == 3
    assert other.counts["from_cache"] == 3 and other.counts["requests"] == 0
    assert other.ledger.spent()[0] == 3 * COST


def test_another_request_is_another_answer(reader, service):
    reader(prompts())
    for changed in ({"seed": 2}, {"max_output": 60}):
        again(reader, **changed)(prompts())
    opened(replace(reader.model, more={"reasoning_effort": "none"}), reader.cache.folder.parent)(prompts())
    opened(replace(reader.model, base_url=service.url + "/"), reader.cache.folder.parent)(prompts())
    assert len(service.requests) == 5 and service.requests[3]["reasoning_effort"] == "none"


def test_no_key_is_written_anywhere(reader, service, tmp_path):
    reader(prompts(2))
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert texts and not any("sk-loopback-key" in text for text in texts)


def test_a_rate_limit_is_waited_for_as_the_service_says_and_costs_nothing(reader, service):
    told = ("3", "100000", "-1", "Wed, 21 Oct 2026 07:28:00 GMT")
    service.faults = [status(429, retry_after=pause) for pause in told]
    assert reader(prompts()) == [Answer(EMPTY)]
    assert reader.slept == [3.0, LONGEST_PAUSE, 4.0, 8.0]
    assert reader.ledger.spent()[0] == COST and reader.counts["retries"] == 4


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (status(500), True),
        (status(503), True),
        (body("<html>"), True),
        (body('{"choices": []}'), True),
        (body('{"choices": [{"message": {"content": 5}}]}'), True),
        (body("null"), True),
        (cut, True),
        (slow(1.5), True),
        (status(409), False),
    ],
    ids=["500", "503", "html", "no choice", "no text", "null", "cut off", "too slow", "409"],
)
def test_what_the_service_may_have_done_counts_in_full_and_is_asked_again(reader, service, fault, billed):
    service.faults = [fault]
    one = again(reader, timeout_seconds=0.5)
    assert one(prompts()) == [Answer(EMPTY)] and len(service.requests) == 2
    most = one.model.most(one.request(prompts()[0]))
    assert one.ledger.spent()[0] == COST + (most if billed else 0)


@pytest.mark.parametrize(
    "fault",
    [status(401), status(404), status(400), status(429, "insufficient_quota")],
    ids=["401", "404", "400", "no money left"],
)
def test_what_no_attempt_mends_is_told_at_once_and_costs_nothing(reader, service, fault):
    service.faults = [fault]
    with pytest.raises(ApiError, match="gave no answer"):
        reader(prompts())
    assert len(service.requests) == 1 and reader.ledger.spent()[0] == 0


def test_it_gives_up_after_some_attempts_each_of_which_was_reserved(reader, service):
    service.answer = status(500)
    with pytest.raises(ApiError, match="Answers so far are kept"):
        reader(prompts())
    most = reader.model.most(reader.request(prompts()[0]))
    assert len(service.requests) == ATTEMPTS and reader.ledger.spent()[0] == ATTEMPTS * most


def test_a_service_that_is_not_there_costs_nothing(reader, service):
    service.__exit__()
    with pytest.raises(ApiError):
        reader(prompts())
    assert reader.ledger.spent()[0] == 0
    service.__enter__()


def test_a_prompt_that_is_too_long_is_counted_and_the_others_go_on(reader, service):
    service.faults = [status(400, "context_length_exceeded")]
    found = again(reader, parallel=1)(prompts(2))
    assert found == [Answer(None, "prompts too long for the model"), Answer(EMPTY)]


def test_refusals_and_cut_answers_are_told(reader, service):
    refusal = completion(None)
    refusal["choices"][0]["message"]["refusal"] = "I cannot."
    half = completion('{"mentions": [')
    half["choices"][0]["finish_reason"] = "length"
    service.faults = [body(json.dumps(refusal)), body(json.dumps(half))]
    found = again(reader, parallel=1)(prompts(2))
    assert found == [
        Answer(None, "answers refused by the model"),
        Answer('{"mentions": [', "answers cut off"),
    ]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        "many",
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": 5, "total_tokens": 0},
        {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1, "total_tokens": 2.5},
        {"prompt_tokens": True, "completion_tokens": 1, "total_tokens": 2},
    ],
)
def test_tokens_that_cannot_be_right_cost_all_that_was_reserved(reader, service, usage):
    service.answer = ok(usage=usage)
    reader(prompts())
    assert reader.ledger.spent()[0] == reader.model.most(reader.request(prompts()[0]))


def test_a_bill_beyond_what_can_be_is_believed_and_nothing_more_is_asked(reader, service):
    service.answer = ok(usage={"prompt_tokens": 10**7, "completion_tokens": 1, "total_tokens": 10**7 + 1})
    with pytest.raises(ApiError, match="look at its bill"):
        again(reader, parallel=1)(prompts(5))
    assert len(service.requests) == 1 and reader.ledger.spent()[0] > 10
    with pytest.raises(OverBudget):
        again(reader)(prompts(3)[2:])


def test_no_request_leaves_that_might_pass_the_cap(reader, service):
    """Room for two and a half requests at once; settled ones make room for more."""
    most = reader.model.most(reader.request(prompts()[0]))
    small = opened(reader.model, reader.cache.folder.parent, most=2.5 * float(most), parallel=8)
    service.answer = ok(usage=None)  # each costs all that was reserved
    with pytest.raises(OverBudget, match="raise experiment.most_usd"):
        small(prompts(9))
    assert len(service.requests) == 2 and small.ledger.spent()[0] == 2 * most
    more = opened(reader.model, reader.cache.folder.parent)
    assert len(more(prompts(9))) == 9 and len(service.requests) == 9, "the two are not asked again"


def test_a_crash_in_the_middle_goes_on_without_asking_twice(reader, service, monkeypatch):
    put, kept = AnswerCache.put, []

    def crash(cache, key, request, response):
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(key)
        put(cache, key, request, response)

    monkeypatch.setattr(AnswerCache, "put", crash)
    with pytest.raises(KeyboardInterrupt):
        again(reader, parallel=1)(prompts(6))
    monkeypatch.setattr(AnswerCache, "put", put)
    most = reader.model.most(reader.request(prompts()[0]))
    assert reader.ledger.spent()[0] == 3 * COST + most, "what was under way keeps counting"
    assert len(again(reader)(prompts(6))) == 6
    asked = [request["messages"][1]["content"] for request in service.requests]
    assert len(asked) == 7 and len(set(asked)) == 6, "the fourth alone, whose answer was lost, is asked again"


def test_a_damaged_answer_in_the_cache_is_asked_for_again(reader, service):
    reader(prompts())
    (file,) = reader.cache.folder.rglob("*.json")
    for text in ("", "{", '{"response": {}}', "[]"):
        file.write_text(text)
        assert again(reader)(prompts()) == [Answer(EMPTY)]
    assert len(service.requests) == 5


def test_restricted_text_reaches_no_request_no_cache_and_no_ledger(reader, service, tmp_path):
    with pytest.raises(RestrictedText):
        reader([*prompts(2), *prompts(1, Access.RESTRICTED)])
    with pytest.raises(RestrictedText):
        again(reader, batches=True)(prompts(1, Access.RESTRICTED))
    assert service.requests == [] == service.posted
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_without_a_key_a_paid_service_is_not_asked_and_a_server_of_one_s_own_is(reader, service, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    again(reader)(prompts())
    with pytest.raises(ConfigError, match="OPENAI_API_KEY was not found"):
        opened(replace(reader.model, base_url="https://api.example.com/v1"), reader.cache.folder.parent)


def test_a_missing_package_is_told_with_what_installs_it(reader, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[api\]'"):
        again(reader)


# --- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_one_posting_at_half_the_price(reader, service):
    service.states = ["in_progress", "in_progress"]
    one = again(reader, batches=True)
    assert one(prompts(4)) == [Answer(EMPTY)] * 4
    assert service.posted == ["/v1/files", "/v1/batches"] and service.requests == []
    assert one.ledger.spent()[0] == 4 * COST / 2
    assert one.slept == [api_batches.POLL_SECONDS] * 2
    assert again(reader, batches=True)(prompts(4)) == [Answer(EMPTY)] * 4
    assert len(service.posted) == 2, "the cache answers a second run"


def test_what_a_batch_leaves_out_is_asked_one_by_one(reader, service):
    service.faults = [status(500), body('{"odd": 1}')]
    one = again(reader, batches=True)
    assert one(prompts(3)) == [Answer(EMPTY)] * 3 and len(service.requests) == 2
    half = one.model.most(one.request(prompts()[0]), batch=True)
    assert one.ledger.spent()[0] == COST / 2 + half + 2 * COST, "the odd answer may have been billed"


def test_a_run_that_goes_on_waits_for_the_same_batch(reader, service):
    service.states = ["in_progress"] * 3
    impatient = again(reader, batches=True, wait_seconds=0.0)
    with pytest.raises(ApiError, match="goes on waiting"):
        impatient(prompts(4))
    assert impatient.ledger.spent()[0] == 4 * impatient.model.most(
        impatient.request(prompts()[0]), batch=True
    )
    assert again(reader, batches=True)(prompts(4)) == [Answer(EMPTY)] * 4
    assert service.posted == ["/v1/files", "/v1/batches"] and reader.ledger.spent()[0] == 2 * COST


def test_a_crash_before_the_batch_s_name_was_written_makes_no_second_batch(reader, service, monkeypatch):
    write, written = api_batches.write_atomically, []

    def crash(path, text):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(path, text)

    monkeypatch.setattr(api_batches, "write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        again(reader, batches=True)(prompts(4))
    monkeypatch.setattr(api_batches, "write_atomically", write)
    assert again(reader, batches=True)(prompts(4)) == [Answer(EMPTY)] * 4
    assert service.posted == ["/v1/files", "/v1/batches"] and reader.ledger.spent()[0] == 2 * COST


def test_a_batch_that_failed_costs_nothing(reader, service):
    service.states = ["failed"]
    service.answer = status(500)
    one = again(reader, batches=True)
    with pytest.raises(ApiError):
        one(prompts(1))
    most = one.model.most(one.request(prompts()[0]))
    assert one.ledger.spent()[0] == ATTEMPTS * most, "those of the single requests that followed"


def test_a_batch_that_might_pass_the_cap_is_not_sent(reader, service):
    most = reader.model.most(reader.request(prompts()[0]), batch=True)
    small = opened(reader.model, reader.cache.folder.parent, most=3.5 * float(most), batches=True)
    with pytest.raises(OverBudget):
        small(prompts(4))
    assert service.posted == []
