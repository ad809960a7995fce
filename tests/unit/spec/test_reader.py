"""Experiment-like YAML files: positions, inheritance, and every kind of mistake as one clear line."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml
from msgspec import Meta

from ddqjobs.base.errors import InputError, MissingError
from ddqjobs.spec import nodes
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.reader import Document, load, parse
from ddqjobs.spec.schema import schema
from ddqjobs.spec.site import Site

Name = Annotated[str, Meta(pattern=r"^[a-z0-9-]+$")]


class Kind(str, Enum):
    TRAIN = "train"
    TEST = "test"


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the types below."""


class Resources(Table, frozen=True, kw_only=True):
    """The resources of a task."""

    gpus: Annotated[int, Meta(ge=0, le=8)] = 0
    memory: float | None = None


class Task(Table, frozen=True, kw_only=True):
    """A task."""

    kind: Kind
    seeds: list[int] = []
    options: dict[str, bool | int | float | str | None] = {}
    launcher: Literal["plain", "torchrun"] = "plain"
    resources: Resources = Resources()
    pair: tuple[int, int] | None = None
    rest: dict[str, Any] = {}


class File(Table, frozen=True, kw_only=True):
    """A whole file."""

    name: Annotated[str, Meta(pattern=r"^[a-z]+$", description="letters only")]
    base: str | None = None
    title: str = ""
    strict: bool = False
    tolerance: float = 0.0
    tasks: dict[Name, Task] = {}
    commands: dict[Kind, list[str]] = {}
    codes: Annotated[list[str], Meta(max_length=2)] = []


Bases = dict[str, str]


def read(text: str, bases: Bases | None = None) -> Document[File]:
    def read_base(base: str, named_by: str) -> tuple[str, str]:
        if base not in (bases or {}):
            raise MissingError(f"no file {base!r} (named by {named_by})")
        return f"{base}.yaml", (bases or {})[base]

    return parse(text, "x.yaml", File, read_base)


def problems(text: str, bases: Bases | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text, bases)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.problems)  # one line each
    return lines


