"""Environment files: what can be said, and what cannot be true, told by line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ddqjobs.base.errors import InputError
from ddqjobs.spec import reader
from ddqjobs.spec.check.environment import check
from ddqjobs.spec.environment import Declaration, fill, placeholders

GOOD: dict[str, Any] = {
    "name": "legacy",
    "python": "3.8.12",
    "interpreter": {"path": "python3.8"},
    "modules": ["python/3.8.12-gcc-4.8.5-jbm", "cuda/11.1.0-gcc-4.8.5-67q"],
    "from_source": ["asynctest"],
    "indexes": ["https://mirror.example.org/simple"],
    "trees": {
        "DDQ": {"url": "https://example.org/DDQ.git", "branch": "main", "revision": "d" * 40, "link": "~/DDQ"}
    },
    "steps": {
        "mmcv": {
            "command": ["python", "setup.py", "build_ext", "--inplace"],
            "tree": "DDQ",
            "folder": "mmcv-1.4.7",
            "variables": {"MMCV_WITH_OPS": "1", "MAX_JOBS": "{cpus}", "CUDA_HOME": "{env.CUDA_HOME}"},
            "produces": ["mmcv/_ext*.so"],
        },
        "detectron": {"packages": ["mmcv"], "timeout": "1h"},
    },
    "variables": {"PYTHONPATH": "{trees}/DDQ/mmcv-1.4.7"},
    "checks": {"ops": {"command": ["-c", "1"], "gpu": True}},
}
PINS = ("mmcv", "asynctest")


def problems(*changes: tuple[str, Any]) -> list[str]:
    """Problems after changes of a good file; each has a line of that file."""
    content = msgspec.json.decode(msgspec.json.encode(GOOD))
    for path, value in changes:
        *above, last = path.split("/")
        at = content
        for key in above:
            at = at.setdefault(key, {})
        at[last] = value
    text = msgspec.json.format(msgspec.json.encode(content)).decode()
    parsed = reader.parse(text, "env.yaml", Declaration, lambda _base, _by: ("", ""))
    errors = check(parsed.value, parsed.line_of, PINS)
    lines = text.splitlines()
    assert all(error.file == "env.yaml" and 0 < error.line <= len(lines) for error in errors)
    return [error.message for error in errors]


def test_a_good_file_has_no_problems() -> None:
    assert problems() == []


def test_a_python_that_the_programs_in_jobs_do_not_run_on() -> None:
    need = "is too old; ddqjobs' programs in jobs need 3.8 or later"
    assert problems(("python", "3.7")) == [f"Python 3.7 {need}"]
    assert problems(("python", "3.6.9")) == [f"Python 3.6.9 {need}"]
    for version in ("3.8", "3.10.2", "3.12"):
        assert problems(("python", version)) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("interpreter/managed", True, "either a path, or managed: true for one that uv brings"),
        ("modules", ["a b"], "'a b' is not a valid name of a module"),
        ("trees/DDQ/url", "--upload-pack=x", "'--upload-pack=x' is no address of a git repository"),
        ("trees/DDQ/branch", "-x", "'-x' is not a valid name of a branch"),
        ("variables", {"PYTHONPATH": "{trees}/DDQ:/poison"}, "PYTHONPATH may only name folders of the env"),
        ("variables", {"VIRTUAL_ENV": "/x"}, "VIRTUAL_ENV cannot be declared"),
        ("trees/DDQ/link", "DDQ", "must be a whole path: /... or ~/..."),
        ("steps/mmcv/tree", "DQD", "unknown tree 'DQD'; did you mean 'DDQ'?; there are: DDQ"),
        ("steps/mmcv/packages", ["mmcv"], "a step has either a command or packages"),
        ("steps/mmcv/command", [], "a step has either a command or packages"),
        ("steps/detectron/tree", "DDQ", "packages are installed into the environment: no tree, no folder"),
        ("steps/detectron/packages", ["mmvc"], "'mmvc' is not in the lock; did you mean 'mmcv'?"),
        ("from_source", ["mmcv"], "'mmcv' is built already by from_source"),
        ("steps/detectron/timeout", "soon", "'soon' is not a valid duration; use 90s, 45m, 24h, 2d or 1h30m"),
        ("steps/mmcv/folder", "../x", "'../x' leads out of where the step runs"),
        ("steps/mmcv/produces", ["/etc/passwd"], "'/etc/passwd' leads out of where the step runs"),
        ("steps/mmcv/command", ["{tres}/x"], "unknown placeholder {tres}; did you mean 'trees'?; valid: "),
        (
            "steps/mmcv/variables",
            {"X": "{env.}"},
            "unknown placeholder {env.}; valid: {cpus}, {environment}, ",
        ),
        ("variables", {"X": "{cpus}"}, "unknown placeholder {cpus}; valid: {environment}, {trees}"),
        ("variables", {"X": "{env.HOME}"}, "unknown placeholder {env.HOME}; valid: {environment}, {trees}"),
    ],
)
def test_what_cannot_be_true(path: str, value: object, message: str) -> None:
    messages = problems((path, value))
    assert len(messages) == 1
    assert messages[0].startswith(message)


def test_a_misspelt_key_and_a_short_revision() -> None:
    text = "name: a\npython: '3.8'\ntrees:\n  T:\n    url: x\n    revision: abc\nsteps:\n  s: {comand: [x]}\n"
    with pytest.raises(InputError) as caught:
        reader.parse(text, "env.yaml", Declaration, lambda _base, _by: ("", ""))
    first, second = (str(problem) for problem in caught.value.problems)
    assert first.startswith("env.yaml:6: trees.T.revision")
    assert "a whole commit id, 40 hex digits" in first
    assert second.startswith("env.yaml:8: unknown key 'comand' in steps.s; did you mean 'command'?")


def test_placeholders() -> None:
    assert placeholders("{environment}/{x} {0} {} {env.HOME}") == ["environment", "x", "env.HOME"]
    assert fill("a{cpus}{0}", {"cpus": "8"}) == "a8{0}"
    with pytest.raises(KeyError, match=r"env\.NO"):
        fill("{env.NO}", {})
