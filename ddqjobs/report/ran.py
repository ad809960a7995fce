"""Say in words what results ran with: versions of packages, and machines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ddqjobs.spec.model import PlannedRun, Product, Ran, Run

NOT_LOCKED = "not locked"
OTHER_CODE = "another code ran"
CHANGED = "the environment was changed"
OTHER_DATA = "other annotations"
DIFFER, RULE = "configurations differ", "configurations of one digest differ"
_PACKAGES = ("torch", "mmengine", "mmcv", "mmcv-full", "mmcv-lite", "mmdet", "numpy")
_FILES = (
    ".ann_file",
    ".data_root",
    ".indices",
    ".classes",
)  # options that say which annotations a data set has
_WIDEST = ("amx_tile", "avx512f", "avx2", "avx", "sve")


def versions(ran: Ran) -> str:
    """Return ``Python 3.11.9, torch 2.13.0+cpu``; *not locked* comes first where there is no lock."""
    names = [f"{name} {ran.packages[name]}" for name in _PACKAGES if name in ran.packages]
    lock = [NOT_LOCKED] if ran.environment and not ran.locked else []
    return ", ".join([*lock, f"Python {ran.python}", *names])


def machine(ran: Ran) -> str:
    """Return ``AMD EPYC (avx512f), 2 x NVIDIA H200``: what numbers may depend on."""
    counts = {name: ran.gpus.count(name) for name in sorted(set(ran.gpus))}
    return ", ".join([_processor(ran), *(f"{count} x {name}" for name, count in counts.items())])


def apart(ours: Iterable[Product], theirs: Iterable[Product]) -> str:
    """Return on which different GPUs or processors two sides ran; empty if they did not, or if one side's are
    not known. How many GPUs there were says nothing here."""
    one, other = list(_all(ours)), list(_all(theirs))
    kinds: dict[str, Callable[[Ran], str]] = {"GPUs": _gpus, "processors": _processor}
    for word, kind in kinds.items():
        here, there = ({kind(ran) for ran in side} for side in (one, other))
        if here and there and here != there:
            return f"different {word}: {' and '.join(sorted(here))} against {' and '.join(sorted(there))}"
    return ""


def _all(products: Iterable[Product]) -> Iterator[Ran]:
    """Yield what results ran with, trainings that went on elsewhere in every place."""
    for product in products:
        if product.ran is not None:
            yield from (product.ran, *product.ran.earlier)


class Doubt(NamedTuple):
    """The reason why nobody knows what made a result, in few words and as a sentence about a run."""

    word: str
    sentence: str


def doubt(products: Iterable[Product]) -> Doubt | None:
    """Return what keeps verdicts on these results from being given: the first run of which another code than
    its tree's or its environment's ran, or that had different configurations under its digest."""
    for product in products:
        if product.ran is not None and product.ran.hidden:
            return Doubt(OTHER_CODE, f"{product.run}: {_other_code(product.ran)}")
        if product.ran is not None and product.ran.instead:
            return Doubt(OTHER_CODE, f"{product.run}: {_instead(product.ran)}")
        if product.ran is not None and product.ran.changed:
            return Doubt(CHANGED, f"{product.run}: {_changed(product.ran)}")
        if product.ran is not None and product.ran.differs:
            return Doubt(DIFFER, f"{RULE}, {product.run}: {_places(product)}")
    return None


def other_data(chains: Iterable[Sequence[Product]], runs: Mapping[str, PlannedRun]) -> Doubt | None:
    """Return what keeps results from being compared: that runs read other annotations.

    ``chains`` holds of each result its own run and the trainings before it, which are compared each with its
    like: of those before only the split that they learnt from, and none that a grid varies."""
    first: dict[tuple[object, ...], Product] = {}
    for chain in chains:
        for place, product in enumerate(chain):
            annotations = product.ran.annotations if product.ran is not None else {}
            for split in (
                annotations if place == 0 else [what for what in annotations if what.startswith("train")]
            ):
                setting = _setting(runs[product.run].run, split) if product.run in runs else ()
                one = first.setdefault((place, product.kind, split, setting), product)
                if one.ran is not None and (other := one.ran.annotations[split]) != annotations[split]:
                    part = split.partition(" ")[2]
                    are = f"are read for different {part}" if part else "are different files"
                    sentence = f"the annotations ({split.split()[0]}) of {one.run} and of {product.run} {are}"
                    return Doubt(OTHER_DATA, f"{sentence} ({other} and {annotations[split]})")
    return None


def _setting(run: Run, split: str) -> tuple[str, ...]:
    """Return the options of a grid's point that say which annotations a split has."""
    parameters = tuple(f".{key}" for key, _ in run.grid)
    name = split.partition(" ")[0]
    places = f"{name}_dataloader.", f"data.{name}."
    options = {word: f".{word.lstrip('+').partition('=')[0]}" for word in run.options}
    return tuple(
        word
        for word, key in options.items()
        if key.endswith(parameters) and key[1:].startswith(places) and key.endswith(_FILES)
    )


def repeated(chains: Mapping[str, Iterable[Product]]) -> str:
    """Return which two runs of different seeds are one training, or one test, to the last bit: their seed
    reaches nothing, and they are no two samples. Empty if there are none. What both read is no such."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for name, products in chains.items():
        for product in products:
            for artifact in ("curve", "predictions"):
                digest = product.sha256.get(artifact, "")
                one, run = first.setdefault((artifact, digest), (name, product.run)) if digest else ("", "")
                if run and one != name and run != product.run:
                    return f"the seed does not reach {one} and {name}, with one {artifact} bit for bit"
    return ""


def _other_code(ran: Ran) -> str:
    names = " and ".join(ran.hidden)
    return f"the installed {names} ran, not the code tree's own (its PYTHONPATH lacks the tree)"


def _instead(ran: Ran) -> str:
    return f"{ran.instead[0]} ran, not the environment's own"


def _changed(ran: Ran) -> str:
    return f"its environment was changed since it was built: {', '.join(ran.changed)}"


def _places(product: Product) -> str:
    return "; ".join(product.ran.differs) if product.ran is not None else ""


def notes(products: Mapping[str, Product]) -> Iterator[str]:
    """Yield a line per set of versions and machine that results ran with."""
    groups: dict[str, list[str]] = {}
    for name, product in products.items():
        if product.ran is not None:
            groups.setdefault(f"{versions(product.ran)}; {machine(product.ran)}", []).append(name)
    for text, names in groups.items():
        few = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
        yield f"ran with {text}: {few}"
    for name, product in products.items():
        for before in product.ran.earlier if product.ran is not None else ():
            yield f"went on from an attempt with {_with(before)}: {name}"
        if product.ran is not None and product.ran.foreign:
            yield f"loaded from outside of its environment and code: {', '.join(product.ran.foreign)}: {name}"
        if product.ran is not None and product.ran.hidden:
            yield f"{_other_code(product.ran)}: {name}"
        if product.ran is not None and product.ran.changed:
            yield f"{_changed(product.ran)}: {name}"
        if product.ran is not None and product.ran.differs:
            yield f"different configurations under the digest of {name}: {_places(product)}"


def _with(ran: Ran) -> str:
    names = [f"{name} {ran.packages[name]}" for name in _PACKAGES if name in ran.packages]
    return ", ".join([*names, machine(ran)])


def _processor(ran: Ran) -> str:
    widest = next((word for word in _WIDEST if word in ran.instructions), "")
    return f"{ran.processor} ({widest})" if widest else ran.processor


def _gpus(ran: Ran) -> str:
    return " and ".join(sorted(set(ran.gpus))) or "none"
