"""Slurm options of runs: site, experiment, task and variant on top of each other, and nothing besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from ddqjobs.base.errors import InputError
from ddqjobs.planning.sections import schema
from ddqjobs.schedulers.base import Element, Submission
from ddqjobs.schedulers.slurm.options import Slurm, lines, problems
from ddqjobs.schedulers.slurm.scheduler import SlurmScheduler
from ddqjobs.spec.model import Resources
from ddqjobs.spec.sections import decoded, merged
from tests.support.slurm import Lab, SlurmProject
from tests.support.trivial import EXPERIMENT, TrivialProject, task, until
from tests.unit.submission.test_script import SITES, a_run, render

SITE = {
    "account": "proj-{user}",
    "partition": "gpu",
    "gpu_type": "a100",
    "exclusive": True,
    "mail": "a@b.org",
}


@pytest.fixture
def project(tmp_path: Path) -> SlurmProject:
    """A project on a Slurm that nobody asks."""
    slurm_project = SlurmProject(tmp_path / "project")
    slurm_project.site({**SITE, "extra": ["--nice=5"]})
    return slurm_project


def scripts(project: TrivialProject, *arguments: str) -> list[set[str]]:
    """The directives of each script that would be submitted, without ``#SBATCH``."""
    result = project.cli("submit", "--site", "slurm", "--dry-run", "--json", *arguments)
    assert result.code == 0, result
    texts = [submission["script"] for submission in json.loads(result.stdout)["submissions"]]
    return [{row[8:] for row in text.splitlines() if row.startswith("#SBATCH ")} for text in texts]


def test_what_is_said_closer_to_the_run_counts_and_an_empty_value_unsays_it(project: SlurmProject) -> None:
    gpus = {"gpus": 8}
    tasks = {
        "plain": task(resources=gpus),
        "own": task(
            resources=gpus,
            variants=["default", "big"],
            slurm={"qos": "long", "mail": "", "constraint": "ib&(a100|h100)", "exclude": "n[1-3],n7"},
        ),
    }
    big = {"gpu_type": "h100", "exclusive": False, "extra": [], "mail": "c@d", "mail_type": ["TIME_LIMIT_90"]}
    slurm = {"reservation": "paper", "partition": "a,b"}
    project.tasks(tasks, slurm=slurm, variants={"big": {"slurm": big}})
    plain, own, bigger = scripts(project)
    assert plain >= {"--partition=a,b", "--reservation=paper", "--gres=gpu:a100:8", "--exclusive", "--nice=5",
                     "--mail-user=a@b.org", "--mail-type=END,FAIL"}  # fmt: skip
    assert not any(row.startswith(("--qos", "--constraint")) for row in plain)
    theirs = {row for row in own if row.startswith(("--job-name", "--comment", "--output"))}
    assert own - plain - theirs == {"--qos=long", "--constraint=ib&(a100|h100)", "--exclude=n[1-3],n7"}
    assert not any(row.startswith("--mail") for row in own)
    assert bigger >= {"--gres=gpu:h100:8", "--mail-user=c@d", "--mail-type=TIME_LIMIT_90", "--qos=long",
                      "--reservation=paper"}  # fmt: skip
    assert not {"--exclusive", "--nice=5"} & bigger


def test_a_job_has_its_token_as_comment_and_at_the_end_of_its_name(project: SlurmProject) -> None:
    """However long the run's name is: Slurm's accounting keeps 255 characters."""
    long = "x" * 80
    own = {long: {"slurm": {"qos": "long"}}}
    project.tasks({"first": task(), long: task(variants=["default", long])}, variants=own)
    names = set()
    for rows in scripts(project):
        directives = {row.partition("=")[0]: row.partition("=")[2] for row in rows}
        assert directives["--job-name"].endswith(f".{directives['--comment']}")
        names.add(directives["--job-name"].removesuffix(f".{directives['--comment']}"))
    assert names == {f"trivial.first+{long}", f"trivial.{long}.{long}"[:100]}


def test_runs_with_other_options_are_not_in_one_array(project: SlurmProject) -> None:
    same = {"slurm": {"partition": "gpu"}}  # what the site says anyway
    variants: dict[str, Any] = {
        "same": same,
        "long": {"slurm": {"qos": "long"}},
        "spot": {"slurm": {"partition": "spot"}},
    }
    project.tasks({"first": task(variants=["default", *variants], seeds=[1, 2])}, variants=variants)
    result = project.cli("submit", "--site", "slurm", "--dry-run", "--json")
    assert [sorted(s["runs"]) for s in json.loads(result.stdout)["submissions"]] == [
        ["first.s1", "first.s2", "first.same.s1", "first.same.s2"],
        ["first.long.s1", "first.long.s2"],
        ["first.spot.s1", "first.spot.s2"],
    ]


