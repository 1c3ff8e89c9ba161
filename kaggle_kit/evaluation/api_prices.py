"""Which model behind which address, what it costs, and whether it may be asked.

    model = api_model(config.experiment, date.today())     # ConfigError, or a warning before it retires
    model.most(request), model.cost(prompt_tokens, completion_tokens)

Prices are those of `params/api` (dollars per million tokens), for the very host that they were published for,
else those of `experiment.prices`. Only a server of one's own, on this machine or in a private network, may
cost 0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from omegaconf import OmegaConf

from kaggle_kit.core.config import typed
from kaggle_kit.core.errors import ConfigError, KitError, nearest
from kaggle_kit.core.params import members, params_file
from kaggle_kit.core.runtime import logger

WARN = timedelta(days=90)  # before a model retires
OVERHEAD = 256  # tokens around the messages of a request, at most
MILLION = Decimal(10**6)


class RestrictedText(KitError):
    """Text under a data use agreement was about to be sent; nothing was."""


@dataclass
class Listed:
    """One file of `params/api`."""

    ids: list[str] = field(default_factory=list)
    host: str = ""
    input_usd: float = 0.0
    output_usd: float = 0.0
    batch_share: float = 1.0
    retires: str = ""
    replacement: str = ""
    more: dict[str, Any] = field(default_factory=dict)  # of every request


@dataclass(frozen=True)
class ApiModel:
    """A model that may be asked. Prices are dollars per million tokens; a batch costs a share of them."""

    id: str
    base_url: str
    input_usd: Decimal
    output_usd: Decimal
    batch_share: Decimal
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The name of the machine that is asked."""
        return urlsplit(self.base_url).hostname or ""

    def cost(self, prompt_tokens: int, completion_tokens: int, *, batch: bool = False) -> Decimal:
        """Return the dollars that so many tokens cost."""
        whole = (prompt_tokens * self.input_usd + completion_tokens * self.output_usd) / MILLION
        return whole * self.batch_share if batch else whole

    def most(self, request: Mapping[str, Any], *, batch: bool = False) -> Decimal:
        """Return the most dollars that a request can cost: a token is at least one byte of what is sent."""
        sent = len(json.dumps(request, ensure_ascii=False).encode())
        return self.cost(sent + OVERHEAD, request["max_completion_tokens"], batch=batch)


def api_model(experiment: Mapping[str, Any], today: date) -> ApiModel:
    """Return the model that `experiment.api_model`, `base_url` and `prices` name.

    Raises ConfigError for an address that is none, a model that has retired, and an unknown price.
    """
    name, url, said = experiment["api_model"], experiment["base_url"], dict(experiment.get("prices") or {})
    host = _host(url)
    listed = _listed(name, host)
    if listed is not None:
        _warn_of_retirement(name, listed, today)
    unknown = [key for key in said if key not in ("input_usd", "output_usd", "batch_share")]
    if unknown or (said and not {"input_usd", "output_usd"} <= said.keys()):
        allowed = "input_usd and output_usd, and batch_share where a batch is cheaper"
        raise ConfigError(f"experiment.prices has {', '.join(said)}; allowed: {allowed}")
    if not said and listed is None:
        known = sorted(one for stem in members("api") for one in _read(stem).ids)
        raise ConfigError(
            f"no price is known of {name!r} at {host}; those of {', '.join(known)} are, at their own "
            f"host{nearest(name, known)}. Give dollars per million tokens: "
            "'experiment.prices={input_usd: 0.15, output_usd: 0.6}', 0 for a server of your own"
        )
    source = said or vars(listed)
    prices = {key: Decimal(str(source.get(key, 1))) for key in ("input_usd", "output_usd", "batch_share")}
    if any(not price.is_finite() or price < 0 for price in prices.values()):
        raise ConfigError(f"experiment.prices={said}: allowed are finite numbers of at least 0")
    if not all(prices.values()) and not own_host(host):
        raise ConfigError(f"experiment.prices={said}: {host} is no server of your own, so give its price")
    return ApiModel(name, url, **prices, more=listed.more if listed is not None else {})


def own_host(host: str) -> bool:
    """Whether a host is this machine, or an address of a private network."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    return address.is_loopback or address.is_private


def _host(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ConfigError(
            f"experiment.base_url={url!r}; allowed: https://HOST/PATH without a name or password"
        )
    if parts.scheme == "http" and not own_host(parts.hostname):
        raise ConfigError(f"experiment.base_url={url!r} would send the key in the clear; allowed: https")
    return parts.hostname


def _read(stem: str) -> Listed:
    path = params_file(f"api/{stem}.yaml")
    return typed(path, Listed, OmegaConf.load(path))


def _listed(name: str, host: str) -> Listed | None:
    """What `params/api` knows of a model at a host."""
    found = (_read(stem) for stem in members("api"))
    return next((one for one in found if name in one.ids and host == one.host), None)


def _warn_of_retirement(name: str, listed: Listed, today: date) -> None:
    if not listed.retires or today < date.fromisoformat(listed.retires) - WARN:
        return
    told = f"{name} retires on {listed.retires}; {listed.replacement or 'none'} takes its place"
    if today >= date.fromisoformat(listed.retires):
        raise ConfigError(f"{told}, and today is {today}: name another by experiment.api_model")
    logger.warning("%s: answers that are in the cache stay, and no others can be had after that day", told)
