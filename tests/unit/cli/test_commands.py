"""The command line as a user meets it: what it prints and where, its exit codes, its documents."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ddqjobs as package
from ddqjobs.base.version import VERSION
from ddqjobs.planning import scaffold
from ddqjobs.planning.catalog import Catalog
from ddqjobs.spec.nodes import Node, read
from ddqjobs.spec.shipped import shipped_root
from ddqjobs.spec.site import DEFAULT_SITE
from tests.support.cli import TINY, Place, Ran, Terminal, ddqjobs, environment, finish, interrupt, opened
from tests.support.trivial import until

FACTS = {
    "run", "phase", "task", "kind", "model", "implementation", "variant", "seed", "deterministic", "optional",
    "status", "reason", "failure", "stale", "accepted", "job", "state", "node", "owner", "attempts", "notes",
    "needs", "digest", "grid",
}  # fmt: skip
ENDS = ("done", "failed")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A project whose required runs are done and whose optional one failed. Nobody submits here again."""
    with opened(tmp_path_factory.mktemp("finished") / "project") as project:
        assert project.invoke("submit", "--wait").code == 0
        assert project.invoke("submit", "tiny", "broken.m1", "--wait").code == 1
        yield project


def refused(ran: Ran, *fragments: str, code: int = 2) -> None:
    """It ended with one clear message on stderr and nothing on stdout."""
    assert (ran.code, ran.out) == (code, ""), ran
    for word in fragments:
        assert word in ran.err
    assert "Traceback" not in ran.err


# -- setting up ---------------------------------------------------------------------------------------------


