"""`site new` on a real cluster: what it writes is true, valid and never over another file."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened
from tests.support.slurm import Lab


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


def test_a_real_cluster_becomes_a_site(place: Place, lab: Lab) -> None:
    user, account = getpass.getuser(), "site-new"
    lab.ask("sacctmgr", "-i", "add", "account", account)
    lab.ask("sacctmgr", "-i", "add", "user", user, f"account={account}", "MaxSubmitJobs=77")
    try:
        preview = place.invoke("site", "new", "mine", "--dry-run")
        assert preview.code == 0, preview.err
        assert not (place.root / "templates/mine").exists()
        result = place.invoke("site", "new", "mine", "--json")
    finally:
        lab.ask("sacctmgr", "-i", "delete", "user", user, f"account={account}")
        lab.ask("sacctmgr", "-i", "delete", "account", account)
    path = place.root / "templates/mine/site.yaml"
    assert (result.code, result.json["written"]) == (0, True), result.err
    text = path.read_text()
    assert text == result.json["text"] == preview.out
    for line in (
        "  partition: gpu  # sinfo: 4 nodes of 48 CPUs, 256000 MiB, 8 GPUs h100",
        "  gpu_type: h100  # sinfo: GRES",
        f"account: {account}  # sacctmgr show associations",
        "cpus_per_gpu: 6  # sinfo: 48 CPUs for 8 GPUs",
        "memory_mb_per_gpu: 33554  # sinfo: 256000 MiB a node, less its MemSpecLimit",
        "  array_size: 20000  # scontrol show config: MaxArraySize less one",
        "  jobs_in_queue: 77  # sacctmgr: MaxSubmitJobs",
        "  time: 7d  # sinfo: TIMELIMIT",
        "  # partition: short  # sinfo: 1 nodes of 48 CPUs, 256000 MiB, 8 GPUs h100, 10m at most",
    ):
        assert line in text
    again = place.invoke("site", "new", "mine", "--partition", "short")
    assert again.code == 2
    assert "exists already; choose another name" in again.err
    assert path.read_text() == text
    short = place.invoke("site", "new", "other", "--partition", "shrt")
    assert short.code == 2
    assert "there is no partition shrt; did you mean 'short'?" in short.err
    path.write_text(text.replace(f"account: {account}", "partition: gpu #"))
    examined = place.invoke("doctor", "tiny", "--site", "mine", "--no-job")
    assert examined.code == 0, examined.out + examined.err
