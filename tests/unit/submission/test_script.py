"""Rendered scripts: shells accept them, values stay data, directives are strict, the protocol really runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddqjobs.base.errors import InputError
from ddqjobs.base.units import megabytes
from ddqjobs.spec.model import Input, Resources, Run, TaskKind
from ddqjobs.spec.shipped import shipped_root
from ddqjobs.spec.site import Site
from ddqjobs.submission.round import write_scripts
from ddqjobs.submission.script import Context, Renderer, Scripts
from ddqjobs.submission.words import quote, word
from tests.support import shellcheck
from tests.support.cli import TINY, Place, opened
from tests.support.donau import shipped
from tests.support.paths import ROOT
from tests.support.trivial import until

HOSTILE = [
    "plain", "", " two words ", "it's", '"quoted"', "$(touch canary)", "`touch canary`", "a;touch canary",
    "a\nb", "$HOME", "\\", "*", "~", "-rf", "--", "!!", "日本 ü", "\t", "a\x1b[2Jb", "#", "&& touch canary",
    "x" * 5000,
]  # fmt: skip
SITES = {
    "local": Site(name="local", scheduler="local"),
    "slurm": Site(
        name="slurm",
        scheduler="slurm",
        sections={
            "slurm": {
                "account": "me",
                "partition": "gpu",
                "gpu_type": "h200",
                "exclusive": True,
                "mail": "me@example.org",
            }
        },
        modules=["cuda/12.1"],
        setup=["export FROM_SITE=1"],
        umask="0007",
        stage_to="/local/$USER/it's $(touch canary)",
        cpus_per_gpu=4,
    ),
    "bscc": shipped("old"),
    "donau": msgspec.structs.replace(shipped("new"), modules=["cuda/12.1"]),
}


def a_run(name: str = "one", **keys: object) -> Run:
    """A run that leaves ``out.txt``."""
    run = Run(
        name=name,
        experiment="trial",
        task="one",
        kind=TaskKind.PREPARE,
        code="shell",
        command=("bash", "-c", 'echo done > "$DDQJOBS_WORK_DIR/out.txt"'),
        products=(("out", "out.txt"),),
        resources=Resources(time_s=60),
    )
    return msgspec.structs.replace(run, **keys)


def render(
    site: Site,
    *runs: Run,
    results: str = "/data/results/trial",
    roots: tuple[Path, ...] = (),
    user: str = "me",
    variables: Mapping[str, dict[str, str]] | None = None,
) -> Scripts:
    """The scripts of one submission; ``variables``: of environments, by their names."""
    context = Context(
        results=results,
        project="/data",
        code="abc",
        token="token",
        user=user,
        variables=dict(variables or {}),
        pythons=dict.fromkeys(variables or {}, sys.executable),
    )
    return Renderer([*roots, shipped_root() / "templates"]).render(runs, site, context)


def accepted(folder: Path, scripts: Scripts) -> None:
    """bash and shellcheck take every file."""
    folder.mkdir(parents=True)
    write_scripts(folder, scripts)
    for path in sorted(folder.glob("*.sh")):
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert shellcheck.problems(path) == ""


@pytest.mark.parametrize(("count", "nodes"), [(1, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("site", SITES)
def test_shells_accept_every_rendered_script(tmp_path: Path, site: str, count: int, nodes: int) -> None:
    hostile = tuple(HOSTILE)
    runs = [
        a_run(
            f"one.{i}",
            resources=Resources(time_s=60, nodes=nodes),
            command=("echo", *hostile, "{python}", "{work_dir}", "{input.before}", "{env.HOME}"),
            variables=tuple((f"V{n}", value) for n, value in enumerate(hostile)),
            inputs=(
                ("before", Input(artifact="out", run="zero")),
                ("other", Input(artifact="x", path="~/a b", stage=True)),
            ),
        )
        for i in range(count)
    ]
    accepted(tmp_path / "submission", render(SITES[site], *runs))


def test_shells_accept_a_script_that_reads_private_files(tmp_path: Path) -> None:
    run = a_run(command=("echo", "--api-key=abc"), variables=(("HF_TOKEN", "x"),))
    scripts = msgspec.structs.replace(render(SECRET_SITE, run, run), setup="", secrets="")
    accepted(tmp_path / "submission", scripts)


# -- values stay data ---------------------------------------------------------------------------------------


def argv_of(text: str, folder: Path) -> list[str]:
    """Return the arguments that bash makes of shell words."""
    script = f"set -- {text}\nprintf '%s\\0' \"$@\""
    ran = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, check=True)
    return ran.stdout.decode().split("\0")[:-1]


def test_hostile_words_reach_the_command_as_they_are(tmp_path: Path) -> None:
    values = [*HOSTILE, "{", "{ a", "}"]
    assert argv_of(word("{{print $1}} {seed}}}", {"seed": "7"}), tmp_path) == ["{print $1} 7}"]
    assert argv_of(" ".join(word(w, {}) for w in values), tmp_path) == values
    assert argv_of(" ".join(word("{seed}", {"seed": w}) for w in HOSTILE), tmp_path) == HOSTILE
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=20
    )
)
def test_any_text_reaches_the_command_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert argv_of(" ".join(map(quote, texts)), folder) == texts


def test_a_whole_element_passes_hostile_values_as_data(tmp_path: Path) -> None:
    values = HOSTILE
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    dump = "import os, sys, json; json.dump([sys.argv[1:], dict(os.environ)], open('../seen', 'w'))"
    run = a_run(
        command=("{python}", "-c", dump, *values, "{options}"),
        options=tuple(f"key={w}" for w in values),
        variables=tuple((f"V{i}", w) for i, w in enumerate(values)),
        model="$(touch canary)",
        environment="`touch canary`",
    )
    context = Context(
        results="/r", project="/p", code="c", token="t",
        pythons={run.environment: sys.executable}, option_flags={"shell": "--cfg options"},
    )  # fmt: skip
    element = Renderer([shipped_root() / "templates"]).element(0, run, SITES["local"], context)
    script = f"{element}\nDDQJOBS_CODE=.\nelement_0\ntask"
    subprocess.run(["bash", "-c", script], cwd=scratch, check=True)
    argv, variables = json.loads((tmp_path / "seen").read_text())
    assert argv == [*values, "--cfg options", *(f"key={w}" for w in values)]
    assert [variables[f"V{i}"] for i in range(len(values))] == values
    assert variables["DDQJOBS_MODEL"] == "$(touch canary)"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("tasks", "name"),
    [
        (["a"], "trial.one"),
        (["p3-train", "p3-train"], "trial.p3-train"),
        (["p3-train", "p4-train", "p3-train", "grid"], "trial.p3-train+p4-train+grid"),
        (["a", "b", "c", "d", "e"], "trial.a+b+c+2more"),
        (["a" * 40, "b" * 40, "c" * 40], f"trial.{'a' * 40}+{'b' * 40}+1more"),
        (["a" * 80, "b" * 80], f"trial.{'a' * 80}+1more"),
    ],
)
def test_the_name_of_a_job_has_all_tasks_of_its_runs(tasks: list[str], name: str) -> None:
    runs = [a_run(task=task) for task in tasks]
    rows = render(SITES["slurm"], *runs).job.splitlines()
    assert f"#SBATCH --job-name={name}.token" in rows


@pytest.mark.parametrize(
    "folder",
    [
        "/data/it's",
        "/data/$(touch x)",
        "/data/a b",
        "/data/a\n#SBATCH --wrap=x",
        "/data/`x`",
        "/data/ü",
        "/a;b",
    ],
)
@pytest.mark.parametrize("site", ["slurm", "bscc"])
def test_a_folder_that_no_directive_can_name_is_refused(site: str, folder: str) -> None:
    with pytest.raises(InputError, match="is not allowed in a directive line"):
        render(SITES[site], a_run(), results=folder)


UNSPEAKABLE = ["a\nb", "$(x)", "`x`", "\\", "ü"]


@pytest.mark.parametrize("value", UNSPEAKABLE)
def test_a_user_s_name_that_no_directive_can_hold_is_refused(value: str) -> None:
    for site in (
        Site(name="s", scheduler="slurm", sections={"slurm": {"account": "{user}"}}),
        SITES["bscc"],  # its account has the user's name too
    ):
        with pytest.raises(InputError, match="is not allowed in a directive line"):
            render(site, a_run(), user=value)


@pytest.mark.parametrize("value", UNSPEAKABLE)
def test_a_site_value_that_no_directive_can_hold_is_refused(value: str) -> None:
    """Also where a program made the site, and no file was read."""
    site = Site(name="s", scheduler="slurm", sections={"slurm": {"account": value}})
    with pytest.raises(InputError, match=r"^slurm: .*account"):
        render(site, a_run())
    donau = {**SITES["bscc"].sections["donau"], "extra": [value]}
    site = msgspec.structs.replace(SITES["bscc"], sections={"donau": donau})
    with pytest.raises(InputError, match=r"^donau: .*extra"):
        render(site, a_run())


def test_an_option_that_shows_a_secret_is_refused_without_it() -> None:
    for option in (
        "--container-image=docker://ann:planted-aB@host/image",
        "--container-env=HF_TOKEN=planted-aB",
    ):
        site = Site(name="s", scheduler="slurm", sections={"slurm": {"extra": [option]}})
        with pytest.raises(InputError, match="contains a secret") as caught:
            render(site, a_run())
        assert "planted" not in str(caught.value)


# -- templates of one's own ---------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", TINY) as project:
        yield project


@pytest.mark.parametrize(("memory", "mebibytes"), [("250GiB", 256000), ("1GiB", 1024), ("256GB", 244141)])
def test_memory_is_asked_for_in_slurm_s_mebibytes(memory: str, mebibytes: int) -> None:
    run = a_run(resources=Resources(memory_mb=megabytes(memory)))
    assert f"#SBATCH --mem={mebibytes}M\n" in render(SITES["slurm"], run).job


@pytest.mark.parametrize(("time_s", "warning"), [(24 * 3600, 300), (120, 60)])
def test_a_job_is_not_asked_to_stop_as_soon_as_it_begins(time_s: int, warning: int) -> None:
    site = msgspec.structs.replace(SITES["slurm"], warning="300s")
    run = a_run(resources=Resources(time_s=time_s))
    assert f"#SBATCH --signal=B:USR1@{warning}\n" in render(site, run).job


def test_a_site_s_own_script_extends_the_shipped_one(place: Place) -> None:
    place.text("templates/anvil/site.yaml", "base: slurm\nname: anvil\n")
    place.text(
        "templates/anvil/job.sh.j2",
        '{% extends "slurm.sh.j2" %}\n{% block setup %}\n{{ super() }}\nexport ANVIL=1\n{% endblock %}\n',
    )
    script = place.invoke("submit", "tiny", "first", "--site", "anvil", "--dry-run").out
    assert "#SBATCH --partition=gpu" in script
    assert "export ANVIL=1" in script
    assert "ANVIL" not in place.invoke("submit", "tiny", "first", "--site", "slurm", "--dry-run").out


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            '{% extends "slurm.sh.j2" %}\n{% block setup %}\n{{ acount }}\n{% endblock %}\n',
            3,
            "'acount' is undefined",
        ),
        ('{% extends "slurm.sh.j2" %}\n{% block setup %}\n', 2, "end"),
        ("{{ token | shout }}\n", 1, "No filter named 'shout'"),
        ('\n{% extends "slrum.sh.j2" %}\n', 2, "there is no template slrum.sh.j2"),
        ("\n\n{{ 1 / 0 }}\n", 3, "division by zero"),
    ],
)
def test_a_template_s_mistake_is_one_line_with_its_place(
    place: Place, text: str, line: int, message: str
) -> None:
    place.text("templates/anvil/site.yaml", "base: slurm\nname: anvil\n")
    path = place.text("templates/anvil/job.sh.j2", text)
    ran = place.invoke("submit", "tiny", "first", "--site", "anvil", "--dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert message in ran.err
    assert ran.err.startswith(f"error: {path}:{line}: ")


# -- the protocol, without a scheduler ----------------------------------------------------------------------


class Job:
    """A submission on disk whose script is started by hand."""

    def __init__(
        self,
        root: Path,
        *runs: Run,
        site: Site | None = None,
        variables: Mapping[str, dict[str, str]] | None = None,
    ) -> None:
        self.results = root
        detect = root / "code" / "abc" / "ddqjobs"
        detect.mkdir(parents=True)
        (detect / "__init__.py").touch()
        (detect / "detect").symlink_to(ROOT / "ddqjobs" / "detect")
        self.folder = root / "submissions" / "token"
        self.folder.mkdir(parents=True)
        site = site or msgspec.structs.replace(SITES["local"], python=sys.executable)
        self.scripts = render(site, *runs, results=str(root), variables=variables)
        write_scripts(self.folder, self.scripts)

    def start(self, job: str = "job-1", index: int = 0) -> subprocess.Popen[bytes]:
        """Starts the script as a scheduler does."""
        variables = {**os.environ, "DDQJOBS_JOB_ID": job, "DDQJOBS_INDEX": str(index)}
        return subprocess.Popen(
            ["bash", str(self.folder / "job.sh")],
            env=variables,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, job: str = "job-1", index: int = 0) -> tuple[int, str]:
        """(exit code, stderr) of a start."""
        process = self.start(job, index)
        _, err = process.communicate(timeout=60)
        return process.returncode, err.decode()

    def attempt(self, number: int = 1, run: str = "one") -> Path:
        """Folder of an attempt."""
        return self.results / "runs" / run / "attempts" / str(number)

    def exit(self, number: int = 1) -> Mapping[str, object]:
        """The attempt's last word."""
        document: Mapping[str, object] = json.loads((self.attempt(number) / "exit.json").read_text())
        return document


