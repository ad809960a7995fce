"""Notifications from real command lines: two terminals, servers that hang, senders and terminals killed."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Place, environment, finish, opened
from tests.support.servers import Web, running
from tests.support.trivial import until

SITE = """
name: local
base: local
notify:
  hook: {by: webhook, url: {variable: NOTIFY_URL}, timeout: 120s}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        project.text("templates/local/site.yaml", SITE)
        yield project


@pytest.fixture
def web() -> Iterator[Web]:
    with running(Web()) as server:
        yield server


def variables(web: Web) -> dict[str, str]:
    return {**environment(), "NOTIFY_URL": f"{web.url}/services/private-path"}


def kinds(web: Web) -> Counter[str]:
    """Return how often each kind arrived, whatever its id."""
    return Counter(json.loads(post.body)["kind"] for post in web.got)


def test_two_terminals_tell_once_and_no_secret_is_on_disk(place: Place, web: Web) -> None:
    options: Any = {"env": variables(web)}
    arguments = ("submit", "tiny", "--wait", "--optional", "--task", "first", "--task", "broken")
    ends = [finish(process) for process in [place.spawn(*arguments, **options) for _ in range(2)]]
    assert {end.code for end in ends} == {1}
    place.call("advance", "tiny", **options)
    assert kinds(web) == {"failure": 1, "end": 1}
    texts = {json.loads(post.body)["kind"]: json.loads(post.body) for post in web.got}
    assert texts["failure"]["title"] == "tiny: broken.m1 failed"
    assert texts["end"]["title"] == "tiny: ended, 1 done, 1 failed of 2 submitted"
    files = [path for path in (place.root / "results").rglob("*") if path.is_file()]
    assert not [path for path in files if b"private-path" in path.read_bytes()]


def test_a_server_that_hangs_delays_nothing_and_gets_it_later(place: Place, web: Web) -> None:
    options: Any = {"env": variables(web)}
    web.silent = threading.Event()
    ran = place.call("submit", "tiny", "--wait", "--task", "first", **options)
    assert ran.code == 0
    assert (
        "not delivered: 'tiny: ended, 1 done of 1 submitted': no answer yet; it is still being sent"
        in ran.err
    )
    assert "private-path" not in ran.out + ran.err
    for pid in senders(place):  # one that waits for an answer may be killed, too
        os.kill(pid, signal.SIGKILL)
    web.silent.set()
    web.silent = None
    until(
        lambda: place.call("advance", "tiny", **options).err == ""
    )  # on a loaded machine an answer takes long
    ids = [post.headers["Idempotency-Key"] for post in web.got]
    assert len(ids) == 2
    assert len(set(ids)) == 1


@pytest.mark.long
def test_a_terminal_killed_at_the_end_leaves_the_rest_to_advance(place: Place, web: Web) -> None:
    options: Any = {"env": variables(web)}
    waiting = place.spawn("submit", "tiny", "--wait", "--optional", "--task", "wait", **options)
    until(lambda: place.attempts("wait") == 1)
    waiting.send_signal(signal.SIGKILL)
    waiting.communicate()
    (place.root / "go").touch()
    until(lambda: place.states()["wait"] == "done")
    assert web.got == []
    place.call("advance", "tiny", **options)
    place.call("advance", "tiny", **options)
    assert kinds(web) == {"end": 1}


def senders(place: Place) -> list[int]:
    """Return the pids of those who have begun to send."""
    attempts = (place.root / "results/tiny/notifications/group").glob("*~hook~[0-9]")
    return [json.loads(path.read_text())["owner"]["pid"] for path in attempts]
