"""Wheels made of installed packages install as the same files."""

from __future__ import annotations

import subprocess
from importlib.metadata import distribution
from pathlib import Path

from uv import find_uv_bin

from tests.bench.gpu import repack


def test_an_installed_package_with_a_script_comes_back_the_same(tmp_path: Path) -> None:
    wheel = repack.pack(distribution("submitit"), tmp_path)
    again = repack.pack(distribution("ruff"), tmp_path)  # a program, no Python entry point
    assert wheel.name == f"submitit-{distribution('submitit').version}-py3-none-any.whl"
    target, uv = tmp_path / "target", find_uv_bin()
    argv = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--target",
        *map(str, (target, wheel, again)),
    ]
    subprocess.run(argv, check=True)
    for name in ("submitit", "ruff"):
        for entry in distribution(name).files or []:
            inside = repack._inside(entry.as_posix(), name, set())
            if inside and ".data/" not in inside:
                assert (target / inside).read_bytes() == Path(str(entry.locate())).read_bytes()
    assert (target / "bin" / "ruff").stat().st_mode & 0o111


def test_what_is_packed() -> None:
    assert repack.names("# a\ntorch==2.11.0 \\\n    --hash=sha256:0\nPyYAML\n") == ["torch", "pyyaml"]
    distributions = repack.closure(["jinja2"], have=set())
    assert {"jinja2", "markupsafe"} <= set(distributions)
    assert "markupsafe" not in repack.closure(["jinja2"], have={"markupsafe"})
    inside = repack._inside
    assert inside("a/b.py", "a-1", set()) == "a/b.py"
    assert inside("a/__pycache__/b.cpython-312.pyc", "a-1", set()) == ""
    assert inside("a-1.dist-info/RECORD", "a-1", set()) == ""
    assert inside("../../../bin/a", "a-1", {"a"}) == ""
    assert inside("../../../bin/tool", "a-1", {"a"}) == "a-1.data/scripts/tool"
    assert inside("../../../share/man/a.1", "a-1", set()) == "a-1.data/data/share/man/a.1"
