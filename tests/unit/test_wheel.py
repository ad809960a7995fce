"""A user's view of the wheel: the same commands from an empty folder, without the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.cli import environment
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow  # builds and installs the wheel


class Installed:
    """A virtual environment that has the wheel, and an empty folder to work in."""

    def __init__(self, base: Path, wheel: Path) -> None:
        self.folder = base / "empty"
        self.folder.mkdir()
        venv.create(base / "venv", symlinks=True)
        self.bin = base / "venv" / "bin"
        pip("--python", str(self.bin / "python"), "install", "--no-deps", "--no-index", str(wheel))
        site = Path(sysconfig.get_path("purelib", vars={"base": str(base / "venv")}))
        # The dependencies without any download: those of the tests, after our own site-packages. Path files
        # are not read there, so the editable checkout that the tests run from is not found.
        # A path file, not sitecustomize.py: Debian's Python has one of its own, which comes first.
        (site / "dependencies.pth").write_text(
            f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``ddqjobs`` of this environment, in the empty folder."""
        variables = {k: v for k, v in environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        argv = [str(self.bin / "ddqjobs"), *arguments]
        return subprocess.run(argv, cwd=self.folder, env=variables, capture_output=True, text=True)


def pip(*arguments: str) -> None:
    """Runs pip."""
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", str(target), str(ROOT))  # brings hatchling for itself
    return next(target.glob("ddqjobs-*.whl"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_wheel_holds_what_ships_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {n.split("/")[2] for n in names if n.startswith("ddqjobs/shipped_files/")}
    assert shipped == {"experiments", "templates", "envs", "docs"}
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert {f"ddqjobs/shipped_files/{page}" for page in pages} <= set(names)
    assert not [n for n in names if n.endswith(".png")]
    assert "ddqjobs/py.typed" in names
    assert "ddqjobs-0.1.0.dist-info/licenses/LICENSE" in names
    assert "ddqjobs/shipped_files/experiments/configs/mini/ddq-detr_r18_shapes.py" in names
    strays = ("__pycache__", ".pyc", "results/", ".environments", "tests/")
    assert not [n for n in names if any(part in n for part in strays)]
    scripts = [n for n in names if n.startswith("ddqjobs-0.1.0.data/")]
    assert scripts == ["ddqjobs-0.1.0.data/scripts/ddqjobs"]
    assert {n.split("/")[0] for n in names if n not in scripts} == {"ddqjobs", "ddqjobs-0.1.0.dist-info"}


def test_the_code_is_the_wheel_s(installed: Installed) -> None:
    ran = subprocess.run(
        [str(installed.bin / "python"), "-c", "import ddqjobs; print(ddqjobs.__file__)"],
        cwd=installed.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(ran.stdout.strip()).is_relative_to(installed.bin.parent)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("plan", "mini"), "mini on local: 15 runs"),
        (("plan", "ddq"), "GPU hours"),
        (("submit", "ddq", "--phase", "1", "--dry-run", "--site", "bscc"), "#DSUB -A root.bingxing2."),
        (("submit", "mini", "--dry-run"), "ddqjobs.detect.prepare"),
        (("schema", "site"), '"title": "ddqjobs site"'),
        (("docs", "how-to/data"), "# Data sets and weights"),
        (("env", "list"), "mini-legacy"),
        (("--version",), "ddqjobs 0.1.0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands_work_from_an_empty_folder(
    installed: Installed, arguments: tuple[str, ...], text: str
) -> None:
    ran = installed.run(*arguments)
    # Nothing is built there.
    unready = ("warning: `submit` would refuse: environment mini-", "warning: environment legacy")
    unexpected = [line for line in ran.stderr.splitlines() if not line.startswith(unready)]
    assert (ran.returncode, unexpected) == (0, [])
    assert text in ran.stdout
    assert list(installed.folder.iterdir()) == []


def test_a_project_s_own_file_overrides_a_shipped_one(installed: Installed, tmp_path: Path) -> None:
    assert installed.run("init", str(tmp_path)).returncode == 0
    place = ("-C", str(tmp_path))
    (tmp_path / "templates/local").mkdir()
    (tmp_path / "templates/local/site.yaml").write_text(
        "base: local\nname: local\nsetup: ['export MINE=1']\n"
    )
    (tmp_path / "experiments/nano.yaml").write_text("base: nano\nname: nano\ntitle: mine\n")
    assert "export MINE=1" in installed.run("submit", "my-mini", "--dry-run", *place).stdout
    document = json.loads(installed.run("report", "nano", "--json", *place).stdout)
    assert "mine" in json.dumps(document)
    assert len(json.loads(installed.run("plan", "nano", "--json", *place).stdout)["runs"]) == 15
