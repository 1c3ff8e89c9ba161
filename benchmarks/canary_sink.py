"""A server on the loopback that refuses everything and keeps what it was sent.

with Sink() as sink:
    os.environ["HTTPS_PROXY"] = sink.url
    ...
sink.keep(folder)       # one file per request: method, address, body
"""

from __future__ import annotations

import gzip
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Sink:
    """`requests` are (method and address, body), bodies decompressed; headers carry tokens by design."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def refuse(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                sink.requests.append((f"{self.command} {self.path}", _plain(body)))
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_PUT = do_HEAD = do_CONNECT = do_PATCH = refuse

            def log_message(self, *arguments: object) -> None:
                """The requests themselves are the log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Sink:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def keep(self, folder: Path) -> None:
        folder.mkdir()
        for number, (address, body) in enumerate(self.requests):
            (folder / f"{number:04d}").write_bytes(address.encode() + b"\n" + body)


def _plain(body: bytes) -> bytes:
    try:
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    except (OSError, EOFError, zlib.error):
        return body
