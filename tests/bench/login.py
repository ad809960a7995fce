"""``python -m tests.bench.login``: the budget of a login node, one core and 2 GiB, for what runs there.

`plan`, `status`, `report`, its page and `archive` of 10,000 runs, `submit` and `cancel` of as many; AP of
COCO's val split by each evaluator, the split verified, an archive of it written and verified; `check` of the
miniature where its environments are built. A command that used several cores would show as CPU seconds beyond
its wall seconds, on a machine with little other work.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import endings, evaluation, large
from tests.bench.endings import Row
from tests.support.paths import ROOT
from tests.support.trivial import end_of, fork

CORES, MIB = 1.1, 2048  # a tenth for the kernel's work on behalf of a process
QUEUED = 10_000
STAMP = "20260101_000000"
EXPERIMENT: dict[str, Any] = {
    "name": "split",
    "implementations": {"only": "the only one"},
    "codes": {"shell": {"commands": {}}},
    "models": {"m": {"implementations": {"only": {"code": "shell"}}, "reference": {"ap": 14.1}}},
    "phases": {"1": {"title": "one", "against": "reference", "tolerance": {"ap": 0.1}}},
    "datasets": {"coco": {"path": "data", "splits": {"val": {"annotations": "val.json", "images": "val"}}}},
    "tasks": {
        "test": {
            "kind": "test", "phase": "1", "implementation": "only", "command": ["true"],
            "products": {"predictions": "predictions.npz"},
        },
    },
}  # fmt: skip


def _make(root: Path) -> None:
    """Write what is measured: a project of 10,000 done runs, one of as many eligible ones, and one with a
    test of COCO's val split."""
    large.make(root / "large")
    endings.write(root / "queued", QUEUED)
    split, work_dir = root / "split", root / "left"
    (split / "data" / "val").mkdir(parents=True)
    (work_dir / STAMP / "vis_data").mkdir(parents=True)
    evaluation.make(work_dir)
    truth = split / "data" / "val.json"
    (work_dir / "instances.json").rename(truth)
    metrics = evaluation.recompute.evaluate(work_dir / "predictions.npz", truth).metrics
    scalars = {f"coco/{name}": round(value, 3) for name, value in metrics.items()}
    (work_dir / STAMP / f"{STAMP}.json").write_text(json.dumps(scalars))
    config = f"test_evaluator = dict(type='CocoMetric', ann_file='{truth}')\n"
    (work_dir / STAMP / "vis_data" / "config.py").write_text(config)
    image = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + bytes(9) + b"IEND"
    for row in json.loads(truth.read_bytes())["images"]:
        (split / "data" / "val" / row["file_name"]).write_bytes(image)
    (split / "experiments").mkdir()
    (split / "experiments" / "split.yaml").write_text(json.dumps(EXPERIMENT))


def main() -> None:
    """Measure and print. Raise SystemExit for what is beyond the budget."""
    from tests.bench.__main__ import DDQJOBS, cost, print_table

    rows: list[Row] = []

    def measure(title: str, argv: list[str], place: Path) -> None:
        cpu, wall, mib = cost(argv, place)
        rows.append((title, cpu, wall, mib, f"{cpu / wall:.2f}", "cores <= 1, < 2 GiB"))

    try:
        measure("check of the miniature", [*DDQJOBS, "check", "mini", "--again"], ROOT)
    except SystemExit:  # its environments are not built, and it has said so
        print("check was not measured")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if end_of(fork(lambda: _make(root))):  # a child's peak begins with that of its parent
            raise SystemExit(1)
        done, queued, split = root / "large", root / "queued", root / "split"
        count = f"{2 * large.MODELS * large.SEEDS:,} runs"
        measure(f"plan, {count}", [*DDQJOBS, "plan"], done)
        measure(f"status, {count}", [*DDQJOBS, "status"], done)
        measure(f"report, {count}", [*DDQJOBS, "report"], done)
        measure(f"report's page, {count}", [*DDQJOBS, "report", "-f", "html", "-o", "page.html"], done)
        measure(f"archive, {count}", [*DDQJOBS, "archive", "-o", "large.zip"], done)
        measure(f"submit, {QUEUED:,} runs", [*DDQJOBS, "submit"], queued)
        measure(f"cancel, {QUEUED:,} runs", [*DDQJOBS, "cancel", "--yes"], queued)
        measure(
            "adopt, a test of 5,000 images", [*DDQJOBS, "adopt", "split", "test.m", str(root / "left")], split
        )
        measure("report --recompute, 5,000 images", [*DDQJOBS, "report", "--recompute"], split)
        without = "import sys; sys.modules['hotcoco'] = None; from ddqjobs.detect import recompute; "
        argv = [str(root / "left" / "predictions.npz"), str(split / "data" / "val.json")]
        alone = f"{without}sys.exit(recompute.main({argv!r}))"
        measure("the same by pycocotools alone", [sys.executable, "-c", alone], split)
        measure("data verify, 5,000 images", [*DDQJOBS, "data", "verify"], split)
        measure("archive, with predictions", [*DDQJOBS, "archive", "-o", "split.zip"], split)
        measure("archive verify, with predictions", [*DDQJOBS, "archive", "verify", "split.zip"], split)
    print_table(rows)
    beyond = [title for title, _, _, mib, cores, _ in rows if float(cores) > CORES or mib > MIB]
    if beyond:
        raise SystemExit(f"beyond the budget of a login node: {', '.join(beyond)}")


if __name__ == "__main__":
    main()