def test_options_change_no_digest_and_other_sites_pay_no_heed(trivial: TrivialProject) -> None:
    before = {planned.run.name: planned.run.digest for planned in trivial.plan().runs}
    options = {"partition": "x", "constraint": "y", "gpu_type": "z", "exclusive": True}
    tasks = {"first": task(slurm=options), "second": task(inputs={"before": "first.out"})}
    trivial.tasks(tasks, slurm={"qos": "long"})
    assert {planned.run.name: planned.run.digest for planned in trivial.plan().runs} == before
    assert trivial.submit_all()["second"].status.value == "done"


@pytest.mark.parametrize("place", ["site", "experiment", "task", "variant"])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("partitoin", "gpu", "unknown key 'partitoin' in {at}; did you mean 'partition'?"),
        ("exclusive", "yes please", "{at}.exclusive must be true or false, not text 'yes please'"),
        ("extra", "--nice=1", "{at}.extra must be a list, not text '--nice=1'"),
        ("mail_type", ["EMD"], "{at}.mail_type[0] may not be 'EMD'; did you mean 'END'? valid: ALL, "),
        ("gpu_type", "gpu:a100:8", "{at}.gpu_type may not be 'gpu:a100:8': a name as in gpu:NAME:8"),
        ("extra", ["--partition=x"], "--partition has a key of its own: write `partition`"),
        ("extra", ["--comment=x"], "--comment is ddqjobs' own"),
        ("extra", ["-p x"], "-p is short for --partition, which has a key of its own: write `partition`"),
        ("extra", ["-p 'x'"], "{at}.extra[0] may not be \"-p 'x'\": one option in its long form"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_with_its_line(
    project: SlurmProject, place: str, key: str, value: object, message: str
) -> None:
    options = {key: value}
    at = {
        "site": "slurm",
        "experiment": "slurm",
        "task": "tasks.first.slurm",
        "variant": "variants.big.slurm",
    }
    if place == "site":
        project.site(options)
    else:
        said_by = {name: {"slurm": options} if name == place else {} for name in at}
        first = task(variants=["big"], **said_by["task"])
        everywhere: dict[str, object] = {"variants": {"big": said_by["variant"]}, **said_by["experiment"]}
        project.tasks({"first": first}, **everywhere)  # type: ignore[arg-type]
    result = project.cli("submit", "--site", "slurm", "--dry-run")
    assert (result.code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1), result
    file = "templates/slurm/site.yaml" if place == "site" else f"experiments/{EXPERIMENT}.yaml"
    where, _, rest = result.stderr.removeprefix("error: ").partition(": ")
    name, _, line = where.partition(":")
    assert name.endswith(file)
    named = (project.root / file).read_text().splitlines()[int(line) - 1]
    assert (str(value[0]) if isinstance(value, list) else key) in named
    assert rest.startswith(message.format(at=at[place])), result.stderr


HOSTILE = [
    "a --wrap=x",
    "a\n#SBATCH --wrap=x",
    "a'b",
    'a"b',
    "$(touch x)",
    "`x`",
    "a\\",
    "a#b",
    "a\tb",
    "ü",
    "a\r",
    "a;b",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", sorted({*Slurm.__struct_fields__} - {"exclusive", "mail_type"}))
def test_no_value_brings_a_directive_along(project: SlurmProject, key: str, value: str) -> None:
    """Not by the file, and not by a program that uses the library."""
    setting: object = [f"--nice={value}"] if key == "extra" else value
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: setting}, Slurm)
    project.tasks({"first": task(resources={"gpus": 1}, slurm={key: setting})})
    with pytest.raises(InputError) as refused:
        project.open().load(EXPERIMENT)
    assert [(bool(problem.file), bool(problem.line)) for problem in refused.value.problems] == [(True, True)]
    run = a_run(resources=Resources(gpus=1, sections={"slurm": {key: setting}}))
    with pytest.raises(InputError, match=f"^slurm: .*{key}"):
        render(SITES["slurm"], run)


def test_layers() -> None:
    def on_top(*layers: dict[str, Any]) -> Slurm:
        return decoded(merged(*({"slurm": layer} for layer in layers)), "slurm", Slurm)

    site = {"account": "{user}.x", "partition": "p", "extra": ["--nice=1"]}
    assert on_top(site, {}, {"partition": "", "qos": "q", "account": None}) == Slurm(
        account="{user}.x", partition="", qos="q", extra=("--nice=1",)
    )
    assert lines(on_top(site, {"partition": ""}), "me") == ["--account=me.x"]
    mail = {"mail_type": ["ALL"]}
    assert lines(on_top(mail), "me") == ["--mail-type=ALL"]
    assert lines(on_top(mail, {"mail": ""}), "me") == []
    assert merged({"slurm": {}}, {"slurm": {"qos": None}}) == {}
    assert list(problems(Slurm(extra=("--nice=1", "--qos=x")))) == [
        (("extra", 1), "--qos has a key of its own: write `qos`")
    ]


