"""Options that several commands share, declared once and spread over a command's own signature.

@app.command()
@spread
def build(page: Page, names: Names) -> None:      # build PAGE [KEY=VALUE]... --model … --task …
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Page = Annotated[str, typer.Argument(help="A notebook page by its name, such as s1_single_task.")]
Words = list[str] | None
PAIRS = "[KEY=VALUE]..."
Overrides = Annotated[Words, typer.Argument(metavar=PAIRS, help="Such as training.epochs=5.")]
Changes = Annotated[Words, typer.Argument(metavar=PAIRS, help="Such as seeds=[1,2] models=[tiny].")]
RunsDir = Annotated[Path, typer.Option(help="Where run folders are kept.")]
RUNS = Path("runs")


@dataclass
class Names:
    """The names of a run's parts. One that is left out is the experiment's, else the page's own."""

    overrides: Overrides = None
    model: Annotated[str | None, typer.Option(help="A file of params/model/, a folder, or a hub id.")] = None
    task: Annotated[str | None, typer.Option(help="Task ids (see `data list`), commas between.")] = None
    strategy: Annotated[str | None, typer.Option(help="A file of params/strategy/.")] = None
    profile: Annotated[str | None, typer.Option(help="smoke, open or t4.")] = None

    def __post_init__(self) -> None:
        self.overrides = self.overrides or []


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter whose type is a dataclass by that dataclass's fields, for typer to read."""
    signature = inspect.signature(command, eval_str=True).parameters
    types: dict[str, Any] = {name: one.annotation for name, one in signature.items()}
    kinds: dict[str, Any] = {name: kind for name, kind in types.items() if is_dataclass(kind)}
    groups = {name: inspect.signature(kind, eval_str=True).parameters for name, kind in kinds.items()}
    parameters = [one for name, own in signature.items() for one in groups.get(name, {name: own}).values()]

    @wraps(command)
    def called(**given: Any) -> None:
        built = {name: {field: given.pop(field) for field in group} for name, group in groups.items()}
        command(**{name: kinds[name](**fields) for name, fields in built.items()}, **given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called
