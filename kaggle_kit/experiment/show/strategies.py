"""Views of the later strategies: two levels (S3b), two phases (S4), a base of 4 bits (S5)."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import Tensor

from kaggle_kit.analysis.figures import COLOURS, no_data
from kaggle_kit.analysis.token_curves import curve, phase_scores
from kaggle_kit.core.config import config_hash
from kaggle_kit.core.types import Access, relation_parts
from kaggle_kit.evaluation.adapter_figures import adapter_sizes
from kaggle_kit.evaluation.levels import Passes, cross_level_figures, relations_reached, sentence_attention
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import facts, figure, lines, panel, sentences, table
from kaggle_kit.models.adapters import SHARED, private
from kaggle_kit.models.four_bit import base_bytes, quantisation_errors, quantised_layers

MAX_TOKENS = 32  # of a sentence whose attention is drawn
MIB = 2**20
BINS = 200


def level_passes(passes: Passes, states: Sequence[Tensor]) -> None:
    """Show which layers ran one after the other with which adapters, and the states that came out.

    `passes` are those of `layer_passes`; `states` (tokens, hidden) what each stretch of them gave.
    """
    runs = [([layer for layer, _ in run], names) for names, run in groupby(passes, key=lambda one: one[1])]
    every = [layers for layers, _ in runs]
    rows = []
    for number, ((layers, adapters), given) in enumerate(zip(runs, states, strict=True)):
        row = {"pass": number + 1, "layers": f"{layers[0]} to {layers[-1]}"}
        row |= {"runs": "once" if every.count(layers) == 1 else "twice", "adapters": " + ".join(adapters)}
        row |= {"norm of a state": float(given.float().norm(dim=-1).mean())}
        before = states[number - 1] if number else None
        moved = None if before is None else float((given - before).float().norm() / before.float().norm())
        rows.append(row | {"moved from the pass before": moved})
    table(rows, "The way of one batch, before training")


def cross_level(exp: Experiment, split: str = "dev", samples: int = 20) -> None:
    """Show how much level 2 takes from level 1, and from which of its tokens, on a few samples."""
    found = cross_level_figures(exp.model, exp.batches(split, samples))
    title = f"What level 2 takes from level 1, mean over tokens of at most {samples} {split} samples a task"
    table([{"task": task, **figures} for task, figures in found.items()], title)


def attention_map(exp: Experiment, task: str, split: str = "dev") -> None:
    """Show what the first sentence's tokens look at on level 1; words of restricted text are withheld."""
    batch = exp.batches(split, 1)[task][0]
    weights = sentence_attention(exp.model, batch)
    if weights is None:
        figure(no_data("the levels are joined by concatenation: there is no attention to show"))
        return
    ids = batch.input_ids[: len(weights)][:MAX_TOKENS].tolist()
    words = exp.backbone.tokenizer.convert_ids_to_tokens(ids)
    if exp.samples(split)[task][0].access == Access.RESTRICTED:
        words = list(map(str, range(len(ids))))
    title = f"{task}: attention across levels, {split}, {len(words)} tokens"
    with panel(title, 5.8, xlabel="level-1 features of", ylabel="asking token") as axes:
        axes.grid(False)
        image = axes.imshow(weights[:MAX_TOKENS, :MAX_TOKENS].numpy(), cmap="Blues", vmin=0.0)
        axes.set_xticks(range(len(words)), words, fontsize=6, rotation=90)
        axes.set_yticks(range(len(words)), words, fontsize=6)
        axes.figure.colorbar(image, label="weight", shrink=0.7)


def relations_within_reach(exp: Experiment, split: str = "dev") -> None:
    """Show which gold relations could be found at all: those with both mentions found on level 1."""
    rows = []
    for task, spec in exp.specs.items():
        gold = exp.samples(split)[task]
        if not relation_parts(spec) or not any(sample.relations for sample in gold):
            continue
        counts = relations_reached(gold, exp.predict_samples(task, gold))
        every, reached, found = counts.values()
        rows.append({"task": task, **counts, "within reach": reached / every, "recall": found / every})
    if not rows:
        sentences(["No task of this run has relations between mentions."])
        return
    table(rows, f"Gold relations of {split}, and their mentions")


