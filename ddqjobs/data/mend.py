"""Mend what can be mended safely in a file of annotations, into another file.

Nothing is guessed: a missing ``iscrowd`` is 0 (as mmdet takes it), a missing area that of the box, an id that
stands for a whole number becomes that number, and annotations are numbered anew where their own ids are 0 or
met twice: nothing refers to them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import msgspec

from ddqjobs.base import files
from ddqjobs.base.errors import StateError, refusal
from ddqjobs.data.annotation_file import BOM, EXACT, Annotation, whole


class _Numbered(msgspec.Struct):
    """A row that may be no annotation, with its id."""

    id: Any = None


def mend(path: Path, out: Path) -> dict[str, int]:
    """Write ``out``, which must not exist, in one step; return what was mended, and how often.

    Nothing is written where nothing is to be mended. Raises StateError for a file that is no whole file of
    annotations, or for an ``out`` that exists.
    """
    if out.exists() or out.is_symlink():
        raise StateError(f"{out}: exists; give --fix the name of a new file")
    try:
        data = path.read_bytes()
        mended: Counter[str] = Counter()
        if data.startswith(BOM):
            mended["a byte order mark removed"] += 1
            data = data[len(BOM) :]
        content = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        _lists(content, mended)
        _annotations(content, mended)
        if mended and not files.create(out, msgspec.json.encode(content)):
            raise StateError(f"{out}: exists; give --fix the name of a new file")
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise StateError(f"{path}: is not a complete annotation file: {error}") from error
    except OSError as error:
        raise StateError(f"{error.filename or path}: {refusal(error, out.parent)}") from error
    return dict(mended)


def _lists(content: dict[str, msgspec.Raw], mended: Counter[str]) -> None:
    for name in ("images", "categories"):
        rows = msgspec.json.decode(content[name], type=list[dict[str, Any]])
        before = [row["id"] for row in rows]
        changed = sum(_number(row, "id") for row in rows)
        if changed:
            _require_apart(name, before)
            mended[f"ids of {name} made whole numbers"] += changed
            content[name] = msgspec.Raw(msgspec.json.encode(rows))


def _require_apart(name: str, ids: list[Any]) -> None:
    """Raise StateError if two ids that differ would become the same number: what is of one is not of the
    other."""
    by_number: dict[Hashable, Any] = {}
    for value in ids:
        if isinstance(value, int | float | str) and by_number.setdefault(whole(value), value) != value:
            first = by_number[whole(value)]
            raise StateError(f"ids of {name}: {first!r} and {value!r} would both be {whole(value)}; fix them")


def _number(row: dict[str, Any], key: str) -> bool:
    """Make an id a whole number; tell whether it was none and is one now."""
    value = row[key]
    row[key] = whole(value)
    return type(row[key]) is not type(value)


def _annotations(content: dict[str, msgspec.Raw], mended: Counter[str]) -> None:
    raw = msgspec.json.decode(content["annotations"], type=list[msgspec.Raw])
    decoder, seen = msgspec.json.Decoder(Annotation), set[Hashable]()
    rows: list[Any] = list(raw)
    anew: list[int] = []
    for number, text in enumerate(raw):
        try:
            a = decoder.decode(text)
        except msgspec.MsgspecError:
            seen |= _ids(text)  # it stays as it is, and so does its id
            continue
        changes = _changes(a)
        if changes:
            rows[number] = {**msgspec.json.decode(text), **{k: v for k, v, _ in changes}}
            mended.update(label for _, _, label in changes)
        value = whole(a.id)
        if value == 0 or value in seen:
            anew.append(number)
        seen.add(value)
    _renumber(rows, anew, seen)
    if anew:
        mended["annotations numbered anew, whose id was 0 or met twice"] += len(anew)
    if mended:
        content["annotations"] = msgspec.Raw(msgspec.json.encode(rows))


def _ids(row: msgspec.Raw) -> set[Hashable]:
    try:
        value = msgspec.json.decode(row, type=_Numbered).id
    except msgspec.MsgspecError:
        return set()
    return {whole(value)} if isinstance(value, int | float | str) else set()


def _renumber(rows: list[Any], anew: list[int], seen: set[Hashable]) -> None:
    most = EXACT - len(anew) - len(seen)
    new = max((value for value in seen if isinstance(value, int) and 0 < value < most), default=0)
    for number in anew:
        new += 1
        while new in seen:
            new += 1
        row = rows[number]
        rows[number] = {**(row if isinstance(row, dict) else msgspec.json.decode(row)), "id": new}


def _changes(a: Annotation) -> list[tuple[str, Any, str]]:
    """(key, value, label) of each key of an annotation that is mended by itself."""
    changes: list[tuple[str, Any, str]] = []
    for key in ("id", "image_id", "category_id"):
        value = getattr(a, key)
        if type(whole(value)) is not type(value):
            changes.append((key, whole(value), "ids of annotations made whole numbers"))
    if a.iscrowd is msgspec.UNSET:
        changes.append(("iscrowd", 0, "iscrowd 0 added"))
    width, height = a.bbox[2:]
    absent = a.area is msgspec.UNSET and width >= 0 and height >= 0
    empty = a.area is not msgspec.UNSET and a.area <= 0 and width >= 1 and height >= 1
    if (absent or empty) and math.isfinite(width * height):  # JSON has no infinity
        changes.append(("area", width * height, "areas taken from the box"))
    return changes
