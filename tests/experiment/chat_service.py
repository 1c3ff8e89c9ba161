"""A stand-in of an OpenAI-compatible service on this machine: chat completions and batches, faults included.

with Service() as service:
    service.faults = [status(429, retry_after="3"), body("not json")]     # of the next requests, in order
    service.requests                                                      # what arrived
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
Reply = tuple[int, bytes, dict[str, str]]


def completion(content: str | None = '{"mentions": []}', usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """A chat completion as a service words it."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    return {"model": "m-1", "system_fingerprint": "fp", "choices": [choice], "usage": usage} | more


def ok(**more: Any) -> Callable[[Any], Reply]:
    return lambda request: (200, json.dumps(completion(**more)).encode(), {})


def body(text: str) -> Callable[[Any], Reply]:
    return lambda request: (200, text.encode(), {})


def status(code: int, error: str = "busy", **headers: str) -> Callable[[Any], Reply]:
    text = json.dumps({"error": {"message": error, "code": error}}).encode()
    return lambda request: (code, text, {name.replace("_", "-"): value for name, value in headers.items()})


def slow(seconds: float) -> Callable[[Any], Reply]:
    def answer(request: Any) -> Reply:
        time.sleep(seconds)
        return ok()(request)

    return answer


def cut(request: Any) -> Reply:
    """More bytes are announced than come."""
    return 200, json.dumps(completion()).encode(), {"Content-Length": "100000"}


class Service:
    """Answers with the faults first, each to one request, then with `answer`."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.faults: list[Callable[[Any], Reply]] = []
        self.answer: Callable[[Any], Reply] = ok()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.states: list[str] = []  # of a batch, one for each time that it is looked at; then completed
        self.posted: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Service:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                self._send(*service.post(self.path, raw))

            def do_GET(self) -> None:
                self._send(*service.get(self.path))

            def _send(self, code: int, text: bytes, headers: dict[str, str]) -> None:
                self.send_response(code)
                for name, value in (
                    {"Content-Length": str(len(text)), "Connection": "close"} | headers
                ).items():
                    self.send_header(name, value)
                self.end_headers()
                self.close_connection = True
                with suppress(OSError):  # whoever asked has gone
                    self.wfile.write(text)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def post(self, path: str, raw: bytes) -> Reply:
        with self._lock:
            self.posted.append(path)
            if path.endswith("/files"):
                name = f"file-{len(self.files)}"
                start = raw.index(b"\n{") if b"\n{" in raw else raw.index(b"\r\n\r\n{") + 3
                lines = [line for line in raw[start:].splitlines() if line.startswith(b"{")]
                self.files[name] = b"\n".join(lines)
                return 200, json.dumps({"id": name, "object": "file"}).encode(), {}
            if path.endswith("/batches"):
                return self._made(json.loads(raw))
            request = json.loads(raw)
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else self.answer
        return fault(request)

    def get(self, path: str) -> Reply:
        path, _, _ = path.partition("?")
        if path.endswith("/content"):
            return 200, self.files[path.split("/")[-2]], {}
        if path.endswith("/batches"):
            found = {"object": "list", "data": list(self.batches.values()), "has_more": False}
            return 200, json.dumps(found).encode(), {}
        batch = self.batches[path.rpartition("/")[2]]
        batch["status"] = self.states.pop(0) if self.states else "completed"
        return 200, json.dumps(batch).encode(), {}

    def _made(self, asked: dict[str, Any]) -> Reply:
        name = f"batch-{len(self.batches)}"
        lines = []
        for line in self.files[asked["input_file_id"]].splitlines():
            request = json.loads(line)
            code, text, _ = (self.faults.pop(0) if self.faults else self.answer)(request["body"])
            response = {"status_code": code, "body": json.loads(text)}
            lines.append(json.dumps({"custom_id": request["custom_id"], "response": response, "error": None}))
        self.files[f"out-{name}"] = "\n".join(lines).encode()
        made = {"id": name, "object": "batch", "status": "validating", "metadata": asked["metadata"]}
        more = {"output_file_id": f"out-{name}", "error_file_id": None, "endpoint": asked["endpoint"]}
        more |= {"completion_window": "24h", "created_at": 0, "input_file_id": asked["input_file_id"]}
        self.batches[name] = made | more
        return 200, json.dumps(self.batches[name]).encode(), {}
