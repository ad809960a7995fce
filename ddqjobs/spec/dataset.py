"""The data sets and weights of an experiment file: their types."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ddqjobs.spec.table import Name, Positive, Table

Checksum = Annotated[
    str,
    Meta(
        pattern=r"^([0-9a-f]{8,64})?$",
        description="a SHA-256 in lower case, or its first 8 digits or more",
    ),
]


class Data(Table, frozen=True, kw_only=True):
    """The data set; ``version`` is part of every run's digest."""

    name: str = ""
    """Name of the data set, for the report. Example: COCO 2017"""
    version: str = ""
    """What exactly it is; part of every run's digest. Example: 2017 val (5,000 images)"""
    source: str = ""
    """Where it came from. Example: https://cocodataset.org"""


class Split(Table, frozen=True, kw_only=True):
    """A part of a data set: a file of annotations in COCO's format, and the folder of its images, both below
    the data set's folder."""

    annotations: str
    """File of annotations in COCO's format, below the data set's path. Example:
    annotations/instances_val2017.json"""
    images: str
    """Folder of its images, below the data set's path. Example: val2017"""
    count: Positive | None = None
    """How many images the file and the folder must have. Example: 5000"""
    sha256: Checksum = ""
    """SHA-256 of the file of annotations, or its first digits. Example: 8a1f2c3d"""


class Dataset(Table, frozen=True, kw_only=True):
    """A data set that was brought to ``path`` once, by hand. ``link`` is where each code tree looks for it,
    e.g. ``data/coco``; empty: nothing is linked."""

    title: str = ""
    """Name in messages. Example: COCO 2017"""
    path: str
    """Folder that the data set was brought to. Example: ~/data/coco"""
    link: str = ""
    """Where each code tree looks for it; empty, nothing is linked. Example: data/coco"""
    codes: list[Name] | None = None
    """The codes that read it; left out, all, and those with a path get the link. Example: [M, L]"""
    categories: Positive | None = None
    """How many categories its annotations must have. Example: 80"""
    splits: dict[Name, Split] = {}
    """Its parts. Example: {val: {annotations: annotations/val.json, images: val2017}}"""


class Weight(Table, frozen=True, kw_only=True):
    """A file of weights that a run reads, or would download at its start. ``path`` is where runs look for it;
    empty: in torch's cache, under the last part of ``url``, as a configuration's ``init_cfg`` wants it."""

    title: str = ""
    """Name in messages. Example: ResNet-50, ImageNet"""
    url: str = ""
    """Where it is downloaded from; empty, somebody must bring it. Example:
    https://download.pytorch.org/models/resnet50-0676ba61.pth"""
    page: str = ""
    """Page where a person finds it. Example: https://github.com/jshilong/DDQ"""
    path: str = ""
    """Where runs look for it; empty, in torch's cache, under the last part of `url`. Example:
    ~/weights/r50.pth"""
    sha256: Checksum = ""
    """SHA-256 of the file, or its first digits; left out, those that end its name, else those of the first
    time. Example: 0676ba61"""
    models: list[Name] = []
    """The models that need it; empty, all. Example: [ddq-detr-swinl]"""