def shell(text: str, name: str = "one", **keys: object) -> Run:
    """A run of this shell text."""
    return a_run(name, command=("bash", "-c", text), **keys)


GOOD = 'echo done > "$DDQJOBS_WORK_DIR/out.txt"'


def test_a_start_leaves_its_evidence(tmp_path: Path) -> None:
    job = Job(tmp_path, shell(GOOD))
    assert job.run() == (0, "")
    product = json.loads((tmp_path / "runs/one/product.json").read_text())
    assert (product["attempt"], product["ticket"]) == (1, "token.0")
    assert (job.exit()["code"], job.exit()["failure"], job.exit()["again"]) == (0, "", False)
    assert json.loads((job.attempt() / "started.json").read_text())["job"] == "job-1"
    assert (tmp_path / "claims/token.0").read_text() == "run\njob-1\n"
    assert (tmp_path / "runs/one/artifacts/out").read_text() == "done\n"
    assert not list((tmp_path / "claims").glob(".*"))


def test_elements_of_an_array_know_which_they_are(tmp_path: Path) -> None:
    say = 'echo "$DDQJOBS_RUN" > "$DDQJOBS_WORK_DIR/out.txt"'
    job = Job(tmp_path, shell(say), shell(say, name="two"))
    assert job.run("job-2", index=1) == (0, "")
    assert (tmp_path / "runs/two/artifacts/out").read_text() == "two\n"
    frozen = json.loads((job.attempt(run="two") / "run.json").read_text())
    assert frozen["name"] == "two"
    assert frozen["script"].startswith("# shellcheck")
    assert frozen["script"] in (tmp_path / "submissions/token/elements.sh").read_text()
    assert not (tmp_path / "runs/one").exists()
    assert job.run("job-2", index=2)[0] == 70


