"""Things that runs lack here are counted by `plan` and named by `doctor`, each with its remedy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened
from tests.support.doctor import lines
from tests.support.environments import git

EXPERIMENT = """
name: tiny
implementations: {new: new code}
datasets: {coco: {path: data/coco, link: data/coco}}
weights:
  backbone: {url: "https://example.org/backbone-01234567.pth"}
  released: {page: "https://example.org", path: weights/released.pth}
codes:
  theirs: {environment: theirs, path: trees/theirs}
  ours: {environment: ours, path: trees/ours}
  named: {environment: named}
models:
  a: {implementations: {new: {code: theirs, checkpoint: weights/released.pth}}}
  b: {implementations: {new: {code: ours, checkpoint: weights/released.pth}}}
tasks:
  test:
    {kind: test, implementation: new, command: ["true"], inputs: {checkpoint: released}, resources: {gpus: 8}}
  train: {kind: train, implementation: new, command: ["true"], optional: true, resources: {gpus: 2}}
  look: {kind: unittest, once: true, code: named, command: ["true"], inputs: {list: "path:list.txt"}}
"""
TREE = """
name: theirs
python: "3.11"
trees:
  code:
    {url: "https://example.org/code.git", revision: a123456789012345678901234567890123456789, link: LINK}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with opened(tmp_path / "project", EXPERIMENT) as project:
        site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
        project.write("templates/local/site.yaml", {**site, "activate": {"named": "gone/bin/activate"}})
        for name in ("theirs", "ours", "named"):
            project.text(f"envs/{name}/requirements.txt", "")
            project.text(f"envs/{name}/lock.txt", "pkg==1 --hash=sha256:00\n")
            project.text(f"envs/{name}/env.yaml", f'name: {name}\npython: "3.11"\n')
        project.text("envs/theirs/env.yaml", TREE.replace("LINK", str(project.root / "trees/theirs")))
        driver = project.text("bin/nvidia-smi", "#!/bin/sh\ntouch started\n")
        driver.chmod(0o755)
        yield project


def test_plan_counts_what_is_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ran = place.invoke("plan")
    assert "tiny on local: 5 runs: 3 eligible, 2 optional" in ran.out
    block = ran.out[ran.out.index("missing here:") :].splitlines()
    assert block == [
        "missing here:",
        "  environments: 2 of 3: theirs, ours",
        "    -> ddqjobs env build theirs ours",
        "  environments: 1 of 3: named",
        "    -> fix `activate:` of site local, or bring the environment there",
        "  code trees: 1 of 2: trees/theirs",
        "    -> ddqjobs env build theirs",
        "  code trees: 1 of 2: trees/ours",
        "    -> clone the code there, or fix codes.ours.path; codes.ours.repository makes this a command",
        "  data sets: 1 of 1: coco",
        "    -> bring it to data/coco",
        "  weights: 1 of 1: released.pth",  # the backbone is of the optional trainings alone
        "    -> ddqjobs data weights tiny",
        "  inputs: 1 of 2: list.txt",
        "    -> bring them there",
        "  GPUs for runs: 2 of 3: test.a, test.b",
        "    -> choose another --site: there are 0 GPUs here, and a run needs 8",
    ]
    document = place.invoke("plan", "--json").json
    assert document["missing"][0] == {
        "kind": "environments",
        "names": ["theirs", "ours"],
        "needed": 3,
        "remedy": "ddqjobs env build theirs ours",
    }


