"""The bases of a configuration are read from its syntax; unreadable ones are named with their line."""

from __future__ import annotations

import ast

import pytest

from ddqjobs.planning.bases import bases


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("_base_ = './a.py'", ("./a.py",)),
        ("_base_ = ['a.py', 'b.py']", ("a.py", "b.py")),
        ("_base_ = ('a.py', ['b.py'])", ("a.py", "b.py")),
        ("one = 'a.py'\n_base_ = [one]", ("a.py",)),
        ("root = '../'\n_base_ = root + 'a.py'", ("../a.py",)),
        ("root = '..'\n_base_ = [f'{root}/a.py']", ("../a.py",)),
        ("more = ['b.py']\n_base_ = ['a.py'] + more", ("a.py", "b.py")),
        ("_base_ = '{{ fileDirname }}/../a.py'", ("../a.py",)),
        ("_base_ = []", ()),
        ("_base_ = os.environ['DDQJOBS_CONFIG']", ()),
        ("lr = 1", ()),
    ],
)
def test_bases_that_the_file_spells_out(text: str, names: tuple[str, ...]) -> None:
    assert bases(ast.parse(text)) == (names, ())


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("x = 1\n_base_ = [find('a.py')]", "line 2: _base_ is computed"),
        ("_base_ = os.environ['OTHER']", "line 1: _base_ is computed"),
        ("_base_ = 'a.py' if fast else 'b.py'", "line 1: _base_ is computed"),
        ("one = 'a.py'\none = pick()\n_base_ = one", "line 3: _base_ is computed"),
        ("x = 'a'\n_base_ = f'{x:>9}'", "line 2: _base_ is computed"),
        ("a = Config.fromfile('b.py')", "line 1: fromfile() loads what its argument says"),
        ("m = importlib.import_module(name)", "line 1: import_module() loads what its argument says"),
        ("exec(open('b.py').read())", "line 1: exec() loads what its argument says"),
        ("import sys\nsys.path.insert(0, '/x')", "line 2: sys.path is changed or read"),
        ("_base_ = '{{ fileBasenameNoExtension }}_b.py'", "line 1: _base_ is computed"),
        ("_base_ = ['a{{fileExtname}}']", "line 1: _base_ is computed"),
        ("_base_ = ['a.py']\n_base_ += ['b.py']", "line 2: _base_ is computed"),
        ("_base_: list = ['a.py']", "line 1: _base_ is computed"),
        ("if fast:\n    _base_ = 'a.py'", "line 2: _base_ is computed"),
        ("lr, _base_ = 1, 'a.py'", "line 1: _base_ is computed"),
        ("_base_ = []\n_base_.append('a.py')", "line 2: _base_ is computed"),
        ("_base_ = ['a.py']\n_base_[0] = 'b.py'", "line 2: _base_ is computed"),
        ("more = ['a.py']\nmore += ['b.py']\n_base_ = more", "line 3: _base_ is computed"),
        ("names = Path('names.txt').read_text()", "line 1: read_text() reads a file"),
        ("weight = np.load('a.npy')", "line 1: load() reads a file"),
        ("lr = float(os.environ.get('LR', 0.1))", "line 1: reads the variable LR"),
        ("from os import environ\nlr = environ['LR']", "line 2: reads the variable LR"),
        ("lr = os.getenv(name)", "line 1: reads the variable ..."),
        ("load_from = 'weights/r50.pth'", "line 1: names weights/r50.pth"),
        ("lr = '{{$LR:0.1}}'", "line 1: reads the variable LR"),
        ("load_from = '{{$HOME:/root}}/r50.pth'", "line 1: names {{$HOME:/root}}/r50.pth"),
        ("load_from = os.environ['HOME'] + '/r50.pth'", "line 1: names /r50.pth"),
    ],
)
def test_what_cannot_be_followed_is_named(text: str, finding: str) -> None:
    assert finding in bases(ast.parse(text)).unfollowed


def test_what_only_looks_like_it_is_not_named() -> None:
    read = "_base_ = 'a.py'\nlr = _base_.optimizer.lr\n_base_.hooks.append(1)\n"
    read += "load_from = 'https://x/r50-0676ba61.pth'\nlast = 'runs/epoch_{}.pth'\nbest = 'best.pth'\n"
    read += "x = os.environ['DDQJOBS_INPUT_DATA']\ny = os.environ.get('RANK')\n"
    read += "data_root = '{{$HOME:/root}}/data/coco/'\nmore = os.environ['HOME'] + '/data'\n"
    program = "def main():\n    Path('a').read_text()\nif __name__ == '__main__':\n    main()\n"
    assert bases(ast.parse(read + program)) == (("a.py",), ())
