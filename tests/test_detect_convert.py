"""ddqjobs.detect.convert and the safe loading of checkpoints. Needs torch; no detector."""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ddqjobs.detect import align, convert, files, runtime  # noqa: E402


def state() -> Any:
    """Weights as after a training step: the head's branch is in the decoder, too."""
    branch = torch.arange(6.0).reshape(2, 3)
    weights = OrderedDict(
        {
            "backbone.weight": torch.tensor([1.0, math.nan, -0.0]),
            "bbox_head.aux_reg_branches.0.weight": branch,
            "decoder.aux_reg_branches.0.weight": branch,
        }
    )
    weights._metadata = OrderedDict({"": {"version": 2}})  # type: ignore[attr-defined]
    return weights


def target() -> Any:
    return {k: torch.zeros_like(v) for k, v in state().items() if not k.startswith("decoder")}


def write(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def run(tmp_path: Path, source: Path, model: Any) -> dict[str, Any]:
    out = tmp_path / "out" / "checkpoint.pth"
    return convert.convert(runtime.load_checkpoint(source), model, source, out, "identity")


def test_every_key_is_accounted_for(tmp_path: Path) -> None:
    source = write(tmp_path / "a.pth", {"meta": {"epoch": 12, "cfg": "x"}, "state_dict": state()})
    report = run(tmp_path, source, target())
    assert report["tensors"] == 2
    assert [d["key"] for d in report["dropped"]] == ["decoder.aux_reg_branches.0.weight"]
    assert "same storage" in report["dropped"][0]["reason"]
    assert report["metadata"] is True
    assert report["source"] == {"sha256": files.sha256(source), "bytes": source.stat().st_size}
    out = tmp_path / "out" / "checkpoint.pth"
    assert report["target"]["sha256"] == files.sha256(out)
    content = runtime.load_checkpoint(out)
    assert content["state_dict"]._metadata == state()._metadata
    assert content["meta"] == {"epoch": 12, "converted_from": report["source"]["sha256"]}
    for key, value in content["state_dict"].items():
        assert value.numpy().tobytes() == state()[key].numpy().tobytes()


def test_same_input_gives_the_same_file(tmp_path: Path) -> None:
    source = write(tmp_path / "a.pth", state())
    digests = {run(tmp_path / name, source, target())["target"]["sha256"] for name in ("x", "y")}
    assert len(digests) == 1


def test_copy_that_is_no_copy_is_not_dropped(tmp_path: Path) -> None:
    weights = state()
    weights["decoder.aux_reg_branches.0.weight"] = torch.zeros(2, 3)
    source = write(tmp_path / "a.pth", weights)
    with pytest.raises(runtime.CannotLoad, match=r"unknown to the model, e\.g\. decoder"):
        run(tmp_path, source, target())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("backbone.weight", None, "1 weights missing, e.g. backbone.weight"),
        ("backbone.weight", torch.zeros(4), "of another shape"),
        ("backbone.weight", torch.zeros(3, dtype=torch.float64), "of another type"),
        ("new.weight", torch.zeros(3), "unknown to the model"),
        ("new.weight", "text", "no tensor"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, key: str, value: Any, words: str) -> None:
    weights = state()
    weights[key] = value
    if value is None:
        del weights[key]
    source = write(tmp_path / "a.pth", weights)
    with pytest.raises(runtime.CannotLoad, match=words):
        run(tmp_path, source, target())
    assert not (tmp_path / "out").exists()


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_bad_files_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "good.pth", state()).read_bytes()
    (tmp_path / "torn.pth").write_bytes(good[: len(good) // 2])
    (tmp_path / "flipped.pth").write_bytes(good.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"))
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "empty.pth").write_bytes(b"")
    write(tmp_path / "evil.pth", {"state_dict": Evil()})
    write(tmp_path / "list.pth", [1])
    for name in ("torn", "flipped", "pickle", "empty", "evil", "list", "missing"):
        with pytest.raises(runtime.CannotLoad) as caught:
            runtime.load_checkpoint(tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_nothing_stays_if_what_was_written_differs(tmp_path: Path) -> None:
    def check(_: Path) -> None:
        raise runtime.CannotLoad("differs")

    with pytest.raises(runtime.CannotLoad):
        runtime.save({}, tmp_path / "x.pth", check)
    assert list(tmp_path.iterdir()) == []


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "allow_checkpoints", lambda: None)  # needs mmengine
    a = write(tmp_path / "a.pth", state())
    assert align.weights(a, a)["bit_equal"] is True
    other = state()
    other["bbox_head.aux_reg_branches.0.weight"] = torch.arange(6.0).reshape(2, 3) + 0.25
    other["extra"] = torch.zeros(1)
    found = align.weights(a, write(tmp_path / "b.pth", other))
    assert found["bit_equal"] is False
    assert found["metrics"] == {"weight": 0.25, "differing": 1, "tensors": 3, "not_finite": 0}
    assert (found["worst"], found["only_b"]) == ("bbox_head.aux_reg_branches.0.weight", ["extra"])
    with pytest.raises(align.CannotCompare):
        align.weights(a, tmp_path / "missing.pth")
