"""A stand-in for Kaggle on the loopback: accepts pushes, executes them like Kaggle, and misbehaves.

    with KaggleService(tmp_path, faults={2: Fault(kill_when=...)}) as service:
        client = KaggleClient(service.environ)

It speaks what the real client says (recorded from kaggle 2.2.x): POST JSON to
`/api/v1/<service>/<Method>`, reached through HTTP_PROXY with KAGGLE_API_ENVIRONMENT=LOCALHOST, so any
free port and an ordinary user will do. Each session runs papermill in a clean folder with
`/kaggle`-like mounts; output of earlier sessions is mounted read-only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psutil

ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")


@dataclass(frozen=True)
class Fault:
    """What happens to one session: killed (or asked by SIGTERM to end) when its working folder looks so,
    or its output lost."""

    kill_when: Callable[[Path], bool] | None = None
    stop_when: Callable[[Path], bool] | None = None
    lose_output: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """One version of one kernel: what was pushed, and what became of it."""

    ref: str
    version: int
    body: dict[str, Any]
    root: Path
    status: str = "QUEUED"
    message: str = ""
    mounts: list[str] = field(default_factory=list)

    @property
    def working(self) -> Path:
        return self.root / "working"

    def files(self) -> list[Path]:
        if not self.working.is_dir():
            return []
        return sorted(path for path in self.working.rglob("*") if path.is_file())


class KaggleService:
    """Sessions by kernel, in order of their versions. `answers` and `drops` are used up one by one."""

    def __init__(
        self,
        root: Path,
        *,
        faults: Mapping[int, Fault] = {},  # noqa: B006  (never changed)
        session_limit: int = 2,
        quota_hours: float = 30.0,
        environ: Mapping[str, str] = {},  # noqa: B006
    ) -> None:
        self.root, self.faults, self.session_limit = root, dict(faults), session_limit
        self.quota_hours, self.extra = quota_hours, dict(environ)
        self.kernels: dict[str, list[Session]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, list[tuple[int, dict[str, Any]]]] = {}  # method -> scripted answers
        self.drops: dict[str, list[str]] = {}  # method -> "before" or "after" it, or ""
        self.most_at_once = 0
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._processes: list[subprocess.Popen] = []

    @property
    def environ(self) -> dict[str, str]:
        """What the client's process needs in its environment to talk to this service alone."""
        home = self.root / "home"
        home.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return kept | {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "HTTP_PROXY": f"http://127.0.0.1:{self.port}",
            "KAGGLE_USERNAME": "jane",
            "KAGGLE_KEY": "not-a-real-key-0123456789",
            "HOME": str(home),
        }

    def __enter__(self) -> KaggleService:
        service = self

        class Handler(_Handler):
            owner = service

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for process in self._processes:
            _kill(process)
        for thread in self._threads:
            thread.join(timeout=20)

    def sessions(self, ref: str) -> list[Session]:
        return self.kernels.get(ref, [])

    def running(self) -> int:
        every = [session for sessions in self.kernels.values() for session in sessions]
        return sum(session.status not in ENDED for session in every)

    # --- the methods of the service -------------------------------------------------------------

    def SaveKernel(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        ref = body["slug"]
        with self._lock:
            if self.running() >= self.session_limit:
                return 200, {"error": f"Maximum batch GPU session count of {self.session_limit} reached."}
            if self.quota_hours <= 0:
                return 200, {"error": "Maximum weekly GPU quota of 30.00 hours reached."}
            unknown = [s for s in body.get("kernelDataSources", []) if not self._mountable(s)]
            versions = self.kernels.setdefault(ref, [])
            version = len(versions) + 1
            session = Session(ref, version, body, self.root / ref.replace("/", "_") / str(version))
            versions.append(session)
            self.most_at_once = max(self.most_at_once, self.running())
            thread = threading.Thread(target=self._execute, args=(session,), daemon=True)
            self._threads.append(thread)
            thread.start()
        url = f"http://localhost/code/{ref}"
        answer = {"ref": f"/code/{ref}", "url": url, "versionNumber": version, "kernelId": 1}
        return 200, answer | {"invalidKernelSources": unknown}

    def GetKernelSessionStatus(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        session = self._newest(body)
        if session is None:
            return 404, {"code": 404, "message": "Kernel not found"}
        return 200, {"status": session.status, "failureMessage": session.message}

    def ListKernelSessionOutput(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        session = self._newest(body)
        if session is None:
            return 404, {"code": 404, "message": "Kernel not found"}
        lost = self._fault(session).lose_output and session.status != "COMPLETE"
        files = [] if lost else session.files()
        names = [path.relative_to(session.working).as_posix() for path in files]
        at = f"http://localhost/files/{quote(session.ref, safe='')}/{session.version}/"
        start, size = int(body.get("pageToken") or 0), int(body.get("pageSize") or 20)
        page = [{"url": at + quote(name), "fileName": name} for name in names[start : start + size]]
        more = str(start + size) if start + size < len(names) else ""
        return 200, {"files": page, "log": session.message, "nextPageToken": more}

    def GetKernel(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        session = self._newest(body)
        if session is None:
            return 404, {"code": 404, "message": "Kernel not found"}
        blob = {"source": session.body["text"], "language": "python", "kernelType": "notebook"}
        about = {"ref": session.ref, "id": 1, "title": session.body["newTitle"], "isPrivate": True}
        return 200, {"metadata": about, "blob": blob | {"slug": session.ref.partition("/")[2]}}

    def GetAcceleratorQuotaStatistics(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        used = int((30 - self.quota_hours) * 3600)
        gpu = {"timeUsed": f"{used}s", "totalTimeAllowed": "108000s"}
        return 200, {"quotaRefreshTime": "2026-11-28T00:00:00Z", "gpuQuota": gpu}

    # --- a session ------------------------------------------------------------------------------

    def _execute(self, session: Session) -> None:
        environ = self._prepare(session)
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-output"]
        command += [str(session.root / "pushed.ipynb"), str(session.root / "executed.ipynb")]
        log = (session.root / "log").open("w")
        process = subprocess.Popen(
            command, cwd=session.working, env=environ, stdout=log, stderr=log, start_new_session=True
        )
        self._processes.append(process)
        session.status = "RUNNING"
        fault, killed, told = self._fault(session), False, False
        while process.poll() is None:
            if fault.stop_when and not told and fault.stop_when(session.working):
                _terminate(process)
                told = True
            if fault.kill_when and fault.kill_when(session.working):
                _kill(process)
                killed = True
            time.sleep(0.01)
        log.close()
        text = (session.root / "log").read_text()
        session.message = "" if process.returncode == 0 else text[-2000:]
        ended = "CANCEL_ACKNOWLEDGED" if killed else "ERROR" if process.returncode else "COMPLETE"
        session.status = ended

    def _prepare(self, session: Session) -> dict[str, str]:
        """A clean machine: the notebook, an empty working folder, and the sources mounted read-only."""
        session.working.mkdir(parents=True)
        for folder in ("input", "tmp", "home"):
            (session.root / folder).mkdir()
        for source in session.body.get("kernelDataSources", []):
            if newest := self._mountable(source):
                mount = session.root / "input" / "notebooks" / source
                shutil.copytree(newest.working, mount)
                for path in (mount, *mount.rglob("*")):
                    path.chmod(0o555 if path.is_dir() else 0o444)
                session.mounts.append(f"{source}/{newest.version}")
        (session.root / "pushed.ipynb").write_text(session.body["text"])
        foreign = ("KAGGLE", "PYTHON", "WANDB", "HF_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "KAGGLE_KIT_KAGGLE_ROOT": str(session.root),
            "HOME": str(session.root / "home"),
            "TMPDIR": str(session.root / "tmp"),
            "IPYTHONDIR": str(session.root / "home" / "ipython"),
            **self.extra,
            **self._fault(session).environ,
        }

    def _mountable(self, source: str) -> Session | None:
        """The newest version that ended well: Kaggle does not mount what a failed one left."""
        good = [session for session in self.sessions(source) if session.status == "COMPLETE"]
        return good[-1] if good else None

    def _newest(self, body: dict[str, Any]) -> Session | None:
        sessions = self.sessions(f"{body.get('userName')}/{body.get('kernelSlug')}")
        return sessions[-1] if sessions else None

    def _fault(self, session: Session) -> Fault:
        return self.faults.get(session.version, Fault())


class _Handler(BaseHTTPRequestHandler):
    """Requests come in proxy form (`POST http://localhost/api/v1/…`) or plainly."""

    owner: KaggleService
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        method = urlsplit(self.path).path.rpartition("/")[2]
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        self.owner.requests.append((method, body))
        drops = self.owner.drops.get(method)
        drop = drops.pop(0) if drops else ""
        if drop == "before":
            return self._hang_up()
        if scripted := self.owner.answers.get(method):
            code, answer = scripted.pop(0)
        elif act := getattr(self.owner, method, None):
            code, answer = act(body)
        else:
            code, answer = 404, {"code": 404, "message": f"no method {method}"}
        if drop == "after":
            return self._hang_up()
        self._send(code, json.dumps(answer).encode(), "application/json")

    def do_GET(self) -> None:
        _, _, ref, version, *names = urlsplit(self.path).path.split("/")
        session = self.owner.sessions(unquote(ref))[int(version) - 1]
        content = (session.working / unquote("/".join(names))).read_bytes()
        if drop := self.owner.drops.get("GET"):
            drop.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + 1))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            return self._hang_up()
        self._send(200, content, "application/octet-stream")

    def _send(self, code: int, content: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


def _terminate(process: subprocess.Popen) -> None:
    """SIGTERM for the page's kernel alone."""
    for one in psutil.Process(process.pid).children(recursive=True):
        if "ipykernel_launcher" in one.cmdline():
            one.terminate()


def _kill(process: subprocess.Popen) -> None:
    """SIGKILL for papermill and its kernel, which jupyter puts into a session of its own."""
    try:
        every = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for one in every:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(every, timeout=10)