def test_a_void_claim_stops_the_job_before_anything_runs(tmp_path: Path) -> None:
    job = Job(tmp_path, shell(GOOD))
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/token.0").write_text("void\n")
    code, err = job.run()
    assert code == 77
    assert "ticket token.0 is void" in err
    assert not (tmp_path / "runs").exists()


def test_another_job_with_the_same_ticket_stops(tmp_path: Path) -> None:
    job = Job(tmp_path, shell("exit 3"))
    assert job.run("job-1")[0] == 3
    code, err = job.run("job-2")
    assert (code, "belongs to job job-1" in err) == (77, True)
    assert not job.attempt(2).exists()


def test_the_same_job_once_more_is_the_next_attempt(tmp_path: Path) -> None:
    job = Job(tmp_path, shell(f'[ "$DDQJOBS_ATTEMPT" = 2 ] || exit 3; {GOOD}'))
    assert job.run()[0] == 3
    assert job.run()[0] == 0
    assert json.loads((tmp_path / "runs/one/product.json").read_text())["attempt"] == 2


@pytest.mark.parametrize("given_up", ['mkdir "$DDQJOBS_RUN_DIR/attempts/2"', 'echo void > "$DDQJOBS_CLAIM"'])
def test_a_start_that_was_given_up_does_not_ask_to_be_started_again(tmp_path: Path, given_up: str) -> None:
    stopped = f'sleep 0.01; touch "$DDQJOBS_WORK_DIR/epoch_1.pth"; {given_up}; exit 75'
    job = Job(tmp_path, shell(stopped))
    assert job.run()[0] == 77
    end = json.loads((job.attempt(1) / "exit.json").read_text())
    assert (end["code"], end["again"]) == (77, False)


