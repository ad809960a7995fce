"""ddqjobs.detect.convert and the safe loading of checkpoints. Needs torch; no detector."""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ddqjobs.detect import convert, files, restricted, runtime, weight_files  # noqa: E402
from ddqjobs.detect.compare import CannotCompare, state_dicts  # noqa: E402


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
    return convert.convert(weight_files.load(source), model, source, out, "identity")


def test_every_key_is_accounted_for(tmp_path: Path) -> None:
    source = write(tmp_path / "a.pth", {"meta": {"epoch": 12, "cfg": "x"}, "state_dict": state()})
    report = run(tmp_path, source, target())
    assert report["tensors"] == 2
    assert [d["key"] for d in report["dropped"]] == ["decoder.aux_reg_branches.0.weight"]
    assert "same storage" in report["dropped"][0]["reason"]
    assert (report["metadata"], report["averaged"]) == ("kept", False)
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
    ("key", "value", "message"),
    [
        ("backbone.weight", None, "1 weights missing, e.g. backbone.weight"),
        ("backbone.weight", torch.zeros(4), "of another shape"),
        ("backbone.weight", torch.zeros(3, dtype=torch.float64), "of another type"),
        ("new.weight", torch.zeros(3), "unknown to the model"),
        ("new.weight", "text", "no tensor"),
        ("backbone.weight", torch.zeros(3).to_sparse(), "no plain tensor"),
        ("backbone.weight", torch.zeros(3, device="meta"), "no plain tensor"),
    ],
)
# torch 2.11 warns at its first sparse tensor.
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_what_does_not_fit_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    weights = state()
    weights[key] = value
    if value is None:
        del weights[key]
    source = write(tmp_path / "a.pth", weights)
    with pytest.raises(runtime.CannotLoad, match=message):
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
    weight = state()["backbone.weight"].numpy().tobytes()
    assert good.count(weight) == 1
    (tmp_path / "rotten.pth").write_bytes(good.replace(weight, bytes(byte ^ 1 for byte in weight)))
    write(tmp_path / "state.pth", {"state_dict": [1]})
    (tmp_path / "empty.pth").write_bytes(b"")
    write(tmp_path / "evil.pth", {"state_dict": Evil()})
    write(tmp_path / "list.pth", [1])
    for name in ("torn", "flipped", "rotten", "pickle", "empty", "evil", "list", "state", "missing"):
        with pytest.raises(runtime.CannotLoad) as caught:
            runtime.load_checkpoint(tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_flipped_bits_of_a_weight_are_seen(tmp_path: Path) -> None:
    """torch.load would take them for the weight."""
    path = write(tmp_path / "a.pth", state())
    weight = state()["backbone.weight"].numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(weight, bytes(byte ^ 1 for byte in weight)))
    assert (files.torn(path), list(torch.load(path))) == (None, list(state()))
    with pytest.raises(runtime.CannotLoad, match=r"a\.pth: damaged: the checksum of .*/data/\d+ is another"):
        runtime.load_checkpoint(path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_torchs_advice_is_not_passed_on(tmp_path: Path, protocol: int) -> None:
    """It is to load the file with the code in it."""
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol))
    with pytest.raises(runtime.CannotLoad) as caught:
        runtime.load_checkpoint(tmp_path / "bare.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [5, {"param_groups": 5}, {"param_groups": [{"params": [0]}], "state": [1]}]
)
def test_what_is_no_optimizer_does_not_matter(tmp_path: Path, content: Any) -> None:
    source = write(tmp_path / "a.pth", {"state_dict": state(), "optimizer": content})
    assert run(tmp_path, source, target())["optimizer"] is None


