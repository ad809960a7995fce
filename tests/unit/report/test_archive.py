"""One file with all that an experiment's numbers stand on: what is in it, and what its verification finds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from typer.testing import CliRunner

from ddqjobs.base.errors import InputError
from ddqjobs.cli.commands import app
from ddqjobs.report.archive import opening
from ddqjobs.report.archive.machine_paths import MachinePaths
from tests.support.trivial import TrivialProject

SECRET = "wandb-of-alice-0123456789"
STAMP = "20260101_000000"
EXPERIMENT: dict[str, Any] = {
    "name": "mine",
    "implementations": {"only": "the only one"},
    "codes": {"shell": {"commands": {}, "variables": {"WANDB_API_KEY": SECRET}}},
    "models": {"m": {"implementations": {"only": {"code": "shell"}}, "reference": {"ap": 100}}},
    "phases": {"1": {"title": "one", "against": "reference", "tolerance": {"ap": 0.1}}},
    "tasks": {
        "start": {
            "kind": "prepare", "once": True, "code": "shell", "command": ["true"],
            "products": {"out": "s.pth"},
        },
        "test": {
            "kind": "test", "phase": "1", "implementation": "only", "command": ["true"],
            "products": {"predictions": "results.bbox.json"},
        },
    },
}  # fmt: skip
TRUTH = {
    "images": [{"id": 1, "width": 64, "height": 64}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 40, 40], "area": 1600, "iscrowd": 0}
    ],
    "categories": [{"id": 1, "name": "disc"}],
}
PREDICTIONS = [{"image_id": 1, "category_id": 1, "bbox": [8, 8, 40, 40], "score": 0.9}]
Rewrite = Callable[[dict[str, bytes]], Path]


def ddqjobs(*arguments: str) -> tuple[int, str]:
    """A command line: exit code and output."""
    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return ran.exit_code, ran.stdout + ran.stderr


def left_by_a_test(folder: Path, truth: Path) -> Path:
    """Write the files that a test of mmdet 3.x leaves; return the folder."""
    (folder / STAMP / "vis_data").mkdir(parents=True)
    config = f"test_evaluator = dict(type='CocoMetric', ann_file='{truth}')\nkeep = '/annotations/val.json'\n"
    (folder / STAMP / "vis_data" / "config.py").write_text(config)
    (folder / STAMP / f"{STAMP}.json").write_text('{"coco/bbox_mAP": 1.0, "coco/bbox_mAP_50": 1.0}')
    (folder / STAMP / f"{STAMP}.log").write_text(f"of /scratch/alice/x.pth in {folder}, key {SECRET}\n")
    (folder / "results.bbox.json").write_text(json.dumps(PREDICTIONS))
    (folder / "notes.bin").write_bytes(b"\0\1")
    return folder


def project(root: Path, *, truth: bool = True) -> TrivialProject:
    """A project with a test that was adopted, and a checkpoint."""
    example = TrivialProject(root)
    example.write("experiments/mine.yaml", EXPERIMENT)
    annotations = root.parent / "coco" / "val.json"
    annotations.parent.mkdir(exist_ok=True)
    if truth:
        annotations.write_text(json.dumps(TRUTH))
    start = root.parent / "start"
    start.mkdir(exist_ok=True)
    with zipfile.ZipFile(start / "s.pth", "w") as weights:
        weights.writestr("s/data.pkl", b"weights")
    old = left_by_a_test(root.parent / "old work_dir", annotations)
    for run, path in (("start", start), ("test.m", old)):
        code, output = ddqjobs("adopt", "mine", run, str(path), "-C", str(root))
        assert code == 0, output
    return example


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An archive, and the folder that its project lies in; the project is gone."""
    folder = tmp_path_factory.mktemp("machine")
    project(folder / "project")
    path = folder / "mine.crate.zip"
    for out in (path, folder / "again.zip"):
        code, output = ddqjobs("archive", "mine", "-o", str(out), "-C", str(folder / "project"))
        assert code == 0, output
    assert path.read_bytes() == (folder / "again.zip").read_bytes()  # same content, same bytes
    for name in ("project", "coco", "old work_dir"):
        shutil.rmtree(folder / name)
    return path, folder


