"""Offline: what `env fetch` collects is all that a build needs, shown with the network cut off."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.environments.build import build
from ddqjobs.environments.fetch import fetch, platforms
from ddqjobs.environments.tools import How
from tests.support.environments import Place, lock_of, repository, wheel
from tests.support.paths import TESTS

pytestmark = pytest.mark.slow  # fetches and builds environments


def test_platforms() -> None:
    assert platforms("x86_64-manylinux_2_17") == [
        *(["manylinux_2_17_x86_64", "manylinux2014_x86_64"]),
        *(f"manylinux_2_{n}_x86_64" for n in (16, 15, 14, 13)),
        *(["manylinux_2_12_x86_64", "manylinux2010_x86_64"]),
        *(f"manylinux_2_{n}_x86_64" for n in (11, 10, 9, 8, 7, 6)),
        *(["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]),
    ]


@pytest.fixture
def fetched(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fetch all that `tiny` needs, with a code tree, then remove the sources; return the fetched folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    revision = repository(place.root / "repo", {"code.py": "answer = 43\n"})
    place.edit(
        "checks:",
        f"trees:\n  code: {{url: '{place.root}/repo', branch: main, revision: '{revision}'}}\nchecks:",
    )
    place.edit("variables: {", 'variables: {PYTHONPATH: "{trees}/code", ')
    place.edit("import os, tinypkg", "import os, tinypkg, code; assert code.answer == 43")
    to = fetch(place.load(), place.base, place.root / "carried", progress=place.said.append)
    assert sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()) == [
        "trees/code.bundle",
        "wheels/tinypkg-1.0-py3-none-any.whl",
    ]
    assert fetch(place.load(), place.base, to, progress=place.said.append) == to
    assert f"tiny: {to}/trees/code.bundle is there already" in place.said
    shutil.rmtree(place.root / "repo")
    shutil.rmtree(place.wheels)
    shutil.rmtree(place.base)
    return to


def test_build_from_what_was_fetched(place: Place, fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")  # whatever was set, it is not asked
    ready = place.build(how=How(source=fetched))
    assert ready.checks["answer"].output == "hello 42"
    shutil.rmtree(fetched / "trees")
    with pytest.raises(EnvironmentNotReadyError, match=r"code\.bundle cannot be read, or has no such commit"):
        place.build(again=True, how=How(source=fetched))
    assert place.build() == ready


def test_build_without_any_network(place: Place, fetched: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("NOT SHOWN: a network namespace without interfaces needs root and unshare")
    code = (
        "import sys, socket\n"
        "from pathlib import Path\n"
        "assert [name for _, name in socket.if_nameindex()] in ([], ['lo'])\n"
        "from ddqjobs.environments.build import build\n"
        "from ddqjobs.environments.tools import How\n"
        "from ddqjobs.environments.environment import load\n"
        "from ddqjobs.spec.shipped import Files\n"
        "root = Path(sys.argv[1])\n"
        "environment = load('tiny', Files(root))\n"
        "print(build(environment, root / 'cut', progress=print, how=How(source=root / 'carried')).files)\n"
    )
    argv = ["unshare", "--net", sys.executable, "-c", code, str(place.root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == place.build(how=How(source=fetched)).files  # and the same files


def test_a_fetched_wheel_that_was_damaged(place: Place, fetched: Path) -> None:
    path = fetched / "wheels" / "tinypkg-1.0-py3-none-any.whl"
    whole = path.read_bytes()
    wheel(path.parent, code="answer = 43\n")
    other = path.read_bytes()
    for data, message in ((other, "is not the one that the lock names"), (whole[:200], "a wheel is broken")):
        path.write_bytes(data)
        with pytest.raises(EnvironmentNotReadyError, match=message) as caught:
            build(place.load(), place.base, progress=place.said.append, how=How(source=fetched))
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    place.build(how=How(source=fetched))


def test_what_cannot_be_fetched(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    wheel(place.wheels, code="answer = 44\n")
    with pytest.raises(EnvironmentNotReadyError, match="fetching 1 wheels failed: "):
        fetch(place.load(), place.base, place.root / "carried", progress=place.said.append)
    (place.folder / "lock.txt").unlink()
    with pytest.raises(EnvironmentNotReadyError, match="it is not locked; run: ddqjobs env lock tiny"):
        fetch(place.load(), place.base, place.root / "carried", progress=place.said.append)


def test_sources_and_what_they_are_built_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    source = place.root / "pure-1.0"
    support = (TESTS / "support" / "environments.py").read_text()
    helpers = support[support.index("def wheel(") : support.index("def lock_of(")]
    wheel(place.wheels, "backend", code=(
        "from __future__ import annotations\nimport base64, hashlib, zipfile\nfrom pathlib import Path\n"
        f"{helpers}\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    return wheel(Path(folder), 'pure').name\n"
    ))  # fmt: skip
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["backend"]\nbuild-backend = "backend"\n'
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: pure\nVersion: 1.0\n")
    archive = place.wheels / "pure-1.0.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", place.root, source.name], check=True)
    lock = place.folder / "lock.txt"
    lock.write_text(lock_of(archive).replace("1.0.tar.gz", "1.0") + lock.read_text())
    place.edit("checks:", "from_source: [pure]\nchecks:")
    to = fetch(place.load(), place.base, place.root / "carried", progress=place.said.append)
    assert {path.name for path in (to / "wheels").iterdir()} == {
        "backend-1.0-py3-none-any.whl", "pure-1.0.tar.gz", "tinypkg-1.0-py3-none-any.whl"
    }  # fmt: skip
    shutil.rmtree(place.wheels)
    assert place.build(how=How(source=to)).packages == {"pure": "1.0", "tinypkg": "1.0"}
