"""`python -m kaggle_kit config …`: what would run, before anything runs.

python -m kaggle_kit config --model llama3b --strategy s3a_flat --profile t4 --sources
python -m kaggle_kit config --strategy s2_shared --json training.epochs=3
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
import yaml

from kaggle_kit.cli.options import Names, spread


@spread
def show(
    names: Names,
    experiment: Annotated[str | None, typer.Option(help="A file of params/experiment/.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of YAML.")] = False,
    with_sources: Annotated[bool, typer.Option("--sources", help="Also what set each value.")] = False,
) -> None:
    """Print the configuration that a run would have, every value filled in and checked.

    A name that is left out is that of the experiment, else tiny, s1_single and smoke. The task is one
    then, or the study's five where the strategy trains several.
    """
    from kaggle_kit.core.config import compose, strategy_entry
    from kaggle_kit.core.request import Request, given_names, value_sources
    from kaggle_kit.core.schema import plain_values
    from kaggle_kit.data.practice import FIVE

    asked: dict[str, Any] = vars(names) | {"experiment": experiment}
    overrides = asked.pop("overrides")
    given_names({}, asked | {"task": None}, overrides)  # refuses a contradiction
    asked["task"] = names.task.split(",") if names.task else FIVE
    request = Request.of(asked, overrides)
    if names.task is None and strategy_entry(request.chosen("strategy")).kind == "single":
        asked["task"] = FIVE[:1]
        request = Request.of(asked, overrides)
    values = plain_values(compose(**asked, overrides=overrides))
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
        text = yaml.dump({key: value}, Dumper=_Dumper, allow_unicode=True, width=10_000, sort_keys=False)
        lines = [f"{margin}{line}".rstrip() for line in text.rstrip("\n").split("\n")]
        if source := sources.get(here):
            lines = [f"{lines[0]}  # {source}"] if len(lines) == 1 else [f"{margin}# {source}", *lines]
        yield from lines


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, and a list of plain values in one line."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _list(dumper: _Dumper, items: list[Any]) -> yaml.SequenceNode:
    plain = not any(isinstance(item, Mapping) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
