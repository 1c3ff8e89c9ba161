"""What a page calls from training on: the trainer, the official scores, the record.

trainer = open_trainer(config, run, network, loaded, plan, encoded, quick)
metrics = evaluate_reported(config, run, network, loaded, specs, corpora)
record(config, run, network, loaded, trainer, corpora, seconds)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.batches.plan import StepPlan, steps_per_epoch
from kaggle_kit.core.artifacts import Metric, RunFolder, Totals
from kaggle_kit.core.config import without_machine_keys
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample, relation_parts
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.data.normalise import NO_CONCEPT, ConceptNormaliser
from kaggle_kit.evaluation.documents import document_statistics
from kaggle_kit.evaluation.official import metrics_of, score_samples
from kaggle_kit.evaluation.predict import Predictor
from kaggle_kit.experiment.controlled_variables import held_fixed, scores_best_development
from kaggle_kit.experiment.model_selection import CHOOSING, SELECTION, predictions_of, reading
from kaggle_kit.experiment.optimisation import optimisation
from kaggle_kit.experiment.preparation import encode_split, plan_settings, split_samples
from kaggle_kit.experiment.tracking import close_tracking, follow
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.arguments import training_arguments
from kaggle_kit.training.callbacks import (
    DevelopmentCallback,
    QuickEvaluationCallback,
    StudyCallback,
    study_callbacks,
    summary,
)
from kaggle_kit.training.checkpoint import CheckpointManager, identity
from kaggle_kit.training.losses import EqualLoss, UncertaintyWeightedLoss
from kaggle_kit.training.resume import CheckpointCallback, SessionEnd, train_session
from kaggle_kit.training.smoke import SmokeReport, smoke_plan, smoke_test
from kaggle_kit.training.trainer import MultiTaskTrainer, TokenControlledTrainer

Samples = Mapping[str, Sequence[UnifiedSample]]


def open_trainer(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    plan: StepPlan,
    encoded: Mapping[str, EncodedTask],
    quick: Callable[[], Mapping[str, float]] | None = None,
    after: MultiTaskTrainer | None = None,
    budget: int | None = None,
) -> MultiTaskTrainer:
    """The trainer of a plan, under the strategy's loss weights and gradient surgery.

    With `quick`, the model is evaluated every `training.quick_every` steps. Under `training.selection`
    `best` its best weights are put back at the end, and it stops early after `training.patience` epochs
    without a better one; under `last` it does neither; there, with `budget`, the tokens of all phases, the
    development curve is kept. A second phase is opened `after` the first: steps and tokens are counted on.
    """
    watch = curve = None
    if quick is not None:
        best = config.training.selection == "best"
        epoch = steps_per_epoch(plan, {name: task.groups for name, task in encoded.items()})
        patience = config.training.patience * epoch if best and config.training.patience else None
        every = config.training.quick_every
        watch = QuickEvaluationCallback(quick, SELECTION, every=every, patience=patience, keeps_best=best)
        if budget and not best:
            begun = sum(after.tokens.total.values()) if after else 0
            keeps = scores_best_development(config)
            curve = DevelopmentCallback(quick, SELECTION, budget=budget, begun=begun, keeps_best=keeps)
    arguments = _arguments(config, run, loaded, len(plan))
    keeper = CheckpointCallback(every=config.training.checkpoint_every)
    callbacks = [*study_callbacks(run, watch, curve), keeper]
    follow(config, run, callbacks)
    options = {"callbacks": callbacks, **_strategy_options(config)}
    steps = PlanDataset(plan, encoded)
    if config.training.target_tokens is not None:
        (task,) = plan.tasks
        target = {"target_tokens": config.training.target_tokens, "task": task}
        return TokenControlledTrainer(network, steps, arguments, **target, **options)
    trainer = MultiTaskTrainer(network, steps, arguments, **options)
    if after is not None:
        trainer.tokens.load_state_dict(after.tokens.state_dict())
    return trainer


def smoke_gate(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: Mapping[str, EncodedTask],
) -> SmokeReport:
    """50 steps on 100 samples that must halve the loss; the model is as before afterwards.

    Raises SmokeGateError with the reason and the curve, which stops the page.
    """

    def make_trainer(steps: int, samples: int) -> MultiTaskTrainer:
        plan = smoke_plan(encoded, plan_settings(config), config.seed, steps=steps, samples=samples)
        return bare_trainer(config, run, network, loaded, PlanDataset(plan, encoded))

    return smoke_test(make_trainer)


def bare_trainer(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    steps: PlanDataset,
    callbacks: Sequence[TrainerCallback] = (),
) -> MultiTaskTrainer:
    """A trainer that logs nothing and keeps nothing: for trials, under the strategy's own rules."""
    arguments = _arguments(config, run, loaded, len(steps))
    options = {"callbacks": callbacks, **_strategy_options(config)}
    return MultiTaskTrainer(network, steps, arguments, **options)