@pytest.fixture
def rewrite(written: tuple[Path, Path], tmp_path: Path) -> Rewrite:
    """Makes the archive anew, with other contents of some members and digests that fit them."""

    def made(changes: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(written[0]) as source:
            content = {name: source.read(name) for name in source.namelist()} | changes
        crate = json.loads(content["ro-crate-metadata.json"])
        for item in crate["@graph"]:
            if item["@type"] == "File":
                item["sha256"] = hashlib.sha256(content[item["@id"]]).hexdigest()
        content["ro-crate-metadata.json"] = json.dumps(crate).encode()
        content.pop("manifest-sha256.txt")
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items()]
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as target:
            for name, data in {**content, "manifest-sha256.txt": "".join(lines).encode()}.items():
                target.writestr(name, data)
        return tmp_path / "changed.zip"

    return made


def verified(path: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code of a verification in a folder without a project, and what it found."""
    code, output = ddqjobs("archive", "verify", str(path), "--json", "-C", str(folder))
    archive = json.loads(output)["archive"]
    return code, {check["what"]: (check["holds"], check["found"]) for check in archive["checks"]}


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def test_an_archive_holds_where_its_project_is_gone(written: tuple[Path, Path], tmp_path: Path) -> None:
    code, checks = verified(written[0], tmp_path)
    assert {what: holds for what, (holds, _) in checks.items()} == dict.fromkeys(
        ("files", "crate", "runs", "artifacts", "AP", "verdicts"), True
    )
    assert code == 0
    assert checks["AP"][1] == "computed from the predictions of 1 test of 1, as printed"
    assert checks["verdicts"][1].startswith("overall: reproduced; 2 of 2")
    assert list(tmp_path.iterdir()) == []


def test_neither_secrets_nor_paths_of_the_machine_are_inside(written: tuple[Path, Path]) -> None:
    path, folder = written
    inside = dict(members(path))
    for name, data in inside.items():
        for word in (SECRET, str(folder), "/scratch/alice", "secrets.sh"):
            assert word.encode() not in data, name
    log = next(data for name, data in inside.items() if name.endswith(f"{STAMP}.log"))
    assert log == b"of {machine}/x.pth in {machine}/old work_dir, key ***\n"


def test_what_is_inside_is_described_as_an_ro_crate(written: tuple[Path, Path]) -> None:
    inside = dict(members(written[0]))
    graph = {item["@id"]: item for item in json.loads(inside["ro-crate-metadata.json"])["@graph"]}
    assert graph["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    parts = {part["@id"] for part in graph["./"]["hasPart"]}
    assert parts == inside.keys() - {"ro-crate-metadata.json", "manifest-sha256.txt"}
    assert parts >= {"experiment.json", "plan.json", "report/report.html", "specification/mine.yaml"}
    predictions = "results/mine/runs/test.m/attempts/1/work_dir/results.bbox.json"
    assert graph[predictions]["sha256"] == hashlib.sha256(inside[predictions]).hexdigest()
    assert {"@id": predictions} in graph["#run-test.m"]["result"]
    left_out = json.loads(inside["archive.json"])["left_out"]
    assert left_out == {
        "results/mine/runs/start/attempts/1/work_dir/s.pth": "weights",
        "results/mine/runs/test.m/attempts/1/work_dir/notes.bin": "no text",
    }


LEDGER = re.compile(r"results/mine/ledger/.*")
PRODUCT = "results/mine/runs/test.m/product.json"


def forged(written: Path, old: bytes, new: bytes, *names: str) -> dict[str, bytes]:
    """Members in which something was replaced."""
    contents = {
        n: d for n, d in members(written) if n in names or ("ledger" in names and LEDGER.fullmatch(n))
    }
    assert all(old in data for data in contents.values() if b"test.m" in data)
    return {name: data.replace(old, new) for name, data in contents.items()}


def test_numbers_that_the_predictions_do_not_give_do_not_hold(
    written: tuple[Path, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    changes = forged(written[0], b'"bbox_mAP":1.0', b'"bbox_mAP":0.9', "ledger")
    product = json.loads(dict(members(written[0]))[PRODUCT])
    product["metrics"]["bbox_mAP"] = 0.9
    code, checks = verified(rewrite({**changes, PRODUCT: json.dumps(product).encode()}), tmp_path)
    assert (code, checks["runs"][0]) == (1, True)
    assert checks["AP"] == (False, "test.m differs: AP")
    assert checks["verdicts"][0] is False


def test_records_that_contradict_each_other_do_not_hold(
    written: tuple[Path, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    code, checks = verified(rewrite({PRODUCT: b"{}"}), tmp_path)
    assert (code, checks["runs"]) == (1, (False, "test.m's product.json is not what the ledger recorded"))
    name = "results/mine/runs/test.m/attempts/1/work_dir/results.bbox.json"
    code, checks = verified(rewrite({name: json.dumps(PREDICTIONS * 2).encode()}), tmp_path)
    assert checks["artifacts"] == (False, "predictions of test.m is not the file that was recorded")
    judged = dict(members(written[0]))["report/judged.json"].replace(b'"ok": true', b'"ok": false')
    code, checks = verified(rewrite({"report/judged.json": judged}), tmp_path)
    assert (code, checks["verdicts"]) == (1, (False, "ok of the report"))


def test_names_that_lead_out_of_the_archive_are_refused(
    written: tuple[Path, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    inside = dict(members(written[0]))
    old = b"attempts/1/work_dir/results.bbox.json"
    victim = tmp_path / "victim"
    run = str(victim / "product").encode()
    plan, index = json.loads(inside["plan.json"]), json.loads(inside["archive.json"])
    twice = {**plan, "runs": [plan["runs"][0]] * 2}
    plan["runs"][1]["run"]["inputs"] = [["data", {"artifact": "a", "run": "nobody"}]]
    for changes, why in (
        (forged(written[0], b'"test.m"', b'"%s"' % run, "ledger", "plan.json"), "not a name"),
        (forged(written[0], b'"test.m"', b'"../m"', "ledger"), "'../m': not a name"),
        (forged(written[0], old, b"/dev/zero", "ledger"), "'/dev/zero' is not a path in the archive"),
        (forged(written[0], old, b"../x", "ledger"), "'../x' is not a path in the archive"),
        (
            {"archive.json": {**index, "annotations": {"test.m": "/etc/passwd"}}},
            "'/etc/passwd' is not inside",
        ),
        ({"plan.json": twice}, "plan.json: 'start' appears twice"),
        ({"plan.json": plan}, "plan.json: 'test.m' reads 'nobody', which does not come before it"),
        ({"plan.json": b"[" * 10**5}, "plan.json: missing or invalid"),
    ):
        data = {n: d if isinstance(d, bytes) else json.dumps(d).encode() for n, d in changes.items()}
        code, checks = verified(rewrite(data), tmp_path)
        assert (code, list(checks), checks["files"][0]) == (1, ["files"], False)
        assert checks["files"][1].endswith(why)
    assert not victim.exists()
    ledger = next(name for name in inside if LEDGER.fullmatch(name))
    code, checks = verified(rewrite({ledger: inside[ledger] + b'{"a":' * 10**5 + b"\n"}), tmp_path)
    assert (code, checks["records"][0]) == (1, False)
    assert "\n" not in checks["records"][1]


def test_ap_holds_only_where_it_was_computed(
    written: tuple[Path, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    inside = dict(members(written[0]))
    old = b"attempts/1/work_dir/results.bbox.json"
    name = f"results/mine/runs/test.m/{old.decode()}"
    digest = hashlib.sha256(inside[name]).hexdigest().encode()
    names = ("ledger", PRODUCT)
    torn = forged(written[0], digest, hashlib.sha256(b"{}").hexdigest().encode(), *names)
    code, checks = verified(rewrite({**torn, name: b"{}"}), tmp_path)
    assert (code, checks["artifacts"][0], checks["AP"][0]) == (1, True, False)
    assert checks["AP"][1].startswith(
        "test.m: what is inside cannot be evaluated: the predictions are a JSON"
    )
    masks = forged(written[0], b'"bbox_mAP"', b'"segm_mAP"', *names)
    assert verified(rewrite(masks), tmp_path)[1]["AP"] == (None, "test.m: the log has no box AP")
    # The annotations of this machine are not the archive's.
    index = {**json.loads(inside["archive.json"]), "annotations": {}}
    plan = json.loads(inside["plan.json"])
    plan["runs"][1]["run"]["workdir"] = str(tmp_path)
    local = tmp_path / "{machine}" / "val.json"
    local.parent.mkdir()
    local.write_text(json.dumps(TRUTH))
    changes = {"archive.json": index, "plan.json": plan}
    here = {n: json.dumps(d).encode() for n, d in changes.items()}
    code, checks = verified(rewrite(here), tmp_path)
    assert checks["AP"] == (None, "test.m: the annotations are not there")


def test_predictions_that_an_archive_says_it_has_rewritten_do_not_hold(
    written: tuple[Path, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    inside = dict(members(written[0]))
    name = "results/mine/runs/test.m/attempts/1/work_dir/results.bbox.json"
    index = json.loads(inside["archive.json"])
    truth = index["annotations"]["test.m"]
    for rewritten in (name, truth):
        index["original"][rewritten] = hashlib.sha256(inside[rewritten]).hexdigest()
    changes = {name: inside[name] + b"\n", "archive.json": json.dumps(index).encode()}
    code, checks = verified(rewrite(changes), tmp_path)
    reason = f"{truth} was rewritten; predictions of test.m was rewritten"
    assert (code, checks["artifacts"]) == (1, (False, reason))


def test_verdicts_hold_whatever_else_a_report_says(
    written: tuple[Path, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    inside = dict(members(written[0]))
    names = ("report/judged.json", "report/report.json")
    judged, report = (json.loads(inside[name]) for name in names)
    judged["models"][0]["cells"][0]["of_another_version"] = {"a": 1}
    del judged["checks"][0]["headline"], judged["models"][0]["cells"][0]["seeds"]
    code, checks = verified(rewrite({names[0]: json.dumps(judged).encode()}), tmp_path)
    assert (code, checks["verdicts"][0]) == (0, True)
    assert checks["verdicts"][1].endswith("its page and its text are not compared")
    report["models"][0]["cells"][0]["values"]["AP50"]["mean"] = 99.0
    code, checks = verified(rewrite({names[1]: json.dumps(report).encode()}), tmp_path)
    assert (code, checks["verdicts"]) == (1, (False, "models of report.json"))


def test_files_that_are_not_what_is_listed_are_refused(written: tuple[Path, Path], tmp_path: Path) -> None:
    for change, why in (
        ({PRODUCT: b"{}"}, f"digests differ: {PRODUCT}"),
        ({"evil.sh": b"rm"}, "1 file inside and not listed, first evil.sh"),
        ({PRODUCT: None}, f"1 file listed and not inside, first {PRODUCT}"),
        ({"../evil.sh": b""}, "'../evil.sh': a path out of the archive"),
        ({"/etc/evil": b""}, "'/etc/evil': a path out of the archive"),
        ({"plan.json/x": b""}, "1 file a file and a folder, first plan.json"),
        ({"a" * 300: b""}, f"{'a' * 200!r}: not a name of a file"),
    ):
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as target:
            for name, data in (dict(members(written[0])) | change).items():
                if data is not None:
                    target.writestr(name, data)
        assert verified(tmp_path / "changed.zip", tmp_path) == (1, {"files": (False, why)})


def test_a_damaged_archive_is_told_and_never_a_traceback(written: tuple[Path, Path], tmp_path: Path) -> None:
    whole = written[0].read_bytes()
    broken = tmp_path / "broken.zip"
    for seed in range(60):  # half in the directory at the end, half anywhere
        data, chance = bytearray(whole), random.Random(seed)
        for _ in range(3):
            data[chance.randrange(len(data) - 4000 if seed % 2 else 0, len(data))] = chance.randrange(256)
        broken.write_bytes(data)
        with contextlib.suppress(InputError, opening.BrokenError):
            archive = opening.Opened(broken)
            archive.unpack(tmp_path / "unpacked", archive.digests())


def test_links_and_bombs_are_refused_before_anything_is_unpacked(
    written: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(written[0], tmp_path / "link.zip"))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert verified(path, tmp_path)[1] == {"files": (False, "'link': a link or a device")}
    monkeypatch.setattr(opening, "_ANYWAY", 1 << 20)  # a smaller bomb is one, too
    path = Path(shutil.copy(written[0], tmp_path / "bomb.zip"))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(64 << 20))
    holds, detail = verified(path, tmp_path)[1]["files"]
    assert holds is False
    assert re.match(r"refused: unpacks to 6\d MiB, \d+ times its size", detail)


def test_what_is_no_archive_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    code, output = ddqjobs("archive", "verify", str(tmp_path / "x.zip"), "-C", str(tmp_path))
    assert (code, "cannot be read as an archive: File is not a zip file" in output) == (2, True)
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("a", "b")
    code, output = ddqjobs("archive", "verify", str(tmp_path / "y.zip"), "-C", str(tmp_path))
    assert (code, "not an archive of ddqjobs" in output) == (2, True)


def test_without_annotations_ap_is_not_recomputed_and_with_weights_they_are_inside(tmp_path: Path) -> None:
    example = project(tmp_path / "project", truth=False)
    out = tmp_path / "with.zip"
    options = ("-o", str(out), "--weights", "--json", "-C", str(example.root))
    code, output = ddqjobs("archive", "mine", *options)
    archive = json.loads(output)["archive"]
    assert (code, archive["path"]) == (0, str(out))
    assert archive["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert archive["left_out"]["annotations of test.m"] == "not there"
    assert dict(members(out))["results/mine/runs/start/attempts/1/work_dir/s.pth"][:2] == b"PK"
    (tmp_path / "empty").mkdir()
    code, checks = verified(out, tmp_path / "empty")
    assert (code, checks["AP"][0]) == (0, None)
    assert checks["AP"][1] == "test.m: the annotations are not there"


def test_an_experiment_that_nobody_submitted_has_an_archive_too(tmp_path: Path) -> None:
    example = TrivialProject(tmp_path / "project")
    out = tmp_path / "trivial.zip"
    assert ddqjobs("archive", "-o", str(out), "-C", str(example.root))[0] == 0
    code, checks = verified(out, tmp_path)
    assert (code, checks["runs"]) == (0, (True, "0 of 2 runs done, by ledger, plan and products"))
    assert not (example.root / "results").exists()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('export A="$results"/runs/a; "${b}"/c/d', 'export A="$results"/runs/a; "${b}"/c/d'),
        (
            "#!/usr/bin/env bash\n> /dev/null; https://a.b/c/d",
            "#!/usr/bin/env bash\n> /dev/null; https://a.b/c/d",
        ),
        ("/p/q/r x=/p/q-2/r PATH=/opt/x/bin:/p/q", "{project}/r x={machine}/r PATH={machine}/bin:{project}"),
        ('{"script":"cd \\"/a/b c\\""} 1/16', '{"script":"cd \\"{machine}/b c\\""} 1/16'),
    ],
)
def test_only_paths_of_a_machine_are_masked(text: str, masked: str) -> None:
    assert MachinePaths({"/p/q": "{project}"}).masked(text) == masked


@pytest.mark.parametrize("folder", ["/home/张三/d é", "/data/d'été"])
def test_a_folder_is_masked_however_a_file_has_its_name(folder: str) -> None:
    in_json = json.dumps({"a": f"{folder}/x"})
    by_line = json.dumps(f"set -e\n{folder}/x\n/home/李四/z")
    quoted = msgspec.json.encode(shlex.quote(folder)).decode()
    forms = [folder, quoted, folder.replace(" ", "\\ "), in_json, json.dumps(in_json), by_line]
    text = "\n".join([*forms, f"file://{quote(folder)}/y", json.dumps("/home/李四/z")])
    left = MachinePaths({folder: "{project}"}).masked(text)
    assert left.count("{project}") == 7
    assert left.count("{machine}/z") == 2
    names = ("home", "data", *(json.dumps(name)[1:-1] for name in ("张", "李", "é")), "张", "李", "é", "%C3")
    assert [name for name in names if name in left] == []