def phase_gradients(exp: Experiment, norms: Mapping[str, Mapping[str, float]]) -> None:
    """Show each group's gradient norm in each phase: phase -> group -> norm, groups that learn only."""
    rows = []
    for name, group in exp.model.parameter_groups().items():
        row = {"group": name, "parameters": sum(p.numel() for p in group.parameters)}
        for phase, found in norms.items():
            row[f"gradient, phase {phase}"] = f"{found[name]:.3f}" if name in found else "frozen"
        rows.append(row)
    table(rows, "Which groups learn in which phase")


def scores_by_phase(exp: Experiment) -> None:
    """Show quick development scores by phase: what each phase left, and the curve on the way.

    They choose steps and are no result: the official scores are those of `scores`.
    """
    ends = [trainer.tokens.step for trainer in exp.session.trainers]
    settings, events = exp.config.training, exp.run.events()
    found = phase_scores(events, ends, best=settings.selection == "best")
    columns = [f"after {phase.name}" for phase in exp.phases]
    rows = []
    for metric in found[0]:
        task, _, name = metric.partition(".")
        scores = [one.get(metric, float("nan")) for one in found]
        row = {"task": task, "metric": name, **dict(zip(columns, scores, strict=True))}
        rows.append(row | {"change": scores[-1] - scores[0]})
    table(rows, f"Quick scores on at most {settings.quick_samples} development samples a task")
    curves = {task: dict(points) for task, points in curve(events).items()}
    title = f"Development score (primary metric); the next phase begins after step {ends[0]}"
    empty = "no evaluation was made during training"
    lines(curves, title, empty, xlabel="optimiser step, over both phases", ylabel="quick score")


def own_updates(exp: Experiment) -> None:
    """Show the size of each task's own update beside the shared one's, layer by layer."""
    sizes = adapter_sizes(exp.model.lora)
    ratios = {
        task: {layer: size / sizes[SHARED][layer] for layer, size in sizes[private(task)].items()}
        for task in exp.specs
    }
    title = "Norm of each task's own update, as a multiple of the shared update's"
    lines(ratios, title, xlabel="layer", ylabel="own / shared")


def candidate(exp: Experiment, reason: str) -> None:
    """Show which strategy trains on the quantised base, and why."""
    strategy = exp.config.strategy
    rank = strategy.rank or exp.config.model.lora.rank
    rows = [("strategy", f"{strategy.kind}, shared rank {rank}"), ("reason", reason)]
    rows += [("candidates", ", ".join(strategy.candidates)), ("configuration", config_hash(exp.config))]
    facts(rows, "What is trained on the NF4 base")


def nf4_levels(scaled: Tensor, levels: Tensor, name: str) -> None:
    """Show one matrix's weights, over the largest of their block, and the 16 levels of NF4."""
    title = f"{name}, n = {scaled.numel():,} weights, and the 16 levels of NF4"
    label = "weight over the largest absolute weight of its block"
    with panel(title, 2.6, xlabel=label, ylabel="density") as axes:
        axes.hist(scaled.flatten().numpy(), bins=BINS, color=COLOURS[0], density=True)
        for level in levels.tolist():
            axes.axvline(level, color=COLOURS[1], lw=0.8)


def nf4_errors(exp: Experiment) -> dict[str, float]:
    """Show by how much quantisation changed each matrix of the base. Returns path -> relative error."""
    found = quantisation_errors(exp.backbone)
    kinds: dict[str, dict[int, float]] = {}  # one line a kind of matrix, such as q_proj, over the layers
    for path in sorted(found, key=lambda path: [int(part) for part in path.split(".") if part.isdigit()]):
        errors = kinds.setdefault(path.rpartition(".")[2], {})
        errors[len(errors)] = found[path]
    layers = len(quantised_layers(exp.backbone.backbone))
    title = f"What NF4 changes in each matrix, {len(found)} of {layers} compared"
    empty = "no matrix of the base is stored in safetensors under its own name"
    lines(kinds, title, empty, xlabel="layer", ylabel="relative Frobenius error")
    return found


def base_memory(exp: Experiment) -> None:
    """Show the memory of the frozen base as it is kept and without quantisation, from its parameters."""
    found = base_bytes(exp.backbone)
    found["together"] = (sum(kept for kept, _ in found.values()), sum(whole for _, whole in found.values()))
    names = ("NF4 base, MiB", f"{exp.backbone.decisions['dtype'].value} base, MiB")
    rows = [
        {"part": part, names[0]: kept / MIB, names[1]: whole / MIB, "ratio": kept / whole}
        for part, (kept, whole) in found.items()
    ]
    table(rows, "Memory of the base, computed from its parameters", dict.fromkeys(names, "{:,.2f}"))
