"""A cluster's answers become a site file, whatever they are."""

from __future__ import annotations

import re

import pytest

from ddqjobs.base.errors import MissingError, SchedulerError
from ddqjobs.planning import new_site
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.slurm import examination, survey
from tests.support.cli import opened
from tests.support.paths import ROOT

SINFO = """\
cpu*|up|2-00:00:00|100|128|512000+|(null)
gpu|up|1-12:00:00|10|64|500000|gpu:a100:4(S:0-3)
gpu|up|1-12:00:00|2|64|500000|gpu:h100:4
old|down|infinite|90|32|1000|gpu:8
a strange line
"""


def test_partitions_accounts_and_modules_are_read() -> None:
    facts = survey.Facts(
        cluster="no",
        partitions=survey.partitions(SINFO),
        accounts=survey.accounts("lab||normal,long|50\nother|cpu||\nlab-2|||\n"),
        default_account="lab-2",
        qos=survey.qualities("normal|12:00:00|\nlong|7-00:00:00|20\n"),
        modules=survey.modules("/opt/modules:\ncuda/12.1(default)\nblas/3\nPython/3.11.5\ncuda/12.1\n"),
        silent={"sacct": "refused\nhere"},
    )
    assert facts.partitions[0].memory_mib == 512_000
    chosen = survey.chosen(facts)
    assert (chosen.name, chosen.gpu_type, chosen.nodes, chosen.time) == ("gpu", "a100", 10, "36h")
    text = survey.site_file("x1", facts, chosen)
    for line in (
        'title: "no"',
        "  gpu_type: a100  # sinfo: GRES; also h100",
        "  account: lab-2  # sacctmgr",
        "  # account: lab  # sacctmgr",
        "  jobs_in_queue: 20  # sacctmgr: MaxSubmitJobs",
        '#   - "cuda/12.1"\n#   - "Python/3.11.5"\n',
        "# sacct did not tell: refused here",
    ):
        assert line in text
    assert "account: other" not in text
    assert survey.chosen(facts, "old").gpus == 8
    with pytest.raises(MissingError, match="there is no partition gpo; did you mean 'gpu'"):
        survey.chosen(facts, "gpo")


def test_a_cluster_of_gpu_slices_few_processors_and_no_arrays() -> None:
    facts = survey.Facts(
        array_size=examination.largest_array({"MaxArraySize": "0"}),
        partitions=survey.partitions(
            "mig|up|infinite|1|2|1000|gpu:1g.5gb:7\nold|up|infinite|1|2|1000|gpu:8\n"
        ),
    )
    slices, old = facts.partitions
    assert (slices.gpu_type, slices.gpus, old.gpu_type, old.gpus) == ("1g.5gb", 7, "", 8)
    text = survey.site_file("x1", facts, slices)
    assert '  gpu_type: "1g.5gb"  # ' in text
    assert "cpus_per_gpu: 1  # sinfo: 2 CPUs for 7 GPUs" in text
    assert "  array_size: 1  # " in text  # no arrays: each run is a job of its own


def nameless() -> str:
    raise KeyError("getpwuid(): uid not found: 12345")


def test_where_there_is_no_slurm_nothing_is_written(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path_factory.mktemp("x") / "project") as place:
        monkeypatch.setenv("PATH", "/nowhere")
        path = new_site.place(place.root, "mine")
        monkeypatch.setattr("getpass.getuser", nameless)  # a container's user: the number is asked for
        with pytest.raises(SchedulerError, match="Slurm cannot be asked: cannot start scontrol"):
            new_site.draft(path, "mine")
        assert not path.parent.exists()
        assert place.invoke("site", "new", "../mine").code == 2


def test_a_file_is_never_written_over(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("x") / "templates/mine/site.yaml"
    new_site.write(path, "one\n")
    with pytest.raises(Exception, match="exists already; choose another name"):
        new_site.write(path, "two\n")
    assert path.read_text() == "one\n"


@pytest.mark.parametrize("name", ["ncsa-delta", "curc-alpine"])
def test_a_profile_is_valid_and_each_of_its_lines_has_source_and_date(name: str) -> None:
    file = ROOT / "templates" / name / "site.yaml"
    assert Catalog(ROOT).site(name).name == name
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    facts = [line for line in lines if line.partition(":")[2].strip() and not re.match("(name|title):", line)]
    assert len(facts) >= 7
    assert [line for line in facts if not re.search(r"  # .*\d{4}-\d\d-\d\d$", line)] == []