def test_a_tree_that_is_not_known_to_be_its_revision_is_named(place: Place) -> None:
    experiment = place.root / "experiments/tiny.yaml"
    declared = experiment.read_text()
    tree = place.text("trees/ours/README", "one").parent

    def said(revision: str) -> str:
        at = f"path: trees/ours, revision: {revision}"
        experiment.write_text(declared.replace("path: trees/ours", at))
        out = place.invoke("plan").out
        _, there, rest = out.partition("code trees at their revision: 1 of 2: trees/ours\n    -> ")
        return rest.splitlines()[0] if there else ""

    no_repository = "is not a git repository, so its revision cannot be compared"
    assert said("v1") == f"trees/ours {no_repository}; make sure that it is v1"
    assert ("warning", f"trees/ours {no_repository}") in lines(place.invoke("doctor", "--json"))["code tree"]
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "one")
    git(tree, "tag", "v1")
    assert said("v1") == ""
    git(tree, "commit", "-qm", "two", "--allow-empty")
    assert said("v1") == "git -C trees/ours checkout v1, or fix codes.ours.revision"
    assert said("HEAD") == ""
    unknown = "trees/ours has no revision {}; git -C trees/ours fetch --tags, or fix codes.ours.revision"
    assert said("v2") == unknown.format("v2")
    assert said("deadbeef") == unknown.format("deadbeef")
    git(tree, "update-ref", "refs/remotes/origin/dev", "HEAD~1")
    assert said("dev") == "git -C trees/ours checkout dev, or fix codes.ours.revision"
    experiment.write_text(declared.replace("path: trees/ours", "path: trees/none, revision: v1"))
    assert "    -> clone the code there at v1, or fix codes.ours.path" in place.invoke("plan").out
    experiment.write_text(declared.replace("path: trees/ours", "path: trees/ours, revision: v1"))
    wrong = ("warning", "trees/ours is at another commit than its revision")
    assert wrong in lines(place.invoke("doctor", "--json"))["code tree"]


def tagged_and_moved_on(folder: Path) -> str:
    """Make a folder a repository whose first commit is tagged v1 and not the last; return that commit."""
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    git(folder, "tag", "v1")
    git(folder, "commit", "-qm", "two", "--allow-empty")
    return git(folder, "rev-parse", "v1").strip()


def test_the_commands_that_plan_prints_bring_a_shallow_clone_to_its_revision(place: Place) -> None:
    source = place.text("source/README", "one").parent
    commit = tagged_and_moved_on(source)
    experiment = place.root / "experiments/tiny.yaml"
    declared = experiment.read_text()
    for revision in ("v1", commit):
        tree = f"trees/{revision}"
        git(place.root, "clone", "-q", "--depth", "1", f"file://{source}", tree)
        code = f"path: trees/ours, revision: {revision}".replace("ours", revision)
        experiment.write_text(declared.replace("path: trees/ours", code))
        for _ in ("fetch", "checkout"):
            _, _, rest = place.invoke("plan").out.partition(f"at their revision: 1 of 2: {tree}\n    -> ")
            command, _, _ = rest.partition(", or fix")
            command = command.removeprefix(f"{tree} has no revision {revision}; ")
            subprocess.run(["sh", "-c", command], cwd=place.root, check=True, capture_output=True)
        assert git(place.root / tree, "rev-parse", "HEAD").strip() == commit
        assert "at their revision" not in place.invoke("plan").out


def test_a_tree_of_a_built_environment_needs_no_tag(place: Place) -> None:
    experiment = place.root / "experiments/tiny.yaml"
    declared = experiment.read_text().replace("path: trees/theirs", "path: trees/theirs, revision: v1")
    experiment.write_text(declared)
    tree = place.text("trees/theirs/README", "one").parent
    assert "at their revision" not in place.invoke("plan").out
    git(tree, "init", "-q")
    git(tree, "commit", "-qm", "one", "--allow-empty")
    assert "at their revision" not in place.invoke("plan").out  # builds fetch a commit and no tags


def test_the_command_that_plan_prints_brings_a_tree(place: Place) -> None:
    commit = tagged_and_moved_on(place.text("source of ours/README", "one").parent)
    experiment = place.root / "experiments/tiny.yaml"
    declared = experiment.read_text()
    for revision in ("v1", commit):
        code = f"path: trees/{revision}, revision: {revision}, repository: source of ours"
        experiment.write_text(declared.replace("path: trees/ours", code))
        _, _, rest = place.invoke("plan").out.partition(f"trees/{revision}\n    -> ")
        subprocess.run(["sh", "-c", rest.splitlines()[0]], cwd=place.root, check=True, capture_output=True)
        assert git(place.root / "trees" / revision, "rev-parse", "HEAD").strip() == commit
        assert "trees/" not in place.invoke("plan").out.replace("trees/theirs", "")


def test_plan_asks_no_driver(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.root / "bin"))
    assert place.invoke("plan").code == 0
    assert not list(place.root.rglob("started"))


