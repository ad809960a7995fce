"""Brings a checkpoint of one code base to another, every key accounted for.

    python -m ddqjobs.detect.convert SRC --out CHECKPOINT --report REPORT --config CONFIG
        [--mapping identity] [--weights KEY] [--cfg-options k=v ...]

SRC is a checkpoint of torch's or of safetensors, an index of shards (``*.index.json``), or a folder with one.

Runs in the target's environment. Exit code 2, one line and nothing written, for a file that cannot be loaded
safely or does not fit the model, and for an output that is an input. The report is JSON::

    mapping          name of the mapping (:mod:`ddqjobs.detect.compare.mappings`)
    source, target   {"sha256", "bytes"} of the two files
    tensors          number of tensors in the target, all bit-equal to the source's
    renamed          {name in the source: name in the target}, where they differ
    layout           the form of the file and where in it the weights are (:mod:`.layouts`)
    dropped          [{"key", "reason"}], tensors of the set of weights that the model does not have
    beside           [{"key", "reason"}], what else the checkpoint holds: optimizer, history, other weights
    metadata         what became of state_dict._metadata, the versions of the modules: "kept", or "repaired"
                     with the model's own. mmdet takes a checkpoint without it for one of before version 1,
                     renames keys, and would run DDQ FCN and DDQ R-CNN with their auxiliary predictors
    optimizer        null, or {"parameters", "with_state", "fits"}: whether its state is that of the model's
                     parameters, in number and shapes. It is not taken over: a training begins anew. Null too
                     where what is called optimizer is none
    averaged         whether the weights are a moving average (mmengine's EMAHook, mmcv 1.x's): both put it in
                     the place of the weights when they save; those that it was made of are dropped
    meta             names of the checkpoint's meta data that are kept; classes and palette of mmcv 1.x become
                     dataset_meta
"""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from . import files, layouts, runtime, weight_files
from .compare.mappings import MAPPINGS, Mapping, averaged
from .configurations import located
from .job.loading import TIED

_SHOWN = 5  # dropped tensors that are printed; the report has all
NOT_AVERAGED = "not averaged"
# What checkpoints hold beside the weights and their meta data, and why it is not taken over.
_BESIDE = {
    "optimizer": "a training in the new code begins anew",
    "param_schedulers": "a training in the new code begins anew",
    **dict.fromkeys(
        ("optimizer_states", "lr_schedulers", "lr_scheduler", "scaler", "amp"), "a training begins anew"
    ),
    "message_hub": "history of the training, not weights",
}
_META = ("dataset_meta", "epoch", "iter", "experiment_name", "mmengine_version", "mmcv_version", "time")


