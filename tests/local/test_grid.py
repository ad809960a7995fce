"""A grid of five learning rates with three seeds each runs, and its variants are compared."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support.trivial import TrivialProject

KEY = "optim_wrapper.optimizer.lr"
RATES = [1e-5, 0.01, 0.02, 0.05, 2.1]
# Twenty steps of gradient descent on x**2 / 2 from a seeded start; AP falls with the loss that is left.
DETECTOR = f"""\
import os, random, sys
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
rate, x = float(words["{KEY}"]), 1 + random.Random(int(words["seed"])).random() / 50
for _ in range(20):
    x -= rate * x
os.makedirs(sys.argv[1])
with open(sys.argv[1] + "/20261129_120000.json", "w") as log:
    log.write('{{"coco/bbox_mAP": %.3f}}' % max(0, 0.5 - x * x / 4))
"""


def sweep(project: TrivialProject, **keys: object) -> None:
    """Write an experiment of one tiny task, a grid and seeds."""
    (project.root / "detector.py").write_text(DETECTOR)
    command = ["{python}", "{env.SCRIPT}", "{work_dir}/20261129_120000", "{options}"]
    project.write("experiments/rates.yaml", {
        "name": "rates", "implementations": {"new": "a toy"},
        "codes": {"toy": {"seed_option": "seed", "commands": {"test": command},
                          "variables": {"SCRIPT": str(project.root / "detector.py")}}},
        "models": {"toy": {"title": "Toy", "reference": {"ap": 40},
                           "implementations": {"new": {"code": "toy"}}}},
        "phases": {"1": {"tolerance": {"ap": 4}}},
        "tasks": {"test": {"kind": "test", "phase": "1", "implementation": "new",
                           "grid": {KEY: RATES}, "seeds": [0, 1000, 2000]}},
        **keys,
    })  # fmt: skip


@pytest.mark.long
def test_five_rates_with_three_seeds_end_in_a_table_and_verdicts(trivial: TrivialProject) -> None:
    sweep(trivial)
    trivial.local_site(local={"cpus": 15})
    done = trivial.cli("submit", "rates", "--wait")
    assert done.code == 0, done.stdout + done.stderr

    listed = [line.split() for line in trivial.cli("status", "rates", "--runs").stdout.splitlines()]
    assert ["RUN", "LR", "STATE"] in [fields[:3] for fields in listed]
    assert ["test.toy.lr-1e-5.s0", "1e-5", "done"] in [fields[:3] for fields in listed]

    report = json.loads(trivial.cli("report", "rates", "-f", "json").stdout)
    judgements = {row["variant"]: row["judgement"]["word"] for row in report["variants"]}
    assert judgements == {
        "lr-1e-5": "the baseline",
        "lr-0.01": "differs: higher, equivalence not shown (n=3)",
        "lr-0.02": "differs: higher, equivalence not shown (n=3)",
        "lr-0.05": "differs: higher, equivalence not shown (n=3)",
        "lr-2.1": "differs: lower, equivalence not shown (n=3)",
    }
    assert "of the other variant, lr-1e-5" in report["variants"][1]["judgement"]["rule"]
    table = list(csv.DictReader(io.StringIO(trivial.cli("report", "rates", "-f", "csv").stdout)))
    assert [float(row["grid.lr"]) for row in table] == [rate for rate in RATES for _ in range(3)]
    frame = trivial.open().results("rates")
    best = frame.groupby("grid.lr")["AP"].mean().idxmax()
    assert best == 0.05
    page = Path(trivial.root / "page.html")
    assert trivial.cli("report", "rates", "-o", str(page)).code == 0
    assert ">Variants</h2>" in page.read_text()

    sweep(trivial, baseline="lr-0.02")  # names of runs, their results and their digests stay
    again = json.loads(trivial.cli("report", "rates", "-f", "json").stdout)
    assert {row["baseline"] for row in again["variants"]} == {"lr-0.02"}
    assert {run["stale"] for run in again["runs"]} == {""}
