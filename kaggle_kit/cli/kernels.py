"""`python -m kaggle_kit kernels …`: pages on Kaggle, from their description to the finished run.

python -m kaggle_kit kernels init --owner jane
python -m kaggle_kit kernels chain s1_single_task --model minilm --task ncbi_disease --profile open
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_kit.cli.options import RUNS, Names, Page, RunsDir, Words, spread
from kaggle_kit.core.errors import RunFolderError

if TYPE_CHECKING:
    from kaggle_kit.kaggle.build import Built
    from kaggle_kit.kaggle.chain import Link

app = typer.Typer(help="Pages on Kaggle: build, push, chain over sessions, bring back.", no_args_is_help=True)

Owner = Annotated[str | None, typer.Option(help="Your Kaggle name; default: the one last given to `init`.")]
Seeds = Annotated[list[int] | None, typer.Option(help="Give it again for a further experiment.")]
Ref = Annotated[str, typer.Argument(help="owner/slug of a kernel.")]
READ = "A kernel whose finished runs the page reads, owner/slug."
KIT = "Internet off: the dataset made by `kernels dataset`."


@dataclass
class Packing:
    """How experiments become kernels: one for each seed, whose they are, and what they read."""

    seed: Seeds = None
    owner: Owner = None
    dataset: Annotated[Words, typer.Option(help="A further private dataset, owner/slug.")] = None
    model_source: Annotated[Words, typer.Option(help="owner/model/framework/variation/version.")] = None
    kernel: Annotated[Words, typer.Option("--kernel", "--from", help=READ)] = None
    kit_dataset: Annotated[str | None, typer.Option(help=KIT)] = None
    out: Annotated[Path, typer.Option(help="Where kernel folders and chains lie.")] = Path("build/kernels")


@app.command()
def init(
    owner: Owner = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where one is stale.")] = False,
) -> None:
    """Write kernel-metadata/<page>/kernel-metadata.json for every page; with --owner, what to push."""
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
@spread
def build(page: Page, names: Names, packing: Packing) -> None:
    """Write a folder per experiment that `kaggle kernels push -p FOLDER` takes; nothing is executed.

    A page that trains nothing (overview) takes its parameters as NAME=VALUE, and --from.
    """
    for built in _build(page, names, packing, reading=True):
        typer.echo(f"{built.folder}  {built.ref}  {built.size:,} bytes")


@app.command()
@spread
def chain(
    page: Page,
    names: Names,
    packing: Packing,
    runs_dir: Annotated[Path, typer.Option(help="Where finished runs are copied to.")] = RUNS,
    poll: Annotated[float, typer.Option(help="Seconds between questions.")] = 60.0,
) -> None:
    """Run experiments to their end over as many sessions as they need; start again to go on."""
    from kaggle_kit.core.kaggle_outputs import deliver
    from kaggle_kit.kaggle.chain import Chain, Phase, live_table
    from kaggle_kit.kaggle.client import KaggleClient

    client = KaggleClient()
    client.require_token()
    links = _links(page, names, packing)
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
def status(ref: Ref) -> None:
    """Where the newest session of a kernel stands."""
    from kaggle_kit.kaggle.client import KaggleClient

    found = KaggleClient().status(ref)
    typer.echo(f"{ref}: {found.state.value} {found.message}".rstrip())


@app.command()
def pull(
    ref: Ref, out: Annotated[Path, typer.Option(help="Where the output goes.")] = Path("build/output")
) -> None:
    """Bring back what the newest session left, and say how far its runs have come."""
    from kaggle_kit.core.kaggle_outputs import inspect
    from kaggle_kit.kaggle.client import KaggleClient

    folder = KaggleClient().output(ref, out / ref.rpartition("/")[2])
    for config in sorted(folder.glob("runs/*/config.yaml")):
        progress = inspect(config.parent)
        state = "complete" if progress.complete else "unfinished"
        typer.echo(f"{config.parent}: step {progress.step}, {state}")
    typer.echo(str(folder))


@app.command()
def dataset(
    owner: Owner = None,
    package: Annotated[Words, typer.Option(help="A further package that the image lacks.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("build/kit-dataset"),
) -> None:
    """Write a private dataset with the kit and wheels, for kernels without internet."""
    from kaggle_kit.kaggle.bundle import LACKING, build_dataset
    from kaggle_kit.kaggle.metadata import known_owner

    owner = known_owner() if owner is None else owner
    folder = build_dataset(out, owner, (*LACKING, *(package or ())))
    typer.echo(f"{folder}: next, `kaggle datasets create -p {folder}`")


@app.command("side-by-side")
@spread
def side_by_side(page: Page, names: Names, seed: Seeds = None, runs_dir: RunsDir = RUNS) -> None:
    """Run one experiment per seed on this machine, each with a GPU of its own.

    Exit code 1 where one failed, else 75 where one was paused at its session's end.
    """
    from kaggle_kit.kaggle.side_by_side import PAUSED, run_side_by_side, visible_gpus

    named = {name: value for name, value in vars(names).items() if value}
    overrides = named.pop("overrides", [])
    options = [word for name, value in named.items() for word in (f"--{name}", value)]
    options += ["--runs-dir", str(runs_dir), *overrides]
    experiments = [["run", page, "--seed", str(one), *options] for one in seed or [42]]
    ended = run_side_by_side(experiments, visible_gpus(), runs_dir / "logs")
    for one in ended:
        typer.echo(f"{one.outcome}: {' '.join(one.arguments)}, {one.log}")
    outcomes = {one.outcome for one in ended}
    if code := 1 if "failed" in outcomes else PAUSED if "paused" in outcomes else 0:
        raise typer.Exit(code)


def _build(page: str, names: Names, packing: Packing, reading: bool = False) -> "list[Built]":
    """One folder per seed; with `reading`, a page that trains nothing is built, too."""
    from kaggle_kit.core.page_files import page_path, parameters, typed_values
    from kaggle_kit.kaggle.build import Experiment, build_experiment, build_reading, trains
    from kaggle_kit.kaggle.metadata import Sources, known_owner

    lists = packing.dataset, packing.kernel, packing.model_source
    datasets, kernels, models = (tuple(each or ()) for each in lists)
    sources = Sources(datasets, kernels, models, packing.kit_dataset)
    owner = known_owner() if packing.owner is None else packing.owner
    if reading and not trains(parameters(page_path(page))):
        given = vars(names) | {"seed": packing.seed}
        options = {name: value for name, value in given.items() if value}
        values = typed_values(page_path(page), options.pop("overrides", ())) | options
        return [build_reading(page, values, packing.out, owner, sources)]
    experiments = [Experiment.of(page, **vars(names), seed=seed) for seed in packing.seed or (None,)]
    return [build_experiment(one, packing.out, owner, sources) for one in experiments]


def _links(page: str, names: Names, packing: Packing) -> "list[Link]":
    """The chains of the experiments. One that has begun keeps the kernel folder it began with."""
    from kaggle_kit.kaggle.chain import Link

    built = _build(page, names, packing)
    return [Link.begin(packing.out / "chains" / one.folder.name, one) for one in built]
