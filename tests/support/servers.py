"""Small servers on this machine that take notifications: HTTP and SMTP, as they are and as they fail."""

from __future__ import annotations

import base64
import contextlib
import http.server
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple


class Posted(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: str


class Web(http.server.ThreadingHTTPServer):
    """An HTTP server that remembers what it got. ``status``, ``answer``: what it says; ``silent``: nothing,
    until it is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.got: list[Posted] = []
        self.status, self.answer, self.headers = 200, b"ok", dict[str, str]()
        self.silent: threading.Event | None = None

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Take(http.server.BaseHTTPRequestHandler):
    server: Web

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.got.append(Posted(self.path, dict(self.headers), body))
        if self.server.silent is not None:
            self.server.silent.wait()
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


class Mail(socketserver.ThreadingTCPServer):
    """An SMTP server that remembers the messages, and who logged in."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.got: list[str] = []
        self.logins: list[str] = []
        self.refuses = False

    @property
    def address(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Smtp(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        self._say("220 here")
        while line := self.rfile.readline().decode().rstrip():
            verb = line.split()[0].upper()
            if verb == "EHLO":
                self._say("250-here\r\n250 AUTH PLAIN")
            elif verb == "AUTH":
                self.server.logins.append(base64.b64decode(line.split()[2]).decode())
                self._say("235 welcome")
            elif verb == "DATA":
                self._say("354 go on")
                self.server.got.append(self._data())
                self._say("550 no" if self.server.refuses else "250 taken")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _data(self) -> str:
        lines = []
        while (line := self.rfile.readline().decode()) != ".\r\n":
            lines.append(line)
        return "".join(lines)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
