"""The forward pass of a test as a CUDA graph, against the same pass without one. Needs mmdet."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")
if not hasattr(torch.optim.Optimizer, "register_load_state_dict_pre_hook"):
    pytest.skip("needs torch 2.1 or later", allow_module_level=True)

from ddqjobs.detect import runtime  # noqa: E402
from ddqjobs.detect.speed import graphs  # noqa: E402
from tests.support import processor  # noqa: E402
from tests.unit.detect import test_speed as fast  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and mmdet's own, while they are imported
SHAPES = [(96, 128), (64, 96)]
NEVER = 10**9


@pytest.fixture(scope="module", autouse=True)
def _set_up() -> None:
    runtime.set_up()


def predictions(one: Any, seed: int) -> list[Any]:
    """Boxes, scores and labels of one image of each shape."""
    device, outputs = next(one.parameters()).device, []
    for shape in SHAPES:
        batch = ([shape], [3], shape)
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(1, 3, *shape, generator=generator).to(device)
        samples = [sample.to(device) for sample in fast.samples(batch)]
        with torch.no_grad():
            (sample,) = one.predict(image, samples)
        outputs += [sample.pred_instances[key].cpu() for key in fast.KEYS]
    return outputs


def same(one: list[Any], two: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_graph_records_is_the_forward_pass(shape: tuple[int, int]) -> None:
    one = fast.model(True).eval()
    image, samples = torch.randn(2, 3, *shape), fast.samples(([shape] * 2, [3, 1], shape))
    with torch.no_grad():
        # What follows from the shapes is found with another image and other weights.
        known = one._of_shapes(torch.zeros_like(image), samples)
        for parameter in one.parameters():
            parameter.data *= 1.01
        outputs = one._of_image(image, known)
        expected = one.bbox_head(**one.forward_transformer(one.extract_feat(image), samples))
    assert same([*outputs], [*expected, one.cache_dict["distinct_query_mask"][-1]])


@pytest.mark.gpu
def test_a_graph_has_the_bits_of_the_pass_for_other_images_and_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    processor.require(processor.ON_A_GPU)
    one = fast.model(True).cuda().eval()

    def without_graphs(seed: int) -> list[Any]:
        monkeypatch.setattr(graphs, "_AGAIN", NEVER)
        former_graphs, one._graphs = one._graphs, graphs.Graphs()
        outputs = predictions(one, seed)
        one._graphs = former_graphs
        monkeypatch.undo()
        return outputs

    for seed in range(20):
        assert same(predictions(one, seed), without_graphs(seed)), seed
        if seed == 5:
            for parameter in one.parameters():
                parameter.data *= 1.01  # as a test of averaged weights does
        elif seed == 9:
            for parameter in one.parameters():
                parameter.data = parameter.data * 1.01  # elsewhere in memory
        elif seed == 13:
            floats = {key: value for key, value in one.state_dict().items() if value.is_floating_point()}
            others = {key: value * 1.01 for key, value in floats.items()}
            one.load_state_dict(others, strict=False, assign=True)
    assert len(one._graphs._graphs) == len(SHAPES)
    assert "no graph" not in capsys.readouterr().err
    assert not copy.deepcopy(one)._graphs._graphs
    assert not one.train()._graphs._graphs