def test_a_start_after_the_product_does_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, shell(GOOD))
    assert job.run()[0] == 0
    assert job.run() == (0, "")
    assert not job.attempt(2).exists()


def test_exit_0_without_the_product_is_a_failure(tmp_path: Path) -> None:
    job = Job(tmp_path, shell("true"))
    assert job.run()[0] == 70
    assert (job.exit()["code"], job.exit()["failure"]) == (70, "no product")


def test_a_whole_product_counts_although_the_task_died(tmp_path: Path) -> None:
    job = Job(tmp_path, shell(f"{GOOD}; kill -9 $$"))
    assert job.run()[0] == 0
    assert (tmp_path / "runs/one/product.json").is_file()
    assert job.exit()["note"] == "the product is whole although the task ended with code 137"


def test_a_missing_input_ends_it_before_it_starts(tmp_path: Path) -> None:
    job = Job(tmp_path, shell("echo started", inputs=(("before", Input(artifact="out", run="zero")),)))
    assert job.run()[0] == 66
    assert (job.exit()["failure"], job.exit()["note"]) == ("data", "input BEFORE is missing")
    assert "started" not in (job.attempt() / "stdout.log").read_text()


def test_a_missing_interpreter_ends_it_before_it_starts(tmp_path: Path) -> None:
    site = Site(name="local", scheduler="local", python="/no/such/python")
    job = Job(tmp_path, shell(GOOD), site=site)
    assert job.run()[0] == 69
    assert job.exit()["failure"] == "environment"
    assert not (tmp_path / "runs/one/product.json").exists()


