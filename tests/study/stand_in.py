"""A stand-in for the pages: `sitecustomize` of the processes that a study starts.

Where Python was started as `python -m kaggle_kit run …` (or `verdict`, or `pages execute`) it writes what
the command would leave behind, notes the command in $STAND_IN/journal, and ends the process. Files in
$STAND_IN choose otherwise: `fail` and `pause` hold a text that a run's folder must contain to fail or to
be paused, `wait` one to wait until it is stopped.
"""

import json
import os
import sys
import time
from pathlib import Path

UNDECIDED = {"verdict": "undecided", "reason": "these are stand-ins", "tasks": {}}
words = sys.orig_argv[1:]
if words[:2] == ["-m", "kaggle_kit"] and words[2:3] != ["study"]:
    home = Path(os.environ["STAND_IN"])

    from kaggle_kit.core.integrity import signed

    def chosen(name, folder):
        return (home / name).is_file() and (home / name).read_text() in folder.name

    def note(line):
        with (home / "journal").open("a") as journal:
            journal.write(line + "\n")

    def run(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("# run: {}\n")
        (folder / "paused.json").unlink(missing_ok=True)
        note(f"begin {folder.name} threads={os.environ.get('OMP_NUM_THREADS')}")
        if chosen("wait", folder):
            time.sleep(600)
        if chosen("fail", folder):
            print("error: the stand-in fails as asked")
            os._exit(1)
        if chosen("pause", folder):
            (folder / "paused.json").write_text(json.dumps({"message": "paused at step 3 of 9"}))
            os._exit(75)
        facts = {"complete": True, "run_id": folder.name, "config_hash": "0", "flags": {}, "device": "cpu"}
        facts |= {"started": "", "finished": "", "totals": {}, "data_hashes": {}}
        (folder / "manifest.json").write_text(json.dumps(signed(folder, facts)))
        note(f"end {folder.name}")

    if words[2] == "run":
        run(Path(words[words.index("--into") + 1]))
    else:
        note(" ".join(words[2:]))
        Path(words[words.index("--out") + 1]).write_text(json.dumps(UNDECIDED))
        for word in words:
            if word.startswith("report="):
                Path(word.removeprefix("report=")).write_text("<html>")
    os._exit(0)
