"""Names, values and files that mean harm or make no sense: data, or one line and exit code 2; never run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ddqjobs.cli.commands import app
from tests.support.cli import TINY, Place, Ran, ddqjobs, environment, opened

CANARY = "canary"
HOSTILE = {
    "space": "two words",
    "quotes": 'it\'s "quoted"',
    "substitution": f"$(touch {CANARY})",
    "backticks": f"`touch {CANARY}`",
    "newline": f"a\ntouch {CANARY}",
    "semicolon": f"a;touch {CANARY};",
    "unicode": "日本-ü-\u202etxt",
    "dash": "-rf",
    "path": f"../../{CANARY}",
    "dots": "..",
    "percent": "%j%s",
    "control": "a\x1b[2Jb\x07",
    "long": "x" * 3000,
    "glob": "*",
    "empty": "",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project
        assert not list(tmp_path.rglob(CANARY)), "something was executed or written astray"


def refused(ran: Ran, *fragments: str) -> None:
    """One clear line, nothing on stdout, nothing a terminal would act upon."""
    assert (ran.code, ran.out) == (2, ""), ran
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    for word in fragments:
        assert word in lines[0]


def variant(place: Place, **changes: object) -> None:
    """An experiment that inherits the trivial one, with these keys changed; JSON is YAML."""
    place.text("experiments/tiny.yaml", TINY)
    place.text("experiments/mine.yaml", json.dumps({"base": "tiny", "name": "mine", **changes}))


# -- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", ["name", "models", "variants", "tasks", "phases", "codes", "implementations"]
)
def test_a_name_that_could_harm_is_refused_with_its_line(place: Place, what: str) -> None:
    entry = {
        "models": {"implementations": {}},
        "variants": {},
        "tasks": {"kind": "smoke", "once": True, "code": "shell", "command": ["true"]},
        "phases": {},
        "codes": {},
        "implementations": "title",
    }
    for text in HOSTILE.values():
        variant(place, **({"name": text} if what == "name" else {what: {text: entry[what]}}))
        refused(place.invoke("plan", "mine"), "mine.yaml:1: ")
    assert not (place.root / "results").exists()


@pytest.mark.parametrize("what", ["run", "model", "site", "experiment"])
def test_a_word_on_the_command_line_is_data(place: Place, what: str) -> None:
    for name, text in HOSTILE.items():
        arguments = {
            "run": ["--", "tiny", text],
            "model": ["tiny", f"--model={text}"],
            "site": ["tiny", f"--site={text}"],
            "experiment": ["--", text],
        }[what]
        if name != "glob" and (name != "empty" or what != "site"):
            result = CliRunner().invoke(
                app, ["plan", "-C", str(place.root), *arguments], catch_exceptions=False
            )
            refused(Ran(result.exit_code, result.stdout, result.stderr))
    assert not (place.root / "results").exists()


def test_an_account_is_checked_before_it_stands_in_a_directive(place: Place) -> None:
    accepted = []
    for name, text in HOSTILE.items():
        site = {"base": "slurm", "name": "mine", "slurm": {"account": text}}
        place.text("templates/mine/site.yaml", json.dumps(site))
        ran = place.invoke("submit", "tiny", "first", "--site", "mine", "--dry-run")
        if ran.code == 0:
            accepted.append(name)
            assert (f"#SBATCH --account={text}\n" in ran.out) == bool(text)
        else:
            refused(ran, "templates/mine/site.yaml:1: ")
    # No space, no character that a shell or sbatch reads as anything but itself.
    assert accepted == ["dash", "dots", "long", "empty"]


@pytest.mark.parametrize("key", ["bas", "Base", "bse"])
def test_a_misspelt_base_is_one_line(place: Place, key: str) -> None:
    place.text("experiments/mine.yaml", f"name: mine\n{key}: tiny\ntasks:\n  first: {{hours: 2}}\n")
    message = f"mine.yaml:2: unknown key '{key}'; did you mean 'base'?"
    refused(place.invoke("plan", "mine"), message)


@pytest.mark.parametrize("section", ["tasks", "models", "codes", "implementations"])
def test_a_section_left_empty_is_told_at_its_own_line(place: Place, section: str) -> None:
    place.text("experiments/mine.yaml", f"base: tiny\nname: mine\n{section}:\n")
    refused(
        place.invoke("plan", "mine"),
        f"mine.yaml:3: {section} is required, but an empty value removes the base's",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"phases": {"1": {"tolerance": {"ap": -0.1}}}},
            "phases.1.tolerance.ap must be at least 0, not -0.1",
        ),
        (
            {"tasks": {"first": {"tolerance": {"box": -1}}}},
            "tasks.first.tolerance.box must be at least 0, not -1",
        ),
        ({"tasks": {"first": {"hours": -2}}}, "tasks.first.hours must be at least 0, not -2"),
        (
            {"models": {"m1": {"hours": {"second": -2}}}},
            "models.m1.hours.second must be at least 0, not -2",
        ),
        ({"tasks": {"first": {"resources": {"time": "0s"}}}}, "'0s' is not a usable time limit"),
        ({"tasks": {"first": {"products": {"out": "../x"}}}}, "'../x' leads out of the work_dir"),
    ],
)
def test_a_value_that_nothing_can_have_is_refused_with_its_line(
    place: Place, changes: dict[str, object], message: str
) -> None:
    variant(place, **changes)
    for line in (("plan", "mine"), ("submit", "mine")):
        refused(place.invoke(*line), "mine.yaml:1: ", message)
    assert not (place.root / "results").exists()


# -- values run as data -------------------------------------------------------------------------------------


def test_hostile_options_variables_and_words_reach_the_task_as_they_are(place: Place) -> None:
    values = [
        *HOSTILE.values(),
        "line\nline\n",
        "$HOME",
        "~",
        "!!",
        "\\",
        "'",
        "#",
        "a\tb",
        "&& exit 9",
        "|",
        ">x",
    ]
    save = "import json, os, sys; json.dump([sys.argv[1:], [v for k, v in sorted(os.environ.items()) if k[:2] == 'V_']], open(os.environ['DDQJOBS_WORK_DIR'] + '/out.txt', 'w'))"  # noqa: E501
    task = {
        "kind": "prepare",
        "once": True,
        "code": "shell",
        "command": ["{python}", "-c", save, *values, "{options}"],
        "options": {f"k{i}": v for i, v in enumerate(values)},
        "variables": {f"V_{i:03d}": v for i, v in enumerate(values)},
        "products": {"out": "out.txt"},
    }
    variant(place, tasks={"dump": task})
    ran = place.invoke("submit", "mine", "dump", "--wait")
    assert ran.code == 0, ran
    output = json.loads((place.root / "results/mine/runs/dump/artifacts/out").read_text())
    assert output == [[*values, "--cfg-options", *(f"k{i}={v}" for i, v in enumerate(values))], values]


@pytest.mark.parametrize("name", ["a b", "a;b", "$(x)", "1a", "", "a=b", "PATH\n", "ü"])
def test_a_variable_s_name_is_checked(place: Place, name: str) -> None:
    variant(place, tasks={"first": {"variables": {name: "x"}}})
    refused(place.invoke("plan", "mine"), "mine.yaml:1: ")


@pytest.mark.parametrize("artifact", ["../x", "a/b", "$(x)", "a b", ""])
def test_an_artifact_s_name_is_checked(place: Place, artifact: str) -> None:
    variant(place, tasks={"first": {"products": {artifact: "out.txt"}}})
    refused(place.invoke("plan", "mine"), "mine.yaml:1: ")


def test_the_path_of_an_input_is_data(place: Place) -> None:
    texts = [text.replace("/", "_") for text in HOSTILE.values() if len(text) < 200]
    (place.root / "data").mkdir()
    for text in texts:
        (place.root / f"data/in {text}").write_text("found\n")
    inputs = {f"i{n}": f"path:data/in {text}" for n, text in enumerate(texts)}
    placeholders = [f"{{input.{role}}}" for role in inputs]
    collect = 'cat "$@" > "$DDQJOBS_WORK_DIR/out.txt"'
    variant(
        place, tasks={"first": {"inputs": inputs, "command": ["bash", "-c", collect, "bash", *placeholders]}}
    )
    ran = place.invoke("submit", "mine", "first", "--wait")
    assert ran.code == 0, ran
    assert (place.root / "results/mine/runs/first/artifacts/out").read_text() == "found\n" * len(texts)


FOLDERS = ['it\'s "q" $(touch canary) `touch canary`', "a\nb;c&d|e", "日本 ü", "-rf", "* # ~ {{ x }} a\\b"]


@pytest.mark.parametrize(
    "name", [FOLDERS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in [*FOLDERS[1:], "x" * 200])]
)
def test_a_project_in_a_folder_of_such_a_name_runs(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / name) as place:
        ran = place.invoke("submit", "tiny", "second.m1", "--upstream", "--wait")
        assert ran.code == 0, ran
        assert (place.root / "results/tiny/runs/second.m1/artifacts/out").read_text() == "data\n"
        assert place.call("report").code == 0
    assert not list(tmp_path.rglob(CANARY))


def test_a_project_folder_that_submitit_would_misread_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "50%a") as place:
        ran = place.invoke("submit")
        assert (ran.code, ran.out) == (3, "")
        assert "choose another folder" in ran.err


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    (Path(os.fsdecode(folder)) / "experiments").mkdir(parents=True)
    ran = subprocess.run(
        ddqjobs("plan", "mini"), cwd=folder, env=environment(), capture_output=True, text=True
    )
    refused(Ran(ran.returncode, ran.stdout, ran.stderr), "not UTF-8")


# -- files --------------------------------------------------------------------------------------------------


def bomb() -> str:
    """Nine lines that stand for a thousand million values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


