# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # S3b: the entity level feeds the relation level
#
# **Question.** Relations, temporal links and answers speak about entities. Does a model whose level 2 attends to the
# entity features of level 1 do better than the flat one (S3a)?
#
# **Hypothesis.** A relation holds between two mentions. A level that can look at what level 1 made of every token
# need not find the mentions again, so it learns relations from fewer tokens.
#
# ```text
#                          ┌─ top, shared + level 1 ──▶ entity features ──▶ level-1 heads
#   tokens ──▶ trunk ──────┤                                │
#              shared      │                           attention across
#                          │                                ▼
#                          └──────────────────────────────▶ + ──▶ top, shared + level 2 ──▶ level-2 heads
#
#   The trunk runs once. The top runs once for a task of level 1 and twice for every other task.
# ```
#
# **What would refute it.** Nothing crosses from level 1 to level 2; or it crosses and tokens weigh all others alike;
# or S3b at parameter parity scores no better on level 2 than S3a with the same seed (page `s3a_flat`).
#
# Before this page: `s1_single_task` and `s3a_flat`. After it: `ablation_architecture` with
# `experiment=ablation_detach_l1_for_l2` or `ablation_cross_level`, then `08_token_controlled_analysis`. "Run all" is
# safe anywhere: the defaults are a smoke run on synthetic notes, a few minutes on two CPU cores.

# %%
import sys
from glob import glob

sys.path += ["..", "../..", *glob("/kaggle/input/**/kaggle_kit/..", recursive=True)]
from kaggle_kit import Experiment, show

# %% tags=["parameters"]
model = "tiny"  # a file of params/model, a folder, or a hub id
task = "semeval2014t7,semeval2021t6,semeval2017t3"
strategy = "s3b_hierarchical"
profile = "smoke"  # smoke, open, t4
seed = 42
overrides = ["training.epochs=1"]
runs_dir = "runs"
run_dir = ""

# %% [markdown]
# ## 1 Set-up
#
# Names become one checked configuration; an unknown key stops the page here. The plan lists every optimiser step
# before the first one is taken, so the tokens of each task are known now.

# %%
asked = {"model": model, "task": task, "strategy": strategy, "profile": profile, "seed": seed}
exp = Experiment.open("s3b_hierarchical", **asked, overrides=overrides, runs_dir=runs_dir, run_dir=run_dir)
show.setup(exp)

# %% [markdown]
# ## 2 What the tasks look like
#
# One training sample of each. Mentions are level 1. Relations between them, and the ranking of answers, are level 2.

# %%
show.samples(exp, per_task=1)

# %% [markdown]
# ## 3 The model
#
# The backbone is cut between two layers. One adapter is shared by all layers; each level has its own adapter in the
# layers above the cut. Before anything trains, the two parts are run one after the other and must give the states
# of the whole backbone.

# %%
from kaggle_kit import HierarchicalMTLModel, SharedPrivateLoRA
from kaggle_kit.models.build import adapter_ranks, cut_layer
from kaggle_kit.models.verify import verify_stages

base, settings = exp.backbone, exp.config.strategy
depth = base.backbone.config.num_hidden_layers
cut = cut_layer(settings, depth)
lora = SharedPrivateLoRA(
    base.backbone,
    base.config.lora,
    adapter_ranks(settings, base.config.lora, list(exp.specs)),
    only_layers={"level1": range(cut, depth), "level2": range(cut, depth)},
)
kind = {"causal": base.causal, "decoder": base.decoder}
hierarchy = HierarchicalMTLModel(
    lora,
    exp.specs.values(),
    **kind,
    cut=cut,
    cross_level=settings.cross_level,
    cross_level_rank=settings.cross_level_rank,
    detach_l1_for_l2=settings.detach_l1_for_l2,
).to(base.backbone.device)
far = verify_stages(hierarchy.stages, causal=base.causal, name=base.config.name)
hierarchy.activate(next(iter(exp.specs)))
exp.model = hierarchy
show.adapters(exp)

