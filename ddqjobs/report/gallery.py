"""The images on which two codes differ most, and those on which both fail: chosen from the predictions that
tests left, with the boxes of the truth and of both.

Only for who asks (``report --gallery N``), and never on a page for others: images may not be ours to share.
"""

from __future__ import annotations

import ast
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.paths import expanded
from ddqjobs.detect import recompute
from ddqjobs.detect.recompute import ERROR_SCORE, Detections
from ddqjobs.report.annotations import annotation_file, in_dumped
from ddqjobs.report.lookup import REFERENCE, label
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, PlannedRun, Product, Status, TaskKind
from ddqjobs.store.layout import RunFolder

MOST_IMAGES = 100
_SIDE, _QUALITY = 480, 70  # pixels of the longer side of an image, and of its JPEG
_MOST_BYTES = 8 << 20  # of all JPEGs
_MOST_BOXES = 50  # of each code that are drawn on an image, the best ones
_SAME = 0.5  # overlap from which two detections of one class are the same

Say = Callable[[str], None]


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle in pixels of the original image; of the truth without a score."""

    left: float
    top: float
    width: float
    height: float
    name: str
    score: float | None = None


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One image with the boxes on it, and the errors of each code."""

    key: str  # of the image
    file: str
    width: int
    height: int
    truth: tuple[Box, ...]
    ours: tuple[Box, ...]
    theirs: tuple[Box, ...]
    errors: tuple[dict[str, int], dict[str, int]]  # theirs, ours: kind -> count, of kinds that there are
    apart: float  # how far the detections of the two are apart

    @property
    def worst(self) -> int:
        """Return the errors that both codes make at least."""
        return min(sum(kinds.values()) for kinds in self.errors)


class Wall(msgspec.Struct, frozen=True, kw_only=True):
    """The images of one pair of tests."""

    title: str
    ours: str
    theirs: str
    runs: tuple[str, str]  # theirs, ours
    differing: tuple[Shot, ...]
    failing: tuple[Shot, ...]
    alike: int  # images on which the two find the same boxes, classes and scores


class Gallery(msgspec.Struct, frozen=True, kw_only=True):
    """All walls, each image once."""

    walls: tuple[Wall, ...]
    images: dict[str, bytes]  # key -> JPEG, where the image could be read
    notes: tuple[str, ...]


class _Test(msgspec.Struct, frozen=True, kw_only=True):
    """The images that a test looked at, and what it found."""

    found: Detections
    truth: dict[str, Any]
    folder: Path  # of its images