def test_init_makes_a_project_that_plans(tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    first = subprocess.run(ddqjobs("init", str(folder)), env=environment(), capture_output=True, text=True)
    assert first.returncode == 0
    assert f"next: cd '{folder}' && ddqjobs plan" in first.stdout
    plan = subprocess.run(ddqjobs("plan"), cwd=folder, env=environment(), capture_output=True, text=True)
    assert plan.returncode == 0
    assert "my-mini on local: 15 runs: 2 eligible, 13 waiting" in plan.stdout


def test_init_twice_changes_nothing(place: Place) -> None:
    again = place.root / "again"
    argv = ddqjobs("init", str(again))
    subprocess.run(argv, env=environment(), check=True, stdout=subprocess.DEVNULL)
    (again / "README.md").write_text("mine\n")
    second = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert second.stdout == f"a project already exists there: cd {again} && ddqjobs plan\n"
    here = subprocess.run(ddqjobs("init", "."), cwd=again, env=environment(), capture_output=True, text=True)
    assert here.stdout == "a project already exists there: ddqjobs plan\n"
    assert (again / "README.md").read_text() == "mine\n"


def test_init_beside_others_names_its_experiment_and_its_environments(place: Place) -> None:
    out = place.call("init", ".", "--from", "dino-mini").out
    assert "next: ddqjobs plan my-dino-mini\n" in out
    assert "then: ddqjobs env build mini-legacy mini-new\n" in out


def test_init_from_a_shipped_experiment_copies_it_with_its_configurations(tmp_path: Path) -> None:
    def init(name: str) -> subprocess.CompletedProcess[str]:
        argv = ddqjobs("init", "made", "--from", name)
        return subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    ran = init("dino-mnii")
    refused(
        Ran(ran.returncode, ran.stdout, ran.stderr),
        "no experiment dino-mnii ships",
        "did you mean 'dino-mini'",
    )
    assert list(tmp_path.iterdir()) == []
    assert init("dino-mini").returncode == 0
    configs = tmp_path / "made/experiments/configs"
    copied = {path.parent.name for path in configs.glob("*/*.py")}
    assert copied == {"dino-mini", "nano", "mini"}  # the last two are what the first builds on
    config = configs / "dino-mini/dino_r18_shapes.py"
    config.write_text(config.read_text() + "# mine\n")
    command = ddqjobs("plan", "my-dino-mini", "-C", "made")
    plan = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert "my-dino-mini on local: 15 runs" in plan.stdout


def test_init_describes_a_site_and_says_what_comes_next(tmp_path: Path) -> None:
    def init(*arguments: str) -> Ran:
        ran = subprocess.run(
            ddqjobs("init", *arguments), cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    refused(init("p", "--site", "slrum"), "no site slrum ships with ddqjobs", "did you mean 'slurm'")
    ran = init("p", "--site", "slurm")
    assert "next: cd p && ddqjobs plan --site my-slurm" in ran.out
    assert "ddqjobs doctor --site my-slurm" in ran.out
    readme = (tmp_path / "p/README.md").read_text()
    assert "    ddqjobs submit my-mini --site my-slurm --wait\n" in readme
    assert "then: ddqjobs env build mini-legacy mini-new --site my-slurm\n" in ran.out
    plan = subprocess.run(
        ddqjobs("plan", "--site", "my-slurm"), cwd=tmp_path / "p", env=environment(), capture_output=True
    )
    assert b"my-mini on my-slurm: 15 runs" in plan.stdout


@pytest.mark.parametrize("base", [site for site in scaffold.sites() if site != DEFAULT_SITE])
def test_the_site_file_of_init_is_the_base_as_it_is_and_valid_with_its_lines_uncommented(
    tmp_path: Path, base: str
) -> None:
    scaffold.init(tmp_path, site=base)
    path, mine = tmp_path / f"templates/my-{base}/site.yaml", f"my-{base}"
    shipped = Catalog(tmp_path).site(base)
    like_it = msgspec.structs.replace(shipped, name=mine, title="my cluster", base=base)
    assert Catalog(tmp_path).site(mine) == like_it
    head, _, rest = path.read_text().partition("title: my cluster\n")
    assert f"ddqjobs site show {mine}" in head
    lines = [line.removeprefix("# ") for line in rest.splitlines()]
    path.write_text("\n".join([head, "title: my cluster", *lines]))
    whole = Catalog(tmp_path).site(mine)
    for line in (line for line in lines if "# inherited." in line and not line.startswith(" ")):
        key = line.partition(":")[0]
        assert getattr(whole, key) == getattr(shipped, key)
    names = {line.partition(":")[0].strip() for line in lines}
    assert {"account", "cpus_per_gpu", "memory_mb_per_gpu", "time"} <= names
    assert "partition" in names or "queue" in names


def test_init_asks_a_terminal_for_the_site(place: Place) -> None:
    terminal = Terminal(place, "init", "asked")
    terminal.read_until("where will jobs run: local, ")
    terminal.read_until("slurm [local]:")
    terminal.type("donau\r")
    code, output = terminal.close()
    assert code == 0, output
    assert "base: donau" in (place.root / "asked/templates/my-donau/site.yaml").read_text()


def test_init_where_a_file_is_says_so(place: Place) -> None:
    ran = place.call("init", "experiments/tiny.yaml")
    refused(ran, "experiments/tiny.yaml", "Not a directory")


def test_init_without_a_name_makes_nothing(tmp_path: Path) -> None:
    def init(word: str) -> subprocess.CompletedProcess[str]:
        argv = ddqjobs("init", word)
        return subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    ran = init("")
    refused(Ran(ran.returncode, ran.stdout, ran.stderr), "the folder's name is empty")
    assert list(tmp_path.iterdir()) == []
    assert init(".").returncode == 0
    assert (tmp_path / "experiments" / "my-mini.yaml").is_file()


def follow(schema: dict[str, Any], node: Node, part: dict[str, object], where: str) -> None:
    """Walk a file along the schema: an unknown key has no schema to go on with."""
    while "$ref" in part:
        part = schema["$defs"][str(part["$ref"]).rpartition("/")[2]]
    options = part.get("anyOf")
    if isinstance(options, list) and "properties" not in part:
        expected_type = {"dict": "object", "list": "array"}.get(type(node.value).__name__, "")
        fitting = [o for o in options if "$ref" in o or o.get("type") == expected_type]
        if fitting and expected_type:
            follow(schema, node, fitting[0], where)
        return
    if isinstance(node.value, dict):
        properties, more = part.get("properties", {}), part.get("additionalProperties")
        assert isinstance(properties, dict)
        for key, below in node.value.items():
            assert key in properties or isinstance(more, dict), f"{where}.{key}"
            if below.value is not None:
                follow(schema, below, properties.get(key, more), f"{where}.{key}")
    elif isinstance(node.value, list):
        items = part["items"]
        assert isinstance(items, dict)
        for i, below in enumerate(node.value):
            follow(schema, below, items, f"{where}[{i}]")
    else:
        assert part.get("type") not in ("object", "array"), where


@pytest.mark.parametrize("kind", ["experiment", "site", "environment"])
def test_schema_is_a_json_schema_that_knows_every_key_of_the_shipped_files(kind: str) -> None:
    ran = subprocess.run(ddqjobs("schema", kind), env=environment(), capture_output=True, text=True)
    schema = json.loads(ran.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    pattern = {
        "experiment": "experiments/*.yaml",
        "site": "templates/*/site.yaml",
        "environment": "envs/*/env.yaml",
    }

    files = sorted(shipped_root().glob(pattern[kind]))
    assert files
    for path in files:
        tree, problems = read(path.read_text(), path.name)
        assert not problems
        follow(schema, tree, schema, path.name)


def test_env_list_tells_which_are_ready(place: Place) -> None:
    ran = place.invoke("env", "list")
    assert ran.code == 0
    assert re.search(r"^mini-legacy +missing +it is not built ", ran.out, re.MULTILINE)
    document = place.invoke("env", "list", "--json").json
    assert (document["version"], document["kind"]) == (1, "environments")
    assert set(document["environments"]["mini-new"]) == {"state", "ready", "reason", "path"}


@pytest.mark.parametrize("command", ["build", "verify", "lock"])
def test_an_unknown_environment_is_refused_with_the_nearest_name(place: Place, command: str) -> None:
    refused(
        place.invoke("env", command, "mini-nev"), "unknown environment 'mini-nev'; did you mean 'mini-new'?"
    )


def test_version() -> None:
    ran = subprocess.run(ddqjobs("--version"), env=environment(), capture_output=True, text=True)
    assert ran.stdout == f"ddqjobs {package.__version__}\n"


@pytest.mark.parametrize("command", ["", "plan", "submit", "env", "report"])
def test_help_is_there_for_every_command(place: Place, command: str) -> None:
    ran = place.call(*filter(None, [command]), "--help")
    assert ran.code == 0
    assert "Usage:" in ran.out


def test_help_documents_the_exit_codes(place: Place) -> None:
    text = " ".join(place.call("--help").out.split())
    for entry in ("0 success", "1 a run failed", "2 invalid input", "3 the scheduler", "130 Ctrl-C"):
        assert entry in text


def test_completion_offers_experiments_and_runs(place: Place) -> None:
    variables = {"_DDQJOBS_COMPLETE": "complete_bash", "COMP_WORDS": "ddqjobs plan ", "COMP_CWORD": "2"}
    code = "from ddqjobs.cli.commands import app; app(prog_name='ddqjobs')"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.root,
        env=environment(**variables),
        capture_output=True,
        text=True,
    )
    assert {"tiny", "mini", "first", "second.m1"} <= set(ran.stdout.split())


# -- naming experiments and runs ----------------------------------------------------------------------------


def test_left_out_the_experiment_is_the_project_s_only_one(place: Place) -> None:
    assert place.invoke("plan").out == place.invoke("plan", "tiny").out
    assert "first" in place.invoke("plan", "first").out


def test_left_out_among_several_the_error_lists_them(place: Place) -> None:
    place.text("experiments/other.yaml", TINY.replace("name: tiny", "name: other"))
    refused(place.invoke("plan"), "name an experiment: other, tiny")
    refused(place.invoke("plan", "first"), "unknown experiment 'first'", "there are:", "other")
    assert place.invoke("plan", "other").code == 0


def test_outside_of_a_project_an_unknown_name_is_answered_with_that(place: Place) -> None:
    shutil.rmtree(place.root / "experiments")
    for words, what in ((["fcos"], "experiment 'fcos'"), (["nano", "--site", "mine"], "site 'mine'")):
        why = f"unknown {what}; {place.root} is no project, go to yours or name it with -C DIR; there are: "
        refused(place.invoke("plan", *words), why)


def test_a_file_whose_suffix_nothing_reads_is_named(place: Place) -> None:
    place.text("experiments/mine.yml", TINY.replace("name: tiny", "name: mine"))
    refused(place.invoke("plan", "mine"), "; experiments/mine.yml must end in .yaml; experiments: ddq")
    place.text("experiments/other.yaml", TINY.replace("name: tiny", "name: other"))
    why = "unknown experiment 'mine'; did you mean 'mini'?; experiments/mine.yml must end in .yaml; there are"
    refused(place.invoke("plan", "mine"), why)
    place.text("templates/lab/site.yml", "{base: local, name: lab}")
    refused(place.invoke("plan", "tiny", "--site", "lab"), "'lab'; templates/lab/site.yml must end in .yaml")
    place.text("envs/ours/env.yml", "{name: ours, python: '3.11'}")
    refused(place.invoke("env", "build", "ours"), "'ours'; envs/ours/env.yml must end in .yaml; there are: ")


def test_an_experiment_may_be_a_file(place: Place) -> None:
    path = place.text("elsewhere/mine.yaml", TINY.replace("name: tiny", "name: mine"))
    assert "mine on local" in place.invoke("plan", str(path)).out
    refused(place.invoke("plan", "nowhere/mine.yaml"), "nowhere/mine.yaml: no such file")


def test_a_word_that_names_nothing_gets_the_nearest_name(place: Place) -> None:
    refused(
        place.invoke("plan", "tinny"), "'tinny' is neither an experiment nor a run", "did you mean 'tiny'?"
    )
    refused(
        place.invoke("plan", "second.m3"),
        "did you mean 'second.m",
        "experiments: ddq, ddq-cpu, ddq-mask, dino, dino-mini, faster-rcnn, faster-rcnn-mini, mini, nano, ",
    )
    refused(place.invoke("plan", "tiny", "frist"), "no run matches 'frist'; did you mean 'first'?")


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (("--phase", "7"), "no phase matches '7'; there are: 1"),
        (("--model", "m3"), "no model matches 'm3'; there are: m1, m2"),
        (("--implementation", "new"), "no implementation matches 'new'; there are: only"),
        (("--task", "train"), "no task matches 'train'"),
        (("--variant", "x"), "no variant matches 'x'; there are: default"),
        (("--seed", "7"), "no seed matches '7'; there are: none"),
        (
            ("--state", "runing"),
            "no state matches 'runing'; did you mean 'running'?; there are: done, active",
        ),
        (("--model", "m1", "--task", "first"), "no run of experiment tiny matches all filters together"),
        (("--site", "locl"), "unknown site 'locl'; did you mean 'local'?"),
    ],
)
def test_a_filter_that_matches_nothing_lists_what_there_is(
    place: Place, filters: tuple[str, ...], message: str
) -> None:
    for command in ("plan", "status", "submit", "cancel", "retry"):
        refused(place.invoke(command, "tiny", *filters), message)


