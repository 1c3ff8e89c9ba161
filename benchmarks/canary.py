"""Plant words that exist nowhere else in restricted corpora, run everything, and search what came of it.

    python -m benchmarks.canary > benchmarks/results/canary.md      # every page as users run it
    python -m benchmarks.canary --quick                             # tiny models, one kernel for all

The practice notes of the three restricted tasks are laid out as real corpora, with every long word
replaced by a random one of its length: text and annotated mentions are all canaries, offsets stay; so are
one concept or one attribute's value of each file. A
copy of the checkout then runs every page and command in a home of its own, on these corpora and on
damaged copies of them, with planted tokens in the environment. A service on the loopback stands for
wandb, Kaggle and any other host, refuses everything and keeps what it was sent. What was written,
printed or sent is searched; only the corpora and the local cache may hold a canary, and no place a
token.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from benchmarks.canary_search import Finding, search
from benchmarks.canary_sink import Sink
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.data.marker import MARKER
from kaggle_kit.data.practice import generate

ROOT = Path(__file__).resolve().parents[1]
RESTRICTED = ("semeval2014t7", "semeval2015t14", "semeval2016t12")
COPIED = ("kaggle_kit", "params", "notebooks", "benchmarks", "kernel-metadata", "requirements.txt")
HELD_OUT = "ncbi_disease"  # public, for the page that asks how runs do on another corpus
ABSTRACT = """\
1|t|Fever at night
1|a|Much is said of fever and little of its end.
1\t0\t5\tFever\tSpecificDisease\tD005334
1\t31\t36\tfever\tSpecificDisease\tD005334
"""
LOGS = ("*.journal", "snakemake.log", "page.log", "*.html")  # each has to be among what is searched
LONG = re.compile(r"[A-Za-z]{7,}")
LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowels: no word of any language, and no base64 by chance
SECRETS_MODULE = """\
import json, pathlib
HELD = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())


class UserSecretsClient:
    def get_secret(self, label):
        return HELD[label]
"""


def plant(folder: Path, documents: int, seed: int) -> dict[str, str]:
    """Corpora and damaged copies below `folder`; returns ordinary word -> canary."""
    generator = random.Random(seed)
    settings = PracticeConfig(documents=documents, terms=10)
    canaries: dict[str, str] = {}

    def swapped(match: re.Match[str]) -> str:
        word = match[0].lower()
        if word not in canaries:
            canaries[word] = "".join(generator.choices(LETTERS, k=len(word)))
        canary = canaries[word]
        return canary.capitalize() if match[0][0].isupper() else canary

    roots = generate(folder / "corpora", settings)  # public tasks lie beside them, as in a study
    for task, root in ((task, roots[task]) for task in RESTRICTED):
        for path in sorted(root.rglob("*")):
            if path.is_file() and _is_note(path):
                path.write_bytes(LONG.sub(swapped, path.read_text("utf-8")).encode())
        (root / MARKER).unlink()
        _rename(root)
        canaries[f"value of {task}"] = value = "".join(generator.choices(LETTERS, k=10))
        _value(root, value)
        _damage(root, folder / "damaged" / task)
    held_out = folder / "corpora" / HELD_OUT / "NCBItestset_corpus.txt"
    held_out.parent.mkdir()
    held_out.write_text(ABSTRACT)
    return canaries


def _is_note(path: Path) -> bool:
    return path.suffix == ".text" or path.name == path.parent.name


def _rename(root: Path) -> None:
    """Real names, as a search for words of the notes wants them."""
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        if path.is_file() and not _is_note(path):
            path.write_text(path.read_text("utf-8").replace("practice", "patient"), "utf-8")
        if "practice" in path.name:
            path.rename(path.with_name(path.name.replace("practice", "patient")))


def _value(root: Path, word: str) -> None:
    """One word in the place of a concept (ShARe), and of an attribute's value (Anafora), in every file."""
    for path in root.rglob("*"):
        if path.suffix in (".pipe", ".xml"):
            text = re.sub(r"\|C\d{7}\|", f"|{word}|", path.read_text("utf-8"), count=1)
            text = text.replace("</properties>", f"<Comment>{word}</Comment></properties>", 1)
            path.write_text(text, "utf-8")


def _damage(root: Path, copy: Path) -> None:
    """Each note's text in the place of annotations, in several ways, one document each."""
    shutil.copytree(root, copy)
    notes = sorted(path for path in copy.rglob("*") if path.is_file() and _is_note(path))
    for number, note in enumerate(notes):
        words = note.read_text("utf-8").split()
        prose = " ".join(words[:40])
        for path in note.parent.glob("*.pipe" if note.suffix else "*.xml"):
            if path.stem.partition(".")[0] != note.stem:
                continue
            path.write_text(_spoilt(path.read_text("utf-8"), words, prose, number % 6), "utf-8")
    notes[-1].write_bytes(notes[-1].read_bytes() + b"\xff\xfe")  # no UTF-8