class Fitted(NamedTuple):
    """Weights under the target's names, and what became of every key of the source."""

    state: Any
    renamed: dict[str, str]  # what a wrapper put before a name is no renaming
    dropped: dict[str, str]
    metadata: str


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.convert", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--config", required=True, help="configuration of mmdet's side")
    parser.add_argument(
        "--mapping", choices=sorted(MAPPINGS), default="identity", help="rules for names that changed"
    )
    parser.add_argument("--weights", help="which, of a checkpoint with several sets: model, ema, ...")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    try:
        outputs = {"--out": args.out, "--report": args.report}
        files.keep_apart(outputs, (args.source, *weight_files.members(args.source), Path(args.config)))
        runtime.set_up()
        source = weight_files.load(args.source)
        model = runtime.build_model(runtime.load_config(located(args.config), args.cfg_options))
        parameters = [tuple(parameter.shape) for parameter in model.parameters()]
        report = convert(
            source, model.state_dict(), args.source, args.out, args.mapping, parameters, args.weights
        )
        args.report.parent.mkdir(parents=True, exist_ok=True)
        files.replace_json(args.report, report)
    except (ValueError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    if report["metadata"] == "repaired":
        print("convert: warning: the checkpoint had no versions of its modules; they are the model's now")
    print(f"convert: {report['layout']}: {report['tensors']} tensors, {len(report['dropped'])} dropped")
    for entry in report["dropped"][:_SHOWN]:
        print(f"convert: dropped {entry['key']}: {entry['reason']}")
    for entry in report["beside"]:
        print(f"convert: left aside {entry['key']}: {entry['reason']}")
    return 0


def convert(
    loaded: weight_files.Source,
    target: Any,
    source: Path,
    out: Path,
    mapping: str,
    parameters: Sequence[tuple[int, ...]] = (),
    weights: str | None = None,
) -> dict[str, Any]:
    """Write the checkpoint with the weights under the target's names; the report.

    ``target`` is the state_dict of mmdet's model, ``parameters`` the shapes of its parameters in order.
    Raises CannotLoad if a weight is missing, left over, or of another shape or type.
    """
    rules, checkpoint, digest = MAPPINGS[mapping], loaded.content, loaded.sha256
    named = _named(target, rules)
    layout = layouts.choose(checkpoint, named, rules.__call__, weights, source)
    fitted = fit(layout, named, rules, source)
    meta = _meta(checkpoint.get("meta"))
    content = {"meta": {**meta, "converted_from": digest}, "state_dict": fitted.state}
    dropped = [{"key": key, "reason": reason} for key, reason in sorted(fitted.dropped.items())]
    optimizer = _optimizer(checkpoint.get("optimizer"), parameters)
    beside = _beside(checkpoint, layout)
    runtime.save(content, out, lambda written: _same(written, fitted.state))
    return {
        "mapping": mapping,
        "layout": f"{loaded.form}, {layout}",
        "source": {"sha256": digest, "bytes": loaded.size},
        "target": {"sha256": files.sha256(out), "bytes": out.stat().st_size},
        "tensors": len(fitted.state),
        "renamed": fitted.renamed,
        "dropped": dropped,
        "beside": beside,
        "metadata": fitted.metadata,
        "optimizer": optimizer,
        "averaged": any(
            reason.startswith(NOT_AVERAGED) for reason in (d["reason"] for d in dropped + beside)
        ),
        "meta": sorted(meta),
    }


def _beside(checkpoint: Any, layout: layouts.Layout) -> list[dict[str, str]]:
    """Keys of a checkpoint, other than the weights and their meta data, and why they are not taken over."""
    if not layout.place:  # bare weights
        return []
    rest = sorted(set(checkpoint) - {layout.place.split(".")[0], "meta"}, key=str)
    return [{"key": str(key), "reason": _aside(layout.maker, key)} for key in rest]


def _aside(maker: str, key: Any) -> str:
    if layouts.swapped(maker, key):
        return f"{NOT_AVERAGED}; the average is the state_dict"
    return _BESIDE.get(key, "no weights of the model")


def fit(layout: layouts.Layout, target: Any, mapping: Mapping, source: Path) -> Fitted:
    """The weights under the names of ``target``. Raises CannotLoad; see :func:`convert`."""
    state, prefix = layout.state, layout.prefix
    named = _rename(state, mapping, prefix)
    weights = {new: state[old] for new, old in named.items()}
    dropped = {**_tied(weights, target), **_averages(weights, target)}
    outside = [key for key in state if not layouts.plain(key).startswith(prefix)]
    dropped.update(dict.fromkeys(outside, f"not below {prefix!r}, where the model's weights are"))
    kept = OrderedDict((key, value) for key, value in weights.items() if key not in dropped)
    _check(kept, target, source)
    versions, known = _versions(state, mapping, prefix), getattr(target, "_metadata", None)
    repaired = known is not None and _lacks_versions(versions, known)
    kept._metadata = known if repaired else versions  # type: ignore[attr-defined]
    renamed = {old: new for new, old in named.items() if new != layouts.plain(old)[len(prefix) :]}
    return Fitted(kept, renamed, dropped, "repaired" if repaired else "kept")


def _named(target: Any, mapping: Mapping) -> Any:
    """The target's state under its own names, which are not mmdet's if the mapping leads away from there."""
    if mapping.direction == 1:
        return target
    named = OrderedDict((mapping(key), value) for key, value in target.items())
    named._metadata = _versions(target, mapping, "")  # type: ignore[attr-defined]
    return named


def _versions(state: Any, mapping: Mapping, prefix: str) -> Any:
    """``_metadata`` of a state_dict, its modules called as their weights will be, without the prefix; None if
    it has none."""
    metadata = getattr(state, "_metadata", None)
    if not isinstance(metadata, dict):
        return None
    named = {layouts.plain(f"{name}."): name for name in metadata if isinstance(name, str)}
    inner = {dotted[len(prefix) :]: name for dotted, name in named.items() if dotted.startswith(prefix)}
    return OrderedDict((mapping(f"{dotted}x")[:-2], metadata[name]) for dotted, name in inner.items())


def _rename(state: Any, mapping: Mapping, prefix: str) -> dict[str, str]:
    """Name in the target -> name in the source. Raises CannotLoad for what is no tensor, or met twice."""
    import torch

    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise runtime.CannotLoad(f"the state_dict holds {str(key)[:80]!r}, which is no tensor")
        if not _plain(value):
            raise runtime.CannotLoad(f"the state_dict holds {key[:80]!r}, which is no plain tensor")
    named: dict[str, str] = {}
    for key in state:
        if not layouts.plain(key).startswith(prefix):
            continue
        new = mapping(layouts.plain(key)[len(prefix) :])
        if new in named:
            raise runtime.CannotLoad(f"two weights become {new}")
        named[new] = key
    return named


def _plain(value: Any) -> bool:
    import torch

    nested = getattr(value, "is_nested", False)  # torch 1.9 has none
    return value.layout is torch.strided and not nested and value.device.type != "meta"


def _tied(state: dict[str, Any], target: Any) -> dict[str, str]:
    """Keys that the target does not have and that are bit-equal to the weight they are tied to."""
    import torch

    reasons: dict[str, str] = {}
    for key in state:
        for copy, original in TIED:
            other = original + key[len(copy) :]
            if key in target or not key.startswith(copy) or other not in state:
                continue
            if torch.equal(state[key], state[other]):
                shared = state[key].data_ptr() == state[other].data_ptr()
                reasons[key] = f"tied to {other} ({'same storage' if shared else 'bit-equal'})"
    return reasons


def _averages(state: dict[str, Any], target: Any) -> dict[str, str]:
    """Buffers of mmcv 1.x's moving average. It swaps them with the weights before it saves."""
    beside = {averaged(key): key for key in target}
    return {
        key: f"{NOT_AVERAGED}; the average is {beside[key]}"
        for key in state
        if key in beside and key not in target and state[key].shape == target[beside[key]].shape
    }


def _check(state: dict[str, Any], target: Any, source: Path) -> None:
    """Raises CannotLoad unless keys, shapes and types are the target's."""
    problems: list[tuple[str, list[str]]] = [
        ("missing", [k for k in target if k not in state]),
        ("unknown to the model", [k for k in state if k not in target]),
        ("of another shape", [k for k in state if k in target and state[k].shape != target[k].shape]),
        ("of another type", [k for k in state if k in target and state[k].dtype != target[k].dtype]),
    ]
    reasons = [f"{len(keys)} weights {what}, e.g. {keys[0]}" for what, keys in problems if keys]
    if reasons:
        raise runtime.CannotLoad(f"{source} does not fit the model: {'; '.join(reasons)}")


def _lacks_versions(versions: Any, known: Any) -> bool:
    """Return whether a module has a version in the model and none in the checkpoint."""
    return any(_version(known, name) is not None and _version(versions, name) is None for name in known)


def _version(metadata: Any, name: str) -> Any:
    entry = (metadata or {}).get(name)
    return entry.get("version") if isinstance(entry, dict) else None


def _meta(meta: Any) -> dict[str, Any]:
    """Return what is worth keeping of mmengine's or mmcv 1.x's meta data."""
    meta = meta if isinstance(meta, dict) else {}
    kept = {key: value for key, value in meta.items() if key in _META}
    if "dataset_meta" not in kept and meta.get("CLASSES") is not None:
        kept["dataset_meta"] = {"classes": meta["CLASSES"], "palette": meta.get("PALETTE")}
    return kept


def _optimizer(optimizer: Any, parameters: Sequence[tuple[int, ...]]) -> dict[str, Any] | None:
    """Return what an optimizer's state is about; None for what is no state of an optimizer. See the
    module."""
    if not isinstance(optimizer, dict) or "param_groups" not in optimizer:
        return None
    try:
        numbers = [n for group in optimizer["param_groups"] for n in group["params"]]
        state = optimizer.get("state", {})
        moments = {n: tuple(state[n]["exp_avg"].shape) for n in numbers if "exp_avg" in state.get(n, {})}
    except (AttributeError, KeyError, TypeError):
        return None
    fits = len(numbers) == len(parameters) and all(moments[n] == parameters[n] for n in moments)
    return {"parameters": len(numbers), "with_state": len(moments), "fits": fits}


def _same(written: Path, state: dict[str, Any]) -> None:
    """Raises CannotLoad unless the written file holds the same bits under the same keys."""
    import torch

    again = runtime.load_checkpoint(written)["state_dict"]
    differ = [k for k in state if k not in again or not torch.equal(again[k], state[k])]
    # NaN differs from itself: compare the bits of what is left.
    differ = [k for k in differ if k not in again or again[k].numpy().tobytes() != state[k].numpy().tobytes()]
    if differ or list(again) != list(state):
        raise runtime.CannotLoad(f"what was written differs from what was read: {differ[:1]}")


if __name__ == "__main__":
    sys.exit(main())