def test_filters_are_globs_alternatives_and_narrow_each_other(place: Place) -> None:
    def names(*filters: str) -> list[str]:
        return [r["run"] for r in place.invoke("plan", "tiny", *filters, "--json").json["runs"]]

    assert names("--model", "m*", "--phase", "1") == ["second.m1", "second.m2"]
    assert names("--model", "m2", "--model", "m1", "--task", "second") == ["second.m1", "second.m2"]
    assert names("second.*", "first") == ["first", "second.m1", "second.m2"]
    assert names("--task", "prepare", "--state", "waiting") == ["second.m1", "second.m2"]


def test_a_folder_that_is_not_there_is_refused(place: Place) -> None:
    gone = place.root / "gone"
    ran = place.call("plan", "-C", str(gone))
    refused(ran, f"{gone}: no such folder", "ddqjobs init")


def test_the_project_is_found_from_below(place: Place) -> None:
    below = place.root / "results" / "deep"
    below.mkdir(parents=True)
    ran = subprocess.run(ddqjobs("plan"), cwd=below, env=environment(), capture_output=True, text=True)
    assert "tiny on local" in ran.stdout


# -- plan, submit -------------------------------------------------------------------------------------------


def test_plan_opens_with_tasks_by_status_and_lists_runs_when_asked(place: Place) -> None:
    ran = place.invoke("plan")
    table = ["TASK ELIGIBLE WAITING OPTIONAL", "first 1", "second 2", "broken 1", "wait 1", "all 1 2 2"]
    assert [" ".join(line.split()) for line in ran.out.splitlines()[:6]] == table
    assert "second.m1" not in ran.out
    assert place.invoke("plan", "--state", "failed").out == "tiny on local: 0 runs\n"
    for arguments in (["--runs"], ["--task", "second"], ["tiny", "second.m1"]):
        lines = place.invoke("plan", *arguments).out.splitlines()
        header = lines.index("") + 1
        assert lines[header].split() == ["RUN", "PHASE", "STATUS", "REASON"]
        row = r"second.m1 +1 +waiting +needs first, which is eligible$"
        assert any(re.match(row, line) for line in lines[header:])
    assert "tiny on local: 5 runs: 1 eligible, 2 waiting, 2 optional" in ran.out
    assert "missing here" not in ran.out
    assert "GPU hours" not in ran.out  # none of these runs asks for a GPU
    assert not (place.root / "results").exists()  # looking leaves nothing behind


def test_the_plan_document_has_these_keys(finished: Place) -> None:
    document = finished.invoke("plan", "--json").json
    assert set(document) == {
        "version", "kind", "experiment", "site", "runs", "changes", "hints", "not_followed", "templates",
        "missing", "warnings",
    }  # fmt: skip
    assert (document["version"], document["kind"], document["experiment"]) == (1, "plan", "tiny")
    assert set(document["runs"][0]) == FACTS | {"gpu_hours"}
    assert {r["run"]: r["status"] for r in document["runs"]} == {
        "first": "done", "second.m1": "done", "second.m2": "done", "broken.m1": "failed", "wait": "eligible",
    }  # fmt: skip


def test_what_a_configuration_builds_on_unseen_is_named(place: Place) -> None:
    configs = place.root / "experiments" / "configs"
    configs.mkdir(exist_ok=True)
    (configs / "open.py").write_text("import glob\n_base_ = glob.glob('*.py')\n")
    experiment = {"base": "tiny", "name": "open", "tasks": {"first": {"config": "configs/open.py"}}}
    (place.root / "experiments" / "open.yaml").write_text(json.dumps(experiment))
    finding = "configs/open.py, line 2: _base_ is computed"
    assert (
        f"not followed: {finding}; a change there makes no result stale" in place.invoke("plan", "open").out
    )
    assert place.invoke("plan", "open", "--json").json["not_followed"] == [finding]
    assert f"not followed: {finding}" in place.invoke("report", "open").out


def test_a_run_whose_configuration_is_not_there_is_told_and_left(place: Place) -> None:
    experiment = {"base": "tiny", "name": "gone", "tasks": {"first": {"config": "configs/gone.py"}}}
    of_trees = {
        "": "configuration experiments/configs/gone.py does not exist",
        ".": "configuration configs/gone.py does not exist in ., nor below experiments/",
    }
    for tree, why in of_trees.items():
        experiment |= {"codes": {"shell": {"path": tree}}}
        (place.root / "experiments" / "gone.yaml").write_text(json.dumps(experiment))
        runs = {run["run"]: run for run in place.invoke("plan", "gone", "--json").json["runs"]}
        assert (runs["first"]["status"], runs["first"]["reason"]) == ("waiting", why)
        submitted = place.invoke("submit", "gone", "first")
        assert f"not submitted (1):\n  first  {why}\n" in submitted.out
        assert submitted.code == 2
        assert not (place.root / "results/gone/runs/first").exists()
    dry = place.invoke("submit", "gone", "first", "--dry-run").out
    assert f"# not submitted (1):\n#   first  {why}\n" in dry


def test_init_names_the_locks_to_complete_before_the_builds(place: Place) -> None:
    out = place.call("init", "mine", "--from", "dino").out
    lock, build = "then: ddqjobs env lock legacy-detr\n", "then: ddqjobs env build legacy-detr modern-lite\n"
    assert 0 < out.index(lock) < out.index(build)
    assert "env lock" not in place.call("init", "small", "--from", "dino-mini").out


