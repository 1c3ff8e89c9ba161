"""`python -m kaggle_kit kernels …`: pages on Kaggle, from their description to the finished run.

python -m kaggle_kit kernels init --owner jane
python -m kaggle_kit kernels chain s1_single_task --model minilm --task ncbi_disease --profile open
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_kit.core.errors import RunFolderError

if TYPE_CHECKING:
    from kaggle_kit.kaggle.build import Built
    from kaggle_kit.kaggle.link import Link
    from kaggle_kit.kaggle.names import Sources

app = typer.Typer(help="Pages on Kaggle: build, push, chain over sessions, bring back.", no_args_is_help=True)

Page = Annotated[str, typer.Argument(help="A training page by its name, such as s1_single_task.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="training.epochs=5.")]
Model = Annotated[str | None, typer.Option(help="A file of params/model/ or a hub id; default: the page's.")]
Task = Annotated[str | None, typer.Option(help="Task ids, commas between; default: the page's.")]
Strategy = Annotated[str | None, typer.Option(help="Default: the page's own.")]
Profile = Annotated[str | None, typer.Option(help="smoke, open or t4; default: the page's.")]
Seed = Annotated[list[int] | None, typer.Option(help="Give it again for a further experiment.")]
Owner = Annotated[str | None, typer.Option(help="Your Kaggle name; default: the one given to `init`.")]
Dataset = Annotated[list[str] | None, typer.Option(help="A further private dataset, owner/slug.")]
ModelSource = Annotated[list[str] | None, typer.Option(help="owner/model/framework/variation/version.")]
Kernel = Annotated[
    list[str] | None,
    typer.Option("--kernel", "--from", help="A kernel whose finished runs the page reads, owner/slug."),
]
KitDataset = Annotated[str | None, typer.Option(help="Internet off: the dataset made by `kernels dataset`.")]
Out = Annotated[Path, typer.Option(help="Where kernel folders and chains are kept.")]
OUT = Path("build/kernels")


@app.command()
def init(
    owner: Annotated[
        str | None,
        typer.Option(help="Your Kaggle name; builds the pages to push, too. Default: the one given before."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where one is stale.")] = False,
) -> None:
    """Write kernel-metadata/<page>/kernel-metadata.json for every page."""
    from kaggle_kit.kaggle import metadata as about
    from kaggle_kit.kaggle.build import write_pages

    if not check:
        for path in write_pages(owner):
            typer.echo(f"written: {path} ({path.stat().st_size:,} bytes)")
    elif problems := about.stale_metadata():
        typer.echo("\n".join(problems))
        typer.echo("run `python -m kaggle_kit kernels init`", err=True)
        raise typer.Exit(1)
    else:
        typer.echo("every page has its metadata")


@app.command()
def build(
    page: Annotated[str, typer.Argument(help="A page by its name, such as s1_single_task or overview.")],
    overrides: Overrides = None,
    model: Model = None,
    task: Task = None,
    strategy: Strategy = None,
    profile: Profile = None,
    seed: Seed = None,
    owner: Owner = None,
    dataset: Dataset = None,
    model_source: ModelSource = None,
    kernel: Kernel = None,
    kit_dataset: KitDataset = None,
    out: Out = OUT,
) -> None:
    """Write a folder per experiment that `kaggle kernels push -p FOLDER` takes; nothing is executed.

    A page that trains nothing (overview) takes its parameters as NAME=VALUE, and --from.
    """
    named = {"model": model, "task": task, "strategy": strategy, "profile": profile, "overrides": overrides}
    sources = _sources(dataset, model_source, kernel, kit_dataset)
    for built in _build(page, seed, owner, out, named, sources, reading=True):
        typer.echo(f"{built.folder}  {built.ref}  {built.size:,} bytes")


@app.command()
def chain(
    page: Page,
    overrides: Overrides = None,
    model: Model = None,
    task: Task = None,
    strategy: Strategy = None,
    profile: Profile = None,
    seed: Seed = None,
    owner: Owner = None,
    dataset: Dataset = None,
    model_source: ModelSource = None,
    kernel: Kernel = None,
    kit_dataset: KitDataset = None,
    out: Out = OUT,
    runs_dir: Annotated[Path, typer.Option(help="Where finished runs are copied to.")] = Path("runs"),
    poll: Annotated[float, typer.Option(help="Seconds between questions.")] = 60.0,
) -> None:
    """Run experiments to their end over as many sessions as they need; start again to go on."""
    from kaggle_kit.core.kaggle_outputs import deliver
    from kaggle_kit.kaggle.chain import Chain
    from kaggle_kit.kaggle.client import KaggleClient
    from kaggle_kit.kaggle.link import Phase
    from kaggle_kit.kaggle.live import live_table

    named = {"model": model, "task": task, "strategy": strategy, "profile": profile, "overrides": overrides}
    sources = _sources(dataset, model_source, kernel, kit_dataset)
    client = KaggleClient()
    client.require_token()
    links = _links(page, seed, owner, out, named, sources)
    with live_table(links) as show:
        Chain(client, links, poll=poll).run(show)
    for link in links:
        if link.phase is Phase.DONE:
            try:
                typer.echo(f"finished: {deliver(link.output, runs_dir)}")
            except RunFolderError as error:  # it was changed since it was fetched; the others are delivered
                typer.echo(f"not delivered: {error}", err=True)
                link.phase = Phase.FAILED
    if failed := [link.ref for link in links if link.phase is Phase.FAILED]:
        typer.echo(f"failed: {', '.join(failed)}; the same command tries again", err=True)
        raise typer.Exit(1)


@app.command()
def push(folder: Annotated[Path, typer.Argument(help="A kernel folder.")]) -> None:
    """Push a kernel folder as it stands; a new session starts."""
    from kaggle_kit.kaggle.client import KaggleClient
    from kaggle_kit.kaggle.metadata import read_metadata

    version = KaggleClient().push(folder)
    typer.echo(f"{read_metadata(folder)['id']}: version {version}")


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="A kernel folder that was pushed before.")]) -> None:
    """Push a kernel folder again, with the output of its own last good session attached."""
    from kaggle_kit.kaggle.build import attach_own_output
    from kaggle_kit.kaggle.client import KaggleClient

    attach_own_output(folder)
    typer.echo(f"{folder.name}: version {KaggleClient().push(folder)}, its own output attached")


@app.command()
def status(ref: Annotated[str, typer.Argument(help="owner/slug of a kernel.")]) -> None:
    """Where the newest session of a kernel stands."""
    from kaggle_kit.kaggle.client import KaggleClient

    found = KaggleClient().status(ref)
    typer.echo(f"{ref}: {found.state.value} {found.message}".rstrip())


@app.command()
def pull(
    ref: Annotated[str, typer.Argument(help="owner/slug of a kernel.")],
    out: Annotated[Path, typer.Option(help="Where the output goes.")] = Path("build/output"),
) -> None:
    """Bring back what the newest session left, and say how far its runs have come."""
    from kaggle_kit.core.kaggle_outputs import inspect
    from kaggle_kit.kaggle.client import KaggleClient

    folder = KaggleClient().output(ref, out / ref.rpartition("/")[2])
    for config in sorted(folder.glob("runs/*/config.yaml")):
        progress = inspect(config.parent)
        typer.echo(
            f"{config.parent}: step {progress.step}, {'complete' if progress.complete else 'unfinished'}"
        )
    typer.echo(str(folder))


@app.command()
def dataset(
    owner: Owner = None,
    package: Annotated[
        list[str] | None, typer.Option(help="A further package that the image lacks, such as optuna.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("build/kit-dataset"),
) -> None:
    """Write a private dataset with the kit and wheels, for kernels without internet."""
    from kaggle_kit.kaggle.dataset import LACKING, build_dataset
    from kaggle_kit.kaggle.metadata import known_owner

    owner = known_owner() if owner is None else owner
    folder = build_dataset(out, owner, (*LACKING, *(package or ())))
    typer.echo(f"{folder}: next, `kaggle datasets create -p {folder}`")


@app.command("side-by-side")
def side_by_side(
    page: Page,
    overrides: Overrides = None,
    model: Model = None,
    task: Task = None,
    strategy: Strategy = None,
    profile: Profile = None,
    seed: Seed = None,
    runs_dir: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
) -> None:
    """Run one experiment per seed on this machine, each with a GPU of its own.

    Exit code 1 where one failed, else 75 where one was paused at its session's end.
    """
    from kaggle_kit.kaggle.side_by_side import PAUSED, run_side_by_side, visible_gpus

    named = {"--model": model, "--task": task, "--strategy": strategy, "--profile": profile}
    options = [part for name, value in named.items() if value for part in (name, value)]
    options += ["--runs-dir", str(runs_dir), *(overrides or ())]
    experiments = [["run", page, "--seed", str(one), *options] for one in seed or [42]]
    ended = run_side_by_side(experiments, visible_gpus(), runs_dir / "logs")
    for one in ended:
        typer.echo(f"{one.outcome}: {' '.join(one.arguments)}, {one.log}")
    outcomes = {one.outcome for one in ended}
    if "failed" in outcomes:
        raise typer.Exit(1)
    if "paused" in outcomes:
        raise typer.Exit(PAUSED)


def _sources(
    datasets: list[str] | None, models: list[str] | None, kernels: list[str] | None, kit: str | None
) -> Sources:
    from kaggle_kit.kaggle.names import Sources

    return Sources(tuple(datasets or ()), tuple(kernels or ()), tuple(models or ()), kit)


def _build(
    page: str,
    seeds: list[int] | None,
    owner: str | None,
    out: Path,
    named: dict,
    sources: Sources,
    reading: bool = False,
) -> list[Built]:
    """One folder per seed; with `reading`, a page that trains nothing is built, too."""
    from kaggle_kit.core.page_files import named_values, page_path, parameters
    from kaggle_kit.kaggle.build import Experiment, build_experiment, build_reading, trains
    from kaggle_kit.kaggle.metadata import known_owner

    owner = known_owner() if owner is None else owner
    if reading and not trains(parameters(page_path(page))):
        options = {name: value for name, value in (named | {"seed": seeds}).items() if value}
        values = named_values(options.pop("overrides", ())) | options
        return [build_reading(page, values, out, owner, sources)]
    experiments = [Experiment.of(page, **named, seed=seed) for seed in seeds or [None]]
    return [build_experiment(one, out, owner, sources) for one in experiments]


def _links(
    page: str, seeds: list[int] | None, owner: str | None, out: Path, named: dict, sources: Sources
) -> list[Link]:
    """The chains of the experiments. One that has begun keeps the kernel folder it began with."""
    from kaggle_kit.kaggle.link import Link

    built = _build(page, seeds, owner, out, named, sources)
    return [Link.begin(out / "chains" / one.folder.name, one) for one in built]
