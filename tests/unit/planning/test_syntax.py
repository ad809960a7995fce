"""Counted content of a Python file: all that decides behaviour and nothing else, the same on every Python."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.planning import syntax
from ddqjobs.planning.digest import FORMAT
from tests.support.paths import ROOT

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# One or more of the syntax's kinds each, written in the most awkward way.
TRICKY = [
    'f"a{x}b"', 'f"{x:}"', 'f"{x!r:>{w}.{p}}"', 'f"{x = }"', 'f"{x=!s:^9}"', 'f"{{a}}{x}{{b}}"',
    '"a" f"b{x}c" "d" u"e"', 'f""', 'f"" ""', 'f"{x}" f"{y}"', 'f"{x:%Y-{m}}"', 'f"{x:{y}{z}}"',
    'f"{x:{{}}}"', r'rf"\d{x}\{{"', r'f"\d{x}"', 'f"{(lambda x: 1)}"', 'f"{x,}"', 'f"{x!r}"  f"{y!a:3}"',
    "f'''{\nx\n}'''", "f'''{x:\n}'''", 'f"{*a, 1}"', 'f"{a:=5}"', 'f"{(a:=5)}"', 'f"{a!=b}"',
    'f"{x!r}{ x  =  }"', 'f"{x=}" f"{y = :>3}"', "f'{x[\"a\"]}'", "F'{a}' fR'{b}\\d'",
    "b'\\x00' b'a'", "u'a'", "'a' 'b'", "'\\ud800'", "'\\d'", "'\\400'",
    "rb'\\d'", "'a\\\nb'", "'''a\\\nb'''",
    "1_000", "0x10", "1e999", "-1e999", "1j", "1e-400", "0.1", "10**400", "0x" + "f" * 5000, "...", "None",
    "-0.0", "True", "class A[T]: pass", "type X = int", "def f[T](): pass", "try: pass\nexcept* E: pass",
    "a[*b]", "a[*b, 1]", "def f(*a: *b): pass", "with (a as b, c as d): pass", "with (a, b): pass",
    "match x:\n case {'a': 1, **r}: pass\n case [1, *_]: pass\n case None | True: pass\n case A(b=c): pass\n"
    " case -1+2j: pass\n case str() as s: pass",
    "def f(a, /, b=1, *c, d, e=None, **g) -> int: pass", "lambda *a, **k: 0",
    "async def f():\n async with a: pass\n async for x in y: pass\n [x async for x in y]\n await z",
    "def f():\n global a, b\n nonlocal c", "x: int", "(x): int", "x: int = 1", "del a, b[1]", "a[1:2, ::3]",
    "{**a, 'b': 1, None: 2}", "{*a}", "f(a, *b, c=1, **d)", "f(a for a in b)", "1 < 2 < 3", "a if b else c",
    "not a and b or c", "@d\nclass A(B, metaclass=C): 'x'", "def f():\n 'doc'", "class A:\n a: 'int'\n 'doc'",
    "'''m'''\nfrom __future__ import annotations", "import a.b as c, d", "from . import a",
    "from ..a import *", "raise A from b", "for x in y: pass\nelse: z", "while 1: break\nelse: continue",
    "try: a\nexcept (A, B) as e: b\nelse: c\nfinally: d", "x = (yield)", "(a := 1)", "a @= b", "x = *a, b",
    "a = 1\r\nb='''x\r\ny'''", "a = 1\rb = 2\r", "\ufeffa = 1", "\x0ca = 1", "a = 1\\\n + 2", "a = 1;b = 2;",
    "\N{LATIN SMALL LETTER E WITH ACUTE} = 1", "\N{LATIN SMALL LIGATURE FI} = 1",
    "# -*- coding: latin-1 -*-\na = '\N{LATIN SMALL LETTER E WITH ACUTE}'", "# coding: nonsense", "a\0",
    "#\0", "(", "+".join(["1"] * 3000), "a" + ".b" * 3000, "not " * 450 + "a", "not " * 501 + "a",
    "[" * 90 + "]" * 90,
    "if a: b\n" + "elif a: b\n" * 400, "print 'a'", "x = 0777", "1if 2else 3", "0or 1", "1_a",
    "a = {{ fileDirname }}", "a = '{{ fileDirname }}'", "m = {{_base_.model}}", "a = {{$X:1}}", "", "#",
    "pass",
    "a=1 # type: int", "def f(a): # type: (int) -> int\n return 1", "match = case = type = _ = 1",
    "x = '\\N{nonsense}'", "if 1:\n  x = 1\n # odd\n  y = 2", "if x:\n\ty\n        z",
]  # fmt: skip
BYTES = [
    *(text.encode("utf-8", "surrogatepass") for text in TRICKY),
    b"a = '\xff'",
    b"# \xff",
    b"a = b'\\xff'",
]
# The number of the format, and a digest of its forms of these.
RECORDED = (2, "92427d2a14c6f6cc")
SCRIPT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("syntax", sys.argv[1])
syntax = importlib.util.module_from_spec(spec)
spec.loader.exec_module(syntax)
print(json.dumps([syntax.read(bytes.fromhex(line)) for line in sys.stdin]))
"""


