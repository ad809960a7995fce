"""Environments that cannot serve the GPUs of a site are found before a job is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.environments import environment, gpus
from ddqjobs.spec.shipped import Files
from tests.support.cli import Place, opened
from tests.support.doctor import lines
from tests.support.paths import ROOT

EXPERIMENT = """
name: tiny
implementations: {}
codes: {old: {environment: old}, new: {environment: new}}
models: {}
tasks:
  a: {kind: smoke, once: true, code: old, command: ["true"], resources: {gpus: 1}}
  b: {kind: smoke, once: true, code: new, command: ["true"], resources: {gpus: 1}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", EXPERIMENT) as project:
        for name, served in (("old", '["7.0", "8.0"], driver: "450"'), ("new", '["9.0"], driver: "580.65"')):
            project.text(f"envs/{name}/requirements.txt", "")
            project.text(
                f"envs/{name}/env.yaml",
                f'name: {name}\npython: "3.11"\ngpus: {{capabilities: {served}}}\n',
            )
        yield project


def found(place: Place, **site: object) -> list[tuple[str, str]]:
    place.write("templates/lab/site.yaml", {"name": "lab", "scheduler": "slurm", **site})
    ran = place.invoke("doctor", "tiny", "--site", "lab", "--no-job", "--json")
    return lines(ran)["GPUs"]


@pytest.mark.parametrize("site", [{"slurm": {"gpu_type": "v100"}}, {"gpus": {"type": "Tesla V100-SXM2"}}])
def test_an_environment_for_other_gpus_is_an_error(place: Place, site: dict[str, object]) -> None:
    (good, _), (bad, finding) = found(place, **site)
    assert (good, bad) == ("ok", "error")
    assert finding.startswith("environment new serves compute capability 9.0; ")
    assert finding.endswith("has compute capability 7.0")


def test_an_old_driver_is_an_error(place: Place) -> None:
    _, _, (level, finding) = found(place, gpus={"type": "h200", "driver": "535.104"})
    assert (level, finding) == ("error", "environment new needs driver 580.65, the site has 535.104")


def test_environments_that_no_gpu_serves_together_are_named_on_any_site(place: Place) -> None:
    *unknown, (level, finding) = found(place)
    assert [level for level, _ in unknown] == ["warning", "warning"]
    assert level == "warning"
    assert finding == (
        "no GPU serves all environments (old: compute capability 7.0, 8.0; new: compute capability 9.0)"
    )


@pytest.mark.parametrize(
    ("listed", "capability", "runs"),
    [(["7.0"], "7.5", True), (["7.5"], "7.0", False), (["8.0"], "8.9", True), (["8.0"], "9.0", False)],
)
def test_code_runs_on_later_gpus_of_its_major_version(listed: list[str], capability: str, runs: bool) -> None:
    assert gpus.serves(listed, capability) is runs


@pytest.mark.parametrize(
    ("name", "capability"),
    [("a100", "8.0"), ("NVIDIA H200", "9.0"), ("NVIDIA GeForce RTX 3090", "8.6"), ("tpu", ""), ("", "")],
)
def test_gpus_are_known_by_their_names(name: str, capability: str) -> None:
    assert gpus.capability_of(name) == capability


def test_shipped_environments_with_a_check_on_a_gpu_say_which_gpus_they_serve() -> None:
    files = Files(ROOT)
    for name in environment.declared(files):
        declaration = environment.load(name, files).declaration
        assert any(check.gpu for check in declaration.checks.values()) == (declaration.gpus is not None), name