@pytest.mark.parametrize(
    ("code", "failure", "words"),
    [
        (
            127,
            "environment",
            "does not start: python: error while loading libpython3.12.so.1.0: no such file",
        ),
        (
            1,
            "node",
            "does not work here, exit 1: python: error while loading libpython3.12.so.1.0: no such file",
        ),
        (2, "node", "no port is free"),
    ],
)
def test_an_interpreter_that_does_not_start_says_why(
    tmp_path: Path, code: int, failure: str, words: str
) -> None:
    """As that of a module does without the LD_LIBRARY_PATH of the module."""
    python = tmp_path / "python"
    loader = "echo 'python: error while loading \"libpython3.12.so.1.0\": no such file' >&2"
    python.write_text(f"#!/bin/sh\n{loader}\nexit {code}\n")
    python.chmod(0o755)
    site = Site(name="local", scheduler="local", python=str(python))
    job = Job(tmp_path, shell(GOOD), site=site)
    assert job.run()[0] == {"environment": 69, "node": 71}[failure]
    assert job.exit()["failure"] == failure
    assert str(job.exit()["note"]).endswith(words)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_leaves_the_stop_file_and_the_task_its_exit_code(tmp_path: Path, number: int) -> None:
    job = Job(tmp_path, shell('echo ready; until [ -e "$DDQJOBS_STOP" ]; do sleep 0.02; done; exit 5'))
    process = job.start()
    log = job.attempt() / "stdout.log"
    until(lambda: log.is_file() and "ready" in log.read_text())
    process.send_signal(number)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 5
    assert (job.exit()["code"], job.exit()["stopped"]) == (5, True)


