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
    words = f"{path} is not what its name says, its SHA-256 begins with {short}"
    assert found() == [f"model.backbone.init_cfg.checkpoint: {words}"] * named