class Maker:
    """Makes the gallery of an experiment from the files of its runs."""

    def __init__(self, project: Path, runs: Path, products: Mapping[str, Product], say: Say) -> None:
        self._project, self._runs, self._products, self._say = project, runs, products, say
        self._truths: dict[Path, dict[str, Any]] = {}
        self._notes: list[str] = []

    def make(self, experiment: Experiment, plan: Plan, wanted: Iterable[str], each: int) -> Gallery:
        """Return at most ``each`` images of either kind for every model and phase that is compared."""
        walls, images, size = [], dict[str, bytes](), 0
        titles = {name: model.title or name for name, model in experiment.models.items()}
        for ours, theirs in pairs(experiment, plan, set(wanted)):
            if len(images) >= MOST_IMAGES or size >= _MOST_BYTES:
                self._notes.append(f"{ours.run.name}: left out, a page holds {MOST_IMAGES} images")
                continue
            self._say(f"comparing the detections of {theirs.run.name} and {ours.run.name}")
            shots, folder = self._shots(theirs, ours)
            differing = [s for s in sorted(shots, key=lambda s: -s.apart)[:each] if s.apart > 0]
            failing = [s for s in sorted(shots, key=lambda s: -s.worst)[:each] if s.worst > 0]
            for shot in (*differing, *failing):
                if shot.key not in images and len(images) < MOST_IMAGES and size < _MOST_BYTES:
                    images[shot.key] = self._jpeg(folder / shot.file)
                    size += len(images[shot.key])
            wall = Wall(
                title=titles.get(ours.run.model, ours.run.model),
                ours=_side(ours),
                theirs=_side(theirs),
                runs=(theirs.run.name, ours.run.name),
                differing=tuple(shot for shot in differing if shot.key in images),
                failing=tuple(shot for shot in failing if shot.key in images),
                alike=sum(not shot.apart for shot in shots),
            )
            walls.append(wall)
        kept = {key: jpeg for key, jpeg in images.items() if jpeg}
        return Gallery(walls=tuple(walls), images=kept, notes=tuple(dict.fromkeys(self._notes)))

    def _shots(self, theirs: PlannedRun, ours: PlannedRun) -> tuple[list[Shot], Path]:
        """Return all images of two tests, and their folder; none where something cannot be read."""
        name = theirs.run.name
        try:
            a = self._test(theirs)
            name = ours.run.name
            b = self._test(ours)
            return list(_shots(a, b)), b.folder
        except recompute.TROUBLES as error:
            self._notes.append(f"{name}: {str(error) or type(error).__name__}")
            return [], Path()

    def _test(self, planned: PlannedRun) -> _Test:
        name, product = planned.run.name, self._products.get(planned.run.name)
        if product is None or "predictions" not in product.artifacts:
            raise recompute.CannotEvaluate("the test left no predictions")
        folder = self._runs / name
        work_dir = RunFolder(folder).attempt(product.attempt).work_dir
        tree = expanded(self._project, planned.run.workdir) if planned.run.workdir else work_dir
        annotations = annotation_file(work_dir, tree)
        if annotations not in self._truths:
            self._truths[annotations] = json.loads(annotations.read_bytes())
        detections = recompute.load(folder / product.artifacts["predictions"])
        return _Test(found=detections, truth=self._truths[annotations], folder=tree / image_folder(work_dir))

    def _jpeg(self, path: Path) -> bytes:
        """Return an image, small; nothing where it cannot be read."""
        from PIL import Image

        try:
            with Image.open(path) as image:
                image.draft("RGB", (_SIDE, _SIDE))
                small = image.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            self._notes.append(f"{path.name}: its image cannot be read: {type(error).__name__}")
            return b""
        return stream.getvalue()


def check() -> None:
    """Raise InputError where what makes pictures is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise InputError("--gallery needs Pillow: pip install 'ddqjobs[coco]'") from error


def pairs(experiment: Experiment, plan: Plan, wanted: set[str]) -> Iterator[tuple[PlannedRun, PlannedRun]]:
    """Yield, for each model and phase that is compared with another phase, one test of it and one of the
    other: of the same variant and seed where there are such."""
    tests = [
        planned
        for planned in plan.runs
        if planned.run.kind is TaskKind.TEST and planned.status is Status.DONE
    ]
    seen = set()
    for planned in tests:
        section, place = experiment.phases.get(planned.run.phase), (planned.run.phase, planned.run.model)
        if planned.run.name not in wanted or place in seen or section is None or section.against == REFERENCE:
            continue
        others = [
            other
            for other in tests
            if (other.run.phase, other.run.model) == (section.against, planned.run.model)
        ]
        if others:
            seen.add(place)
            alike = [
                (other.run.variant != planned.run.variant, other.run.seed != planned.run.seed)
                for other in others
            ]
            yield planned, others[alike.index(min(alike))]


def image_folder(work_dir: Path) -> Path:
    """Return the folder of a test's images that its dumped configuration names: mmengine's
    ``test_dataloader``, mmcv 1.x's ``data.test``. Raise CannotEvaluate."""
    folder = in_dumped(work_dir, _folders)
    if folder is None:
        raise recompute.CannotEvaluate(f"no configuration in {work_dir} names the folder of images")
    return Path(folder)


