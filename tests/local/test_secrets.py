"""Secrets that a user put somewhere are in nothing that is passed on: pages, reports, plans, exports."""

from __future__ import annotations

import json
import os
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process, secrets
from ddqjobs.base.errors import DdqjobsError, StateError
from ddqjobs.schedulers.base import RefusedError
from ddqjobs.schedulers.local.scheduler import LocalScheduler
from ddqjobs.submission.round import Round
from tests.support.cli import Place, opened
from tests.support.trivial import end_of, fork, until

SITE = {
    "HF_TOKEN": "planted-01-aB",
    "WANDB_API_KEY": "planted-02-aB",
    "PGPASSWORD": "planted-03 with spaces' and quotes",
    "DATABASE": "postgres://bob:planted-04-aB@host/x",
    "INNOCENT": {"value": "planted-22-aB", "secret": True},
}
CODE = {"AWS_SECRET_ACCESS_KEY": "planted-05-aB", "MIRROR": "https://planted-06-aBcDeFgH@host/simple"}
SETUP = [
    "export SITE_TOKEN=planted-23#aB  # it's secret",
    "export HTTPS_PROXY=http://ann:planted-24-aB@proxy:3128; true --password planted-25-aB",
    'declare -x MODULES_AUTH="planted-26-aB"',
]
TASK = {"MY_CREDENTIALS": "planted-07-aB", "GITHUB_PAT": "planted-08-aB"}
SHELL = {
    "SLACK_TOKEN": "planted-09-aB",
    "ALL_PROXY": "http://ann:planted-29-aB@proxy:3128",
    "NOTIFY_HOOK": "http://127.0.0.1:9/services/planted-37-aB",
    "NTFY_ACCESS": "planted-40-aB",
}
# Of whom is told something: of the site, and of the user alone; nobody listens at that port.
FILES = {
    "mail": "planted-38-aB",
    "topic": "http://127.0.0.1:9/planted-39-aB",
    "robot": "http://127.0.0.1:9/hook/planted-41-aB",
    "sign": "planted-42-aB",
}
CHANNELS: dict[str, dict[str, Any]] = {
    "hook": {"by": "slack", "url": {"variable": "NOTIFY_HOOK"}},
    "post": {
        "by": "mail", "server": "127.0.0.1:9", "user": "ann", "sender": "ann@localhost",
        "to": ["bob@localhost"], "password": {"file": "mail"},
    },
    "phone": {"by": "ntfy", "url": {"file": "topic"}, "token": {"variable": "NTFY_ACCESS"}},
    "say": {"by": "command", "command": ["sh", "-c", 'echo "$NOTIFY_HOOK $NTFY_ACCESS" >&2; exit 1']},
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "robot": {"by": "feishu", "url": {"file": "robot"}, "sign": {"file": "sign"}}
}
# What a log, a failure's last line and options may hold.
PRINTED = (
    "login with password: planted-10-aB",
    "GET https://alice:planted-11-aB@host/path",
    "{'api_key': 'planted-12-aB', 'lr': 0.1}",
    "Authorization: Bearer planted-13-aB",
    "using --api-key planted-14-aB",
    "token ghp_planted15aBcDeFgHiJkLmNoP",
    "export NPM_TOKEN=planted-16-aB",
    "$HF_TOKEN $PGPASSWORD $AWS_SECRET_ACCESS_KEY $MY_CREDENTIALS $GITHUB_PAT $SLACK_TOKEN",
    "$SITE_TOKEN $HTTPS_PROXY $MODULES_AUTH",
    "$NOTIFY_HOOK $NTFY_ACCESS",
    "the key is planted-02-aB, and $INNOCENT",
    "-----BEGIN RSA PRIVATE KEY----- planted-36-aB",
)
WORK = """
echo x > "$DDQJOBS_WORK_DIR/out.txt"
cat > "$DDQJOBS_WORK_DIR/config.py" << 'END'
load_from = "https://u:planted-19-aB@h/w.pth"
api_key = "planted-20-aB"
END
"$DDQJOBS_PYTHON" - << 'END'
import json, os
from ddqjobs.detect.checks import resolved
cfg = {"hook": {"api_key": "planted-34-aB"}, "url": "s3://u:planted-35-aB@h"}
cfg.update(pat=os.environ["GITHUB_PAT"], words=["for " + os.environ["INNOCENT"]])
with open(os.environ["DDQJOBS_ATTEMPT_DIR"] + "/resolved.json", "w") as file:
    json.dump(resolved.plain(cfg, os.environ), file)
END
"""
OPTIONS = {"hook.init_kwargs.api_key": "planted-17-aB", "load": "s3://key:planted-18-aB@bucket/x"}
# Texts of an experiment that reports show, and where its files come from.
TOLD = {
    "description": "with token ghp_planted30aBcDeFgHiJkLmNoP",
    "data": {"name": "d", "source": "https://ann:planted-31-aB@host/data"},
    "weights": {
        "w": {"url": "https://ann:planted-32-aB@host/w-0676ba61.pth", "path": "w.pth", "sha256": "0676ba61"}
    },
}
# Of a code tree's origin.
ORIGIN = "https://ann:planted-33-aB@host/tree.git"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(secrets, "_known", set())
    secrets._pattern.cache_clear()
    for name, value in SHELL.items():
        monkeypatch.setenv(name, value)
    with opened(tmp_path / "project") as project:
        project.local_site(variables=SITE, setup=SETUP, notify=notified(tmp_path, CHANNELS))
        user = tmp_path / "config" / "ddqjobs" / "config.yaml"
        user.parent.mkdir(parents=True)
        user.write_text(json.dumps({"notify": notified(tmp_path, OWN)}))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(user.parents[1]))
        printed = "".join(f'echo "{line}"\n' for line in PRINTED)
        work = project.text("work.sh", printed + WORK)
        broken = project.text("broken.sh", printed + "echo 'fatal: password=planted-21-aB' >&2; exit 3\n")
        task = {"kind": "prepare", "once": True, "code": "shell", "products": {"out": "out.txt"}}
        good = {**task, "variables": TASK, "options": OPTIONS, "seeds": [1, 2]}
        project.text("tree/README", "a tree")
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        for arguments in (
            ["init", "-q"], ["remote", "add", "origin", ORIGIN], ["add", "."], [*who, "commit", "-qm", "x"],
        ):  # fmt: skip
            assert process.run(["git", *arguments], timeout=30, cwd=project.root / "tree").code == 0
        code = {
            "path": "tree",
            "commands": {"prepare": ["bash", str(work), "--token", "$planted-27-aB", "{options}"]},
            "variables": CODE,
        }
        content = {"name": "tiny", "implementations": {}, "models": {}, "codes": {"shell": code}, **TOLD}
        bad = {**task, "command": ["bash", str(broken), "https://eve:planted-28-aB@host/w.pth"]}
        project.write("experiments/tiny.yaml", {**content, "tasks": {"good": good, "bad": bad}})
        yield project