def test_values_and_lines() -> None:
    document = read(
        "name: x\ntasks:\n  1:\n    kind: train\n    options: {lr: 1e-4, on: 1, a: null}\n".replace(
            "on:", "'on':"
        )
        + "    seeds:\n"
        "      - 1\n"
        "      - 7\n"
        "    pair: [1, 2]\n"
        "    rest: {a: [1, {b: x}]}\n"
        "commands: {test: [python, x.py]}\n"
    )
    task = document.value.tasks["1"]
    assert task.kind is Kind.TRAIN
    assert task.options == {"lr": 0.0001, "on": 1, "a": None}
    assert task.rest == {"a": [1, {"b": "x"}]}
    assert task.pair == (1, 2)
    assert document.value.commands == {Kind.TEST: ["python", "x.py"]}
    assert document.files == (Path("x.yaml"),)
    assert document.line_of(()) == ("x.yaml", 1)
    assert document.line_of(("tasks",)) == ("x.yaml", 2)
    assert document.line_of(("tasks", "1", "seeds", 1)) == ("x.yaml", 8)
    assert document.line_of(("tasks", "1", "seeds", 9)) == ("x.yaml", 6)
    assert document.line_of(("tasks", "1", "launcher", "deeper")) == ("x.yaml", 3)
    assert document.line_of(("nowhere", 0)) == ("x.yaml", 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("1_000", 1000),
        ("1__0_", 10),
        ("0x1F", 31),
        ("0b11", 3),
        ("-7", -7),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("08", "08"),
        ("-", "-"),
        ("+x", "+x"),
        ("y", "y"),
        ("9" * 60, "9" * 60),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    result = nodes.plain_value(text)
    assert result == value
    assert type(result) is type(value)


def test_an_int_is_a_float_and_text_is_no_number() -> None:
    assert read("name: x\ntolerance: 1").value.tolerance == 1.0
    assert problems("name: x\ntolerance: '1'") == ["x.yaml:2: tolerance must be a number, not text '1'"]


def test_explicit_tags() -> None:
    assert read("name: !!str abc\ntitle: !!str 12\ntolerance: !!float 1").value.title == "12"
    assert problems("name: !!python/object:os.system x") == [
        "x.yaml:1: the tag !!python/object:os.system is not allowed here"
    ]
    assert problems("name: x\ncodes: !!set {a}")[1] == "x.yaml:2: the tag !!set is not allowed here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x\ngpu: 1", "x.yaml:2: unknown key 'gpu'; valid keys: name, base, title, strict, tolerance,"),
        (
            "name: x\ntasks:\n  a:\n    kind: test\n    resources:\n      gpu: 1",
            "x.yaml:6: unknown key 'gpu' in tasks.a.resources; did you mean 'gpus'? valid keys: gpus, memory",
        ),
        ("title: x", "x.yaml:1: missing key 'name'"),
        ("name: x\ntasks:\n  a: {}", "x.yaml:3: missing key 'kind' in tasks.a"),
        ("name: x\ntasks:\n  a:", "x.yaml:3: tasks.a must be a mapping (key: value), not empty"),
        (
            "name: x\ntasks: {a: {kind: test, resources: {gpus: eight}}}",
            "x.yaml:2: tasks.a.resources.gpus must be a whole number, not text 'eight'",
        ),
        (
            "name: x\ntasks: {a: {kind: test, resources: {gpus: 9}}}",
            "x.yaml:2: tasks.a.resources.gpus must be at most 8, not 9",
        ),
        (
            "name: x\ntasks: {a: {kind: test, resources: {gpus: -1}}}",
            "x.yaml:2: tasks.a.resources.gpus must be at least 0, not -1",
        ),
        (
            "name: x\ntasks: {a: {kind: test, resources: {memory: [1]}}}",
            "x.yaml:2: tasks.a.resources.memory must be a number, not a list",
        ),
        (
            "name: x\ntasks: {a: {kind: trian}}",
            "x.yaml:2: tasks.a.kind may not be 'trian'; did you mean 'train'? valid: train, test",
        ),
        (
            "name: x\ntasks: {a: {kind: 1}}",
            "x.yaml:2: tasks.a.kind must be one of train, test, not the number 1",
        ),
        (
            "name: x\ntasks: {a: {kind: test, launcher: slurm}}",
            "x.yaml:2: tasks.a.launcher may not be 'slurm'; valid: plain, torchrun",
        ),
        (
            "name: x\ntasks: {a: {kind: test, seeds: [1, x]}}",
            "x.yaml:2: tasks.a.seeds[1] must be a whole number, not text 'x'",
        ),
        (
            "name: x\ntasks: {a: {kind: test, seeds: [1, 1.5]}}",
            "x.yaml:2: tasks.a.seeds[1] must be a whole number, not the number 1.5",
        ),
        (
            "name: x\ntasks: {a: {kind: test, options: {b: [1]}}}",
            "x.yaml:2: tasks.a.options.b must be true or false or a whole number or a number or text, not",
        ),
        (
            "name: x\ntasks: {a: {kind: test, pair: [1]}}",
            "x.yaml:2: tasks.a.pair has 1 elements, at least 2 needed",
        ),
        (
            "name: x\ntasks: {a: {kind: test, pair: 1}}",
            "x.yaml:2: tasks.a.pair must be a list, not the number 1",
        ),
        (
            "name: x\ntasks: {A b: {kind: test}}",
            "x.yaml:2: key 'A b' in tasks is not allowed: it must match ^[",
        ),
        ("name: x\ntasks: [a]", "x.yaml:2: tasks must be a mapping (key: value), not a list"),
        ("name: x\ncommands: {tets: [a]}", "x.yaml:2: unknown key 'tets' in commands; did you mean 'test'?"),
        ("name: x\ncommands: {test: a b}", "x.yaml:2: commands.test must be a list, not text 'a b'"),
        ("name: x\ncodes: [a, b, c]", "x.yaml:2: codes has 3 elements, at most 2 allowed"),
        ("name: X1", "x.yaml:1: name may not be 'X1': letters only"),
        ('name: "a\\n"', "x.yaml:1: name may not be 'a\\n': letters only"),
        ("name: 12", "x.yaml:1: name may not be '12': letters only"),
        (
            "name: x\ntitle: yes",
            "x.yaml:2: title must be text, not the truth value yes; put it in quotes if it is text",
        ),
        ("name: x\ntitle: 1.10", "x.yaml:2: title must be text, not the number 1.10; put it in quotes"),
        ("name: x\ntitle:", "x.yaml:2: title must be text, not empty"),
        ("name: x\nstrict: 1", "x.yaml:2: strict must be true or false, not the number 1"),
        ("name: x\nbase: 1", "x.yaml:2: base must be text, not the number 1"),
    ],
)
def test_wrong_types(text: str, expected: str) -> None:
    (line,) = problems(text)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x.yaml:1: the file is empty"),
        ("# only a comment\n", "x.yaml:1: the file is empty"),
        ("~", "x.yaml:1: the file is empty"),
        ("- a", "x.yaml:1: the file must be a mapping (key: value), not a list"),
        ("\nname", "x.yaml:2: the file must be a mapping (key: value), not text 'name'"),
        ("name: x\n\ttitle: y", "x.yaml:2: a tab in the indentation; YAML allows spaces only"),
        ("name: x\ntasks:\n\ta: y", "x.yaml:3: a tab in the indentation; YAML allows spaces only"),
        ("name: x\nname: y", "x.yaml:2: key 'name' is given twice (first in line 1)"),
        ("name: x\non: 1", "x.yaml:2: YAML reads the key 'on' as true; put it in quotes"),
        ("name: x\nno: 1", "x.yaml:2: YAML reads the key 'no' as false; put it in quotes"),
        ("name: x\n~: 1", "x.yaml:2: YAML reads the key '~' as null; put it in quotes"),
        ("name: x\n? [a]\n: b", "x.yaml:2: a key must be text"),
        ("name: x\ntolerance: 010", "x.yaml:2: YAML reads 010 as the octal number 8; write 8, or put it in"),
        ("name: x\ntolerance: .nan", "x.yaml:2: .nan is not a finite number; put it in quotes if it is text"),
        ("name: x\ntolerance: 1e999", "x.yaml:2: 1e999 is not a finite number; put it in quotes if it is"),
        ("name: @x", "x.yaml:1: not valid YAML: text may not begin with '@'; put it in quotes"),
        ("name: a: b", "x.yaml:1: not valid YAML: a ': ' where no key can stand; check the indentation"),
        ("name: [x\ntitle: y", "x.yaml:2: not valid YAML: "),
        ("name: 'x", "x.yaml:1: not valid YAML: "),
        ("name: *x", "x.yaml:1: unknown alias *x: no &x before it"),
        ("name: x\ncodes: &a [*a]", "x.yaml:2: alias *a stands inside what it refers to"),
        ("name: x\n---\nname: y", "x.yaml:2: a second document (---) begins here; one is allowed"),
        ("name: x\ntitle: \x00", "x.yaml:2: character U+0000 is not allowed in YAML"),
        ("name: x\ncodes: " + "[" * 100_000, "x.yaml:2: nested deeper than 100 levels"),
        ("name: x\n<<: 1", "x.yaml:2: '<<' takes a mapping or a list of mappings"),
    ],
)
@pytest.mark.parametrize("loader", [nodes._LOADER, yaml.SafeLoader])
def test_bad_yaml(text: str, expected: str, loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_LOADER", loader)
    lines = problems(text)
    assert lines[0].startswith(expected)
    assert all(line.startswith("x.yaml:2: unknown key") for line in lines[1:])


def test_alias_bomb() -> None:
    levels = "".join(f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    started = time.process_time()
    (line,) = problems("name: x\nrest:\n  a0: &a0 [x, x]\n" + levels)
    assert line == "x.yaml:8: more than 300000 values, aliases (*name) expanded"
    assert time.process_time() - started < 0.5


def test_aliases_and_merge_keys() -> None:
    document = read(
        "name: x\n"
        "tasks:\n"
        "  a: &a {kind: test, seeds: [1]}\n"
        "  b: *a\n"
        "  c:\n"
        "    <<: [*a, {seeds: [3], launcher: torchrun}]\n"
        "    kind: train\n"
    )
    tasks = document.value.tasks
    assert tasks["a"] == tasks["b"]
    assert tasks["c"] == Task(kind=Kind.TRAIN, seeds=[1], launcher="torchrun")
    assert document.line_of(("tasks", "b")) == ("x.yaml", 4)


def test_all_problems_at_once_and_in_order_the_file_s_own_first() -> None:
    base = "name: x\ntasks:\n  a: {kind: test, seeds: x}\nspeed: 1\n"
    assert problems("base: b\non: 1\ntasks:\n  a: {launcher: 1}\ntitle: 010\n", {"b": base}) == [
        "x.yaml:2: YAML reads the key 'on' as true; put it in quotes",
        f"x.yaml:2: unknown key 'on'; valid keys: {', '.join(File.__struct_fields__)}",
        "x.yaml:4: tasks.a.launcher must be one of plain, torchrun, not the number 1",
        "x.yaml:5: YAML reads 010 as the octal number 8; write 8, or put it in quotes",
        "b.yaml:3: tasks.a.seeds must be a list, not text 'x'",
        f"b.yaml:4: unknown key 'speed'; valid keys: {', '.join(File.__struct_fields__)}",
    ]


def test_inheritance() -> None:
    bases = {
        "root": "name: root\ntitle: old\ntasks:\n  a: {kind: test, seeds: [1, 2]}\n  b: {kind: test}\n",
        "middle": "base: root\ntasks:\n  a:\n    seeds: [3]\n  c: {kind: train}\n",
    }
    document = read(
        "base: middle\nname: x\ntitle: null\ntasks:\n  b: null\n  c: {launcher: torchrun}\n", bases
    )
    assert document.value == File(
        name="x",
        base="middle",
        tasks={
            "a": Task(kind=Kind.TEST, seeds=[3]),
            "c": Task(kind=Kind.TRAIN, launcher="torchrun"),
        },
    )
    assert [str(file) for file in document.files] == ["root.yaml", "middle.yaml", "x.yaml"]
    assert document.line_of(("tasks", "a", "kind")) == ("root.yaml", 4)
    assert document.line_of(("tasks", "a", "seeds", 0)) == ("middle.yaml", 4)
    assert document.line_of(("tasks", "c")) == ("x.yaml", 6)
    assert document.line_of(("title",)) == ("x.yaml", 1)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("p3-trian: {seeds: [1]}", "b.yaml has no task 'p3-trian'; did you mean 'p3-train'? a new one needs"),
        ("p3-trian: null", "nothing to remove: b.yaml has no task 'p3-trian'; did you mean 'p3-train'?"),
        ("other: {}", "b.yaml has no task 'other'; there are: data, p3-train; a new one needs 'kind'"),
        ("other: null", "nothing to remove: b.yaml has no task 'other'; there are: data, p3-train"),
    ],
)
def test_a_change_of_something_that_the_base_does_not_have(entry: str, expected: str) -> None:
    base = "name: b\ntasks: {data: {kind: test}, p3-train: {kind: train}}\n"
    child = f"base: b\nname: x\ntasks:\n  {entry}\n"
    (line,) = problems(child, {"b": base})
    assert line.startswith(f"x.yaml:4: {expected}")
    # The same in a file between the two: the place is where it was written.
    (line,) = problems("base: m\nname: y\n", {"b": base, "m": child})
    assert line.startswith(f"m.yaml:4: {expected}")