def _folders(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(target, ast.Name) or target.id not in ("test_dataloader", "data"):
            continue
        for call in ast.walk(statement):
            if not isinstance(call, ast.Call):
                continue
            arguments = {k.arg: k.value for k in call.keywords}
            inside = arguments.get("data_prefix")
            prefix = next((k.value for k in getattr(inside, "keywords", []) if k.arg == "img"), None)
            if (text := _text(prefix)) or (target.id == "data" and (text := _text(_of_test(arguments)))):
                yield os.path.join(_text(arguments.get("data_root")), text)  # noqa: PTH118


def _of_test(arguments: Mapping[str | None, ast.expr]) -> ast.expr | None:
    """Return mmcv 1.x's folder of images of ``test=dict(...)``."""
    test = arguments.get("test")
    return next((k.value for k in getattr(test, "keywords", []) if k.arg == "img_prefix"), None)


def _text(value: ast.expr | None) -> str:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _side(planned: PlannedRun) -> str:
    return " ".join(filter(None, (label(planned.run.phase), planned.run.implementation)))


def _shots(theirs: _Test, ours: _Test) -> Iterator[Shot]:
    """Yield every image that both tests looked at: all where their predictions do not say at which."""
    truth = ours.truth
    tested = [set(side.found.images) for side in (theirs, ours) if side.found.images]
    names = {c["id"]: str(c.get("name", c["id"])) for c in truth["categories"]}
    objects: dict[int, list[dict[str, Any]]] = {}
    for a in truth["annotations"]:
        objects.setdefault(a["image_id"], []).append(a)
    sides = [(side.found, _by_image(side.found)) for side in (theirs, ours)]
    for image in truth["images"]:
        number, annotated = image["id"], objects.get(image["id"], [])
        if not all(number in images for images in tested):
            continue
        boxes = [(d.boxes[i], d.score[i], d.category[i]) for d, by in sides for i in [by.get(number, [])]]
        yield Shot(
            key=f"{ours.folder}/{image['file_name']}",
            file=str(image["file_name"]),
            width=int(image["width"]),
            height=int(image["height"]),
            truth=tuple(
                _box(a["bbox"], names.get(a["category_id"], "?")) for a in annotated if not a.get("iscrowd")
            ),
            theirs=_boxes(boxes[0], names),
            ours=_boxes(boxes[1], names),
            errors=(_errors(boxes[0], annotated), _errors(boxes[1], annotated)),
            apart=_apart(boxes[0], boxes[1]),
        )


def _by_image(detections: Detections) -> dict[int, list[int]]:
    """Return image -> its detections that count, the best first."""
    import numpy as np

    kept = np.flatnonzero(detections.score >= ERROR_SCORE)
    by_image: dict[int, list[int]] = {}
    for i in kept[np.argsort(-detections.score[kept], kind="stable")].tolist():
        by_image.setdefault(int(detections.image[i]), []).append(i)
    return by_image


def _boxes(detections: tuple[Any, Any, Any], names: Mapping[int, str]) -> tuple[Box, ...]:
    boxes, score, category = (values[:_MOST_BOXES].tolist() for values in detections)
    return tuple(_box(b, names.get(c, "?"), s) for b, s, c in zip(boxes, score, category, strict=True))


def _box(sides: Sequence[float], name: str, score: float | None = None) -> Box:
    left, top, width, height = map(float, sides)
    return Box(left=left, top=top, width=width, height=height, name=name, score=score)


def _errors(detections: tuple[Any, Any, Any], annotated: list[dict[str, Any]]) -> dict[str, int]:
    """Return the detections that match no object, and the objects without one, by kind of error."""
    kinds, _ = recompute.kinds_of_image(detections[0], detections[2], annotated)
    return {
        name: count
        for number, name in enumerate(recompute.ERRORS, start=1)
        if (count := int((kinds == number).sum()))
    }


def _apart(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> float:
    """Return 1 for each detection that the other has not, and of the others how far box and score differ."""
    (boxes, scores, classes), (others, their_scores, their_classes) = a, b
    if not len(boxes) or not len(others):
        return float(len(boxes) + len(others))
    overlap = recompute.overlaps(boxes, others) * (classes[:, None] == their_classes[None, :])
    total, both = 0.0, 0
    for i in range(len(boxes)):
        j = int(overlap[i].argmax())
        if overlap[i, j] >= _SAME:
            total += (1 - float(overlap[i, j])) + abs(float(scores[i] - their_scores[j]))
            overlap[:, j], both = 0, both + 1
    # The overlap of a box with itself is 1 but for the last bits.
    return round(total, 6) + len(boxes) + len(others) - 2 * both