def form(text: str | bytes) -> str:
    return syntax.read(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")).form


def parsed(text: str) -> bool:
    data = text.encode("utf-8", "surrogatepass")
    return form(data) != hashlib.sha256(b"text\0" + data).hexdigest()


def tree_of(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text.encode("utf-8", "surrogatepass"))


PARSED = [text for text in TRICKY if parsed(text)]
SHIPPED = [
    path for folder in ("ddqjobs/detect", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))
]


def interpreter(version: str) -> str:
    """The path of a Python of this version; the test is skipped if there is none on this machine."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [sys.executable, shutil.which(f"python{version}")]
    candidates += [str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))]
    for path in filter(None, candidates):
        result = process.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], timeout=60)
        if (result.code, result.stdout.strip()) == (0, version):
            return path
    pytest.skip(f"no Python {version} on this machine: whether it reads files the same is not known here")


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_reads_the_same(version: str) -> None:
    data = [*BYTES, *(path.read_bytes() for path in SHIPPED)]
    argv = [interpreter(version), "-W", "error", "-c", SCRIPT, syntax.__file__]
    done = process.run(argv, stdin="".join(f"{one.hex()}\n" for one in data), timeout=300)
    assert (done.code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(json.dumps([syntax.read(one) for one in data]))


def test_another_rule_has_another_format() -> None:
    """If this fails, the canonical form has changed: raise FORMAT and record its forms here."""
    forms = "".join(form(one) for one in BYTES)
    assert (FORMAT, hashlib.sha256(forms.encode()).hexdigest()[:16]) == RECORDED


def test_shipped_files_are_read_by_their_syntax() -> None:
    assert len(SHIPPED) > 50
    assert all(parsed(path.read_text()) for path in SHIPPED)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_comments_docstrings_and_formatting_do_not_count(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert form(text + "\n\n# a comment\n") == form("# another\n\n" + text) == form(text)
    assert form(ast.unparse(tree)) == form(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                del node.body[0]
            elif not any(isinstance(s, ast.ImportFrom) and s.module == "__future__" for s in node.body):
                node.body.insert(0, ast.Expr(ast.Constant("A docstring.")))
            node.body = node.body or [ast.Pass()]
    assert form(ast.unparse(tree)) == form(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(): 'doc'", "def f():\n    pass  # nothing"),
        ("class A(B):\n  'doc'\n  x = 1\n  'of x'", "class A(B): x=1"),
        ("x = 'a' 'b'", 'x = "ab"'),
        ("x = 0x10", "x = 16"),
        ("x = (1)", "x=1"),
        ("f(a,\n  b,)", "f(a, b)"),
        ("x = 'A'", "x = u'\\x41'"),
        ("a=1;b=2", "a = 1\r\nb = 2\r\n"),
        ("x = f'{a}' 'b'", "x = f'{a:}b'"),
        ("if a:\n  'nothing'\nelse:\n  b", "if a: pass\nelse: b"),
    ],
)
def test_what_is_written_otherwise_and_means_the_same(one: str, other: str) -> None:
    assert parsed(one)
    assert form(one) == form(other)


@pytest.mark.parametrize(
    "texts",
    [
        [
            "x = 1",
            "x = True",
            "x = 1.0",
            "x = '1'",
            "x = b'1'",
            "x = 1j",
            "x = -1",
            "x = 2",
            "x = ...",
            "x = 1,",
        ],
        ["x = 0.0", "x = -0.0", "x = 5e-324", "x = 0"],
        ["def f(*, a): x", "def f(*, a=None): x", "def f(a): x", "def f(a, /): x", "def f(*a): x"],
        ["{None: a}", "{**a}", "{a: None}", "{a}"],
        ["x = {1: 'a', 2: 'b'}", "x = {1: 'ab', 2: ''}", "x = {1: 'a', 2: ''}"],
        ["f'{a}'", "f'{a!s}'", "f'{a!r}'", "f'{a: }'", "f'{a}' ' '", "f'{a=}'", "f'{a =}'", "x = '{a}'"],
        ["a - b - c", "a - (b - c)", "a + b - c", "a - c - b"],
        ["if a: b\nelse: c", "if a: b\nc", "if a: c\nelse: b", "if a: pass\nelse: b"],
        ["for a in b: c", "for a in b:\n  pass\nelse: c", "async def f():\n  async for a in b: c"],
        ["from . import a", "from .. import a", "from .a import a", "import a", "from . import a as b"],
        ["x = ''", "x = '\\0'", "x = '\\ud800'", "x = '\\udcff'", "x = b''", "x = f''"],
        ["try: a\nexcept: b", "try: a\nfinally: b", "try: a\nexcept A: b", "try: a\nexcept A as b: pass"],
        ["a[1]", "a[1:]", "a[:1]", "a[::1]", "a[1,]"],
        ["a = b", "a == b", "a: b", "a += b", "a is b", "(a := b)"],
    ],
)
def test_what_means_something_else_counts(texts: list[str]) -> None:
    assert all(parsed(text) for text in texts)
    assert len({form(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", [t for t in PARSED if len(t) < 500])
def test_every_name_number_operator_and_node_counts(text: str) -> None:
    tree = tree_of(text)
    before, _ = syntax.canonical(tree)
    idle = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in [node for node in ast.walk(tree) if id(node) not in idle]:
        for field, value in ast.iter_fields(node):
            for other in _others(node, field, value):
                setattr(node, field, other)
                assert syntax.canonical(tree)[0] != before, f"{ast.dump(node)}: {field}"
            setattr(node, field, value)
    assert syntax.canonical(tree)[0] == before


def _others(node: ast.AST, field: str, value: object) -> list[object]:
    """Return what could stand there instead; nothing for a field that follows from others or stays empty."""
    if field in ("ctx", "kind", "type_comment", "type_ignores"):
        return []
    another = ast.JoinedStr([ast.Name("another")]) if field == "format_spec" else ast.Name("another")
    if isinstance(value, list):
        shorter_lists = [value[:i] + value[i + 1 :] for i, item in enumerate(value) if not _idle(node, item)]
        return [*shorter_lists, [*value, another]]
    if isinstance(value, str):
        return [f"{value}x", another]
    return (
        [another, value + 1] if isinstance(value, int | float | complex) and value + 1 != value else [another]
    )


def _idle(parent: ast.AST, node: object) -> bool:
    if isinstance(parent, ast.JoinedStr):  # Python 3.12.1 leaves an empty text in a format
        return isinstance(node, ast.Constant) and node.value == ""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Pass)


def test_the_text_of_one_file_is_never_the_syntax_of_another() -> None:
    canonical, _ = syntax.canonical(ast.parse("a = 1"))
    assert form(canonical) != form("a = 1")
    assert form(b"syntax\0" + canonical) != form("a = 1")


def test_a_file_of_another_language_counts_by_its_text(tmp_path: Path) -> None:
    """Some YAML can be read as Python, in which 1e3 is the same as 1000.0; in YAML 1.1 it is a string."""
    for name, same in (("a.py", True), ("a.yaml", False)):
        path = tmp_path / name
        path.write_text("a: 1e3\n")
        before = syntax.read_file(path).form
        path.write_text("a: 1000.0\n")
        assert (syntax.read_file(path).form == before) is same


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import os, ddqjobs.detect.a.b as c", {"ddqjobs.detect.a.b"}),
        ("def f():\n  from ddqjobs.detect import a", {"ddqjobs.detect", "ddqjobs.detect.a"}),
        ("from . import a, b\nfrom ..c import d", {".", ".a", ".b", "..c", "..c.d"}),
        ("x = dict(imports=['ddqjobs.detect.a'])", {"ddqjobs.detect.a"}),
        ("'ddqjobs.detect.a'\n# ddqjobs.detect.b\nraise E('ddqjobs.detect.c failed')", set()),
        ("(ddqjobs.detect.a", {"ddqjobs.detect.a"}),  # no Python: whatever it names
    ],
)
def test_modules_are_those_that_are_imported_or_named_by_a_string(text: str, modules: set[str]) -> None:
    assert set(syntax.read(text.encode()).modules) == modules
