"""`status --watch`: the screen as lines, its keys, and the whole of it on a real pseudo-terminal."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ddqjobs.base.text import cells
from ddqjobs.cli.selection import Selection
from ddqjobs.cli.status import states_of
from ddqjobs.cli.watch.board import SHOWN, Size, View, bar, chosen, draw, fraction
from ddqjobs.cli.watch.frames import changes
from ddqjobs.cli.watch.keys import KEYS, Order, keys, moved, pressed
from ddqjobs.cli.watch.log import draw as draw_log
from ddqjobs.cli.watch.watcher import Asker, Seen
from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.spec.model import JobState, Observation, Plan, PlannedRun, Status
from ddqjobs.submission.workspace import RunState
from tests.support.cli import Place, Terminal, opened
from tests.support.trivial import a_run, until

MANY = """
name: tiny
implementations: {}
codes: {shell: {path: .}}
models: {}
phases: {"1": {}, "2": {}}
tasks:
  many: {kind: smoke, once: true, code: shell, phase: "1", seeds: [%s], command: ["true"]}
  bad:
    {kind: prepare, once: true, code: shell, phase: "2", command: [bash, -c, "exit 3"],
     products: {out: out.txt}}
  wait:
    {kind: smoke, once: true, code: shell, optional: true, phase: "2",
     command: [bash, -c, 'until [ -e go ] || [ -e "$DDQJOBS_STOP" ]; do sleep 0.05; done']}