def notified(folder: Path, channels: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the channels with their private files, which are written below the folder."""
    sections = {}
    for name, channel in channels.items():
        sections[name] = dict(channel)
        for key, value in channel.items():
            if isinstance(value, dict) and "file" in value:
                path = folder / "private" / value["file"]
                path.parent.mkdir(exist_ok=True)
                path.write_text(FILES[value["file"]])
                path.chmod(0o600)
                sections[name][key] = {"file": str(path)}
    return sections


def planted(text: str) -> list[str]:
    """Return the lines that show one."""
    return [line for line in text.splitlines() if "planted" in line]


def test_nothing_that_is_passed_on_shows_a_secret(place: Place, tmp_path: Path) -> None:
    assert place.invoke("submit", "tiny").code == 0
    until(lambda: set(place.states().values()) == {"done", "failed"})
    page = tmp_path / "page.html"
    assert place.invoke("report", "tiny", "-f", "html", "-o", str(page)).code == 0
    assert "End of the log" in page.read_text()
    assert planted(page.read_text()) == []
    for arguments in (
        ["submit", "--dry-run"], ["data", "weights"], ["check"], ["doctor"],
        ["plan"], ["plan", "--json"], ["status"], ["status", "--json"], ["report"],
        *(["report", "-f", form] for form in ("json", "csv", "markdown", "latex")),
    ):  # fmt: skip
        ran = place.invoke(*arguments, "tiny")
        assert planted(ran.out + ran.err) == [], arguments
    for path in (place.root / "results/tiny/ledger").iterdir():
        assert planted(path.read_text()) == []
    tested = place.invoke("notify", "--test")
    assert tested.code == 1
    assert len(re.findall("not delivered", tested.out + tested.err)) == len(CHANNELS) + len(OWN)
    for arguments in (["notify"], ["notify", "--json"], ["advance", "tiny"], ["advance", "tiny"]):
        result = place.invoke(*arguments)
        assert planted(result.out + result.err) == [], arguments
    assert planted(tested.out + tested.err) == []
    out = tmp_path / "tiny.crate.zip"
    assert place.invoke("archive", "tiny", "-o", str(out)).code == 0
    with zipfile.ZipFile(out) as archive:
        texts = {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}
    assert {name: planted(text) for name, text in texts.items() if planted(text)} == {}


def held_in(folder: Path) -> set[str]:
    """Return the names of all files below a folder that hold one, queue and caches included."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name for path in files if b"planted" in path.read_bytes()}


def test_a_job_gets_its_secrets_by_a_file_of_its_owner(place: Place) -> None:
    assert place.invoke("submit", "tiny").code == 0
    runs = place.root / "results/tiny/runs"
    until(lambda: len([*runs.glob("*/attempts/*/exit.json")]) == 3)
    (log,) = (place.root / "results/tiny/runs/good.s2").glob("attempts/*/stdout.log")
    assert "planted-23#aB http://ann:planted-24-aB@proxy:3128 planted-26-aB" in log.read_text()
    expected = f"planted-01-aB {SITE['PGPASSWORD']} planted-05-aB planted-07-aB planted-08-aB planted-09-aB"
    assert expected in log.read_text()
    files = [path for path in (place.root / "results/tiny").rglob("*") if path.is_file()]
    holders = {path for path in files if b"planted-" in path.read_bytes()}
    written = {path for path in holders if path.name not in ("stdout.log", "config.py")}
    assert {path.name for path in written} == {"secret_setup.sh", "secrets.sh"}
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    until(lambda: set(place.states().values()) == {"done", "failed"})
    assert not any(path.exists() for path in written)  # nothing of them may start any more
    until(lambda: held_in(place.root / "results") == {"stdout.log", "config.py"})  # what the runs wrote
    recorded = json.loads((log.parent / "resolved.json").read_text())
    assert (recorded["pat"], recorded["words"]) == ("$GITHUB_PAT", ["for $INNOCENT"])
    assert recorded["url"].startswith("s3://secret:")


@pytest.mark.parametrize(
    ("place_of_error", "name", "error"),
    [(LocalScheduler, "submit", RefusedError("no")), (Round, "_intend", StateError("disk full"))],
)
def test_what_is_not_handed_over_leaves_no_private_file(
    place: Place, monkeypatch: pytest.MonkeyPatch, place_of_error: type, name: str, error: DdqjobsError
) -> None:
    def fail(*_: object) -> None:
        written.extend((place.root / "results").rglob("secret*.sh"))
        raise error

    written: list[Path] = []
    monkeypatch.setattr(place_of_error, name, fail)
    assert place.invoke("submit", "tiny").code != 0
    assert {path.name for path in written} == {"secret_setup.sh", "secrets.sh"}
    assert not any(path.exists() for path in written)


@pytest.mark.parametrize("command", ["status", "submit"])
def test_what_a_killed_command_left_is_removed_by_the_next(place: Place, command: str) -> None:
    """Killed between the folder of a submission and its intent."""

    def submit() -> None:
        setattr(Round, "_intend", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
        place.open().submit("tiny")

    pid = fork(submit)
    assert end_of(pid) == -signal.SIGKILL
    scripts = list((place.root / "results").rglob("secret*.sh"))
    assert {path.name for path in scripts} == {"secret_setup.sh", "secrets.sh"}
    assert place.invoke(command, "tiny").code == 0
    assert not any(path.parent.exists() for path in scripts)
    assert command == "status" or {*place.states().values()} & {"active", "done"}


def test_a_dry_run_shows_no_secret_variable(place: Place) -> None:
    ran = place.invoke("submit", "tiny", "--dry-run")
    assert planted(ran.out + ran.err) == []


def test_the_local_queue_forgets_the_shell_s_variables(place: Place) -> None:
    assert place.invoke("submit", "tiny").code == 0
    until(lambda: set(place.states().values()) == {"done", "failed"})
    (queue,) = (place.root / "results").rglob("environments")
    queue = queue.parent
    until(lambda: not list((queue / "environments").iterdir()))
    assert [
        path for path in queue.rglob("*") if path.is_file() and b"planted-09-aB" in path.read_bytes()
    ] == []