FILES = {
    "bomb": (bomb().encode(), "more than"),
    "deep": (b"[" * 50_000, "nested deeper"),
    "binary": (bytes(range(256)) * 100, "not UTF-8"),
    "zeros": (b"\0" * 1000, ""),
    "empty": (b"", "the file is empty"),
    "list": (b"- a\n- b\n", "must be a mapping"),
    "tabs": (b"name: x\n\tmodels: {}\n", ""),
    "python": (b"name: !!python/object/apply:os.system ['touch canary']\n", "is not allowed"),
    "huge": (b"# padding\n" * 3_000_000, ""),
    "two": (b"name: a\n---\nname: b\n", "second document"),
    "circle": (b"base: mine\nname: mine\n", ""),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_experiment_is_one_line_with_its_name(place: Place, kind: str) -> None:
    content, message = FILES[kind]
    (place.root / "experiments" / "mine.yaml").write_bytes(content)
    ran = place.invoke("plan", "mine")
    if kind in ("tabs", "list", "python"):
        assert ran.code == 2
        assert all("mine.yaml" in line for line in ran.err.splitlines())
        assert message in ran.err
    else:
        refused(ran, "mine.yaml", message)
    assert not (place.root / "results").exists()


def test_a_folder_a_loop_and_a_pipe_in_place_of_files_are_one_line(place: Place) -> None:
    experiments = place.root / "experiments"
    (experiments / "folder.yaml").mkdir()
    (experiments / "loop.yaml").symlink_to("loop.yaml")
    (experiments / "gone.yaml").symlink_to("nowhere.yaml")
    refused(place.invoke("plan", "folder"), "folder.yaml: cannot be read: Is a directory")
    refused(place.invoke("plan", "loop"), "loop")
    refused(place.invoke("plan", "gone"), "gone")
    assert place.invoke("plan", "tiny").code == 0


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_line(place: Place) -> None:
    (place.root / "experiments" / "tiny.yaml").chmod(0)
    refused(place.invoke("plan"), "tiny.yaml: cannot be read: Permission denied")


def test_a_results_folder_that_is_a_file_is_one_line(place: Place) -> None:
    place.text("results", "not a folder")
    ran = place.invoke("submit")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some of your quota (`quota -s`, `lfs quota`), or ask for more"),
        (errno.EROFS, "have its file system mounted for writing, or go to a machine where it is"),
        (errno.EACCES, "fix its permissions"),
        (errno.ESTALE, "wait for its file server, or have the folder mounted anew"),
        (errno.ENOTDIR, "fix that"),
    ],
)
@pytest.mark.parametrize(
    "door",
    [
        "ddqjobs.store.ledger.Ledger._open",
        "ddqjobs.submission.submit.snapshot",
        "ddqjobs.store.claims.Claims.reserve",
    ],
)
def test_a_results_folder_that_cannot_be_written_is_told_with_what_helps(
    place: Place, monkeypatch: pytest.MonkeyPatch, door: str, number: int, remedy: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(door, refuse)
    message = f": {remedy}, then run the same command again"
    refused(place.invoke("submit", "tiny", "first"), os.strerror(number), message)


def test_a_folder_loop_below_the_configurations_ends(place: Place) -> None:
    configs = place.root / "experiments" / "configs"
    configs.mkdir()
    (configs / "again").symlink_to(configs)
    assert place.invoke("submit", "tiny", "first", "--wait").code == 0


# -- terminals ----------------------------------------------------------------------------------------------


def on_terminal(place: Place, *arguments: str) -> bytes:
    """Return the output of a command on a terminal of 100 columns."""
    end, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = place.spawn(*arguments, stdout=inside, stderr=inside)
    os.close(inside)
    output = b""
    while True:
        try:
            data = os.read(end, 65536)
        except OSError:
            break
        output += data
    os.close(end)
    process.wait(60)
    return output


def test_control_characters_never_reach_the_terminal(place: Place) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    variant(
        place,
        title=evil,
        description=evil,
        models={"m1": {"title": evil, "notes": evil}},
        phases={"1": {"title": evil}},
        tasks={
            "first": {
                "title": evil,
                "options": {"k": evil},
                "command": ["printf", "%s\\n", evil, "{options}"],
            }
        },
    )
    assert place.invoke("submit", "mine", "first", "--wait").code == 1
    for arguments in (
        ("plan", "mine"), ("status", "mine"), ("report", "mine"), ("logs", "mine", "first"),
        ("submit", "mine", "--dry-run"), ("plan", "mine", evil), ("init", f"new {evil}"),
        ("report", "mine", "--format", "markdown"), ("report", "mine", "--format", "csv"),
    ):  # fmt: skip
        output = on_terminal(place, *arguments)
        for part in (b"\x1b]0", b"\x07", b"\x1b[2J", "\u202e".encode(), "\x9b".encode()):
            assert part not in output, (arguments, output[-400:])
