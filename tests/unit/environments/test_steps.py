"""Code trees and build steps: checked out, built, gone on with after a kill, in environments made here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.environments import checks, environment, manifest
from ddqjobs.environments.build import remove, verify
from ddqjobs.environments.environment import identity, location, state
from ddqjobs.environments.tools import How
from tests.support.environments import (
    Place,
    build_into,
    git,
    in_process,
    lock_of,
    orphans,
    repository,
    wait_for,
    wheel,
)
from tests.support.paths import TESTS

COMPILE = (
    "import os, pathlib; pathlib.Path('out.o').write_text(os.environ['FLAG']); open('count', 'a').write('x')"
)


@pytest.fixture
def tree(place: Place) -> Place:
    """`tiny` with a code tree and two steps in it."""
    revision = repository(place.root / "repo", {"code.py": "answer = 43\n"})
    place.edit(
        "checks:",
        f"""trees:
  code: {{url: "{place.root}/repo", branch: main, revision: {revision}}}
steps:
  compile:
    command: [python, -c, "{COMPILE}"]
    tree: code
    variables: {{FLAG: "{{env.WORD}} {{cpus}} {{trees}}"}}
    produces: ["out.*"]
  link: {{command: [python, -c, "open('linked', 'w').write(open('out.o').read())"], tree: code}}
checks:""",
    )
    place.edit("variables: {GREETING: hello}", 'variables: {GREETING: hello, PYTHONPATH: "{trees}/code"}')
    place.edit("import os, tinypkg", "import os, tinypkg, code; assert code.answer == 43")
    os.environ["WORD"] = "word"
    return place


def test_trees_and_steps(tree: Place) -> None:
    ready = tree.build()
    assert ready.packages == {"tinypkg": "1.0"}
    folder = location(tree.base, tree.load())
    code = folder / "trees" / "code"
    revision = tree.load().declaration.trees["code"].revision
    assert git(code, "rev-parse", "HEAD") == revision
    assert git(code, "remote", "get-url", "origin") == f"{tree.root}/repo"
    word, cpus, trees = (code / "linked").read_text().split()
    assert (word, cpus) == ("word", str(len(os.sched_getaffinity(0))))
    assert Path(trees).resolve() == (folder / "trees").resolve()
    logs = {path.name for path in (tree.base / ".logs" / "tiny").iterdir()}
    assert logs == {
        "packages.log", "tree-code.log", "step-compile.log", "step-link.log", "verify.log", "check-answer.log"
    }  # fmt: skip
    log = (tree.base / ".logs" / "tiny" / "step-compile.log").read_text()
    assert log.startswith("FLAG='word ")
    assert "$ python -c" in log


def test_what_decides_a_build(tree: Place) -> None:
    first = identity(tree.load())
    tree.edit("branch: main", "branch: other")  # says where to look, not what it is
    assert identity(tree.load()) == first
    tree.edit('FLAG: "', 'FLAG: "-O3 ')
    assert identity(tree.load()) != first


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("REVISION", "f" * 40, "has no such commit"),
        ("produces: [", "produces: [never, ", "step 'compile' ended well but left no never in "),
        ("{env.WORD}", "{env.NOWHERE}", "the variable NOWHERE is not set: load the module that sets it"),
        ("open('out.o')", "open('gone.o')", "step 'link' failed: FileNotFoundError"),
        ("    tree: code\n", "    tree: code\n    folder: sub\n", "there is no folder sub in tree code"),
        ("    produces:", "    timeout: 0s\n    produces:", "step 'compile' did not end in time"),
    ],
)
def test_steps_that_fail(tree: Place, old: str, new: str, message: str) -> None:
    path = tree.folder / "env.yaml"
    good = path.read_text()
    revision = tree.load().declaration.trees["code"].revision
    path.write_text(good.replace(old.replace("REVISION", revision), new, 1))
    with pytest.raises(EnvironmentNotReadyError, match=message) as caught:
        tree.build()
    assert "\n" not in str(caught.value)
    assert state(tree.base, tree.load()).word == "missing"
    path.write_text(good)
    tree.build()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["installing", "checking out", "step 'compile'", "step 'link'"])
def test_kill_in_any_step_and_go_on(tree: Place, moment: str) -> None:
    for name in ("os, pathlib;", "open('linked', 'w')"):
        tree.edit(
            name,
            f"time; time.sleep(1); import {name}" if "os" in name else f"__import__('time').sleep(1); {name}",
        )
    log = tree.root / "said"
    builder = in_process(build_into, tree, log)
    wait_for(log, f"tiny: {moment}")
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert state(tree.base, tree.load()).word == "missing"
    builds = tree.builds()
    tree.build()
    assert tree.builds() == builds  # the same folder
    code = location(tree.base, tree.load()) / "trees" / "code"
    assert (code / "count").read_text() == "x"  # a step that was killed leaves nothing for the next
    went_on = [line for line in tree.said if line.startswith("tiny: going on after ")]
    assert (
        went_on
        == {
            "installing": [],
            "checking out": ["tiny: going on after packages"],
            "step 'compile'": ["tiny: going on after tree-code"],
            "step 'link'": [
                "tiny: going on after tree-code"
            ],  # compiled anew in a tree as it was checked out
        }[moment]
    )
    assert orphans(tree) == []


def test_a_failed_step_is_not_built_from_the_start(tree: Place) -> None:
    tree.edit("open('linked', 'w')", "1 / (len(os.environ.get('BROKEN', '')) - 1); open('linked', 'w')")
    tree.edit('"1 / (', '"import os; 1 / (')
    os.environ["BROKEN"] = "x"
    try:
        with pytest.raises(EnvironmentNotReadyError, match="step 'link' failed: ZeroDivisionError"):
            tree.build()
        del os.environ["BROKEN"]
        tree.said.clear()
        tree.build()
    finally:
        os.environ.pop("BROKEN", None)
    assert not any("installing" in line or "checking out" in line for line in tree.said)


def test_a_damaged_tree_is_fetched_anew_and_no_other_repository_is_touched(
    tree: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environments lie inside the user's own repository, and a hook of git runs the build."""
    git(tree.root, "init", "--quiet")
    (tree.root / "work").write_text("committed")
    git(tree.root, "add", "work")
    git(tree.root, "commit", "--quiet", "--message", "mine")
    (tree.root / "work").write_text("hours of work")
    good = (tree.folder / "env.yaml").read_text()
    tree.edit('produces: ["out.*"]', "produces: [never]")
    with pytest.raises(EnvironmentNotReadyError, match="left no never"):
        tree.build()
    build = tree.base / ".builds" / "tiny" / tree.builds()[0]
    shutil.rmtree(build / "trees" / "code" / ".git")
    monkeypatch.setenv("GIT_DIR", str(tree.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tree.root))
    with pytest.raises(EnvironmentNotReadyError, match="left no never"):
        tree.build()
    assert any("checking out code" in line for line in tree.said)
    (tree.folder / "env.yaml").write_text(good)
    tree.build()
    assert (tree.root / "work").read_text() == "hours of work"


