"""Which API may be asked: known prices at their own host, no retired model, no key in the clear."""

from __future__ import annotations

import logging
from datetime import date
from decimal import Decimal

import pytest

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.evaluation.api_prices import OVERHEAD, api_model, own_host

OPENAI = "https://api.openai.com/v1"
EARLY = date(2026, 9, 1)


def asked(model="gpt-4o-mini", url=OPENAI, today=EARLY, **prices):
    return api_model({"api_model": model, "base_url": url, "prices": prices}, today)


def test_a_listed_model_costs_what_its_file_says_and_a_batch_half():
    """A million tokens each way: $0.15 and $0.60."""
    model = asked()
    assert model.cost(1_000_000, 1_000_000) == Decimal("0.75")
    assert model.cost(1_000_000, 0, batch=True) == Decimal("0.075")
    assert asked("gpt-4o-mini-2024-07-18").output_usd == Decimal("0.6")


def test_the_most_that_a_request_costs_is_a_token_a_byte_and_every_token_of_output():
    request = {"max_completion_tokens": 100, "text": "é" * 10}
    sent = len('{"max_completion_tokens": 100, "text": ""}') + 20
    assert asked().most(request) == asked().cost(sent + OVERHEAD, 100)


@pytest.mark.parametrize(
    ("today", "told"), [(date(2026, 10, 1), False), (date(2026, 10, 17), True), (date(2027, 1, 13), True)]
)
def test_a_model_that_retires_soon_is_announced(today, told, caplog):
    with caplog.at_level(logging.WARNING, logger="kaggle_kit"):
        asked(today=today)
    assert ("retires on 2027-01-14; gpt-6-luna takes its place" in caplog.text) == told


def test_a_retired_model_is_refused():
    with pytest.raises(ConfigError, match="today is 2027-01-14: name another"):
        asked(today=date(2027, 1, 14))
    asked("gpt-6-luna", today=date(2027, 1, 14))


def test_an_unknown_price_is_refused_and_can_be_given():
    with pytest.raises(ConfigError, match="no price is known of 'gpt-4o-minni'.* did you mean 'gpt-4o-mini'"):
        asked("gpt-4o-minni")
    with pytest.raises(ConfigError, match=r"no price is known of 'gpt-4o-mini' at reseller\.example"):
        asked(url="https://reseller.example/v1")
    assert asked("other", input_usd=1, output_usd=2).cost(10**6, 10**6) == 3


def test_only_a_server_of_one_s_own_costs_nothing():
    free = {"input_usd": 0, "output_usd": 0}
    for url in (
        "http://127.0.0.1:8000/v1",
        "http://localhost/v1",
        "http://10.1.2.3/v1",
        "http://[::1]:80/v1",
    ):
        assert asked("mine", url, **free).cost(10**9, 10**9) == 0
    with pytest.raises(ConfigError, match="no server of your own"):
        asked("mine", OPENAI, **free)
    assert not own_host("8.8.8.8") and not own_host("api.openai.com")


@pytest.mark.parametrize(
    "prices",
    [
        {"input_usd": 1},
        {"input": 1, "output_usd": 1},
        {"input_usd": -1, "output_usd": 1},
        {"input_usd": float("nan"), "output_usd": 1},
    ],
)
def test_prices_of_another_form_are_refused(prices):
    with pytest.raises(ConfigError, match=r"experiment\.prices"):
        asked("mine", "http://localhost/v1", **prices)


@pytest.mark.parametrize(
    "url", ["", "api.openai.com/v1", "ftp://host/v1", "https://me:secret@host/v1", "http://api.openai.com/v1"]
)
def test_an_address_that_is_none_or_sends_the_key_in_the_clear_is_refused(url):
    with pytest.raises(ConfigError, match=r"experiment\.base_url"):
        asked(url=url)