def _spoilt(annotations: str, words: list[str], prose: str, way: int) -> str:
    first, _, rest = annotations.partition("\n")
    if way == 0:
        return prose
    if way == 1:
        return f"{prose}||{prose}||{words[9]}||{words[10]}||{words[11]}\n{annotations}"
    if way == 2:
        return "|".join([first.split("|")[0] or prose, *[words[n] for n in range(10, 28)]]) + "\n" + rest
    if way == 3:
        return annotations.replace("||Disease_Disorder||", f"||{prose}||{prose}||", 1).replace(
            "<span>", f"<span>{prose}", 1
        )
    if way == 4:
        return annotations.replace("<id>", f"<id>{words[12]} &{words[13]}; ", 1) + f"<{words[14]}>"
    return re.sub(r"\d+", words[12], annotations, count=3)


def plant_tokens(folder: Path) -> dict[str, str]:
    """Tokens that nobody has had before, as secrets attached to a Kaggle notebook."""
    tokens = {"WANDB_API_KEY": secrets.token_hex(20), "HF_TOKEN": f"hf_{secrets.token_hex(17)}"}
    module = folder / "secrets" / "kaggle_secrets.py"
    module.parent.mkdir()
    module.write_text(SECRETS_MODULE)
    module.with_suffix(".json").write_text(json.dumps(tokens))
    return tokens


def isolated(folder: Path, sink: Sink) -> dict[str, str]:
    """An environment in which nothing but `folder` and the sink can be reached."""
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    kept = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(folder / "secrets"),
        "KAGGLE_KIT_CACHE": str(folder / "cache"),
        "KAGGLE_KIT_DATA": str(folder / "corpora"),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "WANDB_BASE_URL": sink.url,
        "HTTP_PROXY": sink.url,
        "HTTPS_PROXY": sink.url,
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_USERNAME": "jane",
        "KAGGLE_KEY": secrets.token_hex(16),
        "JUPYTER_PLATFORM_DIRS": "1",
    }


def exercise(folder: Path, environ: Mapping[str, str], quick: bool) -> list[dict]:
    """Run all steps in a copy of the checkout; what they print is kept in `folder/shown`."""
    checkout = folder / "checkout"
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        checkout.mkdir(exist_ok=True)
        copy(source, checkout / name)
    command = [sys.executable, "-m", "benchmarks.canary_steps", str(folder), *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=checkout, env=dict(environ), capture_output=True, text=True)
    (folder / "shown").mkdir(exist_ok=True)
    (folder / "shown" / "steps.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit(f"the steps ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads((folder / "steps.json").read_text())


def places(folder: Path) -> Iterator[Path]:
    """Every folder that may hold neither canary nor token."""
    allowed = {"corpora", "damaged", "cache", "secrets"}
    return (path for path in sorted(folder.iterdir()) if path.name not in allowed)


def table(steps: list[dict], findings: list[Finding], planted: int, looked: dict[str, int], head: str) -> str:
    text = [found for found in findings if found.what == "canary"]
    secret = [found for found in findings if found.what == "token"]
    rows = [
        ("different words planted", planted),
        ("their places in the corpora, as the search counts them", looked["corpora"]),
        ("pages and commands run", len(steps)),
        ("of these, that failed as they had to (damaged corpora, refused connections)", looked["failed"]),
        ("files searched", looked["files"]),
        ("MiB searched, archives unpacked", round(looked["bytes"] / 2**20)),
        ("requests that left the process", looked["requests"]),
        ("wandb runs kept in run folders", looked["wandb"]),
        ("journals, logs of Snakemake and of pages, and HTML reports among the files", looked["logs"]),
        ("restricted words outside the corpora and the cache", len(text)),
        ("tokens anywhere", len(secret)),
    ]
    lines = [head, "", "| | |", "|---|---:|", *(f"| {name} | {value:,} |" for name, value in rows), ""]
    lines += ["| step | ended |", "|---|---|", *(f"| {step['name']} | {step['ended']} |" for step in steps)]
    return "\n".join(lines + [str(found) for found in findings])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny models and one kernel for all pages")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, kept afterwards")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, Sink() as sink:
        folder = (arguments.keep or Path(temporary)).resolve()
        canaries = plant(folder, documents=6 if arguments.quick else 8, seed=arguments.seed)
        tokens = list(plant_tokens(folder).values())
        environ = isolated(folder, sink)
        tokens.append(environ["KAGGLE_KEY"])
        steps = exercise(folder, environ, arguments.quick)
        sink.keep(folder / "sent")
        words = list(canaries.values())
        findings, looked = search(places(folder), {"canary": words, "token": tokens})
        cached, more = search([folder / "cache"], {"token": tokens})
        findings += cached
        looked = {name: looked[name] + more[name] for name in looked}
        in_corpora, _ = search([folder / "corpora"], {"canary": words})
        looked["corpora"] = sum(found.times for found in in_corpora)
        logs = [len(list((folder / "checkout").rglob(name))) for name in LOGS]
        looked["logs"] = sum(logs)
        looked["wandb"] = len(list(folder.glob("checkout/runs/*/wandb/offline-run-*")))
    head = f"{date.today()}, {'quick' if arguments.quick else 'full'}: {time.monotonic() - begun:.0f} s"
    looked |= {"failed": sum(not step["well"] for step in steps), "requests": len(sink.requests)}
    print(table(steps, findings, len(canaries), looked, head))
    wrong = [step for step in steps if step["expected"] not in (None, step["well"])]
    return int(bool(findings or wrong or not all(logs)))


if __name__ == "__main__":
    sys.exit(main())