def test_a_dry_run_warns_of_environments_for_which_submit_would_refuse(place: Place) -> None:
    dry = place.invoke("submit", "nano", "data", "--dry-run")
    assert dry.code == 0
    why = "environment mini-new is not ready: it is not built; run: ddqjobs env build mini-new"
    assert f"warning: `submit` would refuse: {why}\n" in dry.err


def test_a_dry_run_warns_of_entered_environments_as_submit_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.text("envs/own/env.yaml", 'name: own\npython: "3.11"\n')
    for name, scheduler in (("here", "local"), ("far", "slurm")):
        site = {"name": name, "scheduler": scheduler, "activate": {"own": "own/bin/activate"}}
        place.write(f"templates/{name}/site.yaml", {**site, scheduler: {}})
    codes = {"c": {"environment": "own", "commands": {"smoke": ["true"]}}}
    tasks = {"first": {"kind": "smoke", "once": True, "code": "c", "products": {"out": "out.txt"}}}
    experiment = {"name": "entered", "implementations": {}, "models": {}, "codes": codes, "tasks": tasks}
    place.write("experiments/entered.yaml", experiment)
    gone = (
        "environment own: own/bin/activate is not there (`activate:` of the site); fix `activate:` of site "
    )
    for name, before, after in (
        ("here", "`submit` would refuse: ", ""),
        ("far", "", "; jobs fail unless their nodes have it"),
    ):
        why = f"{gone}{name}, or bring the environment there"
        dry = place.invoke("submit", "entered", "--site", name, "--dry-run")
        assert (dry.code, dry.err.splitlines()) == (0, [f"warning: {before}{why}{after}"])
    place.text("own/bin/python", "")
    page = "how-to/conda-containers-offline"
    write = f"write own/bin/activate: ddqjobs docs {page}"
    assert f"; {write}\n" in place.invoke("submit", "entered", "--site", "here", "--dry-run").err
    assert (
        f"  environments: 1 of 1: own\n    -> {write}\n"
        in place.invoke("plan", "entered", "--site", "here").out
    )
    assert place.call("docs", page).out.startswith("# conda, containers")
    (place.root / "own/bin/activate").mkdir()
    folder = (
        "own/bin/activate is a folder, not a script (`activate:` of the site); name own/bin/activate/bin/"
    )
    assert folder in place.invoke("submit", "entered", "--site", "here", "--dry-run").err
    (place.root / "own/bin/activate").rmdir()
    (place.root / "own/bin/python").unlink()
    refused = place.invoke("submit", "entered", "--site", "here")
    assert (refused.code, f"{gone}here" in refused.err) == (2, True)
    place.text("own/bin/activate", "")
    dry = place.invoke("submit", "entered", "--site", "here", "--dry-run")
    assert "own/bin/activate has no `python` beside it (`activate:` of the site); move the script" in dry.err
    place.text("own/bin/python", "")
    assert place.invoke("submit", "entered", "--site", "here", "--dry-run").err == ""
    for entrance in ("activate", "python"):
        (place.root / "own/bin" / entrance).unlink()
    place.text("sbatch", "#!/bin/sh\nexit 1\n").chmod(0o755)
    monkeypatch.setenv("PATH", str(place.root), prepend=":")
    assert f"warning: {gone}far" in place.invoke("submit", "entered", "--site", "far").out


def test_a_mistyped_configuration_is_an_error_with_file_line_and_the_nearest(place: Place) -> None:
    configs = place.root / "experiments" / "configs" / "mine"
    configs.mkdir(parents=True)
    (configs / "retinanet.py").write_text("a = 1\n")
    path = place.root / "experiments" / "typed.yaml"
    path.write_text("base: tiny\nname: typed\ntasks:\n  first:\n    config: configs/mine/retinanett.py\n")
    why = "configuration configs/mine/retinanett.py does not exist in ., nor below experiments/"
    checked = place.invoke("check", "typed")
    assert checked.code == 2
    assert f"{path}:5: first: {why}; the nearest is configs/mine/retinanet.py\n" in checked.err
    assert checked.out == "0 of 1 configuration passed (1 run), 0 checked now\n"
    assert (
        "  configurations: 1 of 1: configs/mine/retinanett.py\n"
        f"    -> write the file, or fix {path}:5; did you mean configs/mine/retinanet.py?\n"
    ) in place.invoke("plan", "typed").out


def test_a_configuration_below_experiments_is_none_of_a_tree_that_lacks_it(place: Place) -> None:
    """A command that runs in a code's tree finds a path there, unless it begins with ``{code}/``."""
    for path in ("experiments/configs/mine/retinanet.py", "tree/configs/mine/retina.py"):
        place.text(path, "a = 1\n")

    def reason(config: str, word: str) -> str:
        command = f"['{{python}}', tools/test.py, '{word}']"
        place.text(
            "experiments/typed.yaml",
            "base: tiny\nname: typed\ncodes:\n  shell: {path: tree}\ntasks:\n"
            f"  first: {{command: {command}, config: {config}}}\n",
        )
        runs = place.invoke("plan", "typed", "--json").json["runs"]
        why = str(runs[0]["reason"]) if runs[0]["status"] == "waiting" else ""
        assert not why or f"typed.yaml:6: first: {why}" in place.invoke("check", "typed", "first").err
        return why

    mine = "configs/mine/retinanet.py"
    why = f"configuration {mine} does not exist in tree"
    assert reason("configs/mine/retina.py", "{config}") == ""
    assert reason(mine, "{config}") == f"{why}; the one below experiments/ is `{{code}}/{mine}` in a command"
    planned = place.invoke("plan", "typed").out
    assert "did you mean configs/mine/retina.py?" in planned
    assert reason(mine, "{code}/{config}") == ""
    assert reason(mine, "{code}/" + mine) == ""  # which it names itself
    assert (
        reason("configs/retinanet.py", "{config}")
        == "configuration configs/retinanet.py does not exist in tree"
    )
    assert "did you mean" not in place.invoke("plan", "typed").out  # that of experiments/ would not be found
    gone = "configuration experiments/configs/mine/retina.py does not exist"
    assert reason("configs/mine/retina.py", "{code}/{config}") == gone


def test_a_package_that_no_digest_has_is_named(place: Place) -> None:
    configs = place.root / "experiments" / "configs"
    configs.mkdir(exist_ok=True)
    (configs / "plug.py").write_text("custom_imports = dict(imports=['mymodels.head'])\n")
    experiment = {"base": "tiny", "name": "plug", "tasks": {"first": {"config": "configs/plug.py"}}}
    (place.root / "experiments" / "plug.yaml").write_text(json.dumps(experiment))
    finding = "configs/plug.py, line 1: custom_imports names mymodels.head"
    assert place.invoke("plan", "plug", "--json").json["not_followed"] == [finding]
    assert f"not followed: {finding}" in place.invoke("report", "plug").out


@pytest.fixture
def edited(finished: Place) -> Iterator[Place]:
    """The finished project after its first command was edited; as it was again afterwards."""
    experiment = finished.root / "experiments" / "tiny.yaml"
    text = experiment.read_text()
    experiment.write_text(text.replace("hello from first", "good morning from first"))
    yield finished
    experiment.write_text(text)