# %% [markdown]
# ## 4 By hand: the way of one batch
#
# The sentences of one training document of a level-2 task go through trunk and top as the model would send them.
# A hook on every layer notes when it computes. What crosses ends in a zero matrix, so that both passes through the
# top give the same states before training: level 2 starts as if there were no level 1.

# %%
import torch

from kaggle_kit.evaluation.levels import layer_passes

second = [name for name in exp.specs if 2 in hierarchy.levels_of(name)]
batch = exp.batches("train", 1)[second[0]][0]
layout, stages = hierarchy.layout(batch), hierarchy.stages
hierarchy.eval()
with torch.no_grad(), layer_passes(hierarchy) as passes:
    hierarchy.activate(batch.task)
    trunk = stages.lower(batch, layout)
    with lora.using("shared", "level1"):
        entities = stages.upper(trunk, batch, layout)
    across = hierarchy.cross(trunk, entities, layout)
    with lora.using("shared", "level2"):
        reasoned = stages.upper(trunk + across.to(trunk.dtype), batch, layout)
show.level_passes(passes, [trunk, entities, reasoned])

# %% [markdown]
# ## 5 Training
#
# Each task's gradient of what several tasks share is set aside after its micro-batches. One projection and one
# combination end the step, in every group over the tasks that touch it: the shared adapter, each level, and the
# attention across levels.
#
# One call resumes the run or starts it, finds the fastest batch that fits (on a GPU), lets it pass the smoke gate,
# and trains. Where the session ends first, a checkpoint is left and the page ends normally.

# %%
exp.train()
show.training(exp)

# %% [markdown]
# ## 6 Scores
#
# Predictions are written in each task's own format and scored by the official rules.

# %%
if exp.finished:
    exp.evaluate()
    show.scores(exp)

# %% [markdown]
# ## 7 What the method did
#
# **Does anything cross?** `size` is the norm of what crosses, over the norm of the trunk's state. It was 0 before
# training. **Where does level 2 look?** `entropy` is 1 where a token weighs all tokens of its sentence alike, and 0
# where it looks at one. `mentions` is the weight on words inside gold mentions; above `share of mentions`, which is
# what chance gives, level 2 looks for entities.
#
# **What do relations owe to entities?** A relation is found only where both its mentions are. Recall over what is
# within reach is the part that level 2 itself answers for.
#
# **Do tasks conflict, and where?** Halves of two tasks' batches are compared with halves of one task's batch, which
# are as noisy: only the excess over those says that tasks conflict. The table has a block for each group that
# several tasks train.

# %%
if exp.finished:
    show.cross_level(exp)
    show.attention_map(exp, second[0])
    show.relations_within_reach(exp)
    show.conflict_excess(exp)

# %% [markdown]
# ## 8 Where it errs
#
# Development samples that the model gets wrong. Yellow: missed. Red: made up. Blue: found.

# %%
if exp.finished:
    show.errors(exp, n=1)

# %% [markdown]
# ## 9 Record
#
# Adapters and heads are saved, and the manifest is written last: without it the folder counts as unfinished. A
# paused run goes on when this page is run again on its folder.

# %%
if exp.finished:
    exp.finish()
show.record(exp)

# %% [markdown]
# ## Checks
#
# What must hold of any run of this page, and, once it is trained, of what crosses.

# %%
ran = [layer for layer, _ in passes]
assert far < 0.05, "the backbone in two parts is the backbone"
assert all(ran.count(layer) == (1 if layer < cut else 2) for layer in range(depth)), "the top runs twice"
assert torch.equal(entities, reasoned) and not across.any(), "level 2 starts as if there were no level 1"
if exp.finished:
    assert exp.session.tokens == exp.plan.tokens, "each task has seen the tokens that were planned for it"
    assert hierarchy.cross.output.weight.abs().max() > 0, "level 2 has learnt to read level 1"

# %% [markdown]
# ## How to read it
#
# A run marked `smoke` or `practice` is no result and can enter no table of the paper. A real one stands for one
# seed. A gain over S3a counts only at parameter parity (`ablation_architecture` shows the table), and over S1 only
# at equal tokens. That level 2 looks at mentions is no proof that it needs to: the ablations
# `ablation_detach_l1_for_l2` and `ablation_cross_level` ask that.
