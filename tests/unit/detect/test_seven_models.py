"""The seven models of the plan: weights in the release's layout are converted and loaded by the new code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from ddqjobs.detect import convert, runtime, weight_files  # noqa: E402
from tests.support import shrunken  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
CONFIGS = ROOT / "experiments" / "configs"
NANO = CONFIGS / "nano" / "ddq-detr_r18_shapes.py"
DETR_4SCALE = "760730e068cae0037b7cfc6c72b46b1ea114484701ced2e53048ddc5e8f87c29"
FCN = "29d7015b3ec13ade5f39bc4b205d7b2cd1768a5ff1b0538cf9c20d1660167eff"
RCNN = "833d3cbc9a18e1c9b30214130d5c9b73a86ad59c4247fcd0c59ea1f355032173"
# Number of weights and SHA-256 of their names, shapes and types, in order: measured with the release.
MODELS = {
    "ddq-fcn-12e": ("ddq-fcn_r50_8xb2-12e_coco.py", 384, FCN),
    "ddq-fcn-36e": ("ddq-fcn_r50_8xb2-36e_coco.py", 384, FCN),
    "ddq-rcnn-12e": ("ddq-rcnn_r50_8xb2-12e_coco.py", 470, RCNN),
    "ddq-rcnn-36e": ("ddq-rcnn_r50_8xb2-36e_coco.py", 470, RCNN),
    "ddq-detr-4scale": ("ddq-detr-4scale_r50_8xb2-12e_coco.py", 684, DETR_4SCALE),
    "ddq-detr-5scale": (
        "ddq-detr-5scale_r50_8xb2-12e_coco.py",
        687,
        "07c49eaab8874606170a95a05822a7d377616521ddab5b59bc4b3a6905b4c2cf",
    ),
    "ddq-detr-swinl": (
        "ddq-detr-4scale_swinl_8xb2-30e_coco.py",
        721,
        "821a39f1765f951cf920bb2e04c1a0c3bbc94b3abbc36c82f96f03364a74928d",
    ),
}


def build(name: str) -> Any:
    runtime.set_up()
    if name.startswith("ddq-detr"):
        import mmdet

        folder = Path(mmdet.__file__).parent / ".mim" / "configs" / "ddq"
    else:
        folder = CONFIGS / "ddq"
    cfg = runtime.load_config(str(folder / MODELS[name][0]))
    cfg.model.backbone.init_cfg = None
    return runtime.build_model(cfg)


def layout(state: Any) -> str:
    lines = [f"{key} {tuple(v.shape)} {str(v.dtype)[len('torch.') :]}" for key, v in state.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", shrunken.one_of_each_kind(MODELS))
def test_weights_in_the_releases_layout_are_converted_and_loaded(name: str, tmp_path: Path) -> None:
    model, (_, count, digest) = build(name), MODELS[name]
    state = model.state_dict()
    assert (len(state), layout(state)) == (count, digest)
    # A random number for each weight, spread over its shape: the file stays small, also Swin-L's.
    generator = torch.Generator().manual_seed(4)
    for key, value in state.items():
        state[key] = (torch.rand((), generator=generator) * 9).to(value.dtype).expand(value.shape)
    source, out = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"meta": {"CLASSES": ("a",), "epoch": 12}, "state_dict": state}, source)
    report = convert.convert(weight_files.load(source), model.state_dict(), source, out, "identity")
    assert (report["tensors"], report["dropped"], report["renamed"]) == (count, [], {})
    converted = runtime.load_checkpoint(out)["state_dict"]
    missing, unexpected = model.load_state_dict(converted, strict=True)
    assert (missing, unexpected) == ([], [])
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize(("name", "head"), [("ddq-fcn-12e", "bbox_head"), ("ddq-rcnn-12e", "rpn_head")])
def test_checkpoint_without_versions_would_swap_the_predictors(name: str, head: str, tmp_path: Path) -> None:
    """The trap, shown; and that what convert writes does not fall into it."""
    model = build(name)
    plain = {
        key: torch.full_like(value, number) for number, (key, value) in enumerate(model.state_dict().items())
    }
    model.load_state_dict(dict(plain), strict=False)
    wrong = model.state_dict()[f"{head}.conv_cls.bias"]
    assert torch.equal(wrong, plain[f"{head}.aux_conv_cls.bias"])
    source, out = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(plain, source)
    report = convert.convert(weight_files.load(source), model.state_dict(), source, out, "identity")
    assert report["metadata"] == "repaired"
    model.load_state_dict(runtime.load_checkpoint(out)["state_dict"], strict=True)
    assert torch.equal(model.state_dict()[f"{head}.conv_cls.bias"], plain[f"{head}.conv_cls.bias"])


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("executed",))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, folder / "wrong-model.pth")
    whole = (folder / "wrong-model.pth").read_bytes()
    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "corrupted.pth").write_bytes(whole.replace(bytes(64), bytes(63) + b"\1", 1))  # one weight's bit
    (folder / "garbled.pth").write_bytes(whole.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"))
    torch.save({"state_dict": [1]}, folder / "list.pth")
    (folder / "text.pth").write_text("no checkpoint")
    (folder / "bare.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"state_dict": Evil()}, folder / "hostile.pth")
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong-model", "does not fit the model: "),
        ("truncated", "torn or no checkpoint"),
        ("corrupted", "damaged: the checksum of wrong-model/data/0 is another one"),
        ("garbled", "damaged: the checksum of wrong-model/data.pkl is another one"),
        ("list", "its state_dict is a list, not a dictionary"),
        ("text", "torn or no checkpoint"),
        ("bare", "bare.pth: is no checkpoint that can be read without running code from it"),
        ("hostile", "asks for posix.mkdir, which is no part of a checkpoint"),
        ("missing", "No such file"),
    ],
)
def test_what_cannot_be_converted(
    name: str,
    message: str,
    bad: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, exit code 2, nothing written, nothing executed."""
    monkeypatch.chdir(tmp_path)
    argv = [str(bad / f"{name}.pth"), "--config", str(NANO)]
    argv += ["--out", str(tmp_path / "o" / "c.pth"), "--report", str(tmp_path / "o" / "c.json")]
    assert convert.main(argv) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert errors.startswith("convert: ")
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_report_is_json(tmp_path: Path) -> None:
    runtime.set_up()
    model = runtime.build_model(runtime.load_config(str(NANO)))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    options = [
        "--config",
        str(NANO),
        "--out",
        str(tmp_path / "b.pth"),
        "--report",
        str(tmp_path / "r" / "r.json"),
    ]
    assert convert.main([str(tmp_path / "a.pth"), *options]) == 0
    report = json.loads((tmp_path / "r" / "r.json").read_text())
    assert set(report) == {
        "mapping", "layout", "source", "target", "tensors", "renamed", "dropped", "beside", "metadata",
        "optimizer", "averaged", "meta"
    }  # fmt: skip