def train(
    config: RunConfig,
    run: RunFolder,
    trainer: MultiTaskTrainer,
    corpora: Mapping[str, Corpus],
    phase: str = "training",
) -> SessionEnd:
    """Train to the end, from the newest whole checkpoint of the phase if there is one.

    Checkpoints are written every `training.checkpoint_every` steps, at a new best, at the session's
    deadline and when the process is told to stop. In the last two cases `end.paused` is true.
    """
    (keeper,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, CheckpointCallback))
    fixed = identity(
        config=without_machine_keys(asdict(config)),
        corpus={name: corpus.sha256 for name, corpus in corpora.items()},
        plan=trainer.train_dataset.plan.sha256,
    )
    logs = (run.events_jsonl, run.tokens_jsonl)
    facts = {"batch": json.loads(run.batch_json.read_text())} if run.batch_json.is_file() else {}
    checkpoints = CheckpointManager(run.checkpoints / phase, identity=fixed, logs=logs, facts=facts)
    return train_session(trainer, checkpoints, keeper)


def training_seconds(run: RunFolder) -> float:
    """Seconds in training steps, over all sessions and phases of the run."""
    return sum(event["seconds"] for event in run.events())


def evaluate_reported(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    specs: Mapping[str, TaskSpec],
    corpora: Mapping[str, Corpus],
) -> list[Metric]:
    """`evaluate` on every split of `profile.report`: dev, unless something was tuned or chosen there.

    First the thresholds of relations are chosen, on dev; what is reported of dev itself is cross-fitted.
    """
    fit_relation_thresholds(config, network, loaded, specs, corpora)
    train = split_samples(config, corpora, "train")
    metrics: list[Metric] = []
    for split in config.profile.report:
        gold = split_samples(config, corpora, split)
        encoded = encode_split(config, gold, specs, loaded)
        metrics += evaluate(config, run, network, loaded, encoded, gold, train, split)
    return metrics


def fit_relation_thresholds(
    config: RunConfig,
    network: MultiTaskModel,
    loaded: Loaded,
    specs: Mapping[str, TaskSpec],
    corpora: Mapping[str, Corpus],
) -> None:
    """Set the thresholds of every relation head by its task's development samples."""
    relating = {name for name, spec in specs.items() if relation_parts(spec)}
    config = replace(config, tasks={name: task for name, task in config.tasks.items() if name in relating})
    dev = split_samples(config, {name: corpora[name] for name in config.tasks}, CHOOSING)
    predictor = Predictor(network, **reading(config, loaded))
    for name, encoded in encode_split(config, dev, specs, loaded).items():
        predictor.fit_thresholds(encoded, dev[name])


def evaluate(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    encoded: Mapping[str, EncodedTask],
    gold: Samples,
    train: Samples,
    split: str,
) -> list[Metric]:
    """Predict a split of every task, write the predictions, and score them as the organisers do."""
    metrics: list[Metric] = []
    for name, task in config.tasks.items():
        predicted = predictions_of(config, network, loaded, encoded[name], gold[name])
        predicted = with_concepts(train[name], predicted)
        run.write_predictions(name, split, predicted)
        figures = score_samples(task, gold[name], predicted, run.official(name))
        run.write_documents(name, split, document_statistics(task, gold[name], run.official(name)))
        metrics += metrics_of(task, figures, gold[name], split)
    return metrics


