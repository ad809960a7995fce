"""Wrong options are refused before anything is submitted, by the built environment of the miniature."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from tests.support.paths import ROOT

E3 = """
base: nano
name: e3
tasks:
  named-new: &named
    kind: smoke
    once: true
    code: mmdet-3.3
    config: mmdet::_base_/default_runtime.py
    command: ["{python}", -m, ddqjobs.detect.prepare, initial, --config, "{config}", "{options}"]
    options: {log_level: DEBUG}
  named-legacy:
    <<: *named
    code: mmdet-3.2
  p4-train:
    options:
      optim_wraper.optimizer.lr: 0.01
      train_cfg.max_epochs: eight
      +not.there: 1
"""
RUNS = ("data", "initial", "p4-train.ddq-detr-r18")  # all of one environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that uses the checkout's built environments."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / ".environments").symlink_to(ROOT / ".environments")
    (tmp_path / "experiments/e3.yaml").write_text(E3)
    return tmp_path


def ddqjobs(project: Path, *arguments: str) -> process.Completed:
    return process.run([sys.executable, "-m", "ddqjobs", *arguments], timeout=600, cwd=project)


def test_wrong_options_are_refused_with_file_and_line_and_right_ones_are_checked_once(project: Path) -> None:
    done = ddqjobs(project, "submit", "e3", *RUNS)
    assert done.code == 2
    run = "p4-train.ddq-detr-r18: option"
    assert done.stderr.splitlines() == [
        f"error: experiments/e3.yaml:17: {run} optim_wraper.optimizer.lr: the configuration has no "
        "'optim_wraper' (+optim_wraper.optimizer.lr adds it); the nearest is optim_wrapper.optimizer.lr",
        f"error: experiments/e3.yaml:18: {run} train_cfg.max_epochs: 'eight' is a str; expected int",
        f"error: {project / 'experiments/e3.yaml'}: nothing was submitted; fix this, or submit with "
        "--no-check",
    ]
    assert not (project / "results/e3/submissions").exists()
    right = E3.replace("optim_wraper", "optim_wrapper").replace("eight", "8")
    (project / "experiments/e3.yaml").write_text(right)
    report = json.loads(ddqjobs(project, "check", "e3", *RUNS, "--json").stdout)
    # `initial` had passed
    assert (report["configurations"], report["passed"], report["findings"]) == (1, 2, [])
    output = ddqjobs(project, "check", "e3", *RUNS).stdout
    assert output == "2 of 2 configurations passed (2 runs), 0 checked now\n"


def test_configurations_of_the_environments_packages_are_loaded_by_their_names(project: Path) -> None:
    done = ddqjobs(project, "check", "e3", "named-new", "named-legacy", "--json", "--again")
    assert done.code == 0, done.stdout
    document = json.loads(done.stdout)
    resolved = document["resolved"]
    assert {one["environment"] for one in resolved} == {"mini-new", "mini-legacy"}
    for one in resolved:
        configuration = one["configuration"]
        assert (configuration["default_scope"], configuration["log_level"]) == ("mmdet", "DEBUG")
    peaks = re.findall(r"(\d+) MB$", "\n".join(document["notes"]), re.MULTILINE)
    assert len(peaks) == 2  # a process for each environment
    assert max(map(int, peaks)) < 2048


def test_what_the_site_enters_is_checked_and_so_is_what_has_no_environment(project: Path) -> None:
    (folder,) = (ROOT / ".environments").glob("mini-new-" + "?" * 12)
    (project / "envs/mine").mkdir(parents=True)
    (project / "envs/mine/env.yaml").write_text('name: mine\npython: "3.11"\n')
    (project / "templates/local").mkdir(parents=True)
    site = f"activate: {{mine: {folder}/bin/activate}}\npython: {folder}/bin/python\n"
    (project / "templates/local/site.yaml").write_text(f"name: local\nscheduler: local\n{site}")
    codes = "codes: {mmdet-3.3: {environment: mine}, mmdet-3.2: {environment: null}}\n"
    (project / "experiments/e3.yaml").write_text(codes + E3.replace("DEBUG", "INFO"))
    command = ("check", "e3", "named-new", "named-legacy", "p4-train.ddq-detr-r18")
    done = ddqjobs(project, *command)
    assert done.code == 2
    assert [line.partition(" option ")[2].partition(":")[0] for line in done.stderr.splitlines()] == [
        "optim_wraper.optimizer.lr",
        "train_cfg.max_epochs",
    ]
    assert done.stdout.endswith("2 of 3 configurations passed (3 runs), 3 checked now\n"), done
