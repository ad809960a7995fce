"""A real HTTP server that serves files well and badly."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def checkpoint(size: int = 300_000, seed: int = 0) -> bytes:
    """A zip as torch.save writes it, whose content nobody can guess."""
    out = io.BytesIO()
    noise = b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(size // 32))
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), noise)  # its date is always the same
    return out.getvalue()


def sha256(data: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class Served:
    """A file and how it is served. ``cut`` and ``status`` tell of one request after the other; when they are
    used up, all is well. ``hold`` sends so many bytes and then waits until ``go`` is set."""

    data: bytes
    etag: str = ""
    status: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)  # bytes after which the connection ends
    hold: int | None = None
    go: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True

    def __post_init__(self) -> None:
        self.etag = self.etag or f'"{sha256(self.data)[:16]}"'


class Server:
    """``asked``: (path, Range) of each request; ``logins``: what those with a user's name had."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str]] = []
        self.logins: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Range", "")))
                outer.logins += self.headers.get_all("Authorization", [])
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _answer(self, outer.files.get(self.path))

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return the address that it listens on."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends it; nobody waits for it any more."""
        for served in self.files.values():
            served.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(handler: BaseHTTPRequestHandler, served: Served | None) -> None:
    status = 404 if served is None else served.status.pop(0) if served.status else 200
    if served is None or status != 200:
        handler.send_error(status)
        return
    start, byte_range = 0, handler.headers.get("Range", "")
    if byte_range and served.ranges and handler.headers.get("If-Range") == served.etag:
        start, status = int(byte_range.removeprefix("bytes=").rstrip("-")), 206
    if start >= len(served.data):
        handler.send_error(416)
        return
    handler.send_response(status)
    if status == 206:
        size = len(served.data)
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    handler.send_header("ETag", served.etag)
    body = served.data[start:]
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if served.cut:
        handler.wfile.write(body[: served.cut.pop(0)])
        handler.close_connection = True
    elif served.hold is not None and not served.go.is_set():
        handler.wfile.write(body[: served.hold])
        handler.wfile.flush()
        served.go.wait(60)
        handler.wfile.write(body[served.hold :])
    else:
        handler.wfile.write(body)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server for one test."""
    server = Server()
    try:
        yield server
    finally:
        server.close()