def test_nothing_stays_if_what_was_written_differs(tmp_path: Path) -> None:
    def check(_: Path) -> None:
        raise runtime.CannotLoad("differs")

    with pytest.raises(runtime.CannotLoad):
        runtime.save({}, tmp_path / "x.pth", check)
    assert list(tmp_path.iterdir()) == []


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "allow_checkpoints", lambda: None)  # needs mmengine
    a = write(tmp_path / "a.pth", state())
    assert state_dicts.compare(a, a)["bit_equal"] is True
    other = state()
    other["bbox_head.aux_reg_branches.0.weight"] = torch.arange(6.0).reshape(2, 3) + 0.25
    other["extra"] = torch.zeros(1)
    comparison = state_dicts.compare(a, write(tmp_path / "b.pth", other))
    assert comparison["bit_equal"] is False
    assert comparison["metrics"] == {"weight": 0.25, "differing": 1, "tensors": 3, "not_finite": 0}
    assert (comparison["worst"], comparison["only_b"]) == ("bbox_head.aux_reg_branches.0.weight", ["extra"])
    with pytest.raises(CannotCompare):
        state_dicts.compare(a, tmp_path / "missing.pth")


def test_what_a_hostile_file_asks_for_is_named(tmp_path: Path) -> None:
    write(tmp_path / "evil.pth", {"state_dict": Evil()})
    with pytest.raises(runtime.CannotLoad, match=r"evil\.pth: asks for (builtins\.)?print, which"):
        runtime.load_checkpoint(tmp_path / "evil.pth")


def test_old_torch_loads_as_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before add_safe_globals: our own unpickler."""
    good = write(tmp_path / "good.pth", {"meta": {"epoch": 1}, "state_dict": state()})
    checkpoint = torch.load(good, pickle_module=restricted, weights_only=False)
    assert list(checkpoint["state_dict"]) == list(state())
    assert checkpoint["state_dict"]._metadata == state()._metadata
    old = tmp_path / "old.pth"
    torch.save({"w": torch.ones(2)}, old, _use_new_zipfile_serialization=False)
    assert torch.load(old, pickle_module=restricted, weights_only=False)["w"].tolist() == [1.0, 1.0]
    for name, value in (("evil", Evil()), ("again", torch.storage.TypedStorage)):
        write(tmp_path / f"{name}.pth", {"x": value})
        with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
            torch.load(tmp_path / f"{name}.pth", pickle_module=restricted, weights_only=False)
    assert "executed" not in capsys.readouterr().out


def test_checkpoint_of_mmcv_1(tmp_path: Path) -> None:
    """Meta data, optimizer, moving average and DistributedDataParallel's prefix."""
    weights = OrderedDict((f"module.{key}", value) for key, value in state().items())
    weights["module.ema_backbone_weight"] = torch.zeros(3)
    weights._metadata = OrderedDict({"": {"version": 2}})  # type: ignore[attr-defined]
    moments = {0: {"step": 5, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0, 1]}]
    meta = {"CLASSES": ("a", "b"), "mmcv_version": "1.4.7", "epoch": 12, "config": "x", "hook_msgs": {}}
    content = {"meta": meta, "state_dict": weights, "optimizer": {"state": moments, "param_groups": groups}}
    source, out = write(tmp_path / "a.pth", content), tmp_path / "out.pth"
    checkpoint = weight_files.load(source)
    report = convert.convert(checkpoint, target(), source, out, "identity", [(3,), (2, 3)])
    assert report["tensors"] == 2
    assert {d["key"] for d in report["dropped"]} == {
        "decoder.aux_reg_branches.0.weight", "ema_backbone_weight"
    }  # fmt: skip
    assert [entry["key"] for entry in report["beside"]] == ["optimizer"]
    assert report["optimizer"] == {"parameters": 2, "with_state": 1, "fits": True}
    assert report["meta"] == ["dataset_meta", "epoch", "mmcv_version"]
    assert runtime.load_checkpoint(out)["meta"]["dataset_meta"]["classes"] == ("a", "b")
    assert report["averaged"] is True
    other = convert.convert(checkpoint, target(), source, out, "identity", [(4,), (2, 3)])
    assert other["optimizer"]["fits"] is False


