"""The fast DDQ DETR and the merged optimizer against mmdet's and mmengine's own. Needs mmdet.

The fast form computes with tensors of other shapes, so on a CPU its bits are mmdet's only where they do not
depend on a tensor's length: bits are compared in processes whose instructions are fixed. With whatever
instructions the processor has, losses and gradients differ by rounding.
"""

from __future__ import annotations

import copy
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")
torch.set_num_threads(1)
if not hasattr(torch.optim.Optimizer, "register_load_state_dict_pre_hook"):
    pytest.skip("needs torch 2.1 or later", allow_module_level=True)

from ddqjobs.detect import runtime, speed  # noqa: E402
from ddqjobs.detect.training import determinism  # noqa: E402
from tests.support import processor  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and mmdet's own, while they are imported
CONFIG = str(ROOT / "experiments" / "configs" / "mini" / "ddq-detr_r18_shapes.py")
CLASSES = 80
OPTIMIZER = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 0.0002, "weight_decay": 0.05},
    "clip_grad": {"max_norm": 0.1, "norm_type": 2},
    "paramwise_cfg": {"custom_keys": {"backbone": {"lr_mult": 0.1}}},
}
# image sizes, boxes of each, padded size: equal sizes; padding; an image without boxes; none at all; more
BATCHES: list[Any] = [
    ([(96, 128), (96, 128)], [7, 3], (96, 128)),
    ([(96, 128), (80, 100)], [5, 9], (96, 128)),
    ([(64, 96), (96, 64)], [0, 4], (96, 96)),
    ([(64, 96), (64, 96)], [0, 0], (64, 96)),
    ([(64, 96)], [12], (64, 96)),
]
PREDICTED = BATCHES[:3]
KEYS = ("bboxes", "scores", "labels")


@pytest.fixture(scope="module", autouse=True)
def _set_up() -> None:
    runtime.set_up()


def model(fast: bool) -> Any:
    cfg = runtime.load_config(CONFIG)
    cfg.model.bbox_head.num_classes, cfg.model.num_queries, cfg.model.decoder.num_layers = CLASSES, 40, 3
    cfg.speed = fast
    speed.configure(cfg)
    torch.manual_seed(3)
    detector = runtime.build_model(cfg).train()
    detector.init_weights()
    generator = torch.Generator().manual_seed(5)
    for parameter in detector.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.02
    return detector


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    return model(False), model(True)


def samples(batch: Any) -> list[Any]:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    sizes, counts, padded = batch
    g, batch_samples = torch.Generator().manual_seed(sum(counts)), []
    for (height, width), count in zip(sizes, counts, strict=True):
        size = torch.tensor([width, height])
        corner = torch.rand(count, 2, generator=g) * size * 0.6
        boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=g) * size * 0.35 + 4], 1)
        meta = {"img_shape": (height, width), "batch_input_shape": padded, "ori_shape": (height, width)}
        sample = DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0)})
        labels = torch.randint(0, CLASSES, (count,), generator=g)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        batch_samples.append(sample)
    return batch_samples


def images(batch: Any) -> Any:
    return torch.randn(len(batch[0]), 3, *batch[2], generator=torch.Generator().manual_seed(1))


def inputs(one: Any, batch: Any) -> tuple[Any, list[Any]]:
    """Images and samples where the model is."""
    device = next(one.parameters()).device
    return images(batch).to(device), [sample.to(device) for sample in samples(batch)]


def training_step(one: Any, batch: Any) -> dict[str, Any]:
    """Losses and gradients, by name and in their order."""
    torch.manual_seed(11)
    one.zero_grad()
    total, log = one.parse_losses(one.loss(*inputs(one, batch)))
    total.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in one.named_parameters()
        if parameter.grad is not None
    }
    return {**{f"log: {name}": value.reshape(()) for name, value in log.items()}, **gradients}


def predictions(one: Any, batch: Any) -> dict[str, Any]:
    """Boxes, scores and labels of each image."""
    one.eval()
    with torch.no_grad():
        instances = [sample.pred_instances for sample in one.predict(*inputs(one, batch))]
    one.train()
    return {f"{n}: {key}": image[key] for n, image in enumerate(instances) for key in KEYS}


def apart(one: dict[str, Any], two: dict[str, Any]) -> dict[str, float]:
    """Return the entries that differ in a bit -> the difference's norm, relative to that of the first."""
    assert list(one) == list(two)
    return {
        name: float((one[name] - two[name]).double().norm() / one[name].double().norm())
        for name in one
        if not torch.equal(one[name], two[name])
    }


def compare(device: str) -> dict[str, list[dict[str, float]]]:
    """Return the differences between mmdet's model and the fast one, by batch."""
    runtime.set_up()
    determinism.prepare({"randomness": {"deterministic": True}})
    torch.use_deterministic_algorithms(True)  # as mmengine does
    mmdets, fast = model(False).to(device), model(True).to(device)
    return {
        "steps": [apart(training_step(mmdets, b), training_step(fast, b)) for b in BATCHES],
        "predictions": [apart(predictions(mmdets, b), predictions(fast, b)) for b in PREDICTED],
    }