def test_the_snapshot_stays_on_the_path_whatever_a_code_puts_there(tmp_path: Path) -> None:
    """Our programs, the launcher of several processes among them, come from it."""
    for number, (value, before) in enumerate(
        (("/tree", "/tree:"), ("/tree:{env.PYTHONPATH}", "/tree:"), ("{env.PYTHONPATH}:/tree", ""))
    ):
        run = shell('echo "$PYTHONPATH" "$DDQJOBS_CODE"', variables=(("PYTHONPATH", value),))
        job = Job(tmp_path / str(number), run)
        job.run()
        path, code = (job.attempt() / "stdout.log").read_text().split()[:2]
        assert path.startswith(before + code)
        assert path.split(":").count(code) == 1


def test_a_code_s_pythonpath_keeps_that_of_its_environment_where_it_names_it(tmp_path: Path) -> None:
    say = 'echo "path $PYTHONPATH of $OWN"'
    for number, (value, path) in enumerate(
        (("/tree:{env.PYTHONPATH}", "/tree:/built/mmcv:{code}"), ("/tree", "/tree:{code}"))
    ):
        run = shell(say, environment="legacy", variables=(("PYTHONPATH", value), ("OWN", "{env.OWN} run")))
        job = Job(
            tmp_path / str(number), run, variables={"legacy": {"PYTHONPATH": "/built/mmcv", "OWN": "a"}}
        )
        job.run()
        code = tmp_path / str(number) / "code" / "abc"
        log = (job.attempt() / "stdout.log").read_text()
        assert f"path {path.format(code=code)} of a run\n" in log


def test_signals_that_come_as_the_task_ends_do_not_hide_its_exit_code(tmp_path: Path) -> None:
    """bash's wait loses the code of a child where a signal comes just then; a part of a pipeline may end by
    it, and its words with it."""
    run = shell('echo ready; until [ -e "$DDQJOBS_STOP" ]; do sleep 0.002; done; exit 5')
    jobs = [Job(tmp_path / str(index), run) for index in range(10)]
    processes = [job.start() for job in jobs]
    logs = [job.attempt() / "stdout.log" for job in jobs]
    until(lambda: all(log.is_file() and "ready" in log.read_text() for log in logs))
    running = processes
    while running:
        for process in running:
            process.send_signal(signal.SIGUSR1)
        time.sleep(0.002)
        running = [process for process in running if process.poll() is None]
    for process in processes:
        process.communicate(timeout=60)
    assert [job.exit()["code"] for job in jobs] == [5] * 10


def test_a_task_that_stopped_without_progress_is_not_started_again(tmp_path: Path) -> None:
    job = Job(tmp_path, shell("exit 75"))
    assert job.run()[0] == 71
    assert (job.exit()["failure"], job.exit()["again"]) == ("timeout", False)


def test_a_task_that_stopped_with_progress_asks_for_another_start(tmp_path: Path) -> None:
    job = Job(tmp_path, shell('sleep 0.02; echo x > "$DDQJOBS_WORK_DIR/epoch_1.pth"; exit 75'))
    assert job.run()[0] == 75
    assert (job.exit()["failure"], job.exit()["again"]) == ("timeout", True)


@pytest.mark.parametrize(
    ("gpus", "cpus", "threads"), [(0, 0, 1), (8, 0, 1), (8, 16, 2), (0, 4, 4), (8, 4, 1)]
)
@pytest.mark.parametrize("site", SITES)
def test_threads_are_the_run_s_whatever_a_site_gives(site: str, gpus: int, cpus: int, threads: int) -> None:
    script = render(SITES[site], a_run(resources=Resources(time_s=60, gpus=gpus, cpus=cpus))).job
    assert f"OMP_NUM_THREADS={threads} " in script


def test_launchers_do_not_restart_workers_whatever_the_submitter_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PET_MAX_RESTARTS", "3")
    job = Job(tmp_path, shell('printf "%s" "$PET_MAX_RESTARTS" > "$DDQJOBS_WORK_DIR/out.txt"'))
    assert job.run() == (0, "")
    assert (tmp_path / "runs/one/artifacts/out").read_text() == "0"


