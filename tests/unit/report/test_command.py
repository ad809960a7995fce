"""``ddqjobs report`` as a user calls it: the page, recomputed AP, comparisons, exports, the schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from ddqjobs.base import process
from ddqjobs.cli.commands import app
from ddqjobs.detect import files
from ddqjobs.project import Project, open_project
from ddqjobs.report.document import Report
from ddqjobs.spec.model import Product, TaskKind
from ddqjobs.store.ledger import Finished, Ledger
from tests.support import paper
from tests.support.cli import Ran, ddqjobs, environment
from tests.support.paths import ROOT
from tests.unit.detect.test_recompute import CONFIG, predictions, truth_in


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return paper.make(tmp_path / "project", seeds=1, rows=60)


def call(project: Project, *arguments: object) -> Ran:
    result = CliRunner().invoke(app, [*map(str, arguments), "-C", str(project.root)], catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)


def test_the_page_goes_to_a_file(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert (
        call(project, "report", "paper", "-f", "html", "-o", out, "--price", "2 EUR").out == f"wrote {out}\n"
    )
    assert out.read_text().startswith("<!DOCTYPE html>")
    ran = call(project, "report", "paper", "-f", "html", "-o", tmp_path / "no" / "page.html")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("name", ["report.pdf", "report.xlsx", "report.HTMLX"])
def test_a_format_that_is_not_written_is_refused(project: Project, tmp_path: Path, name: str) -> None:
    ran = call(project, "report", "paper", "-o", tmp_path / name)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "is not a format of reports; use .txt, .html" in ran.err
    assert not (tmp_path / name).exists()
    assert call(project, "report", "paper", "-f", "csv", "-o", tmp_path / name).code == 0


def test_a_page_on_stdout_is_utf_8_in_any_locale(project: Project) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    argv = ddqjobs("report", "paper", "-f", "html", "-C", str(project.root))
    done = subprocess.run(argv, env=environment(**locale), capture_output=True, check=True)
    assert "±" in done.stdout.decode()
    assert b"\\u" not in done.stdout.partition(b"<script>")[0]


def test_a_filtered_page_shows_what_was_chosen(project: Project) -> None:
    text = call(project, "report", "paper", "-f", "html", "--phase", "3").out
    assert "p3-train.m000.s0" in text
    assert "p4-train.m000.s0" not in text


def test_the_schema_describes_what_json_prints(project: Project) -> None:
    schema = json.loads(CliRunner().invoke(app, ["schema", "report"]).stdout)
    document = json.loads(call(project, "report", "paper", "--json").out)
    defined = schema["$defs"]["Report"]
    assert set(defined["properties"]) == set(document)
    assert set(defined["required"]) <= set(document)
    msgspec.convert(document, Report, strict=True)


# --------------------------------------------------------------------------------------------- recompute


def with_predictions(
    project: Project, run: str, printed: float, shift: float = 0.0, annotations: str = ""
) -> Path:
    """A done test whose log printed an AP and whose predictions have another, perhaps."""
    workspace = project.workspace("paper")
    work_dir = workspace.store.run_dir(run) / "attempts" / "1" / "work_dir"
    path = predictions(work_dir, shift)
    (work_dir / "model.py").write_text(CONFIG.format(annotations or str(truth_in(work_dir))))
    product = Product(
        run=run,
        digest={r.name: r.digest for r in workspace.loaded.runs}[run],
        kind=TaskKind.TEST,
        attempt=1,
        metrics={"bbox_mAP": printed},
        artifacts={"predictions": "attempts/1/work_dir/predictions.npz"},
        sha256={"predictions": files.sha256(path)},
    )
    ledger = Ledger(workspace.results / "ledger")
    ledger.append(Finished(run=run, ticket="token.2", product=product, attempts=1))
    ledger.close()
    return path


def table_row(text: str, run: str) -> list[str]:
    section = text[text.index("AP recomputed") :]
    return next(line for line in section.splitlines() if line.startswith(run)).split()


def test_classes_on_which_two_codes_differ_are_named(project: Project) -> None:
    with_predictions(project, "p3-test.m000.s0", 1.0)
    with_predictions(project, "p4-test.m000.s0", 0.7, shift=4)
    text = call(project, "report", "paper", "--recompute").out
    rows = text[text.index("Classes that differ most (2 of 2)") :].split("\n\n")[0].splitlines()[3:]
    assert [row.split() for row in rows] == [
        ["m000", name, "4", "70.0", "3", "100.0", "-30.0"] for name in ("a", "b")
    ]


def test_ap_from_predictions_is_compared_with_the_log(project: Project) -> None:
    with_predictions(project, "p3-test.m000.s0", 0.7, shift=4)
    plain = call(project, "report", "paper").out
    assert "AP recomputed" not in plain
    again = call(open_project(project.root), "report", "paper", "--recompute").out
    assert table_row(again, "p3-test.m000.s0")[1:] == ["3", "70.0", "70.0000", "equal"]
    assert table_row(again, "p4-test.m000.s0")[1:3] == ["4", "51.2"]
    assert "the test left no predictions" in again
    errors = again[again.index("Detection errors (score at least 0.3)") :].split("\n\n")[0]
    assert errors.splitlines()[1].split()[2:] == [
        *("found", "class", "localisation", "both", "duplicate", "background", "missed")
    ]
    assert errors.splitlines()[3].split() == ["p3-test.m000.s0", "3", "4", *"000000"]
    # Once made it is there without being asked for, and is made anew only for other predictions.
    assert table_row(call(open_project(project.root), "report", "paper").out, "p3-test")[4] == "equal"
    with_predictions(project, "p3-test.m000.s0", 0.7, shift=0)
    anew = call(open_project(project.root), "report", "paper").out
    assert "Detection errors" not in anew
    assert "p3-test" not in anew.split("AP recomputed")[-1]


def test_annotations_are_those_of_the_code_s_tree_wherever_the_command_is_called(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.root / "experiments" / "paper.yaml"
    path.write_text(path.read_text().replace("mmdet 2,", "mmdet 2, path: tree,"))
    (project.root / "tree").mkdir()
    truth_in(project.root / "tree")
    (project.root / "elsewhere" / "tree").mkdir(parents=True)
    other = project.root / "elsewhere" / "tree" / "truth.json"
    other.write_text('{"images": [], "categories": [], "annotations": []}')
    monkeypatch.chdir(other.parent.parent)
    anew = open_project(project.root)
    with_predictions(anew, "p3-test.m000.s0", 0.7, shift=4, annotations="truth.json")
    text = call(anew, "report", "paper", "--recompute").out
    assert table_row(text, "p3-test.m000.s0")[1:] == ["3", "70.0", "70.0000", "equal"]


def test_an_ap_that_the_predictions_do_not_have_fails_the_check(project: Project) -> None:
    with_predictions(project, "p3-test.m000.s0", 0.513, shift=4)
    ran = call(open_project(project.root), "report", "paper", "--recompute", "--check", "--phase", "3")
    assert table_row(ran.out, "p3-test.m000.s0")[3:] == ["70.0000", "differs:", "AP"]
    assert ran.code == 1


def test_annotations_that_are_gone_are_said_in_one_line(project: Project) -> None:
    path = with_predictions(project, "p3-test.m000.s0", 0.7)
    (path.parent / "truth.json").unlink()
    text = call(open_project(project.root), "report", "paper", "--recompute").out
    assert "not recomputed: the annotations are not there: " in text


def test_an_ap_that_needs_more_memory_says_so_until_it_is_allowed(project: Project) -> None:
    path = with_predictions(project, "p3-test.m000.s0", 0.7, shift=4)
    truth = path.parent / "truth.json"
    truth.write_text(json.dumps({**json.loads(truth.read_text()), "info": "x" * 80_000_000}))
    arguments = ("report", "paper", "--recompute", "--phase", "3", "--memory")
    text = call(open_project(project.root), *arguments, "120MB").out
    assert "not recomputed: needs more than 120 MB of memory; --memory 4GiB" in text
    assert table_row(call(open_project(project.root), *arguments, "1GB").out, "p3-test")[4] == "equal"
    assert call(project, "report", "paper", "--memory", "1GB").code == 2
    assert call(project, *arguments, "much").code == 2


def test_what_an_older_version_recomputed_stays_where_it_cannot_be_done_again(project: Project) -> None:
    path = with_predictions(project, "p3-test.m000.s0", 0.7, shift=4)
    call(open_project(project.root), "report", "paper", "--recompute")
    (cache_file,) = project.root.glob("results/paper/report/cache/recomputed/p3-test.m000.s0.json")
    content = json.loads(cache_file.read_text())
    del content["precision"]
    cache_file.write_text(json.dumps(content))
    (path.parent / "truth.json").unlink()
    again = call(open_project(project.root), "report", "paper", "--recompute").out
    assert table_row(again, "p3-test.m000.s0")[1:] == ["3", "70.0", "70.0000", "equal"]
    assert json.loads(cache_file.read_text()) == content


# ----------------------------------------------------------------------------------------------- compare


def test_two_dates_of_one_experiment(project: Project) -> None:
    run = "p3-test.m000.s0"
    before = time.time()
    with_predictions(project, run, 0.6)
    early = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(before - 3600))
    today = time.strftime("%Y-%m-%d", time.localtime(before))
    ran = call(open_project(project.root), "report", "paper", "--compare", early, today, "--json")
    assert ran.code == 0, ran.err
    rows = {(r["phase"], r["implementation"]): r for r in json.loads(ran.out)["rows"]}
    assert rows["3", "legacy"]["ap_a"] in ("eligible", "waiting")
    assert rows["3", "legacy"]["ap_b"] == "60.0"
    assert rows["3", "legacy"]["outcome_b"] == "exceeds"


def test_two_experiments_in_every_format_of_text(project: Project) -> None:
    text = (project.root / "experiments" / "paper.yaml").read_text()
    (project.root / "experiments" / "other.yaml").write_text(text.replace("name: paper", "name: other"))
    for form in ("table", "markdown", "csv", "json", "latex"):
        ran = call(open_project(project.root), "report", "--compare", "paper", "other", "-f", form)
        assert ran.code == 0, ran.err
        assert "51.2" in ran.out
    assert r"\toprule" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compare", "paper", "2026-11-24"), "two experiments, or two dates"),
        (("--compare", "paper", "nowhere"), "nowhere"),
        (("--compare", "paper", "paper", "--check"), "--compare prints text formats only"),
        (("--export", "tensorboard"), "needs a new folder: --out DIR"),
    ],
)
def test_what_makes_no_sense_is_one_line(project: Project, arguments: tuple[str, ...], message: str) -> None:
    ran = call(project, "report", "paper", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


# ------------------------------------------------------------------------------------------------ export


@pytest.fixture(scope="session")
def libraries() -> str:
    """A folder with the libraries of the extras, kept in .cache/export: they are large, and nothing else of
    the project needs them."""
    folder = ROOT / ".cache" / "export"
    requirements = "tensorboard==2.21.0 mlflow-skinny==3.17.2 sqlalchemy>=2 alembic>=1.13 wandb==0.31.0"
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != requirements:
        uv = Path(sys.executable).with_name("uv")
        argv = [str(uv), "pip", "install", "-q", "--python", sys.executable, "--target", str(folder)]
        done = process.run([*argv, *requirements.split()], timeout=500)
        if done.code != 0:
            pytest.skip(f"EXPORTS NOT TESTED: {done.stderr[-300:]}")
        stamp.write_text(requirements)
    return str(folder)


def python(project: Project, libraries: str, code: str, *arguments: object) -> process.Completed:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), libraries])}
    return process.run(
        [sys.executable, "-c", code, *map(str, arguments)], timeout=120, env=env, cwd=project.root
    )


MAIN = "from ddqjobs.cli.main import main; main()"


def with_log(project: Project, run: str) -> None:
    workspace = project.workspace("paper")
    work_dir = workspace.store.run_dir(run) / "attempts" / "1" / "work_dir"
    lines = [json.dumps({"loss": 3.0 / step, "lr": 0.1, "epoch": 1, "step": step}) for step in range(1, 2001)]
    lines.append(json.dumps({"coco/bbox_mAP": 0.513, "step": 1}))
    (work_dir / "log.jsonl").write_text("\n".join(lines) + "\n")
    (record,) = [r for r in workspace.store.ledger.read() if isinstance(r, Finished) and r.run == run]
    assert record.product is not None
    artifacts = {**record.product.artifacts, "log": "attempts/1/work_dir/log.jsonl"}
    product = msgspec.structs.replace(record.product, artifacts=artifacts)
    workspace.store.ledger.append(msgspec.structs.replace(record, product=product, at=0.0))
    workspace.store.ledger.close()


READ_TENSORBOARD = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0}).Reload()
loss = events.Tensors("loss")
third = round(float(loss[2].tensor_proto.float_val[0]), 6)
print(len(loss), loss[-1].step, third, *sorted(events.Tags()["tensors"]))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_tensorboard_reads_every_point_of_the_curve(project: Project, libraries: str, tmp_path: Path) -> None:
    with_log(project, "p3-train.m000.s0")
    out = tmp_path / "board"
    done = python(project, libraries, MAIN, "report", "paper", "--export", "tensorboard", "-o", out)
    assert (done.code, done.stdout) == (0, f"wrote 4 runs for tensorboard to {out}\n"), done.stderr
    read = python(project, libraries, READ_TENSORBOARD, out / "p3-train.m000.s0")
    fields = read.stdout.split()
    assert fields[:3] == ["2000", "2000", "1.0"], read.stderr
    assert fields[3:] == ["final/bbox_mAP", "final/bbox_mAP_50", "loss", "lr", "val/bbox_mAP"]
    again = python(project, libraries, MAIN, "report", "paper", "--export", "tensorboard", "-o", out)
    assert again.code == 2
    assert "not empty" in again.stderr


READ_MLFLOW = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///" + sys.argv[1])
experiment = client.get_experiment_by_name("paper")
for run in client.search_runs([experiment.experiment_id]):
    p, m = run.data.params, run.data.metrics
    history = client.get_metric_history(run.info.run_id, "loss")
    ap = m["final/bbox_mAP"]
    print(run.info.run_name, p["seed"], p["implementation"], ap, len(history), run.info.status)
"""


