"""Notifications reach real servers as each wants them, once, and show no secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.header import decode_header, make_header
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from ddqjobs.base.errors import InputError
from ddqjobs.notify import channels, ways
from ddqjobs.notify.events import View, news
from ddqjobs.notify.notifier import try_out
from ddqjobs.notify.outbox import Event, Outbox
from ddqjobs.notify.sender import deliver
from ddqjobs.spec.model import FailureClass, Plan, PlannedRun, Run, Status, TaskKind
from ddqjobs.spec.notify import Channel, Secret
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Finished, Intent, Retried, Wanted
from tests.support import markdown
from tests.support.cli import environment, opened
from tests.support.paths import ROOT
from tests.support.servers import Mail, Web, running

EVENT = Event(
    kind="end", title="tiny: ended, 2 done", text="overall: <good> & done", id="tiny-end-0-1", at=1.5
)
URL, KEY = Secret(variable="NOTIFY_URL"), Secret(variable="NOTIFY_KEY")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with running(Web()) as server:
        monkeypatch.setenv("NOTIFY_URL", f"{server.url}/services/T0/secret-path")
        monkeypatch.setenv("NOTIFY_KEY", "SEC-signing-key")
        yield server


def test_each_service_gets_its_own_form(web: Web) -> None:
    web.answer = b'{"code": 0, "errcode": 0}'
    for channel in (
        Channel(by="webhook", url=URL),
        Channel(by="slack", url=URL),
        Channel(by="ntfy", url=URL, token=KEY),
        Channel(by="feishu", url=URL, sign=KEY),
        Channel(by="dingtalk", url=URL, sign=KEY),
    ):
        ways.send(EVENT, channel)
    webhook, slack, ntfy, feishu, dingtalk = web.got
    assert {post.headers["Idempotency-Key"] for post in web.got} == {EVENT.id}
    assert json.loads(webhook.body)["id"] == EVENT.id
    assert json.loads(slack.body) == {"text": f"{EVENT.title}\noverall: &lt;good&gt; &amp; done"}
    assert (ntfy.headers["Title"], ntfy.body) == (EVENT.title, EVENT.text)
    assert ntfy.headers["Authorization"] == "Bearer SEC-signing-key"
    payload = json.loads(feishu.body)
    assert payload["content"] == {"text": f"{EVENT.title}\n{EVENT.text}"}
    assert payload["sign"] == signature(f"{payload['timestamp']}\nSEC-signing-key", "")
    query = parse_qs(urlsplit(dingtalk.path).query)
    assert query["sign"] == [signature("SEC-signing-key", f"{query['timestamp'][0]}\nSEC-signing-key")]
    assert json.loads(dingtalk.body)["msgtype"] == "text"


def signature(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def test_what_a_service_refuses_is_said_without_its_address(web: Web) -> None:
    def refusal(channel: Channel) -> str:
        with pytest.raises(ways.UndeliveredError) as error:
            ways.send(EVENT, channel)
        return str(error.value)

    web.status = 404
    assert refusal(Channel(by="slack", url=URL)) == "the server answered with status 404"
    web.status, web.headers = 302, {"Location": f"{web.url}/elsewhere"}
    assert refusal(Channel(by="slack", url=URL)) == "the server answered with status 302"
    web.status, web.headers, web.answer = 200, {}, b'{"errcode": 310000, "errmsg": "sign not match"}'
    assert refusal(Channel(by="dingtalk", url=URL)) == "the service refused the message (code 310000)"
    web.silent = threading.Event()
    assert refusal(Channel(by="slack", url=URL, timeout="1s")) == "no answer within 1 s"
    web.silent.set()
    assert len(web.got) == 4  # the redirection was not followed
    failing = Channel(by="command", command=["sh", "-c", 'test "$DDQJOBS_ID" = tiny-end-0-1 && exit 7'])
    assert refusal(failing) == "sh ended with exit code 7"
    os.environ["NOTIFY_URL"] = "http://127.0.0.1:1/\tsecret-path"  # monkeypatch of the fixture restores it
    assert refusal(Channel(by="slack", url=URL)) == "$NOTIFY_URL contains no http(s) URL"


@pytest.mark.skipif(shutil.which("curl") is None, reason="NO CURL HERE")
def test_the_documented_command_posts_one_experiments_events_and_fails_where_slack_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Web
) -> None:
    page = ROOT / "docs/how-to/notifications.md"
    (script,) = (text for language, text in markdown.blocks(page) if language == "shell")
    folder = tmp_path / ".config/ddqjobs"
    folder.mkdir(parents=True)
    (folder / "slack-ddq").write_text(script)
    (folder / "slack-curl").write_text(f'url = "{web.url}/services/T0"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (declared,) = re.findall(r"command: (\[sh, -c, 'exec .*'\])", page.read_text())
    channel = Channel(by="command", command=msgspec.yaml.decode(declared))
    event = msgspec.structs.replace(EVENT, experiment="ddq", text='phase 1: "short"\nphase 2')
    ways.send(msgspec.structs.replace(event, experiment="other"), channel)
    assert web.got == []
    ways.send(event, channel)
    ways.send(EVENT, channel)  # of no experiment, as the test message
    assert json.loads(web.got[0].body) == {"text": f"{event.title}\n{event.text}"}
    assert [post.path for post in web.got] == ["/services/T0"] * 2
    web.status = 403
    with pytest.raises(ways.UndeliveredError, match="ended with exit code 22"):
        ways.send(event, channel)


def test_a_test_says_of_a_command_only_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    channels.user_file().parent.mkdir(parents=True)
    channels.user_file().write_text("notify: {filter: {by: command, command: ['true']}}\n")
    with opened(tmp_path / "project") as place:
        tested = place.call(
            "notify", "--test", env={**environment(), "XDG_CONFIG_HOME": str(tmp_path / "config")}
        )
    assert tested.code == 0
    assert "filter: the command ended with exit code 0; whether it sent" in tested.out + tested.err
    assert "delivered" not in tested.out + tested.err


def test_mail_has_the_id_and_the_password_is_read_from_a_private_file(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("mail-password\n")
    with running(Mail()) as server:
        channel = Channel(
            by="mail",
            server=server.address,
            security="none",
            sender="a@x.org",
            to=["b@x.org", "c@x.org"],
            user="alice",
            password=Secret(file=str(password)),
        )
        password.chmod(0o644)
        with pytest.raises(ways.UndeliveredError, match="must be yours alone: `chmod 600"):
            ways.send(EVENT, channel)
        password.chmod(0o600)
        ways.send(EVENT, channel)
        server.refuses = True
        with pytest.raises(ways.UndeliveredError, match=r"^the mail server answered with status 550$"):
            ways.send(EVENT, channel)
    assert server.logins[0] == "\0alice\0mail-password"
    assert "Message-ID: <tiny-end-0-1@ddqjobs>" in server.got[0]
    assert "Subject: tiny: ended, 2 done" in server.got[0]


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.long)])
def test_killed_before_any_line_it_arrives_and_at_most_twice(tmp_path: Path, every: int) -> None:
    with running(Web()) as web:
        argv = [sys.executable, "-m", "tests.support.notifying", str(tmp_path), web.url, str(every)]
        done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    tries = int(done.stdout)
    assert tries * every > 80
    arrived = Counter((json.loads(post.body)["title"], post.headers["Idempotency-Key"]) for post in web.got)
    assert sorted(int(title) for title, _ in arrived) == list(range(1, tries + 1))  # each with one id only
    assert set(arrived.values()) == {1, 2}


def test_of_several_processes_one_sends(tmp_path: Path, web: Web) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.add(EVENT, None, ["hook"])
    assert not Outbox(tmp_path).add(EVENT, None, ["hook"])  # somebody who looked at the same time
    assert outbox.begin(outbox.pending(["hook"])[0], 60)  # one that lives and is sending
    deliver(Outbox(tmp_path), "hook", Channel(by="webhook", url=URL))
    assert web.got == []
    outbox.failed(outbox.pending(["hook"])[0]._replace(attempts=0), "refused")
    deliver(Outbox(tmp_path), "hook", Channel(by="webhook", url=URL))
    deliver(Outbox(tmp_path), "hook", Channel(by="webhook", url=URL))
    assert len(web.got) == 1


def test_what_a_channel_refuses_for_good_blocks_nothing(tmp_path: Path, web: Web) -> None:
    outbox, channel = Outbox(tmp_path), Channel(by="webhook", url=URL)
    assert outbox.add(EVENT, None, ["hook"])
    web.status = 413
    deliver(outbox, "hook", channel)
    assert outbox.pending(["hook"]) == []
    (refused,) = outbox.given_up(["hook"])
    assert (refused.event.title, refused.why) == (EVENT.title, "the server answered with status 413")
    assert outbox.add(EVENT, outbox.heads()["end"], ["hook"])
    web.status = 503
    deliver(outbox, "hook", channel)  # passes some day
    assert len(outbox.pending(["hook"])) == 1
    web.status = 200
    deliver(outbox, "hook", channel)
    assert outbox.pending(["hook"]) == []


def test_a_long_title_is_one_header(web: Web) -> None:
    for title in ("tiny: ended, " + "12 not eligible, " * 20, "tïny: " + "12 not eligible, " * 20):
        ways.send(msgspec.structs.replace(EVENT, title=title), Channel(by="ntfy", url=URL))
        header = str(make_header(decode_header(web.got[-1].headers["Title"])))
        assert ("\n" in web.got[-1].headers["Title"], header) == (False, title)


def test_a_project_with_a_module_of_the_standard_librarys_name(tmp_path: Path, web: Web) -> None:
    (tmp_path / "email.py").write_text("raise SystemExit(3)\n")
    assert try_out(Channel(by="webhook", url=URL), "hook", tmp_path) == ""
    assert len(web.got) == 1


def test_channels_that_cannot_work_are_refused_with_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert channels.user().notify == {}
    file = channels.user_file()
    file.parent.mkdir()
    file.write_text(
        "notify:\n"
        "  a: {by: slack}\n"
        "  b: {by: mail, server: smtp.x.org, sender: me, to: [b@x.org], url: {variable: X}}\n"
        "  c: {by: ntfy, url: {variable: X, file: /y}, timeout: 1h}\n"
        "  d: {by: command, command: [curl, --token, ghp_abcdefghijklmnopqrstuv]}\n"
        "  e: {by: mail, server: 'x:25', security: none, sender: a@x.org, to: [b@x.org], user: u,"
        " password: {file: p}}\n"
    )
    with pytest.raises(InputError) as error:
        channels.user()
    report = "\n".join(str(problem).partition("config.yaml:")[2] for problem in error.value.problems)
    assert "ghp_" not in report
    for message in (
        "2: a channel by slack needs 'url'",
        "3: a channel by mail has no use for 'url'",
        "3: sender needs plain mail addresses",
        "3: the mail server needs its port",
        "4: url needs either 'variable' or 'file'",
        "4: a timeout is more than 0s and at most 120s",
        "5: a secret is written here",
        "6: a file that holds a secret begins with /",
        "6: without encryption the password would be read on its way",
    ):
        assert message in report


# -- what there is to tell -------------------------------------------------------------------------------


def ended(index: int, failure: FailureClass | None, at: float) -> Finished:
    return Finished(at=at, run=f"r{index}", ticket=f"t.{index}", failure=failure, reason="why")


def told(
    records: list[AnyRecord], statuses: dict[str, Status], heads: dict[str, Event], **view: object
) -> list[str]:
    """Return the titles of what is told; the events become the heads."""
    runs = [f"r{i}" for i in range(3)]
    intent = Intent(
        token="t", site="local", scheduler="local", runs=runs, digests=runs, host="h", pid=1, start=1
    )
    history = History([intent, Wanted(runs=runs), *records])
    planned = tuple(
        PlannedRun(
            run=Run(name=name, experiment="x", task="t", kind=TaskKind.TRAIN),
            status=status,
            reason="why",
            failure=failures[-1].failure if (failures := history.of(name).failures) else None,
        )
        for name, status in statuses.items()
    )
    plan = Plan(experiment="x", site="local", runs=planned)
    events = list(news(View(plan, history, **view), heads))  # type: ignore[arg-type]
    heads.update({event.kind: event for event in events})
    return [event.title for event in events]


def test_each_state_is_told_once() -> None:
    heads: dict[str, Event] = {}
    failed, active, done = Status.FAILED, Status.ACTIVE, Status.DONE
    assert told([], {"r0": active, "r1": active}, heads) == []
    records: list[AnyRecord] = [ended(0, FailureClass.CODE, 5.0)]
    assert told(records, {"r0": failed, "r1": active}, heads) == ["x: r0 failed"]
    records += [ended(1, FailureClass.DATA, 6.0), ended(2, FailureClass.DIVERGED, 7.0)]
    statuses = {"r0": failed, "r1": failed, "r2": failed}
    assert told(records, statuses, heads) == ["x: r2 diverged", "x: ended, 3 failed of 3 submitted"]
    assert told(records, statuses, heads) == []
    records += [Retried(at=8.0, runs=["r0"])]  # what failed before is known already
    assert told(records, {**statuses, "r0": active}, heads) == []
    records += [ended(1, FailureClass.HANG, 9.0)]
    assert told(records, {**statuses, "r0": done, "r1": active}, heads) == []  # its first end counts


def test_verdicts_are_told_when_they_change() -> None:
    heads: dict[str, Event] = {}
    active = {"r0": Status.ACTIVE}
    assert told([], active, heads, verdicts={}) == []
    assert told([], active, heads, verdicts={"m (phase 1)": "short"}, overall="open") == [
        "x: 1 verdict changed"
    ]
    assert heads["verdict"].text == "m (phase 1): none -> short\nopen"
    assert told([], active, heads, verdicts={"m (phase 1)": "short"}) == []
    assert told([], active, heads, verdicts={"m (phase 1)": "reproduced"}) == ["x: 1 verdict changed"]
    assert "short -> reproduced" in heads["verdict"].text


def test_the_end_counts_submitted_runs_and_not_those_of_the_experiment() -> None:
    statuses = {"r0": Status.DONE, "r1": Status.WAITING, "r2": Status.DONE, "earlier": Status.DONE}
    assert told([], statuses, {}) == ["x: ended, 2 done, 1 waiting of 3 submitted"]


def test_members_whose_files_differ_are_told_once_each() -> None:
    heads: dict[str, Event] = {}
    mine, yours = {"m": "equal"}, {"m": "short", "n": "equal"}
    runs = {"r0": Status.DONE}
    titles = [told([], runs, heads, verdicts=verdicts) for verdicts in (mine, yours, mine, yours)]
    assert titles == [
        ["x: 1 verdict changed", "x: ended, 1 done of 1 submitted"],
        ["x: 2 verdicts changed"],
        [],
        [],
    ]


def test_a_sender_that_is_too_slow_ends_itself(tmp_path: Path) -> None:
    """A server that sends a byte now and then keeps every read below its time."""
    outbox = Outbox(tmp_path)
    outbox.add(EVENT, None, ["slow"])
    code = (
        "import sys, time; from pathlib import Path\n"
        "from ddqjobs.notify import sender; from ddqjobs.notify.outbox import Outbox\n"
        "from ddqjobs.spec.notify import Channel\n"
        "sender._SPARE_S, sender.send = -0.5, lambda event, channel: time.sleep(60)\n"
        "sender.deliver(Outbox(Path(sys.argv[1])), 'slow', Channel(by='slack', timeout='1s'))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment(), check=False)
    assert (done.returncode, time.monotonic() - began < 20) == (1, True)
    (waiting,) = outbox.pending(["slow"])
    assert (waiting.attempts, waiting.flying, waiting.why[:15]) == (1, False, "not done within")
