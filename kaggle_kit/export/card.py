"""The model card of a shared run: what it was trained on, what it scores, how to use it, what it is not.

    text = model_card(Shared(run, config, specs, described), Terms(agreement="…"))

The words are in `card.txt`. The head is YAML as the hub reads it. A smoke or practice run is marked in the
title, and its scores stay out of the head, from which the hub makes tables of results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from kaggle_kit.analysis.overview import TOYS, flag_names
from kaggle_kit.analysis.reproduction import RESAMPLES, interval
from kaggle_kit.analysis.verdict import read_verdict
from kaggle_kit.analysis.verdict_words import in_words
from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.records import sha256_of
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import ComponentSpec, Kind, TaskSpec
from kaggle_kit.models.adapter_files import saved_ranks

TEMPLATE = Path(__file__).with_name("card.txt")
NOT_ALONE = "alone_this_adapter_is_not_the_model_see_README"  # PEFT warns of a key that it does not know
HUB_TASKS = {Kind.RELATIONS: "text-classification", Kind.RANKING: "text-ranking"}  # the hub's names of tasks
MENTIONS = "token-classification"
LIBRARIES = ("torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True)
class Shared:
    """A finished run with its configuration, the tasks of its model, and how its adapters are described."""

    run: RunFolder
    config: RunConfig
    specs: Mapping[str, TaskSpec]
    described: Mapping[str, Any]
    quantised: Mapping[str, Any] | None = None  # method, group, rows, tokens, scores

    @property
    def plain(self) -> bool:
        """Whether stock PEFT reads with one adapter's folder what the heads of its tasks read."""
        causal = self.described["causal"]
        stock = self.config.model.family == "encoder" or causal is True or {*(causal or ())} == {*self.specs}
        return stock and all(len(names) == 1 for names in self.described["adapters"].values())

    @property
    def whole(self) -> bool:
        """Whether all of the backbone was trained, and lies in the folder."""
        return not self.described["ranks"]

    @property
    def toys(self) -> list[str]:
        """The marks of a run that is no result: smoke, practice."""
        return [name for name in flag_names(self.run.manifest()["flags"]) if name in TOYS]

    @property
    def scores(self) -> list[Metric]:
        """The figures by which the tasks are judged."""
        tasks = self.config.tasks
        wanted = {name: (task.primary_metric, *task.secondary_metrics) for name, task in tasks.items()}
        return [metric for metric in self.run.metrics() if metric.name in wanted.get(metric.task, ())]


@dataclass(frozen=True)
class Terms:
    """What the owner adds: a verdict's file, and by which agreement weights of restricted text go out."""

    verdict: Path | None = None
    agreement: str = ""


def model_card(shared: Shared, terms: Terms) -> str:
    """Return the card. ConfigError for a verdict that does not judge this run as it is."""
    manifest, model = shared.run.manifest(), shared.config.model
    document = _verdict(shared.run, terms.verdict) if terms.verdict else None
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters["cell"] = lambda text: text.replace("|", "/")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        vars(shared),
        plain=shared.plain,
        whole=shared.whole,
        toys=shared.toys,
        head=_head(shared),
        mark=f"NOT A RESULT ({' and '.join(shared.toys)} run): " if shared.toys else "",
        manifest=manifest,
        thresholds=manifest["relation_thresholds"]["values"],
        first=next(iter(shared.specs)),
        several=len(shared.specs) > 1,
        found=model.hub_id or model.recipe or shared.whole,
        four_bit=manifest["decisions"]["quantization"][0] == "nf4" and not shared.quantised,
        trained_whole=not saved_ranks(shared.run.adapters),
        scores=[(one, _interval_of(shared, one)) for one in shared.scores],
        resamples=RESAMPLES,
        verdict=document,
        sentences=list(in_words(document)) if document else (),
        agreement=terms.agreement.strip(),
        pairs=_pairs,
        libraries=LIBRARIES,
        not_alone=NOT_ALONE,
    )


def _interval_of(shared: Shared, metric: Metric) -> tuple[float, float, int] | None:
    primary = metric.name == shared.config.tasks[metric.task].primary_metric
    return interval(shared.run, metric.task, metric.split) if primary else None


def _head(shared: Shared) -> str:
    model, tasks = shared.config.model, shared.config.tasks
    kinds = {name: HUB_TASKS.get(spec.components[0].kind, MENTIONS) for name, spec in shared.specs.items()}
    results = [
        EvalResult(
            task_type=kinds[one.task],
            dataset_type=one.task,
            dataset_name=tasks[one.task].title,
            dataset_split=one.split,
            metric_type=one.name,
            metric_value=round(one.value, 4),
        )
        for one in shared.scores
    ]
    return ModelCardData(
        base_model=model.hub_id,
        base_model_relation=_relation(shared) if model.hub_id else None,
        library_name="transformers" if shared.whole else "peft",
        license="other",
        license_name="several",
        license_link="README.md",
        pipeline_tag=next(iter(kinds.values())) if len({*kinds.values()}) == 1 else None,
        tags=[*([] if shared.whole else ["lora"]), "clinical", *shared.config.tasks, *shared.toys],
        model_name=shared.run.run_id,
        eval_results=None if shared.toys else results or None,
    ).to_yaml()


def _relation(shared: Shared) -> str:
    return "quantized" if shared.quantised else "finetune" if shared.whole else "adapter"


def _pairs(part: ComponentSpec) -> str:
    return ", ".join(" → ".join(pair) for pair in part.candidates) or "–"


def _verdict(run: RunFolder, path: Path) -> dict[str, Any]:
    document = read_verdict(path)
    judged = {one["run_id"]: one["sha256"].get("manifest.json") for one in document["inputs"]}
    if judged.get(run.run_id) != sha256_of(run.manifest_json):
        raise ConfigError(
            f"{path} does not judge {run.run_id} as it is; it judges {', '.join(judged) or 'no run'}; give "
            "the verdict on this run, which `python -m kaggle_kit verdict --out FILE` writes"
        )
    return document