@pytest.mark.parametrize(
    ("config", "config_path"),
    [
        ("configs/a b.py", "{code}/configs/a b.py"),
        ("mmdet::ddq/x.py", "mmdet::ddq/x.py"),
        ("/abs/x.py", "/abs/x.py"),
    ],
)
def test_a_task_is_told_its_run_s_configuration(tmp_path: Path, config: str, config_path: str) -> None:
    say = 'printf "%s" "$DDQJOBS_CONFIG" > "$DDQJOBS_WORK_DIR/out.txt"'
    assert Job(tmp_path, shell(say, config=config)).run() == (0, "")
    expected = config_path.replace("{code}", str(tmp_path / "code" / "abc"))
    assert (tmp_path / "runs/one/artifacts/out").read_text() == expected


# Two nodes as `srun --export=ALL` starts them: other processes, which get what is exported and nothing else.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
SLURM_NODEID=1 "$@" & other=$!
SLURM_NODEID=0 "$@" && wait "$other"
"""


def test_each_node_of_a_slurm_job_has_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin" / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    site = msgspec.structs.replace(
        SITES["local"], name="s", scheduler="slurm", python=sys.executable, setup=["export SITE_TOKEN=abc1"]
    )
    say = 'echo "$SITE_TOKEN $HF_TOKEN $1" > "$DDQJOBS_RUN_DIR/node$DDQJOBS_NODE_RANK"; ' + GOOD
    run = a_run(
        command=("bash", "-c", say, "x", "--api-key=abc3"),
        variables=(("HF_TOKEN", "abc2"),),
        resources=Resources(time_s=60, nodes=2),
    )
    job = Job(tmp_path / "results", run, site=site)
    assert job.run() == (0, "")
    contents = [(job.results / "runs/one" / f"node{rank}").read_text() for rank in (0, 1)]
    assert contents == ["abc1 abc2 --api-key=abc3\n"] * 2


SECRET_SITE = msgspec.structs.replace(
    SITES["local"],
    python=sys.executable,
    setup=[
        "declare -x MIRROR=https://me:abc@host/x",
        "read -r -d '' FROM_SITE << 'END' || true",
        "  two words",
        "END",
        "export FROM_SITE; module() { :; }",
    ],
    modules=["cuda/12.1"],
)


def test_setup_lines_with_a_secret_mean_what_they_mean_without(tmp_path: Path) -> None:
    job = Job(tmp_path, shell(f'{GOOD}; echo "$MIRROR $FROM_SITE"'), site=SECRET_SITE)
    assert job.run() == (0, "")
    assert "https://me:abc@host/x two words\n" in (job.attempt() / "stdout.log").read_text()
    assert "abc@" not in job.scripts.job
    assert (job.folder / "secret_setup.sh").stat().st_mode & 0o777 == 0o600


# What may fail inside a setup line without the line failing.
FORGIVEN = [
    "source /nowhere || true",
    "[ -f /nowhere ] && source /nowhere",
    "if [ -f /nowhere ]; then source /nowhere; fi",
    "module() { false; true; }; module use /nowhere",
    'printf "false\\n[ -f /nowhere ] && :\\ntrue\\n" > "$DDQJOBS_CODE/lines.sh"',
    'source "$DDQJOBS_CODE/lines.sh"',
    'case "$UNSET" in x*) echo ;; esac',
    "false | true; ! true; export EMPTY=$(false)",
    'echo "[ -f /nowhere ] && source /nowhere" > "$DDQJOBS_CODE/rc"; source "$DDQJOBS_CODE/rc"',
    '. "$DDQJOBS_CODE"/rc > /dev/null 2>&1',
    'eval "$(echo "false; true")"',
]
HIDDEN = "export SITE_TOKEN=planted"


@pytest.mark.parametrize("hidden", [[], [HIDDEN]])
def test_a_setup_line_that_fails_ends_the_job_and_what_it_forgives_does_not(
    tmp_path: Path, hidden: list[str]
) -> None:
    def on(folder: str, lines: list[str]) -> tuple[int, str]:
        site = msgspec.structs.replace(SITES["local"], python=sys.executable, setup=[*hidden, *lines])
        return Job(tmp_path / folder, shell(GOOD), site=site).run()

    assert on("forgiven", FORGIVEN)[0] == 0
    for i, (line, status) in enumerate(
        [("(exit 4)", 4), ("module() { return 3; }; module load x", 3), ("source /nowhere", 1)]
    ):
        code, err = on(str(i), ["true", line, "touch canary"])
        command = "" if hidden else f", {line}"
        message = f"ddqjobs: setup line {2 + len(hidden)} of this site ended with code {status}{command}"
        assert (code, err.splitlines()[-2:]) == (69, [message, "ddqjobs: exit 69"])
        assert not list(tmp_path.rglob("canary"))
    assert on("exits", ["echo no licence >&2; exit 4"]) == (69, "no licence\nddqjobs: exit 69\n")


@pytest.mark.parametrize(
    ("already", "code", "message"),
    [("done", 0, ""), ("void", 77, "ticket token.0 is void"), ("nothing", 70, "setup lines are gone")],
)
def test_claim_and_product_decide_first_where_the_private_files_are_gone(
    tmp_path: Path, already: str, code: int, message: str
) -> None:
    job = Job(tmp_path, shell(GOOD, variables=(("HF_TOKEN", "x"),)), site=SECRET_SITE)
    if already == "done":
        assert job.run() == (0, "")
    elif already == "void":
        (tmp_path / "claims").mkdir()
        (tmp_path / "claims/token.0").write_text("void\n")
    (job.folder / "secret_setup.sh").unlink()
    (job.folder / "secrets.sh").unlink()
    exit_code, err = job.run()
    assert (exit_code, message in err) == (code, True)
    assert not job.attempt(1 if already != "done" else 2).exists()


# Words of each step in docs/reference/site.md, and what shows it in the script of a job and of a build.
ORDER = [
    ("unset", "unset -v ", "unset -v "),
    ("`setup`", "\nexport FROM_SITE=1\n", "\nexport FROM_SITE=1\n"),
    ("site's `modules`", "module load python/3", "module load python/3"),
    ("`umask`", "umask 0007", "umask 0007"),
    ("environment's modules", "module load legacy-cuda", ""),
    ("for Python paths, virtual environments and conda", "\nleave_out ", "\nleave_out "),
    ("variables of the site", "  export NCCL_IB=1\n", ""),
    ("`activate`", "  . /conda/activate", ""),
]


def test_jobs_and_builds_begin_in_the_documented_order(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/site.md").read_text()
    steps = re.findall(r"^\d\. (.*)", page.partition("## The order in a job and in a build")[2], re.MULTILINE)
    assert all(fragment in step for (fragment, _, _), step in zip(ORDER, steps, strict=True))
    site = msgspec.structs.replace(
        shipped("old"),
        setup=["export FROM_SITE=1"],
        umask="0007",
        variables={"NCCL_IB": "1"},
    )
    order = ["python/3.8.12", "cuda/11.1.0", "gcc/9.3.0"]  # as the author's script has them
    assert [name.partition("-")[0] for name in site.modules] == order
    context = Context(
        results="/data/r", project="/data", code="c", token="t", user="me",
        modules={"legacy": ("legacy-cuda",)}, activate={"legacy": "/conda/activate"},
    )  # fmt: skip
    renderer = Renderer([shipped_root() / "templates"])
    job = renderer.render([a_run(environment="legacy")], site, context).job
    build = renderer.node_command(site, context, Resources(), "env", ["ddqjobs", "env", "build", "legacy"])
    for text, marks in ((job, [mark for _, mark, _ in ORDER]), (build, [mark for *_, mark in ORDER if mark])):
        places = [text.index(mark) for mark in marks]
        loaded = [text.index(f"module load {name}") for name in order]
        assert loaded == sorted(loaded)
        if text is build:
            assert places == sorted(places)
            assert places[-1] < text.index("ddqjobs env build legacy")
        else:  # the task, with the last two steps, stands before the call of its element
            *before, last, variables, activate = places
            called = text.index('"element_$DDQJOBS_INDEX" ||')
            assert before == sorted(before)
            assert before[-1] < variables < activate < called < last < text.index("\n    task\n")


def test_a_missing_module_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("setup_code", "0")  # a name of the script's own
    site = msgspec.structs.replace(SITES["local"], modules=["cuda/12.1"])
    code, err = Job(tmp_path, shell(GOOD), site=site).run()
    assert (code, err) == (69, "ddqjobs: this site has no module command\nddqjobs: exit 69\n")
    assert not (tmp_path / "claims").exists()