def test_average_of_mmengine_is_taken_and_told(tmp_path: Path) -> None:
    """Saved by mmengine's own hook: the state_dict is the average, what was averaged lies beside it."""
    hooks = pytest.importorskip("mmengine.hooks")
    model = torch.nn.Linear(3, 2)
    average = pytest.importorskip("mmengine.model").ExponentialMovingAverage(model, momentum=0.5)
    runner = type("Runner", (), {"model": model})()
    hook = hooks.EMAHook()
    hook.ema_model, hook.src_model = average, model
    hook.enabled_by_epoch = False
    average.update_parameters(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update_parameters(model)
    trained, averaged = model.weight.clone(), average.module.weight.clone()
    content = {"state_dict": OrderedDict(model.state_dict()), "message_hub": {}, "own": 1}
    hook.before_save_checkpoint(runner, content)
    source, out = write(tmp_path / "a.pth", content), tmp_path / "out.pth"
    report = convert.convert(weight_files.load(source), model.state_dict(), source, out, "identity")
    assert report["averaged"] is True
    assert report["dropped"] == []
    assert {d["key"]: d["reason"] for d in report["beside"]} == {
        "ema_state_dict": "not averaged; the average is the state_dict",
        "message_hub": "history of the training, not weights",
        "own": "no weights of the model",
    }
    weight = runtime.load_checkpoint(out)["state_dict"]["weight"]
    assert torch.equal(weight, averaged)
    assert not torch.equal(weight, trained)


@pytest.mark.parametrize("metadata", [None, "text", {"": 5}])
def test_versions_of_the_modules_are_repaired_aloud(tmp_path: Path, metadata: Any) -> None:
    weights = OrderedDict(state())  # a plain copy has no _metadata
    if metadata is not None:
        weights._metadata = metadata  # type: ignore[attr-defined]
    model = OrderedDict(target())
    model._metadata = OrderedDict({"": {"version": 2}, "bbox_head": {"version": 1}})  # type: ignore[attr-defined]
    source, out = write(tmp_path / "a.pth", weights), tmp_path / "out.pth"
    report = convert.convert(weight_files.load(source), model, source, out, "identity")
    assert report["metadata"] == "repaired"
    assert runtime.load_checkpoint(out)["state_dict"]._metadata == model._metadata  # type: ignore[attr-defined]


def test_versions_of_a_wrapped_model_are_the_models(tmp_path: Path) -> None:
    """DistributedDataParallel puts a word before each name, of weights and of modules."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    wrapped = torch.nn.Module()
    wrapped.module = model
    source, out = write(tmp_path / "a.pth", wrapped.state_dict()), tmp_path / "out.pth"
    report = convert.convert(weight_files.load(source), model.state_dict(), source, out, "identity")
    assert report["metadata"] == "kept"
    checkpoint = runtime.load_checkpoint(out)
    assert checkpoint["state_dict"]._metadata == model.state_dict()._metadata


def test_seven_and_seven_heads_in_both_directions(tmp_path: Path) -> None:
    names = [f"bbox_head.{kind}_branches.{i}.weight" for kind in ("cls", "reg") for i in range(8)]
    names += [f"bbox_head.aux_{kind}_branches.{i}.weight" for kind in ("cls", "reg") for i in range(6)]
    eight = OrderedDict((name, torch.rand(2)) for name in names)
    versions = OrderedDict((name[: -len(".weight")], {"version": 1}) for name in names)
    eight._metadata = versions  # type: ignore[attr-defined]
    source, seven = write(tmp_path / "eight.pth", eight), tmp_path / "seven.pth"
    report = convert.convert(weight_files.load(source), eight, source, seven, "8+6-to-7+7")
    assert report["renamed"] == {
        f"bbox_head.{kind}_branches.7.weight": f"bbox_head.aux_{kind}_branches.6.weight"
        for kind in ("cls", "reg")
    }
    weights = runtime.load_checkpoint(seven)["state_dict"]
    assert not [key for key in weights if "head.cls_branches.7" in key]
    # The modules' versions go with the weights, and nobody is told that they had been missing.
    assert {f"{name}.weight" for name in weights._metadata} == set(weights)
    back = tmp_path / "back.pth"
    report = convert.convert(weight_files.load(seven), eight, seven, back, "7+7-to-8+6")
    assert report["metadata"] == "kept"
    again = runtime.load_checkpoint(back)["state_dict"]
    assert again._metadata == versions
    assert set(again) == set(eight)
    assert all(torch.equal(again[key], eight[key]) for key in eight)
    with pytest.raises(runtime.CannotLoad, match="does not fit the model"):
        convert.convert(weight_files.load(seven), eight, seven, tmp_path / "no.pth", "identity")
    assert not (tmp_path / "no.pth").exists()


def wrapped(prefix: str, weights: Any = None) -> Any:
    return OrderedDict((prefix + key, value) for key, value in (weights or state()).items())


def safetensors(path: Path, weights: Any, damage: int = 0) -> Path:
    """Written after the format's description, not by the code that reads it."""
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in weights.items():
        plain = value.view(torch.int16) if value.dtype is torch.bfloat16 else value
        raw = plain.numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + data
    path.write_bytes(whole[: len(whole) - damage])
    return path


LAYOUTS: list[tuple[str, Any, str]] = [
    ("bare", lambda: state(), "torch, bare weights"),
    ("model", lambda: {"model": state(), "optimizer": {}}, "torch, weights in 'model'"),
    ("ema", lambda: {"ema": {"module": state(), "updates": 7}}, "torch, weights in 'ema.module'"),
    ("compiled", lambda: {"state_dict": wrapped("_orig_mod.")}, "torch, weights in 'state_dict'"),
    ("both", lambda: {"model": wrapped("module._orig_mod.")}, "torch, weights in 'model' below 'module.'"),
    ("lightning", lambda: {"state_dict": {**wrapped("model."), "loss.weight": torch.ones(1)},
                           "pytorch-lightning_version": "2.1", "optimizer_states": []},
     "torch, Lightning, weights in 'state_dict' below 'model.'"),
    ("deepspeed", lambda: {"module": wrapped("module."), "dp_world_size": 2, "ds_version": "0.9"},
     "torch, DeepSpeed, weights in 'module' below 'module.'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "layout"), [e[1:] for e in LAYOUTS], ids=[e[0] for e in LAYOUTS])
def test_the_field_s_layouts_are_recognised_and_named(tmp_path: Path, make: Any, layout: str) -> None:
    source = write(tmp_path / "a.pth", make())
    out = tmp_path / "out.pth"
    report = convert.convert(weight_files.load(source), target(), source, out, "identity")
    assert (report["layout"], report["tensors"], report["renamed"]) == (layout, 2, {})
    for key, value in runtime.load_checkpoint(out)["state_dict"].items():
        assert value.numpy().tobytes() == state()[key].numpy().tobytes()
    assert {d["key"] for d in report["dropped"]} >= {"decoder.aux_reg_branches.0.weight"}
    assert not {"optimizer", "optimizer_states"} & {d["key"] for d in report["dropped"]}


def test_of_two_sets_of_weights_one_must_be_chosen(tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in state().items()}
    source, out = (
        write(tmp_path / "a.pth", {"model": state(), "ema": {"module": other}}),
        tmp_path / "out.pth",
    )
    loaded = weight_files.load(source)
    with pytest.raises(
        runtime.CannotLoad, match=r"2 sets of weights that fit: model, ema\.module; choose by"
    ):
        convert.convert(loaded, target(), source, out, "identity")
    with pytest.raises(runtime.CannotLoad, match=r"--weights emma: .* has: model, ema\.module"):
        convert.convert(loaded, target(), source, out, "identity", (), "emma")
    report = convert.convert(loaded, target(), source, out, "identity", (), "ema.module")
    assert [d["key"] for d in report["beside"]] == ["model"]
    weight = runtime.load_checkpoint(out)["state_dict"]["bbox_head.aux_reg_branches.0.weight"]
    assert torch.equal(weight, other["bbox_head.aux_reg_branches.0.weight"])
    both = {"state_dict": state(), "ema_state_dict": other}
    source = write(tmp_path / "c.pth", both)
    loaded = weight_files.load(source)
    with pytest.raises(runtime.CannotLoad, match="fit: state_dict, ema_state_dict; choose by"):
        convert.convert(loaded, target(), source, out, "identity")
    report = convert.convert(loaded, target(), source, out, "identity", (), "ema_state_dict")
    assert report["beside"] == [{"key": "state_dict", "reason": "no weights of the model"}]
    weight = runtime.load_checkpoint(out)["state_dict"]["bbox_head.aux_reg_branches.0.weight"]
    assert torch.equal(weight, other["bbox_head.aux_reg_branches.0.weight"])
    source = write(tmp_path / "d.pth", {**both, "meta": {"mmengine_version": "0.10.7"}})  # swaps them
    assert convert.convert(weight_files.load(source), target(), source, out, "identity")["averaged"] is True
    source = write(tmp_path / "b.pth", {"state_dict": {**wrapped("teacher."), **wrapped("student.", other)}})
    loaded = weight_files.load(source)
    with pytest.raises(runtime.CannotLoad, match="state_dict:student, state_dict:teacher"):
        convert.convert(loaded, target(), source, out, "identity")
    report = convert.convert(loaded, target(), source, out, "identity", (), "state_dict:teacher")
    assert report["tensors"] == 2


def test_safetensors_are_read_without_their_library(tmp_path: Path) -> None:
    weights = {**state(), "half": torch.tensor([1.5, -2.0]).bfloat16(), "count": torch.tensor(7)}
    model = {key: torch.zeros_like(value) for key, value in weights.items() if key[:7] != "decoder"}
    source, out = safetensors(tmp_path / "model.safetensors", weights), tmp_path / "out.pth"
    report = convert.convert(weight_files.load(source), model, source, out, "identity")
    assert (report["layout"], report["tensors"]) == ("safetensors, bare weights", 4)
    tensors = runtime.load_checkpoint(out)["state_dict"]
    assert (tensors["half"].tolist(), tensors["half"].dtype) == ([1.5, -2.0], torch.bfloat16)
    assert int(tensors["count"]) == 7
    for damage in (1, 20, source.stat().st_size - 5, source.stat().st_size):
        broken = safetensors(tmp_path / "broken.safetensors", weights, damage)
        with pytest.raises(runtime.CannotLoad, match=r"broken\.safetensors: "):
            weight_files.load(broken)


def test_shards_are_one_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = state()
    names = {key: f"model-0000{n % 2 + 1}-of-00002.safetensors" for n, key in enumerate(weights)}
    for name in sorted(set(names.values())):
        safetensors(tmp_path / name, {key: weights[key] for key in weights if names[key] == name})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    source, out = tmp_path, tmp_path / "out" / "out.pth"
    report = convert.convert(weight_files.load(source), target(), source, out, "identity")
    assert (report["layout"], report["tensors"]) == ("safetensors in 2 shards, bare weights", 2)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    before = shard.read_bytes()
    options = ("--report", str(tmp_path / "r.json"), "--config", str(tmp_path / "c.py"))
    for shards in (tmp_path, index):
        assert convert.main([str(shards), "--out", str(shard), *options]) == 2
        assert f"--out {shard} is the input {shard}" in capsys.readouterr().err
    assert shard.read_bytes() == before
    shard.unlink()
    with pytest.raises(runtime.CannotLoad, match="its shard model-00002-of-00002"):
        weight_files.load(index)
