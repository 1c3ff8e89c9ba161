"""A page that counts instead of training, for the tests of kernels: it stops, resumes and finishes."""

COUNTING = """\
# %% tags=["parameters"]
model = "tiny"
task = "semeval2017t3"
strategy = "s1_single"
profile = "smoke"
seed = 42
overrides = []
runs_dir = "runs"
run_dir = ""

# %%
import hashlib
import json
import os
import time
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder, Totals
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run

LAST = 40
per_session = int(os.environ.get("STEPS_PER_SESSION", LAST))
hang_at = int(os.environ.get("HANG_AT", -1))
config = compose(model=model, task=task, strategy=strategy, profile=profile, seed=seed, overrides=overrides)
if run_dir and (Path(run_dir) / "config.yaml").is_file():
    run = RunFolder.open(Path(run_dir), finished=False)
else:
    run = start_run(config, page="counting", runs_dir=runs_dir, run_dir=run_dir)

# %%
saved = sorted(run.checkpoints.glob("step-*"))
step, value = json.loads((saved[-1] / "state.json").read_text()) if saved else (0, str(seed))
stop = min(LAST, step + per_session)
while step < stop:
    step, value = step + 1, hashlib.sha256(f"{value} {step}".encode()).hexdigest()
    if step % 5 == 0:
        folder = run.checkpoints / f"step-{step:06d}"
        folder.mkdir()
        (folder / "state.json").write_text(json.dumps([step, value]))
    if step == hang_at:
        time.sleep(600)

# %%
if step == LAST:
    run.finish(totals=Totals(tokens={task: step}), device="cpu", data_hashes={}, value=value)
print("step", step)
"""
