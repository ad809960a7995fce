"""A program of the task code never overwrites its input, by any name; its output is not lost at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ddqjobs.detect import align, capture, convert, prepare

Program = Callable[[Sequence[str] | None], int]
SOURCE = b"precious"


def by_name(source: Path) -> Path:
    return source


def by_another_spelling(source: Path) -> Path:
    (source.parent / "sub").mkdir()
    return source.parent / "sub" / ".." / source.name


def by_symlink(source: Path) -> Path:
    link = source.with_name("symlink")
    link.symlink_to(source.name)
    return link


def by_folder(source: Path) -> Path:
    (source.parent / "other").symlink_to(".")
    return source.parent / "other" / source.name


def by_hard_link(source: Path) -> Path:
    link = source.with_name("hard")
    os.link(source, link)
    return link


ALIASES = [by_name, by_another_spelling, by_symlink, by_folder, by_hard_link]
READING: list[tuple[Program, str]] = [
    (convert.main, "SOURCE --out OUT --report r.json --config c.py"),
    (convert.main, "SOURCE --out o.pth --report OUT --config c.py"),
    (convert.main, "s.pth --out OUT --report r.json --config SOURCE"),
    (align.main, "predictions SOURCE b.npz --out OUT"),
    (align.main, "losses a SOURCE --out OUT"),
    (align.main, "weights a.pth SOURCE --out OUT"),
    (align.main, "modules SOURCE b.npz --out OUT"),
    (align.main, "predictions a.npz b.npz --logs a.json SOURCE --out OUT"),
    (align.main, "repeat SOURCE --iterations 1 --work-dir w --out OUT"),
    (capture.main, "c.py --weights SOURCE --out OUT"),
    (capture.main, "c.py --seed 1 --batch SOURCE --out d.npz --scalars OUT"),
    (prepare.main, "initial --config SOURCE --out OUT"),
]


def call(program: Program, command_line: str, **paths: Path) -> int:
    return program([str(paths.get(word, word)) for word in command_line.split()])


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize(
    ("program", "command_line"), READING, ids=[command_line.split(" --")[0] for _, command_line in READING]
)
def test_an_output_that_is_an_input_is_refused(
    program: Program,
    command_line: str,
    alias: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source"
    source.write_bytes(SOURCE)
    out = alias(source)
    before = sorted(tmp_path.iterdir())
    assert call(program, command_line, SOURCE=source, OUT=out) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert f"{out} is the input {source}: choose another; nothing was written" in output.err
    assert source.read_bytes() == SOURCE
    assert sorted(tmp_path.iterdir()) == before


def test_two_outputs_in_one_file_are_refused_before_either_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "new", tmp_path / "." / "new"
    assert call(convert.main, "s.pth --out OUT --report AGAIN --config c.py", OUT=out, AGAIN=again) == 2
    assert f"--report {again} is --out, too" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_result_gets_its_folder(tmp_path: Path) -> None:
    log = tmp_path / "scalars.json"
    log.write_text('{"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}\n')
    twin = tmp_path / "twin.json"
    twin.write_bytes(log.read_bytes())
    out = tmp_path / "not" / "yet" / "align.json"
    assert align.main(["losses", str(log), str(twin), "--out", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("program", "command_line"),
    [
        (align.main, "losses LOG LOG2 --out FILE/align.json"),
        (prepare.main, "dataset --out FILE/data --images-train 1 --images-val 1 --size 32x32"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    program: Program, command_line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LOG", "LOG2", "FILE"):
        (tmp_path / name).write_text('{"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}\n')
    here = [
        str(tmp_path / word) if word.startswith(("LOG", "FILE")) else word for word in command_line.split()
    ]
    assert program(here) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "Not a directory" in errors or "File exists" in errors