""" % ", ".join(map(str, range(220)))  # noqa: UP031  (the braces are YAML's)


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)


def state(name: str, status: Status, phase: str = "1", progress: Progress | None = None) -> RunState:
    now = JobState.RUNNING if status is Status.ACTIVE else None
    planned = PlannedRun(run=a_run(name, phase=phase), status=status, reason="because", state=now, node="n1")
    return RunState(planned=planned, progress=progress)


PLAN = Plan(experiment="e", site="s", runs=())
MOVING = Progress(epoch=3, epochs=12, iteration=50, iterations=100, eta_s=3700, loss=1.5, ap=31.0)
STATES = [
    state("running", Status.ACTIVE, "2", MOVING),
    state("broken", Status.FAILED, "2"),
    *(state(f"done-{n:03d}", Status.DONE) for n in range(250)),
]


@pytest.mark.parametrize("size", [Size(80, 24), Size(200, 50), Size(40, 8), Size(20, 4)])
def test_the_screen_has_the_terminal_s_size(size: Size) -> None:
    for filter_index in range(len(SHOWN)):
        screen = draw(PLAN, STATES, View(filter_index, 9999), size, head="as of 12:00:00", note="no answer")
        lines = [plain(line) for line in screen.lines]
        assert len(lines) == size.rows
        assert max(cells(line) for line in lines) <= size.columns
        assert lines[-2].startswith("no answer")


def test_80_columns_show_phases_bars_and_reasons() -> None:
    screen = draw(PLAN, STATES, View(), Size(80, 24), head="as of 12:00:00")
    lines = [plain(line) for line in screen.lines]
    assert lines[0] == "e on s" + " " * 60 + "as of 12:00:00"
    assert lines[1] == "phase 1  ████████████████████  250/250"
    assert lines[2] == "phase 2  ░░░░░░░░░░░░░░░░░░░░      0/2  1 failed, 1 running"
    assert lines[3].split() == ["all", "█" * 19 + "░", "250/252", "1", "failed,", "1", "running"]
    assert lines[6] == "running   running  ██░░░░░░░░  20% eta 1h01m"
    assert lines[7] == "broken    failed   because"
    narrow = [plain(line) for line in draw(PLAN, STATES, View(), Size(48, 24), head="").lines]
    assert narrow[3] == "all      ████████░  250/252  1 failed, 1 running"  # the bar gives way
    wide = plain(draw(PLAN, STATES, View(), Size(140, 24), head="").lines[6])
    assert wide.endswith("██░░░░░░░░  20% epoch 3/12, 50/100, eta 1h01m, loss 1.5, AP 31.0")


def test_scrolling_and_filtering() -> None:
    screen = draw(PLAN, STATES, View(), Size(80, 24), head="")
    end = moved(View(), "end", screen)
    assert end.top + screen.page == screen.there == 252
    assert moved(end, "down", screen) == end
    assert moved(end, "page up", screen).top == end.top - screen.page
    assert moved(moved(end, "home", screen), "up", screen).top == 0
    names = []
    view = View()
    for _ in SHOWN:
        names.append(SHOWN[view.shown][0])
        view = moved(view, "filter", screen)
    assert (names, view) == (["all", "not done", "active", "failed"], View())
    failed = draw(PLAN, STATES, View(3), Size(80, 24), head="")
    assert failed.there == 1
    assert "broken" in plain("\n".join(failed.lines))
    assert "1-1 of 1" in plain(failed.lines[-1])


def after(typed: str, view: View = View(), size: Size = Size(80, 24)) -> tuple[View, list[Order]]:
    """Return the view and the orders after some keys."""
    orders = []
    for key in keys(typed):
        view, order = pressed(view, key, draw(PLAN, STATES, view, size, head=""))
        orders += [order] if order.what else []
    return view, orders


def test_the_cursor_reaches_every_row() -> None:
    view, names = View(), list[str]()
    for _ in STATES:
        screen = draw(PLAN, STATES, view, Size(80, 24), head="")
        assert screen.run is not None
        names.append(screen.run.planned.run.name)
        assert sum("\x1b[7m" + names[-1] in line for line in screen.lines) == 1
        view, _ = pressed(view, "j", screen)
    assert names == [s.planned.run.name for s in STATES]
    assert draw(PLAN, STATES, after("GGk" + "k" * 300)[0], Size(80, 24), head="").run == STATES[0]


def test_a_search_narrows_while_it_is_typed() -> None:
    view, orders = after("/DONE-24q")  # letters of a search are no keys
    assert (view.search, orders) == ("DONE-24q", [])
    screen = draw(PLAN, STATES, after("\x7f", view)[0], Size(80, 24), head="")
    assert screen.there == 10
    assert "/DONE-24_" in plain(screen.lines[-1])
    search_view = after("\r", screen.view)[0]
    assert "f: all /DONE-24" in plain(draw(PLAN, STATES, search_view, Size(80, 24), head="").lines[-1])
    assert len(chosen(STATES, search_view)) == 10
    assert after("\x1b", search_view)[0] == View()
    nothing = draw(PLAN, STATES, after("ff/zz\r")[0], Size(80, 24), head="")
    assert "no run is active and has 'zz'" in nothing.lines
    assert after("RC\r", nothing.view) == (nothing.view, [])


def test_capitals_ask_before_they_act() -> None:
    assert after("jR")[0].question == ("retry", "broken")
    assert after("jRy") == (View(top=1, cursor=1), [Order("retry", "broken")])
    assert after("jRn") == (View(top=1, cursor=1), [])
    assert after("CY")[1] == [Order("cancel", "running")]
    assert after("R")[1] == [Order("say", "retry needs failed runs: running is active")]
    assert after("j\r")[0].log == "broken"
    assert after("j\rRfq")[1] == [Order("quit")]  # beside a log only leaving and going back count


def test_the_log_s_end_fits_the_screen() -> None:
    lines = [*(f"line {n}" for n in range(90)), "x" * 100, ""]
    screen_lines = [plain(line) for line in draw_log("run, attempt 1", lines, Size(79, 24), note="why")]
    assert (len(screen_lines), screen_lines[0], screen_lines[-2]) == (24, "run, attempt 1", "why")
    assert screen_lines[-4:-2] == ["x" * 79, "x" * 21]


@pytest.mark.parametrize(
    ("typed", "actions"),
    [
        ("q", ["quit"]),
        ("\x1b[A\x1b[B", ["up", "down"]),
        ("\x1b[5~\x1b[6~f", ["page up", "page down", "filter"]),
        ("gG r", ["home", "end", "page down", "refresh"]),
        ("x", []),
        ("\x1b[1;5Q", []),  # an unknown key's letters are no keys
        ("", []),
    ],
)
def test_keys(typed: str, actions: list[str]) -> None:
    assert [KEYS[key] for key in keys(typed) if key in KEYS] == actions


@pytest.mark.parametrize(
    ("progress", "part"),
    [
        (None, None),
        (Progress(iteration=5), None),
        (Progress(epoch=1, epochs=2), 0.0),
        (MOVING, 2.5 / 12),
        (Progress(epoch=12, epochs=12, iteration=9, iterations=9), 1.0),
        (Progress(epoch=15, epochs=12), 1.0),
    ],
)
def test_how_much_of_a_training_is_done(progress: Progress | None, part: float | None) -> None:
    assert fraction(progress) == part


def test_a_bar_is_full_only_at_the_end() -> None:
    assert (bar(0.999, 10), bar(1.0, 4), bar(0.5, 4, blocks=False)) == ("█████████░", "████", "##--")


def test_only_what_has_changed_is_written() -> None:
    assert changes(["a", "b", "c"], ["a", "B", "c"]) == "\x1b[2;1HB\x1b[K"
    assert changes(["a"], ["a"]) == ""
    assert changes([], ["a", "b"]).count("\x1b[K") == 2


def test_what_was_confirmed_is_done_before_it_ends() -> None:
    question, answered = threading.Event(), threading.Event()
    snapshot = Seen(PLAN, [], "", 0.0)

    def ask() -> Seen:
        question.set()
        assert answered.wait(20)
        return snapshot

    def cancel() -> str:
        time.sleep(2.2)
        return "cancelled"

    asker = Asker(ask, 60, lambda: None, snapshot)
    asker.start()
    asker.hurry()
    assert question.wait(20)
    asker.act(cancel)  # while an answer is on its way
    assert asker.busy
    threading.Timer(0.05, answered.set).start()
    asker.stop()
    assert asker.results == ["cancelled"]


# -- on a terminal ------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", MANY) as project:
        project.invoke("submit", "tiny", "wait")
        until(lambda: project.attempts("wait"))
        yield project


def test_keys_scroll_filter_and_leave(place: Place) -> None:
    terminal = Terminal(place, "status", "tiny", "--watch", "--interval", "60", columns=80, rows=24)
    terminal.read_until("1-17 of 222")
    terminal.type("\x1b[F")
    terminal.read_until("206-222 of 222")
    assert "running" in terminal.read_until("wait")
    terminal.type("\x1b[5~")
    terminal.read_until("189-205 of 222")
    terminal.type("ff")
    terminal.read_until("1-1 of 1")
    terminal.resize(columns=120, rows=40)
    terminal.read_until("f shows: active   r asks now")
    terminal.resize(columns=0, rows=0)  # unknown: as wide as most
    terminal.read_until("\x1b[2J", 3)
    terminal.read_until("f: active  r: now", 2)
    terminal.type("q")
    code, output = terminal.close()
    assert code == 0
    assert output.count("\x1b[2J") == 3  # whole only at first and after each change of size
    assert re.search(r"wait +running", plain(output.rpartition("\x1b[?1049l")[2]))
    assert place.states()["wait"] == "active"


def test_a_log_a_search_and_a_cancellation(place: Place) -> None:
    terminal = Terminal(place, "status", "tiny", "--watch", "--interval", "60", columns=80, rows=24)
    terminal.read_until("1-17 of 222")
    terminal.type("/wai\n")
    terminal.read_until("1-1 of 1  f: all /wai")
    terminal.type("\n")
    terminal.read_until("wait, attempt 1")
    terminal.type("\x1b")
    terminal.read_until("1-1 of 1  f: all /wai", times=2)
    terminal.type("C")
    terminal.read_until("cancel wait? y: yes")
    terminal.type("n")
    terminal.read_until("1-1 of 1  f: all /wai", times=3)
    assert place.states()["wait"] == "active"
    terminal.type("Cy")
    terminal.read_until("wait is being cancelled")
    until(lambda: place.states()["wait"] != "active")
    terminal.type("r")  # nothing is active: it leaves by itself
    code, output = terminal.close()
    last_screen = plain(output.rpartition("\x1b[?1049l")[2])
    assert code == 0
    assert [line.split()[0] for line in last_screen.splitlines()] == ["RUN", "wait", "tiny", "wait"]


def test_what_is_over_can_be_browsed_and_retried(place: Place) -> None:
    (place.root / "go").touch()
    place.invoke("submit", "tiny", "bad", "--wait")
    until(lambda: place.states()["wait"] == "done")
    terminal = Terminal(place, "status", "tiny", "--watch", "--interval", "60", columns=80, rows=24)
    terminal.read_until("1-17 of 222")
    terminal.type("fffRyq")  # what was confirmed is done, and said, however quickly one leaves
    code, output = terminal.close()
    assert code == 0
    assert "bad is eligible again" in output.rpartition("\x1b[?1049l")[2]
    assert place.states()["bad"] == "eligible"


def test_ctrl_z_gives_the_screen_back_and_fg_takes_it_again(place: Place) -> None:
    terminal = Terminal(place, "status", "tiny", "--watch", "--interval", "60")
    terminal.read_until("q leaves")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.read_until("\x1b[?1049l")
    until(lambda: "\nState:\tT" in Path(f"/proc/{terminal.process.pid}/status").read_text())
    terminal.process.send_signal(signal.SIGCONT)
    terminal.read_until("\x1b[?1049h", times=2)
    terminal.read_until("q leaves", times=2)
    terminal.type("q")
    assert terminal.close()[0] == 0


def test_told_to_end_it_gives_the_screen_back(place: Place) -> None:
    terminal = Terminal(place, "status", "tiny", "--watch", "--interval", "60")
    terminal.read_until("q leaves")
    terminal.process.terminate()
    code, output = terminal.close()
    assert code == 128 + signal.SIGTERM
    assert "\x1b[?1049l" in output
    assert "Traceback" not in output


def test_one_question_per_refresh_however_many_runs(place: Place) -> None:
    place.invoke("submit", "tiny")
    filters = dict.fromkeys(("phase", "model", "implementation", "task", "variant", "seed", "state", "site"))
    selection = Selection(**filters, folder=str(place.root), names=["tiny"])
    workspace = selection.project.workspace("tiny")
    scheduler, queries = workspace.scheduler("local"), list[int]()
    query = scheduler.query

    def counting(jobs: Sequence[str]) -> Mapping[str, Observation]:
        queries.append(len(jobs))
        return query(jobs)

    scheduler.query = counting  # type: ignore[method-assign]
    _, states = states_of(selection)
    assert len(states) == 222
    assert len(queries) == 1
    assert queries[0] > 100