def test_a_path_that_leads_to_a_tree(tree: Place) -> None:
    tree.edit("branch: main", f"branch: main, link: {tree.root}/there/code")
    tree.build()
    assert (tree.root / "there" / "code" / "code.py").read_text() == "answer = 43\n"
    (tree.root / "there" / "code").unlink()
    (tree.root / "there" / "code").mkdir()
    tree.build(again=True)
    assert f"tiny: {tree.root}/there/code is there already and stays" in "\n".join(tree.said)


@pytest.mark.parametrize("way", ["verify", "build", "build of one that is ready"])
def test_whatever_makes_it_ready_makes_the_paths_to_its_trees(
    tree: Place, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A login node builds, and a node with a GPU verifies what the login node could not."""
    tree.edit("branch: main", f"branch: main, link: {tree.root}/there/code")
    tree.edit("  answer:", "  answer:\n    gpu: true")
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    with pytest.raises(EnvironmentNotReadyError, match="needs a GPU"):
        tree.build()
    monkeypatch.setattr(checks, "has_gpu", lambda: True)
    if way == "verify":
        verify(tree.load(), tree.base, progress=tree.said.append)
    else:
        tree.build()
    path = tree.root / "there" / "code"
    if way == "build of one that is ready":
        path.unlink()
        tree.build()
    assert (path / "code.py").read_text() == "answer = 43\n"


def test_modules_are_loaded_before(tree: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    init = tree.root / "modules" / "init"
    init.mkdir(parents=True)
    (init / "bash").write_text(
        'module() { [ "$2" != none ] || return 1; echo "$*" >> "$MODULE_LOG"; export WORD=from-$2; }\n'
    )
    monkeypatch.setenv("MODULESHOME", str(init.parent))
    monkeypatch.setenv("MODULE_LOG", str(tree.root / "loaded"))
    tree.build(how=How(modules=("gcc/9.3.0", "cuda/11.1")))
    assert (tree.root / "loaded").read_text() == "load gcc/9.3.0\nload cuda/11.1\n"
    code = location(tree.base, tree.load()) / "trees" / "code"
    assert (code / "out.o").read_text().startswith("from-cuda/11.1 ")
    with pytest.raises(EnvironmentNotReadyError, match="loading modules: module load none failed"):
        tree.build(again=True, how=How(modules=("none",)))
    monkeypatch.setenv("MODULESHOME", "/nowhere")
    with pytest.raises(EnvironmentNotReadyError, match="loading modules: this shell has no `module` command"):
        tree.build(again=True, how=How(modules=("gcc",)))


def test_packages_of_the_lock_from_source(place: Place) -> None:
    """The compiled package sees what is installed: here, it takes a constant from tinypkg."""
    source = place.root / "built-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["tinypkg"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "built"\nversion = "1.0"\n'
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: built\nVersion: 1.0\n")
    support = (TESTS / "support" / "environments.py").read_text()
    helpers = support[support.index("def wheel(") : support.index("def lock_of(")]
    (source / "backend.py").write_text(
        "from __future__ import annotations\nimport base64, hashlib, os, zipfile, tinypkg\n"
        f"from pathlib import Path\n{helpers}\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    code = f\"value = {tinypkg.answer}, '{os.environ['FLAG']}'\"\n"
        "    return wheel(Path(folder), 'built', code=code).name\n"
    )
    archive = place.wheels / "built-1.0.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", place.root, source.name], check=True)
    (place.folder / "requirements.txt").write_text("tinypkg\nbuilt\n")
    lock = place.folder / "lock.txt"
    lock.write_text(lock_of(archive).replace("1.0.tar.gz", "1.0") + lock.read_text())
    place.edit("checks:", "steps:\n  ops: {packages: [built], variables: {FLAG: fast}}\nchecks:")
    place.edit("tinypkg;", "tinypkg, built; assert built.value == (42, 'fast');")
    assert place.build().packages == {"built": "1.0", "tinypkg": "1.0"}
    place.edit("FLAG: fast", "FLAG: slow")  # another build; nothing of the first is taken for it
    with pytest.raises(EnvironmentNotReadyError, match="check 'answer' failed: AssertionError"):
        place.build()
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0", 1)[:-1])
    lock.write_text(lock_of(wheel(place.wheels)) + f"built==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(EnvironmentNotReadyError, match="from source failed: a file is not the one that"):
        place.build()


def test_twice_the_same_files(tree: Place) -> None:
    tree.edit(" {trees}", "")  # an object that holds the path of its build would differ only in that
    first = tree.build()
    again = tree.build(again=True)
    assert first.files == again.files != ""
    folders = [tree.base / ".builds" / "tiny" / name for name in tree.builds()]
    texts = [(folder / "files.txt").read_text() for folder in folders]
    assert len(folders) == 2
    assert texts[0] == texts[1]
    assert "  trees/code/out.o\n" in texts[0]
    assert verify(tree.load(), tree.base, progress=tree.said.append).files == first.files
    (location(tree.base, tree.load()) / "trees" / "code" / "out.o").write_text("other")
    with pytest.raises(
        EnvironmentNotReadyError, match=r"were built: trees/code/out\.o changed; `ddqjobs env"
    ):
        verify(tree.load(), tree.base, progress=tree.said.append)


def test_differences_of_manifests() -> None:
    before, after = "1  a\n2  b\n3  c d\n", "1  a\n4  b\n5  e\n"
    assert manifest.differences(before, after) == ["b changed", "c d gone", "e new"]


def test_remove(tree: Place) -> None:
    tree.build()
    tree.edit("== 43", "== 42 + 1")
    tree.build(again=True)
    assert remove(tree.load(), tree.base, progress=tree.said.append) == 2
    assert state(tree.base, tree.load()).word == "missing"
    assert tree.builds() == []
    assert environment.links(tree.base, "tiny") == []
    tree.build()


def test_a_check_that_dies_without_a_word_tells_its_signal(place: Place) -> None:
    place.edit("import os, tinypkg;", "import os, tinypkg; os.kill(os.getpid(), 11);")
    with pytest.raises(
        EnvironmentNotReadyError, match=r"check 'answer' failed: it said nothing \(signal 11\)"
    ):
        place.build()