@pytest.mark.slow
def test_mlflow_has_parameters_metrics_and_history(project: Project, libraries: str, tmp_path: Path) -> None:
    with_log(project, "p3-train.m000.s0")
    out = tmp_path / "mlflow"
    done = python(project, libraries, MAIN, "report", "paper", "--export", "mlflow", "-o", out)
    assert (done.code, done.stdout) == (0, f"wrote 4 runs for mlflow to {out}\n"), done.stderr
    read = python(project, libraries, READ_MLFLOW, out / "mlflow.db")
    lines = sorted(read.stdout.splitlines())
    assert [line.split()[0] for line in lines] == [
        "p3-test.m000.s0", "p3-train.m000.s0", "p4-test.m000.s0", "p4-train.m000.s0"
    ]  # fmt: skip
    assert lines[1] == "p3-train.m000.s0 0 legacy 0.512 2000 FINISHED"


READ_WANDB = """
import pathlib, struct, sys
from wandb.proto.wandb_internal_pb2 import Record
BLOCK, HEADER = 32768, 7  # LevelDB's log format: blocks of pieces, each with checksum, length and kind
for path in sorted(pathlib.Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")):
    data, at, record, steps, summary, name, config = path.read_bytes(), HEADER, b"", 0, {}, "", {}
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        record += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last piece
            found, record = Record.FromString(record), b""
            steps += sum("loss" in (i.key, *i.nested_key) for i in found.history.item)
            summary.update({"".join(i.nested_key) or i.key: i.value_json for i in found.summary.update})
            name = found.run.display_name or name
            config.update({i.key: i.value_json for i in found.run.config.update})
    print(name, config.get("seed"), summary.get("final/bbox_mAP"), steps)
"""


@pytest.mark.slow
def test_wandb_offline_has_the_curve_and_the_summary(
    project: Project, libraries: str, tmp_path: Path
) -> None:
    with_log(project, "p3-train.m000.s0")
    out = tmp_path / "wandb"
    done = python(project, libraries, MAIN, "report", "paper", "--export", "wandb-offline", "-o", out)
    assert (done.code, done.stdout) == (0, f"wrote 4 runs for wandb-offline to {out}\n"), done.stderr
    read = python(project, libraries, READ_WANDB, out)
    lines = sorted(read.stdout.splitlines())
    assert len(lines) == 4, read.stderr
    assert lines[1] == """p3-train.m000.s0 "0" 0.512 2000"""


def test_a_library_that_is_missing_names_its_extra(project: Project, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['wandb'] = None; {MAIN}"
    done = python(project, "", code, "report", "paper", "--export", "wandb-offline", "-o", tmp_path / "w")
    assert done.code == 2
    assert "pip install 'ddqjobs[wandb]'" in done.stderr
    assert not (tmp_path / "w").exists()