def test_what_is_new_and_whole_is_no_mistake_and_what_is_wrong_inside_is_told_too() -> None:
    base = "name: b\ntasks: {train: {kind: train}}\n"
    document = read("base: b\nname: x\ntasks: {trainx: {kind: test}}\n", {"b": base})
    assert list(document.value.tasks) == ["train", "trainx"]
    assert problems("base: b\nname: x\ntasks:\n  trian:\n    seed: [1]\n", {"b": base}) == [
        "x.yaml:4: b.yaml has no task 'trian'; did you mean 'train'? a new one needs 'kind'",
        "x.yaml:5: unknown key 'seed' in tasks.trian; did you mean 'seeds'? valid keys: "
        + ", ".join(Task.__struct_fields__),
    ]
    # Where the base has none at all, none can be misspelt.
    assert problems("base: b\nname: x\ntasks:\n  trian: {}\n", {"b": "name: b\n"}) == [
        "x.yaml:4: missing key 'kind' in tasks.trian"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "base: b\ntitle: x\nname:\n",
            "x.yaml:3: name is required, but an empty value removes the base's",
        ),
        (
            "base: b\ntasks:\n  a:\n    kind: null\n",
            "x.yaml:4: tasks.a.kind is required, but an empty value",
        ),
        ("base: m\ntitle: x\n", "m.yaml:2: name is required, but an empty value removes the base's"),
    ],
)
def test_what_is_needed_and_left_empty_is_told_where_it_stands(text: str, expected: str) -> None:
    bases = {"b": "name: b\ntasks: {a: {kind: test}}\n", "m": "base: b\nname:\n"}
    (line,) = problems(text, bases)
    assert line.startswith(expected)
    assert read("base: m\nname: again\n", bases).value.name == "again"