def test_an_optional_run_that_is_named_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ran = place.invoke("plan", "tiny", "train.a")
    assert "tiny on local: 1 run: 1 optional" in ran.out
    assert "  weights: 1 of 1: backbone-01234567.pth" in ran.out
    assert "a run needs 2" in ran.out


def test_remedies_name_the_site_that_was_asked_about(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    place.write("templates/other/site.yaml", {"name": "other", "scheduler": "local", "grace": "0s"})
    (place.root / "trees/ours").mkdir(parents=True)
    (place.root / "data/coco").mkdir(parents=True)
    out = place.invoke("plan", "--site", "other").out
    assert {line for line in out.splitlines() if "-> ddqjobs" in line} == {
        "    -> ddqjobs env build theirs ours named --site other",
        "    -> ddqjobs env build theirs --site other",
        "    -> ddqjobs data link tiny --site other",
        "    -> ddqjobs data weights tiny --site other",
    }


def test_what_was_brought_is_no_longer_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (place.root / "trees/ours").mkdir(parents=True)
    (place.root / "data/coco").mkdir(parents=True)
    place.text("weights/released.pth", "x")
    out = place.invoke("plan").out
    assert "trees/ours" not in out.partition("missing here:")[2].partition("links to data")[0]
    assert f"  links to data: 1 of 2: {place.root}/trees/ours/data/coco\n    -> ddqjobs data link tiny" in out
    assert "data sets" not in out
    assert "weights" not in out


def test_a_data_set_without_a_part_that_is_declared_is_named(place: Place) -> None:
    splits = "train: {annotations: train.json, images: train}, val: {annotations: val.json, images: val}"
    experiment = place.root / "experiments/tiny.yaml"
    text = experiment.read_text()
    experiment.write_text(text.replace("link: data/coco}", f"link: data/coco, splits: {{{splits}}}}}"))
    folder = place.root / "data/coco"
    folder.mkdir(parents=True)

    def told(*filters: str) -> tuple[list[str], list[tuple[str, str]]]:
        block = place.invoke("plan", "tiny", *filters).out.partition("data sets: 1 of 1: coco\n    -> ")[2]
        findings = lines(place.invoke("doctor", "tiny", *filters, "--no-job", "--json")).get("data", [])
        return block.splitlines()[:1], [finding for finding in findings if "data set coco" in finding[1]]

    empty = "bring train.json, train and 2 more to data/coco, or fix datasets.coco.splits"
    assert told("test.a") == (
        [empty],
        [("error", "data set coco: data/coco lacks train.json, train, val.json, val")],
    )
    place.text("data/coco/val.json", "{}")
    (folder / "val").mkdir()
    half = "bring train.json, train to data/coco, or fix datasets.coco.splits"
    lacks = "data set coco: data/coco lacks train.json, train"
    assert told("test.a") == ([half], [("warning", lacks)])  # a test reads one split
    assert told("train.a") == ([half], [("error", lacks)])
    place.text("data/coco/train.json", "{}")
    (folder / "train").mkdir()
    assert told("train.a") == ([], [])


def test_doctor_names_the_same_without_a_job(place: Place) -> None:
    ran = place.invoke("doctor", "tiny", "test.a", "test.b", "look", "--no-job", "--json")
    assert ran.code == 1
    findings = lines(ran)
    assert findings["environment theirs"] == [("error", "is not ready: it is not built")]
    assert findings["environment named"] == [
        ("error", "gone/bin/activate is not there (`activate:` of the site)")
    ]
    assert [finding for _, finding in findings["code tree"]] == [
        "trees/theirs is not there",
        "trees/ours is not there",
    ]
    assert findings["data"] == [("error", "data set coco: data/coco is not there")]
    assert findings["weights"] == [("error", "1 of 1 not here: weights/released.pth")]
    assert findings["inputs and code"] == [("error", "missing: list.txt")]


def test_an_unbuilt_environment_is_not_said_to_fail_on_a_node(place: Place) -> None:
    ran = place.invoke("doctor", "tiny", "test.a", "--json")
    assert lines(ran)["environment theirs"] == [("error", "is not ready: it is not built")]
