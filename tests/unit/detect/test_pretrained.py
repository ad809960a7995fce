"""Weights in torch's cache that are not what their names say are named before a training begins."""

from __future__ import annotations

import hashlib
from pathlib import Path

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
    model = {"backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": checkpoint}}}

    def found() -> list[str]:
        zoo = {"resnet50": f"https://x/{NAME}", "resnet18": "https://x/resnet18-00000000.pth"}
        return [finding.line() for finding in pretrained.check(model, lambda _: zoo)]

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
    (finding,) = pretrained.check({"parts": model})
    assert "r50-20211304.pth is not what its name says" in finding.line()
