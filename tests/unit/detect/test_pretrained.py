"""Weights in torch's cache that are not what their names say are named before a training begins."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.detect.checks import pretrained

DIGEST = hashlib.sha256(b"weights").hexdigest()[:8]
NAME = f"resnet50-{DIGEST}.pth"


@pytest.mark.parametrize(
    ("checkpoint", "named"),
    [
        ("torchvision://resnet50", True),
        (f"https://download.pytorch.org/models/{NAME}?x=1", True),
        ("torchvision://resnet18", False),  # not in the cache
        (f"/data/{NAME}", False),  # an input, or whatever the detector says of it
        (None, False),
    ],
)
def test_another_file_under_the_name_of_weights(
    checkpoint: str | None, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / NAME
    path.parent.mkdir(parents=True)
    cfg = {"model": {"backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": checkpoint}}}}

    def found() -> list[str]:
        zoo = {"resnet50": f"https://x/{NAME}", "resnet18": "https://x/resnet18-00000000.pth"}
        return [finding.line() for finding in pretrained.check(cfg, addresses=lambda _: zoo)]

    path.write_bytes(b"weights")
    assert found() == []
    path.write_bytes(b"weigh")
    short = hashlib.sha256(b"weigh").hexdigest()[:8]
    reason = f"{path} is not what its name says, its SHA-256 begins with {short}"
    assert found() == [f"model.backbone.init_cfg.checkpoint: {reason}"] * named


def test_a_date_in_a_name_is_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    url = "https://x/r50-{}.pth"
    for word in ("20210804", "20211304"):  # the second is no date: it has no thirteenth month
        (cache / f"r50-{word}.pth").write_bytes(b"weights")
    model = [{"checkpoint": url.format(word)} for word in ("20210804", "20211304")]
    (finding,) = pretrained.check({"model": {"parts": model}})
    assert "r50-20211304.pth is not what its name says" in finding.line()


CAFFE = "https://download.openmmlab.com/pretrain/third_party/resnet50_msra-5891d200.pth"


@pytest.mark.parametrize(
    ("named", "source"),
    [
        ("open-mmlab://detectron2/resnet50_caffe", f" from {CAFFE}"),
        (CAFFE, ""),
        ("open-mmlab://no/such/name", None),  # its detector says so
        ("/data/resnet50_msra-5891d200.pth", None),  # looked for as a file
    ],
)
@pytest.mark.parametrize("section", ["init_cfg", "pretrained", "load_from"])
def test_weights_that_a_training_would_download_and_nobody_declared(
    section: str, named: str, source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    configurations: dict[str, tuple[dict[str, Any], str]] = {
        "init_cfg": (
            {"model": {"backbone": {"init_cfg": {"checkpoint": named}}}},
            "model.backbone.init_cfg.checkpoint",
        ),
        "pretrained": ({"model": {"pretrained": named}}, "model.pretrained"),
        "load_from": ({"load_from": named, "model": {}}, "load_from"),
    }
    cfg, key = configurations[section]

    def found(declared: list[str] | None) -> list[tuple[str, str]]:
        zoo = {"detectron2/resnet50_caffe": CAFFE}
        return [(one.level, one.line()) for one in pretrained.check(cfg, declared, lambda _: zoo)]

    line = (
        f"{key}: {named} is neither in torch's cache nor under `weights`, so the run would download "
        f'it{source} when it starts; declare `weights: {{NAME: {{url: "{CAFFE}"}}}}`, and `ddqjobs data '
        "weights` brings it"
    )
    assert found([]) == [("warning", line)] * (source is not None)
    assert found(["resnet50_msra-5891d200.pth"]) == []
    assert found(None) == []  # in a job, that is about to download it
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet50_msra-5891d200.pth").write_bytes(b"weights")
    assert [level for level, _ in found([])] == ["error"] * (source is not None)  # the name has other digits