def test_the_plan_says_in_one_block_what_changed_since_runs_ran(edited: Place) -> None:
    ran = edited.invoke("plan")
    assert ran.code == 0
    assert ran.out[ran.out.index("changed since 3") :].splitlines()[:4] == [
        "changed since 3 done runs ran:",
        "  definition: command (first)",
        "  code: the code tree of shell (first, second.m1, second.m2)",  # the experiment lies in it
        "  these runs stay done; `ddqjobs submit tiny --stale` runs them again, "
        "`ddqjobs accept tiny --because TEXT` lets them stand",
    ]
    changes = edited.invoke("plan", "--json").json["changes"]
    assert changes[0] == {
        "part": "definition", "what": ["command"], "runs": ["first"], "versions": [VERSION],
    }  # fmt: skip


def test_dry_run_prints_scripts_and_writes_nothing(place: Place) -> None:
    ran = place.invoke("submit", "--dry-run")
    assert ran.code == 0
    assert ran.out.count("#!/usr/bin/env bash") == 2
    assert "# 2 scripts for 3 runs; nothing was submitted" in ran.out
    assert not (place.root / "results").exists()


def test_dry_run_writes_beside_what_lies_in_the_folder(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "scripts"
    (out / "tiny.first").mkdir(parents=True)
    (out / "tiny.first" / "job.sh").write_text("mine\n")
    ran = place.invoke("submit", "--dry-run", "--out", str(out))
    assert ran.code == 0
    assert f"2 scripts for 3 runs written below {out}; nothing was submitted" in ran.out
    assert (out / "tiny.first" / "job.sh").read_text() == "mine\n"
    paths = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert paths == {
        "tiny.first/job.sh",
        "tiny.first~2/job.sh", "tiny.first~2/manifest.jsonl",
        "tiny.second-2-runs/job.sh", "tiny.second-2-runs/elements.sh", "tiny.second-2-runs/manifest.jsonl",
    }  # fmt: skip
    for script in out.rglob("*/job.sh"):
        assert os.access(script, os.X_OK) or script.read_text() == "mine\n"


def test_dry_run_names_the_scripts_that_it_wrote(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "scripts"
    for names in (("tiny.first", "tiny.second-2-runs"), ("tiny.first~2", "tiny.second~2")):
        ran = place.invoke("submit", "--dry-run", "--site", "slurm", "--out", str(out), "--json")
        scripts = [submission["command"][-1] for submission in ran.json["submissions"]]
        assert scripts == [str(out / name / "job.sh") for name in names]
        assert all(Path(script).is_file() for script in scripts)
    unwritten = place.invoke("submit", "--dry-run", "--site", "bscc").out
    assert "# JOB2 when JOB1 is done: dsub -s SUBMISSION2/job.sh" in unwritten.splitlines()


def test_dry_run_into_a_file_is_refused(place: Place) -> None:
    refused(
        place.invoke("submit", "--dry-run", "--out", str(place.root / "experiments/tiny.yaml")), "tiny.yaml"
    )


def test_options_that_exclude_each_other_are_refused(place: Place) -> None:
    refused(place.invoke("submit", "--out", "x"), "--out goes with --dry-run")
    refused(place.invoke("submit", "--dry-run", "--wait"), "nothing to --wait for")
    refused(place.invoke("status", "--watch", "--json"), "--watch and --json exclude each other")


def test_the_dry_run_document_has_these_keys(place: Place) -> None:
    document = place.invoke("submit", "--dry-run", "--json").json
    assert set(document) == {"version", "kind", "submissions", "left"}
    assert set(document["submissions"][0]) == {"name", "runs", "script", "elements", "command"}
    assert document["left"] == dict.fromkeys(("broken.m1", "wait"), "optional: name it, or add --optional")


def test_submit_returns_at_once_and_the_same_again_submits_nothing(place: Place) -> None:
    first = place.invoke("submit", "--json").json
    assert set(first) == {"version", "kind", "submitted", "left", "unconfirmed"}
    assert set(first["submitted"]) == {"first", "second.m1", "second.m2"}
    again = place.invoke("submit")
    assert again.code == 0
    assert "nothing to submit" in again.out
    until(lambda: all(place.states()[run] in ENDS for run in first["submitted"]))
    assert [place.attempts(run) for run in first["submitted"]] == [1, 1, 1]


def test_submit_wait_says_what_changes_and_ends_with_a_summary(place: Place) -> None:
    ran = place.call("submit", "--wait")
    assert ran.code == 0
    assert "submitted 2 runs as tiny.second" in ran.out
    assert "[3/5] second.m2 done" in ran.out or "second.m2 done" in ran.out
    assert ran.out.splitlines()[-1] == "tiny on local: 3 runs: 3 done"


def test_submit_wait_exits_1_when_a_run_failed(finished: Place) -> None:
    ran = finished.invoke("submit", "tiny", "broken.m1", "--wait")
    assert ran.code == 1
    assert "error: broken.m1: failed: " in ran.err
    assert "not done: 1 of 1 run; `ddqjobs logs tiny RUN` shows why" in ran.err
    document = finished.invoke("submit", "tiny", "broken.m1", "first", "--wait", "--json")
    assert document.code == 1
    assert set(document.json) == {"version", "kind", "done", "failed"}
    assert (document.json["done"], set(document.json["failed"])) == (["first"], {"broken.m1"})


def test_submit_of_a_waiting_run_needs_upstream(place: Place) -> None:
    ran = place.invoke("submit", "tiny", "second.m1")
    assert ran.code == 2
    assert ran.err == (
        "error: all selected runs failed, were cancelled, or wait for something that no active run will "
        "produce\n"
    )
    assert "nothing to submit" in ran.out
    assert re.search(r"second.m1 +needs first, which is eligible", ran.out)
    dry = place.invoke("submit", "tiny", "second.m1", "--dry-run")
    assert (dry.code, dry.err, "# 0 scripts for 0 runs" in dry.out) == (2, ran.err, True)
    assert place.invoke("submit", "tiny", "first", "--dry-run").code == 0
    assert place.invoke("submit", "tiny", "second.m1", "--upstream", "--wait").code == 0
    assert place.states()["second.m2"] == "eligible"


def test_optional_runs_are_submitted_when_asked_for(place: Place) -> None:
    (place.root / "go").touch()
    assert "wait" not in place.invoke("submit", "--dry-run", "--json").json["submissions"]
    offered = place.invoke("submit", "--dry-run", "--json", "--optional").json
    assert {run for s in offered["submissions"] for run in s["runs"]} == set(place.states())
    assert offered["left"] == {}


def test_gpu_hours_keep_the_budget(place: Place) -> None:
    omissions = place.invoke(
        "submit", "ddq", "--phase", "3", "--max-gpu-hours", "1", "--dry-run", "--json"
    ).json["left"]
    assert any("GPU hours more than --max-gpu-hours 1 leaves" in why for why in omissions.values())
    assert place.invoke("submit", "--max-gpu-hours", "-1").code == 2


def test_a_stale_run_is_named_and_only_stale_submits_it(place: Place) -> None:
    assert place.invoke("submit", "tiny", "first", "--wait").code == 0
    place.text("experiments/tiny.yaml", TINY.replace("hello from first", "hello again"))
    row = place.invoke("plan", "tiny", "first", "--json").json["runs"][0]
    assert row["status"] == "done"
    assert "definition" in row["stale"]
    assert "1 stale (`ddqjobs submit tiny --stale` runs them again)" in place.invoke("plan").out
    assert "nothing to submit" in place.invoke("submit", "tiny", "first").out
    assert place.attempts("first") == 1
    assert place.invoke("submit", "tiny", "first", "--stale", "--wait").code == 0
    assert place.attempts("first") == 2
    assert place.invoke("plan", "tiny", "first", "--json").json["runs"][0]["stale"] is None


def test_failed_runs_that_were_corrected_name_the_command_that_runs_them_again(place: Place) -> None:
    failing = TINY.replace('cp "$1"', 'exit 3; cp "$1"').replace("echo this went wrong", "cat gone")
    place.text("experiments/tiny.yaml", failing)
    assert place.invoke("submit", "tiny", "--wait").code == 1
    assert place.invoke("submit", "tiny", "broken.m1", "--wait").code == 1
    for words in (["plan"], ["status"], ["submit"], ["submit", "--wait"]):
        same = place.invoke(*words)
        assert "changed since" not in same.out + same.err, words
    place.text("experiments/tiny.yaml", TINY)
    again = (
        "2 failed runs changed since (definition, code); "
        "`ddqjobs retry tiny second.m1 second.m2 && ddqjobs submit tiny --stale --wait` runs them again"
    )
    for words in (
        ["submit", "--task", "second"],
        ["submit", "--wait"],
        ["plan", "--task", "second"],
        ["status", "--task", "second"],
    ):
        told = place.invoke(*words)
        assert again in told.out + told.err, words
    assert (
        "3 failed runs changed since (definition, code); `ddqjobs retry tiny && "
        "ddqjobs submit tiny --stale --upstream --wait second.m1 second.m2 broken.m1` runs them again"
    ) in place.invoke("plan").out
    assert place.invoke("retry", "tiny", "second.m1", "second.m2").code == 0
    assert place.invoke("submit", "tiny", "--stale", "--wait").code == 0
    assert {place.states()[name] for name in ("first", "second.m1", "second.m2")} == {"done"}


def test_a_stale_result_is_built_on_once_somebody_accepts_it(place: Place) -> None:
    assert place.invoke("submit", "tiny", "first", "--wait").code == 0
    place.text("experiments/tiny.yaml", TINY.replace("hello from first", "hello again"))
    refused = place.invoke("submit", "tiny", "second.m1", "--json").json
    assert refused["submitted"] == {}
    assert refused["left"]["second.m1"] == (
        "needs first, which is stale; `ddqjobs submit tiny --stale first` runs it again, "
        "`ddqjobs accept tiny first --because TEXT` lets it stand"
    )

    assert place.invoke("accept", "tiny", "--because", "  ").code == 2
    assert "none of these runs is stale" in place.invoke("accept", "tiny", "second.m1", "--because", "x").out
    accepted = place.invoke("accept", "tiny", "--because", "only its greeting changed")
    assert accepted.out.startswith("accepted 1 stale run:")
    row = place.invoke("plan", "tiny", "first", "--json").json["runs"][0]
    assert (row["stale"], row["status"]) == (None, "done")
    assert row["accepted"].endswith(" changed: only its greeting changed")
    assert ", though definition" in row["accepted"]
    assert f"first: {row['accepted']}" in place.invoke("report").out
    assert place.invoke("submit", "tiny", "second.m1", "--wait").code == 0
    assert place.attempts("first") == 1

    place.text("experiments/tiny.yaml", TINY.replace("hello from first", "hello once more"))
    row = place.invoke("plan", "tiny", "first", "--json").json["runs"][0]
    assert "definition" in row["stale"]
    assert row["accepted"] is None


@pytest.mark.skipif(shutil.which("djob") is not None, reason="Donau is here")
def test_a_scheduler_whose_commands_are_missing_is_one_line(place: Place) -> None:
    ran = place.invoke("submit", "--site", "bscc")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "error: site bscc: cannot start djob: " + ran.err.partition("cannot start djob: ")[2]
    assert ran.err.endswith("load Donau's commands\n")
    assert len(ran.err.splitlines()) == 1


def test_an_environment_that_is_not_ready_is_named_with_its_remedy(place: Place) -> None:
    ran = place.invoke("submit", "nano")
    refused(ran, "ddqjobs env build")
    assert not (place.root / "results" / "nano" / "ledger").exists()


def test_two_commands_at_once_submit_once(place: Place) -> None:
    both = [place.spawn("submit", "--wait") for _ in range(2)]
    ends = [finish(one) for one in both]
    assert [ran.code for ran in ends] == [0, 0], ends
    assert [place.attempts(run) for run in ("first", "second.m1", "second.m2")] == [1, 1, 1]


def test_ctrl_c_while_waiting_exits_130_and_runs_go_on(place: Place) -> None:
    waiting = place.spawn("submit", "tiny", "wait", "--wait")
    until(lambda: place.states()["wait"] == "active" and place.attempts("wait"))
    interrupt(waiting)
    ran = finish(waiting)
    assert ran.code == 130
    assert (
        ran.err
        == "error: interrupted; what was submitted so far is recorded, and runs go on: see `ddqjobs status`\n"
    )
    (place.root / "go").touch()
    until(lambda: place.states()["wait"] == "done")
    assert place.attempts("wait") == 1


def test_the_scheduler_that_cannot_be_asked_is_exit_code_3(place: Place) -> None:
    place.invoke("submit", "tiny", "wait")
    until(lambda: place.attempts("wait"))
    state = place.root / "results" / ".local" / "local"
    settings = json.loads((state / "settings.json").read_text())
    (state / "settings.json").write_text(json.dumps({**settings, "host": "another-host"}))
    ran = place.invoke("status")
    assert ran.code == 3
    assert "wait" in ran.out
    assert "another-host" in ran.err
    document = place.invoke("plan", "--json")
    assert document.json["warnings"]
    (state / "settings.json").write_text(json.dumps(settings))
    (place.root / "go").touch()
    until(lambda: place.states()["wait"] == "done")


# -- status, logs -------------------------------------------------------------------------------------------


def test_the_status_document_has_these_keys(finished: Place) -> None:
    document = finished.invoke("status", "--json").json
    assert set(document) == {"version", "kind", "experiment", "site", "runs", "warnings"}
    assert document["kind"] == "status"
    assert set(document["runs"][0]) == FACTS | {"progress", "ran"}


def test_status_is_a_table_of_tasks_a_line_per_run_and_a_summary(finished: Place) -> None:
    short = finished.invoke("status").out.splitlines()
    assert [" ".join(line.split()) for line in short[:6]] == [
        "TASK DONE FAILED OPTIONAL", "first 1", "second 2", "broken 1", "wait 1", "all 3 1 1",
    ]  # fmt: skip
    assert len(short) == 8
    lines = finished.invoke("status", "--runs").out.splitlines()
    assert lines[7].split() == ["RUN", "STATE", "PROGRESS", "JOB", "NODE", "ATTEMPT", "REASON"]
    assert lines[-2] == "tiny on local: 5 runs: 3 done, 1 failed, 1 optional"
    assert lines[-1] == "1 failed: ddqjobs retry tiny broken.m1"
    assert any(re.match(r"broken.m1 +failed .* 1 ", line) for line in lines)


def test_logs_show_what_a_run_printed(finished: Place) -> None:
    assert finished.invoke("logs", "first").out == "hello from first\nproduct: out\n"
    assert finished.invoke("logs", "first", "-n", "1").out == "product: out\n"
    assert finished.invoke("logs", "first", "--attempt", "1").code == 0


def test_logs_as_json_name_the_attempt_and_its_lines(finished: Place) -> None:
    document = finished.invoke("logs", "first", "--json").json
    assert document["path"].endswith("runs/first/attempts/1/stdout.log")
    assert {key: document[key] for key in document if key != "path"} == {
        "version": 1, "kind": "logs", "experiment": "tiny", "run": "first", "status": "done",
        "attempt": 1, "attempts": [1], "lines": ["hello from first", "product: out"],
    }  # fmt: skip
    assert finished.invoke("logs", "first", "-n", "1", "--json").json["lines"] == ["product: out"]
    refused(finished.invoke("logs", "first", "-f", "--json"), "--follow and --json exclude each other")


def test_logs_of_what_is_not_there_say_what_is(finished: Place) -> None:
    refused(finished.invoke("logs", "first", "--attempt", "7"), "first has no attempt 7; there are: 1")
    refused(finished.invoke("logs", "wait"), "wait has not started on any node", "eligible")
    refused(finished.invoke("logs"), "logs shows one run at a time; name one of first")


def test_logs_follow_a_run_to_its_end(place: Place) -> None:
    place.invoke("submit", "tiny", "wait")
    until(lambda: place.attempts("wait") and place.log("wait").is_file())
    following = place.spawn("logs", "wait", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "waiting\n"
    (place.root / "go").touch()
    ran = finish(following)
    assert (ran.code, ran.out) == (0, "ready\nproduct: out\n")


def test_a_line_that_is_half_written_is_not_torn_apart(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddqjobs.cli.logs import Log

    path = place.text("a.log", "one\ntw")
    log = Log(path)
    log.show()
    assert capsys.readouterr().out == "one\n"
    with path.open("a") as file:
        file.write("o\r50%\r100%\nthr\x1b[2J")
    log.show()
    assert capsys.readouterr().out == "two\n50%\n100%\n"
    log.show(to_the_end=True)
    assert capsys.readouterr().out == "thr\\x1b[2J\n"


def test_a_line_without_end_is_shown_in_pieces_and_not_held(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddqjobs.cli.logs import LONGEST, Log

    path = place.text("a.log", "x" * (2 * LONGEST + 5))
    log = Log(path)
    log.show()
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [LONGEST] * 2
    log.show(to_the_end=True)
    assert capsys.readouterr().out == "x" * 5 + "\n"


# -- terminals ----------------------------------------------------------------------------------------------


def test_a_table_on_a_terminal_is_as_wide_as_it_and_coloured(finished: Place) -> None:
    terminal = Terminal(finished, "status", "--runs", columns=60)
    code, output = terminal.close()
    assert code == 0
    assert "\x1b[32mdone" in output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert max(len(line) for line in plain.splitlines()) <= 60
    assert "\x1b" not in finished.call("status").out


def test_status_watch_follows_and_leaves_by_itself(place: Place) -> None:
    place.invoke("submit", "tiny", "wait")
    terminal = Terminal(place, "status", "--watch", "--interval", "0.2")
    terminal.read_until("running")
    (place.root / "go").touch()
    code, output = terminal.close()
    assert code == 0
    assert "q leaves" in output
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.rpartition("\x1b[?1049l")[2])
    assert re.search(r"wait +done", last)
    assert max(len(line) for line in last.splitlines()) <= 70


def test_ctrl_c_leaves_the_watch_and_gives_the_screen_back(place: Place) -> None:
    place.invoke("submit", "tiny", "wait")
    terminal = Terminal(place, "status", "--watch", "--interval", "0.2")
    terminal.read_until("running")
    interrupt(terminal.process)
    code, output = terminal.close()
    assert code == 0  # it is how one leaves
    assert "\x1b[?1049l" in output
    assert "Traceback" not in output
    assert place.states()["wait"] == "active"


def test_watch_without_a_terminal_shows_once(finished: Place) -> None:
    assert finished.call("status", "--watch").out == finished.call("status").out


# -- cancel, retry, advance, adopt --------------------------------------------------------------------------


def test_cancel_without_a_terminal_needs_yes(place: Place) -> None:
    place.invoke("submit", "tiny", "wait")
    refused(place.call("cancel"), "this would cancel 1 run; add --yes to do it")
    refused(place.call("cancel", "--json"), "add --yes")
    assert place.states()["wait"] == "active"
    ran = place.invoke("cancel", "--yes", "--json")
    assert ran.json == {"version": 1, "kind": "cancel", "cancelled": ["wait"]}
    until(lambda: place.states()["wait"] == "failed")
    assert place.invoke("plan", "wait", "--json").json["runs"][0]["failure"] == "cancelled"
    assert place.invoke("cancel").out == "none of these runs is active\n"
    ran = place.call("status", "--state", "cancelled")
    assert "tiny on local: 1 run: 1 cancelled\n" in ran.out + ran.err
    assert "failed" not in ran.out + ran.err
    assert ("cancelled", ("wait",)) in [(m.what, m.runs) for m in place.open().report("tiny").missing]


@pytest.mark.parametrize(
    ("answer", "code", "cancelled"), [("n\r", 0, False), ("y\r", 0, True), ("\x03", 130, False)]
)
def test_cancel_asks_on_a_terminal(place: Place, answer: str, code: int, cancelled: bool) -> None:
    place.invoke("submit", "tiny", "wait")
    until(lambda: place.attempts("wait"))
    terminal = Terminal(place, "cancel")
    terminal.read_until("cancel 1 run? [y/N]")
    if answer == "\x03":
        terminal.insist_on_ctrl_c()
    else:
        terminal.type(answer)
    ended, output = terminal.close()
    assert ended == code, output
    assert ("cancelling 1 run" in output) == cancelled
    assert "Traceback" not in output
    if cancelled:
        until(lambda: place.states()["wait"] == "failed")
    else:
        assert place.states()["wait"] == "active"


def test_remove_asks_and_takes_away_what_a_run_left(finished: Place) -> None:
    refused(finished.call("remove"), "name the runs to remove")
    refused(finished.call("remove", "first"), "this would remove 1 run", "--yes removes them")
    preview = finished.invoke("remove", "first", "--dry-run", "--json").json
    (row,) = preview["runs"]
    assert (row["run"], row["read_by"], row["moved_to"]) == ("first", ["second.m1", "second.m2"], None)
    terminal = Terminal(finished, "remove", "first")
    terminal.read_until("? [y/N]")
    terminal.type("n\r")
    assert terminal.close()[0] == 0
    assert finished.states()["first"] == "done"
    assert finished.invoke("remove", "wait").out == "nothing to remove: none of these runs left anything\n"


def test_retry_makes_a_failed_run_eligible_again(place: Place) -> None:
    assert place.invoke("submit", "tiny", "broken.m1", "--wait").code == 1
    assert place.states()["broken.m1"] == "failed"
    assert place.invoke("retry", "tiny", "broken.m1", "--json").json == {
        "version": 1, "kind": "retry", "retried": ["broken.m1"],
    }  # fmt: skip
    assert place.states()["broken.m1"] == "eligible"
    assert place.invoke("retry", "tiny", "first").out == "none of these runs failed or was cancelled\n"
    assert place.invoke("submit", "tiny", "broken.m1", "--wait").code == 1
    assert place.invoke("logs", "broken.m1", "--attempt", "2").out.startswith("this went wrong\n")


def test_advance_touches_only_what_was_submitted_before(place: Place) -> None:
    assert place.invoke("advance").out == "nothing to submit\n"
    assert place.invoke("submit", "tiny", "broken.m1", "--wait").code == 1
    place.invoke("retry", "tiny", "broken.m1")
    document = place.invoke("advance", "--json").json
    assert set(document) == {"version", "kind", "submitted", "left", "unconfirmed"}
    assert set(document["submitted"]) == {"broken.m1"}
    assert place.attempts("first") == 0


def test_adopt_takes_in_what_exists_and_says_so(place: Place, tmp_path: Path) -> None:
    old = tmp_path / "old work"
    old.mkdir()
    (old / "out.txt").write_text("from long ago\n")
    ran = place.invoke("adopt", "first", str(old))
    line = f"adopted run first from {old} (artifacts: out)"
    assert (ran.code, ran.out) == (0, f"{line}\n  unverified: how it was made\n")
    assert place.states()["first"] == "done"
    assert "adopted" in place.invoke("report").out
    refused(place.invoke("adopt", "first", str(old)), "first is done already")
    refused(place.invoke("logs", "first"), "attempt 1 of first has no log")
    document = place.invoke("adopt", "tiny", "second.m1", str(old), "--json").json
    assert set(document) == {"version", "kind", "adopted"}
    assert document["adopted"]["second.m1"]["adoption"]["unverified"] == ["how it was made"]


def test_adopt_refuses_what_is_no_such_result(place: Place, tmp_path: Path) -> None:
    refused(place.invoke("adopt", "first", str(tmp_path / "nowhere")), "no such file or folder")
    refused(place.invoke("adopt", "frist", str(tmp_path)), "nor a run of tiny; did you mean 'first'?")
    refused(place.invoke("adopt", "second.*", str(tmp_path)), "adopt works on one run at a time")
    refused(place.invoke("adopt", "tiny"), "adopt needs a run and a path")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(place.invoke("adopt", "first", str(empty)), "not adopted")
    assert place.states()["first"] == "eligible"


# -- report -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json", "latex"])
def test_report_has_five_formats_and_writes_files(finished: Place, tmp_path: Path, form: str) -> None:
    result = finished.invoke("report", "--format", form)
    assert result.code == 0
    assert "second.m1" in result.out or form == "latex"
    target = tmp_path / "report"
    written = finished.invoke("report", "--format", form, "--out", str(target))
    assert written.out == f"wrote {target}\n"
    assert target.read_text().rstrip("\n") == result.out.rstrip("\n")


def test_the_report_document_is_versioned(finished: Place) -> None:
    document = finished.invoke("report", "--json").json
    assert document["version"] == 2
    assert document == finished.invoke("report", "--format", "json").json


def test_report_check_exits_1_while_anything_is_missing(place: Place, finished: Place) -> None:
    ran = place.invoke("report", "--check")
    assert ran.code == 1
    assert ran.out
    assert "error: not every required verdict holds" in ran.err
    assert finished.invoke("report", "--check").code == 0


def test_report_refuses_unknown_metrics_formats_and_places(finished: Place, tmp_path: Path) -> None:
    refused(finished.invoke("report", "--metric", "AP5"), "unknown metric 'AP5'; did you mean 'AP")
    refused(finished.invoke("report", "--out", str(tmp_path / "no" / "where")), "No such file or directory")
    assert finished.invoke("report", "--format", "pdf").code == 2


# -- outputs ------------------------------------------------------------------------------------------------

READING = [
    ("plan",), ("plan", "--json"), ("status",), ("report",), ("logs", "first"), ("env", "list"),
    ("schema", "site"), ("submit", "--dry-run"), ("--help",), ("--version",),
]  # fmt: skip


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_full_device_is_one_clear_error(finished: Place, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ran = finished.call(*arguments, stdout=full)
    assert (ran.code, ran.err) == (2, "error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("arguments", [("plan", "ddq"), ("schema", "experiment"), ("--help",)], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(place: Place, arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = place.spawn(*arguments, stdout=writing)
    os.close(writing)
    assert finish(process).err == ""


@pytest.mark.parametrize("command", ["plan", "status", "submit", "cancel", "retry", "advance", "report"])
def test_on_errors_stdout_stays_empty_although_json_was_asked_for(place: Place, command: str) -> None:
    place.text("experiments/tiny.yaml", TINY + "\nmodls: {}\n")
    refused(
        place.invoke(command, "tiny", "--json"), "tiny.yaml:", "unknown key 'modls'; did you mean 'models'?"
    )


def test_all_problems_of_a_file_come_at_once_one_line_each(place: Place) -> None:
    text = (
        TINY.replace("kind: prepare", "kind: prepar", 1).replace("first.out", "frist.out") + "\nmodls: {}\n"
    )
    place.text("experiments/tiny.yaml", text)
    ran = place.invoke("plan")
    assert ran.code == 2
    assert len(ran.err.splitlines()) >= 2
    assert all(re.match(r"error: \S*tiny\.yaml:\d+: ", line) for line in ran.err.splitlines())


def test_a_terminal_of_another_alphabet_gets_what_it_can_show(place: Place) -> None:
    place.text("experiments/tiny.yaml", TINY.replace("trivial runs", "日本 ü"))
    process = subprocess.run(
        ddqjobs("report"),
        cwd=place.root,
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (0, "")
