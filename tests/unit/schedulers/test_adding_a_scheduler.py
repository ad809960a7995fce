"""The example of docs/how-to/adding-a-scheduler.md works as it stands there."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.planning.sections import schema
from ddqjobs.schedulers.registry import BACKENDS
from tests.support.cli import Place, opened
from tests.support.paths import LABS, ROOT
from tests.support.trivial import until

DOCUMENT = ROOT / "docs/how-to/adding-a-scheduler.md"
BACKEND = "ddqjobs/schedulers/shellqueue/backend.py"
WAITS = """
name: tiny
implementations: {}
codes: {shell: {path: .}}
models: {}
shellqueue: {minutes: 5}
tasks:
  first:
    {kind: smoke, once: true, code: shell, products: {o: o},
     command: [bash, -c, 'until [ -e go ]; do sleep 0.05; done; echo x > "$DDQJOBS_WORK_DIR/o"']}
  second:
    {kind: smoke, once: true, code: shell, products: {o: o}, inputs: {before: first.o},
     command: [bash, -c, 'cp "$1" "$DDQJOBS_WORK_DIR/o"', bash, "{input.before}"]}
"""


def files() -> dict[str, str]:
    """Path -> text of the files that the document shows."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project with the scheduler, its template and its site, where its commands are on PATH."""
    with opened(tmp_path / "project", WAITS) as project:
        for path, text in files().items():
            project.text(path, text)
        register(project.root / BACKEND, monkeypatch)
        commands, jobs = tmp_path / "bin", tmp_path / "jobs"
        for folder in (commands, jobs):
            folder.mkdir()
        for name in ("put", "ls", "rm"):
            script = f'#!/bin/sh\nexec "{sys.executable}" "{LABS}/shellqueue/queue.py" {name} "$@"\n'
            (commands / f"q{name}").write_text(script)
            (commands / f"q{name}").chmod(0o755)
        monkeypatch.setenv("SHELLQUEUE", str(jobs))
        monkeypatch.setenv("PATH", str(commands), prepend=":")
        monkeypatch.setenv("DDQJOBS_SITE", "queue")
        yield project
        (project.root / "go").touch()
        until(lambda: all((job / "exit").exists() for job in jobs.iterdir()))


def register(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's line."""
    spec = importlib.util.spec_from_file_location("shellqueue_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    line = re.search(r"^    (\w+)\.name: \1\(\),$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    backend = getattr(module, line[1])
    monkeypatch.setitem(BACKENDS, backend.name, backend())


def states(place: Place) -> dict[str, tuple[str, str | None]]:
    """Run -> status, and state of its job."""
    runs = place.invoke("plan", "tiny", "--json").json["runs"]
    return {run["run"]: (run["status"], run.get("state")) for run in runs}


def test_it_is_short() -> None:
    assert set(files()) == {BACKEND, "templates/shellqueue.sh.j2", "templates/queue/site.yaml"}
    assert len([line for line in files()[BACKEND].splitlines() if line.strip()]) < 60


def test_runs_wait_for_each_other_and_are_done(place: Place) -> None:
    submitted = place.invoke("submit", "tiny")
    assert submitted.code == 0, submitted
    until(lambda: states(place)["first"] == ("active", "running"))
    assert states(place)["second"] == ("active", "queued")
    (place.root / "go").touch()
    until(lambda: {status for status, _ in states(place).values()} == {"done"})
    folders = sorted((place.root / "results/tiny/submissions").iterdir())
    assert all("\n#Q --minutes=5\n" in (folder / "job.sh").read_text() for folder in folders)


def test_runs_are_cancelled(place: Place) -> None:
    place.invoke("submit", "tiny")
    until(lambda: states(place)["first"] == ("active", "running"))
    cancelled = place.invoke("cancel", "tiny", "--yes")
    assert cancelled.code == 0, cancelled
    until(lambda: "active" not in {status for status, _ in states(place).values()})
    assert not (place.root / "results/tiny/runs/second").exists()


def test_what_it_does_not_say_has_an_answer(place: Place) -> None:
    ran = place.invoke("doctor", "tiny", "--no-job")
    assert "scheduler: shellqueue has no checks of its own" in ran.out
    ran = place.invoke("shell", "tiny", "first", "-c", "true")
    assert (ran.code, ran.out) == (2, "")
    assert "nothing is known of interactive jobs in shellqueue" in ran.err
    place.invoke("submit", "tiny")
    ran = place.invoke("hold", "tiny", "second")
    assert ran.code != 0
    assert "the shell queue cannot hold jobs" in ran.err


def test_its_sections_are_checked_where_they_stand(place: Place) -> None:
    site = "templates/queue/site.yaml"
    file = place.text(site, files()[site].replace("minutes", "minuets"))
    ran = place.invoke("plan", "tiny")
    message = "unknown key 'minuets' in shellqueue; did you mean 'minutes'? valid keys: minutes"
    assert ran.err == f"error: {file}:3: {message}\n"
    for kind, part in (("site", "Site"), ("experiment", "Task")):
        document = schema(kind)  # type: ignore[arg-type]
        assert document["$defs"][part]["properties"]["shellqueue"]["$ref"] == "#/$defs/Section"