def test_an_unreadable_value_removes_nothing() -> None:
    bases = {"b": "name: b\ntolerance: 1"}
    assert problems("base: b\ntolerance: 010", bases) == [
        "x.yaml:2: YAML reads 010 as the octal number 8; write 8, or put it in quotes"
    ]


def test_base_that_is_missing_broken_or_circular() -> None:
    # What is there is checked all the same; what is not there cannot be called missing.
    unknown = "unknown key 'speed' in tasks.a; did you mean 'seeds'? valid keys: "
    lines = problems("title: t\nbase: nowhere\ntasks:\n  a: {speed: 1}", {})
    assert lines[0] == "x.yaml:2: base: no file 'nowhere' (named by x.yaml)"
    assert lines[1].startswith(f"x.yaml:4: {unknown}")
    assert len(lines) == 2
    assert problems("base: b", {"b": "name: x\n\ta"}) == [
        "b.yaml:2: a tab in the indentation; YAML allows spaces only"
    ]
    assert problems("base: b", {"b": "- x"}) == [
        "b.yaml:1: the file must be a mapping (key: value), not a list"
    ]
    assert problems("base: b", {"b": "title: x\nbase: c", "c": "base: b"}) == [
        "c.yaml:1: base: the files inherit in a circle: x.yaml -> b.yaml -> c.yaml -> b.yaml; "
        "name another base in one of them, or rename the file of the project that replaces a shipped one"
    ]


