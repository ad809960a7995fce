"""Faults around a build: an index that is slow, broken or lies (a real server), and a full disk."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.environments.environment import state
from tests.support.environments import Place, lock_of, wheel


class Index:
    """A package index with one wheel, which answers as ``fault`` says."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.fault = ""
        self.asked: list[str] = []
        self.over = threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def do_HEAD(self) -> None:
                index.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        data = self.file.read_bytes()
        page = f'<!DOCTYPE html><html><body><a href="/{self.file.name}">{self.file.name}</a></body></html>'
        is_file = request.path.endswith(".whl")
        body = data if is_file else page.encode()
        if self.fault == "silent":
            self.over.wait(60)
            return
        if self.fault == "error" or (self.fault == "error in files" and is_file):
            request.send_error(503)
            return
        if self.fault == "lie" and is_file:
            body = self.other
        request.send_response(200)
        request.send_header("Content-Type", "application/octet-stream" if is_file else "text/html")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[: len(body) // 2] if self.fault == "torn" and is_file else body)
        request.close_connection = True

    other = b""

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def index(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """`tiny` with an index on this machine as its only source."""
    file = next(place.wheels.iterdir())
    (place.root / "index").mkdir()
    package_index = Index(file.rename(place.root / "index" / file.name))
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.setenv("UV_DEFAULT_INDEX", package_index.url)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "2")
    yield package_index
    package_index.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("silent", "cannot be reached"),
        ("error", "cannot be reached"),
        ("error in files", "cannot be reached"),
        ("torn", "is broken|cannot be reached"),
        ("lie", "is not the one that the lock names"),
    ],
)
def test_an_index_that(place: Place, index: Index, fault: str, message: str) -> None:
    index.fault = fault
    (place.root / "other").mkdir()
    index.other = wheel(place.root / "other", code="answer = 'stolen'\n").read_bytes()
    with pytest.raises(EnvironmentNotReadyError, match=message) as caught:
        place.build()
    assert str(caught.value).startswith("environment tiny: installing 1 package failed: ")
    assert "\n" not in str(caught.value)
    assert index.asked
    assert state(place.base, place.load()).word == "missing"
    index.fault = ""
    index.over.set()
    assert place.build().packages == {"tinypkg": "1.0"}


@pytest.fixture
def small_disk(place: Place) -> Iterator[Path]:
    """The folder for environments, on a disk of its own that is too small; None of it is left mounted."""
    place.base.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place.base)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT SHOWN: a disk of its own needs root and the right to mount")
    yield place.base
    subprocess.run(["umount", "--lazy", str(place.base)], check=True)


def test_a_full_disk(place: Place, small_disk: Path) -> None:
    noise = random.Random(7).randbytes(3 << 20).hex()
    shutil.rmtree(place.wheels)
    place.wheels.mkdir()
    file = wheel(place.wheels, code=f"answer = 42\nnoise = '{noise}'\n")
    (place.folder / "lock.txt").write_text(lock_of(file))
    with pytest.raises(EnvironmentNotReadyError, match="the disk is full: free space") as caught:
        place.build()
    assert "\n" not in str(caught.value)
    assert state(place.base, place.load()).word == "missing"
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert place.build().packages == {"tinypkg": "1.0"}
    assert len(place.builds()) == 1
