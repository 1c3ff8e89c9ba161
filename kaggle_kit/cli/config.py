"""`python -m kaggle_kit config …`: what would run, before anything runs.

python -m kaggle_kit config --model llama3b --strategy s3a_flat --profile t4 --sources
python -m kaggle_kit config --strategy s2_shared --json training.epochs=3
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer


def show(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as training.epochs=5.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A file of params/model/, a folder, or a hub id; default: tiny.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Task ids, commas between; default: one, or the study's five where several learn."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="A file of params/strategy/; default: the experiment's, else s1_single."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="smoke, open or t4; default: smoke.")] = None,
    experiment: Annotated[str | None, typer.Option(help="A file of params/experiment/.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of YAML.")] = False,
    with_sources: Annotated[
        bool, typer.Option("--sources", help="Also the file or argument that set each value.")
    ] = False,
) -> None:
    """Print the configuration that a run would have, every value filled in and checked."""
    from kaggle_kit.core.config import compose, strategy_entry
    from kaggle_kit.core.request import Request, given_names
    from kaggle_kit.core.resolved import plain_values, value_sources
    from kaggle_kit.data.practice import FIVE

    names: dict[str, Any] = {"model": model, "strategy": strategy, "profile": profile}
    names |= {"experiment": experiment, "task": task.split(",") if task else FIVE}
    given_names({}, names | {"task": None}, overrides or ())  # refuses a contradiction
    request = Request.of(names, overrides or ())
    if task is None and strategy_entry(request.chosen("strategy")).kind == "single":
        names["task"] = FIVE[:1]
        request = Request.of(names, overrides or ())
    values = plain_values(compose(**names, overrides=overrides or ()))
    sources = value_sources(values, request) if with_sources else {}
    if as_json:
        typer.echo(json.dumps(values | ({"sources": sources} if with_sources else {}), ensure_ascii=False))
    else:
        typer.echo("\n".join(_yaml(values, sources)))


def _yaml(node: Mapping[str, Any], sources: Mapping[str, str], place: str = "") -> Iterator[str]:
    """The lines of a block; a source stands behind its value, or above one that takes several lines."""
    margin = "  " * place.count(".")
    for key, value in node.items():
        here = f"{place}{key}"
        if isinstance(value, Mapping) and value:
            yield f"{margin}{key}:"
            yield from _yaml(value, sources, f"{here}.")
            continue
        lines = [margin + line for line in _dumped(key, value)]
        if source := sources.get(here):
            lines = [f"{lines[0]}  # {source}"] if len(lines) == 1 else [f"{margin}# {source}", *lines]
        yield from lines


def _dumped(key: str, value: Any) -> list[str]:
    """One value as YAML: text of several lines as a block, a list of plain values in one line."""
    import yaml

    options = {"allow_unicode": True, "width": 10_000, "sort_keys": False}
    if isinstance(value, str) and "\n" in value:
        return [f"{key}: |", *(f"  {line}".rstrip() for line in value.rstrip("\n").split("\n"))]
    if isinstance(value, Mapping) or not any(isinstance(item, Mapping) for item in _items(value)):
        flow = yaml.safe_dump([value], default_flow_style=True, **options).strip()
        return [f"{key}: {flow[1:-1]}"]
    return yaml.safe_dump({key: value}, default_flow_style=False, **options).rstrip("\n").split("\n")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