@pytest.mark.parametrize("key", ["bas", "Base", "bse", "BASE", "bases"])
def test_of_a_misspelt_base_only_that_is_told(key: str) -> None:
    valid = ", ".join(File.__struct_fields__)
    message = f"x.yaml:1: unknown key '{key}'; did you mean 'base'? valid keys: {valid}"
    assert problems(f"{key}: b\ntasks:\n  a: {{seeds: [1]}}\n  b:\ntitle:\n") == [message]
    # What is wrong whatever the base says is told all the same; so is a file between the two.
    also = "x.yaml:2: tasks.a.seeds must be a list, not text 'x'"
    assert problems(f"{key}: b\ntasks: {{a: {{seeds: x}}}}\n") == [message, also]
    assert problems("base: m\n", {"m": f"{key}: b\n"}) == [message.replace("x.yaml", "m.yaml")]


def test_an_unknown_key_like_no_other_excuses_nothing() -> None:
    assert problems("speed: 1\n")[0] == "x.yaml:1: missing key 'name'"
    assert problems("base: null\nbas: 1\n")[0] == "x.yaml:1: missing key 'name'"


def never(base: str, named_by: str) -> tuple[str, str]:
    raise AssertionError


def test_a_type_without_base_inherits_nothing() -> None:
    with pytest.raises(InputError, match=r"r\.yaml:1: unknown key 'base'"):
        parse("base: x", "r.yaml", Resources, never)