def with_concepts(train: Sequence[UnifiedSample], predicted: Sequence[UnifiedSample]) -> list[UnifiedSample]:
    """Concept ids for predicted mentions without, learnt from the training mentions (if those carry any)."""
    known = [
        (mention.text(sample.text), "\t".join(mention.concepts) or NO_CONCEPT)  # no format's id holds a tab
        for sample in train
        for mention in sample.mentions
        if sample.text is not None
    ]
    if all(concepts == NO_CONCEPT for _, concepts in known):
        return list(predicted)
    texts = {mention.text(sample.text): () for sample in predicted for mention in sample.mentions}
    for text, concepts in zip(texts, ConceptNormaliser.fit(known).predict(list(texts)), strict=True):
        texts[text] = tuple(concepts.split("\t")) if concepts != NO_CONCEPT else ()
    return [
        replace(
            sample,
            mentions=tuple(
                replace(mention, concepts=mention.concepts or texts[mention.text(sample.text)])
                for mention in sample.mentions
            ),
        )
        for sample in predicted
    ]


def record(
    config: RunConfig,
    run: RunFolder,
    network: MultiTaskModel,
    loaded: Loaded,
    trainers: Sequence[MultiTaskTrainer],
    corpora: Mapping[str, Corpus],
) -> Path:
    """The manifest, written last. `trainers` are all that trained this model, phase by phase."""
    tokens = trainers[-1].tokens
    trained = {id(p): p.numel() for t in trainers for g in t.optimizer.param_groups for p in g["params"]}
    close_tracking(run)
    more = held_fixed(config, network, trainers[-1], corpora) | optimisation(run, trainers)
    more["relation_thresholds"] = relation_thresholds(network)
    if isinstance(trainers[-1], TokenControlledTrainer):
        more["token_parity_error"] = trainers[-1].parity_error
    if any(corpus.practice for corpus in corpora.values()):  # found like a real corpus, and synthetic
        more["flags"] = run.facts["flags"] | {"practice": True}
    return run.finish(
        totals=Totals(tokens.total, sum(trained.values()), training_seconds(run), tokens.computed),
        device=loaded.decisions["device"].value,
        data_hashes={name: corpus.sha256 for name, corpus in corpora.items()},
        plans=[trainer.train_dataset.plan.sha256 for trainer in trainers],
        steps_sha256=[trainer.train_dataset.plan.steps_sha256 for trainer in trainers],
        decisions={name: [made.value, made.reason] for name, made in loaded.decisions.items()},
        callbacks=[summary(_study_callbacks(trainer)) for trainer in trainers],
        **more,
    )


def relation_thresholds(network: MultiTaskModel) -> dict[str, Any]:
    """Task -> relation component -> the P(no relation) below which there is one, for the manifest."""
    kept = {
        task: {
            part.name: [round(value, 4) for value in network.heads[task][part.name].thresholds.tolist()]
            for part in relation_parts(spec)
        }
        for task, spec in network.specs.items()
    }
    order = ["chosen on all of dev", "half 0 of dev (chosen on half 1)", "half 1 of dev (chosen on half 0)"]
    return {"order": order, "values": {task: found for task, found in kept.items() if found}}


def _arguments(config: RunConfig, run: RunFolder, loaded: Loaded, steps: int) -> TrainingArguments:
    return training_arguments(
        config.training,
        steps=steps,
        output_dir=run.checkpoints,
        seed=config.seed,
        device=loaded.decisions["device"].value,
        float16=loaded.decisions["dtype"].value == "float16",
    )


def _strategy_options(config: RunConfig) -> dict[str, Any]:
    """Loss weights and gradient surgery, as the strategy says."""
    uncertain = config.strategy.loss_weighting == "uncertainty"
    rate = config.training.uncertainty_learning_rate
    tasks = list(config.tasks)
    return {
        "weighting": UncertaintyWeightedLoss(tasks, rate) if uncertain else EqualLoss(tasks),
        "pcgrad_seed": config.seed if config.strategy.pcgrad else None,
    }


def _study_callbacks(trainer: MultiTaskTrainer) -> list[StudyCallback]:
    return [
        callback for callback in trainer.callback_handler.callbacks if isinstance(callback, StudyCallback)
    ]