@pytest.mark.parametrize(
    ("kind", "parts"), [("site", ["Site"]), ("experiment", ["Experiment", "Task", "Variant"])]
)
def test_the_schema_knows_the_options(kind: Literal["experiment", "site"], parts: list[str]) -> None:
    document = schema(kind)
    for part in parts:
        assert document["$defs"][part]["properties"]["slurm"]["$ref"] == "#/$defs/Slurm"
    options = document["$defs"]["Slurm"]
    assert options["additionalProperties"] is False
    assert set(options["properties"]) == set(Slurm.__struct_fields__)
    assert "TIME_LIMIT_90" in json.dumps(options["properties"]["mail_type"])


def test_nodes_that_are_avoided_come_on_top_of_those_that_a_run_excludes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option of sbatch's command line replaces the script's."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text('#!/bin/sh\necho "$@" > "$0.said"\necho 1\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def told(**options: str) -> str:
        resources = Resources(sections={"slurm": options})
        submission = Submission(token="t", name="n", folder=str(tmp_path), resources=resources,
                          elements=(Element(index=0, run="r"),), avoid=("n1", "n2"))  # fmt: skip
        SlurmScheduler().submit(submission)
        return (tmp_path / "sbatch.said").read_text()

    assert "--exclude=n1,n2 " in told()
    assert "--exclude=n1,n2,n[5-7] " in told(exclude="n[5-7]")
    assert "--exclude" not in told(nodelist="n1")


def test_slurm_gives_each_run_what_it_asks_for(lab: Lab, on_slurm: SlurmProject) -> None:
    node = lab.node(2)
    variants = {
        "typed": {"gpus": 2, "slurm": {"gpu_type": "h100", "constraint": "ib|h100"}},
        "short": {"slurm": {"partition": "short"}},
        "there": {"slurm": {"nodelist": node, "exclusive": True, "mail": "a@b.org", "mail_type": ["BEGIN"]}},
        "wrong": {"gpus": 1, "slurm": {"gpu_type": "a100"}},
    }
    first = task(variants=[*variants], resources={"time": "5m"})
    on_slurm.tasks({"first": first}, variants=variants)
    result = on_slurm.cli("submit", "--json")
    assert result.code == 1, result
    answer = json.loads(result.stdout)
    assert set(answer["submitted"]) == {"first.typed", "first.short", "first.there"}
    assert "sbatch: error: Batch job submission failed: " in answer["left"]["first.wrong"]
    plan = on_slurm.until_over()
    assert {planned.run.variant: planned.status.value for planned in plan.values()} == {
        "typed": "done", "short": "done", "there": "done", "wrong": "eligible",
    }  # fmt: skip
    assert plan["first.there"].node == node
    jobs = {run.rpartition(".")[2]: job for run, job in answer["submitted"].items()}

    def accounted() -> dict[str, list[str]]:
        argv = ["sacct", "-X", "-P", "-n", "--delimiter=;", f"--jobs={','.join(jobs.values())}"]
        rows = lab.ask(*argv, "--format=JobID,Partition,AllocCPUS,AllocTRES,Constraints,State").splitlines()
        return {row.split(";")[0]: row.split(";")[1:] for row in rows}

    # It lags, and of a short job it may hear the end before the start.
    until(lambda: [bool(row[0]) and row[4] for row in accounted().values()] == ["COMPLETED"] * 3)
    rows = accounted()
    assert "gres/gpu:h100=2" in rows[jobs["typed"]][2]
    assert rows[jobs["typed"]][0] == "gpu"
    assert rows[jobs["typed"]][3] == "ib|h100"
    assert rows[jobs["short"]][0] == "short"
    assert (
        rows[jobs["there"]][1] == lab.ask("scontrol", "show", "node", node).partition("CPUTot=")[2].split()[0]
    )


@pytest.mark.parametrize(
    "slurm",
    [
        {"slurm": {"extra": ["--export=NONE"]}},
        pytest.param({"setup": ["export SLURM_EXPORT_ENV=PATH,HOME"]}, marks=pytest.mark.long),
    ],
    ids=["option", "variable"],
)
def test_both_nodes_get_what_the_step_needs_whatever_the_site_exports(
    lab: Lab, on_slurm: SlurmProject, slurm: dict[str, Any]
) -> None:
    on_slurm.site(**slurm)
    work = 'echo "$(hostname) $DDQJOBS_RUN $SLURM_NODEID" >> "$TRACE"; echo x > "$DDQJOBS_WORK_DIR/out.txt"'
    on_slurm.tasks({"first": task(resources={"nodes": 2, "cpus": 2, "time": "5m"})}, work)
    done = on_slurm.cli("submit", "--wait")
    assert done.code == 0, done
    fields = sorted(line.split() for line in on_slurm.trace.read_text().splitlines())
    nodes = lab.ask("scontrol", "show", "hostnames", on_slurm.run("first").node).split()
    assert fields == [[node, "first", str(number)] for number, node in enumerate(sorted(nodes))]
    assert len(nodes) == 2