class Even(Table, frozen=True, kw_only=True):
    """A type with a rule of its own."""

    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("number must be even")


def test_rules_of_a_type_are_reported_too() -> None:
    with pytest.raises(InputError, match=r"e\.yaml:2: number must be even"):
        parse("\nnumber: 3", "e.yaml", Even, never)


def in_same_folder(base: str, named_by: Path) -> Path:
    return named_by.parent / f"{base}.yaml"


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.yaml").write_text("name: b\n")
    (tmp_path / "x.yaml").write_text("\ufeffbase: b\ntitle: 'é'\n", encoding="utf-8")
    document = load(tmp_path / "x.yaml", File, in_same_folder)
    assert document.value == File(name="b", base="b", title="é")
    assert document.files == (tmp_path / "b.yaml", tmp_path / "x.yaml")
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path / "x.yaml", File, in_same_folder).line_of(("title",)) == ("x.yaml", 2)


def test_load_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with pytest.raises(InputError, match=r"x\.yaml: cannot be read: No such file"):
        load(path, File, in_same_folder)
    path.write_bytes(b"name: x\ntitle: \xff\n")
    with pytest.raises(InputError, match=r"x\.yaml:2: not UTF-8 text \(byte 0xff\); save the file as UTF-8"):
        load(path, File, in_same_folder)
    path.write_text("name: x\nbase: other\n")
    with pytest.raises(InputError, match=r"x\.yaml:2: base: .*other\.yaml: cannot be read: No such file"):
        load(path, File, in_same_folder)
    (tmp_path / "other.yaml").mkdir()
    with pytest.raises(InputError, match=r"x\.yaml:2: base: .*other\.yaml: cannot be read: Is a directory"):
        load(path, File, in_same_folder)


def test_a_long_file_is_read_fast() -> None:
    task = "    kind: train\n    options: {a: 1, b: 1e-4}\n    seeds: [1, 2]\n    launcher: torchrun\n"
    text = "name: x\ntasks:\n" + "".join(f"  t{i}:\n{task}" for i in range(2000))
    started = time.process_time()
    read(text)
    assert time.process_time() - started < 1.0  # 0.2 s, ten times that on a slow machine


@pytest.mark.parametrize("kind", [File, Experiment, Site])
def test_schema(kind: type[msgspec.Struct]) -> None:
    result = schema(kind, "a title")
    assert result["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert result["title"] == "a title"
    root = result["$defs"][kind.__name__]
    assert result["$ref"] == f"#/$defs/{kind.__name__}"
    assert root["description"] == (kind.__doc__ or "").strip()
    assert root["anyOf"][0] == {"required": ["base"]}
    assert "name" in root["anyOf"][1]["required"]


def test_schema_of_a_type_without_base() -> None:
    result = schema(Even)
    assert result["title"] == "Even"
    assert result["$defs"]["Even"]["required"] == ["number"]
    assert "anyOf" not in result["$defs"]["Even"]