_COMPARE = """
import json, sys
from tests.unit.detect import test_speed as here
json.dump(here.compare(sys.argv[1]), open(sys.argv[2], "w"))
"""


def compared(device: str, variables: dict[str, str], folder: Path) -> Any:
    """Return the result of :func:`compare` in a process with these variables."""
    out = folder / "compared.json"
    argv = [sys.executable, "-W", "ignore", "-c", _COMPARE, device, str(out)]
    subprocess.run(argv, env=processor.variables(variables, ROOT), check=True)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def with_fixed_instructions(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compared("cpu", processor.FIXED, tmp_path_factory.mktemp("compared"))


@pytest.mark.bits
@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_every_loss_and_gradient_has_the_bits_of_mmdet(with_fixed_instructions: Any, batch: int) -> None:
    assert with_fixed_instructions["steps"][batch] == {}


@pytest.mark.bits
@pytest.mark.parametrize("batch", range(len(PREDICTED)))
def test_predictions_have_the_bits_of_mmdet(with_fixed_instructions: Any, batch: int) -> None:
    assert with_fixed_instructions["predictions"][batch] == {}


@pytest.mark.gpu
def test_on_a_gpu_the_bits_are_mmdets_too(tmp_path: Path) -> None:
    processor.require(processor.ON_A_GPU)
    differences = compared("cuda", processor.ON_A_GPU, tmp_path)
    assert differences == {"steps": [{}] * len(BATCHES), "predictions": [{}] * len(PREDICTED)}


@pytest.mark.bits
@pytest.mark.parametrize("batch", BATCHES)
def test_with_any_instructions_losses_and_gradients_differ_by_rounding(
    models: tuple[Any, Any], batch: Any
) -> None:
    differences = apart(*[training_step(one, batch) for one in models])
    # float32 rounds to 6e-8 of a number; 3e-7 of a gradient's norm was seen.
    assert {name: far for name, far in differences.items() if not far <= 1e-5} == {}


def test_predictions_find_something(models: tuple[Any, Any]) -> None:
    """The compared predictions are not empty."""
    for batch in PREDICTED:
        detections = predictions(models[0], batch)
        assert all(len(detections[f"{image}: scores"]) for image in range(len(batch[0])))
        assert all(math.isfinite(float(value.sum())) for value in detections.values())


_OF_SEVERAL = """
import os, sys
import torch
from tests.unit.detect import test_speed as here
here.runtime.set_up()
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
batch = here.BATCHES[int(sys.argv[1 + rank])]
logs = []
for fast in (False, True):
    torch.manual_seed(3)
    one = here.model(fast)
    torch.manual_seed(11)
    logs.append(one.parse_losses(one.loss(here.images(batch), here.samples(batch)))[1])
differ = [n for n in logs[0] if not torch.equal(logs[0][n].reshape(()), logs[1][n].reshape(()))]
os.write(1, f"{rank} of {torch.distributed.get_world_size()} differ in {differ}\\n".encode())
"""


@pytest.mark.bits
@pytest.mark.parametrize(
    "batches",
    [(0, 4), pytest.param((0, 3), marks=pytest.mark.long), pytest.param((3, 3), marks=pytest.mark.long)],
)
def test_processes_of_which_some_have_no_box_in_their_batch(batches: tuple[int, int]) -> None:
    """Each of two processes has the losses of mmdet's two."""
    for rank, text in enumerate(in_processes(_OF_SEVERAL, *batches)):
        assert f"{rank} of 2 differ in []" in text


def in_processes(script: str, *arguments: Any) -> list[str]:
    """Run processes that train together over gloo, one for each of ``words``; return the output of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = processor.variables(processor.FIXED, ROOT)
    known |= {"WORLD_SIZE": str(len(arguments)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    argv = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    ranks = [
        subprocess.Popen(argv, env={**known, "RANK": str(rank)}, text=True, stdout=subprocess.PIPE)
        for rank in range(len(arguments))
    ]
    return [process.communicate(timeout=240)[0] for process in ranks]


def test_a_batch_without_boxes_under_autocast(models: tuple[Any, Any]) -> None:
    """The head stays in float32 there too: on a GPU its cross entropy refuses anything else."""
    with torch.autocast("cpu", torch.bfloat16):
        losses = models[1].loss(images(BATCHES[3]), samples(BATCHES[3]))
    assert {
        t.dtype for value in losses.values() for t in (value if isinstance(value, list) else [value])
    } == {torch.float32}


def optimizers() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    from mmengine.optim import build_optim_wrapper

    from ddqjobs.detect.speed import groups  # noqa: F401

    one = model(False)
    two = copy.deepcopy(one)
    merged = {**OPTIMIZER, "constructor": "MergedGroupsConstructor"}
    return (one, build_optim_wrapper(one, OPTIMIZER)), (two, build_optim_wrapper(two, merged))


def step(pair: tuple[Any, Any], seed: int) -> float:
    """One update with given gradients; their norm before clipping."""
    one, wrapper = pair
    generator = torch.Generator().manual_seed(seed)
    for parameter in one.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    wrapper.step()
    return float(wrapper.message_hub.get_scalar("train/grad_norm").current())


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.bits
def test_merged_groups_update_as_single_ones_and_load_each_others_state() -> None:
    single, merged = optimizers()
    assert len(single[1].optimizer.param_groups) > 100
    assert len(merged[1].optimizer.param_groups) == 2
    for seed in range(2):
        assert step(single, seed) == step(merged, seed)
        assert same(single[0], merged[0])
    states = single[1].state_dict(), merged[1].state_dict()
    assert states[0]["param_groups"] == states[1]["param_groups"]
    single[1].load_state_dict(copy.deepcopy(states[1]))
    merged[1].load_state_dict(copy.deepcopy(states[0]))
    assert step(single, 9) == step(merged, 9)
    assert same(single[0], merged[0])


def test_state_of_other_settings_is_refused() -> None:
    single, merged = optimizers()
    state = copy.deepcopy(single[1].state_dict())
    state["param_groups"][3]["weight_decay"] = 0.5
    with pytest.raises(ValueError, match="other settings"):
        merged[1].load_state_dict(state)


@pytest.mark.parametrize("first", [0, 1])
def test_schedules_go_on_when_a_training_gets_or_loses_merged_groups(first: int) -> None:
    """Cosine annealing computes from the first value of each group."""
    from mmengine.optim.scheduler import CosineAnnealingLR

    from ddqjobs.detect.speed import groups

    rates = []
    for second in (first, 1 - first):
        pairs = optimizers()
        schedules = [CosineAnnealingLR(wrapper, T_max=4, begin=0, end=100) for _, wrapper in pairs]
        for _ in range(3):
            pairs[first][1].optimizer.step()
            schedules[first].step()
        states = copy.deepcopy((pairs[first][1].state_dict(), schedules[first].state_dict()))
        one, wrapper = pairs[second]
        groups.fit_schedulers([states[1]], wrapper)
        wrapper.load_state_dict(states[0])
        schedules[second].load_state_dict(states[1])
        for _ in range(6):
            wrapper.optimizer.step()
            schedules[second].step()
        rate = {id(parameter): g["lr"] for g in wrapper.optimizer.param_groups for parameter in g["params"]}
        rates.append([rate[id(parameter)] for parameter in one.parameters()])
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 2
    with pytest.raises(ValueError, match="values of 7 groups of parameters, the optimizer has"):
        groups.fit_schedulers([{"base_values": [0.1] * 8}], wrapper)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ["model.bbox_head.loss_bbox.type=SmoothL1Loss"],
            "loss_bbox is SmoothL1Loss, the fast form .* L1Loss",
        ),
        (["model.bbox_head.loss_iou.type=CIoULoss"], "loss_iou is CIoULoss, the fast form .* GIoULoss"),
        (
            ["optim_wrapper.constructor=LearningRateDecayOptimizerConstructor"],
            "no fast form of LearningRateDecayOptimizerConstructor",
        ),
    ],
)
def test_what_the_fast_form_does_not_compute_is_refused(options: list[str], why: str) -> None:
    def build() -> None:
        cfg = runtime.load_config(CONFIG, ["speed=True", *options])
        speed.configure(cfg)
        runtime.build_model(cfg)

    with pytest.raises(speed.NoFastForm, match=why):
        build()


@pytest.mark.parametrize("gpu", [True, False])
def test_copies_overlap_on_a_gpu_unless_the_configuration_says_otherwise(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    cfg = runtime.load_config(CONFIG, ["speed=True"])
    speed.configure(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert bool(loader.get("pin_memory")) == gpu
    assert bool(cfg.model.data_preprocessor.get("non_blocking")) == gpu
    cfg = runtime.load_config(CONFIG, ["speed=True", "train_dataloader.pin_memory=False"])
    speed.configure(cfg)
    assert cfg.train_dataloader.pin_memory is False


def test_model_without_a_fast_form_is_refused() -> None:
    cfg = runtime.load_config(CONFIG, ["speed=True", "model.type=DINO"])
    with pytest.raises(ValueError, match="no fast form of DINO"):
        speed.configure(cfg)
    off = runtime.load_config(CONFIG)
    speed.configure(off)
    assert off.model.type == "DDQDETR"


def test_a_hook_lets_products_forget_the_workspace_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if torch has seen it and would take a workspace of the same size without it: not on a CPU."""
    from ddqjobs.detect.speed import workspace

    cfg = runtime.load_config(CONFIG, ["speed=True"])
    for _ in range(2):
        speed.configure(cfg)
    assert [hook.type for hook in cfg.custom_hooks].count("WorkspaceHook") == 1
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", determinism.WORKSPACE)
    workspace.forget()
    here = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == (not here)
