"""Output made to be shared names no path and no node, in whatever a log wraps them."""

from __future__ import annotations

import pytest

from ddqjobs.report.share import node_names, sharing

SHARE = sharing(
    ["gpu[07-08].cluster.example", "10.0.0.7", "mini.cluster.example", "r1n[1-2],login"],
    ["/work", "/scratch/my data", "/nfs/coco"],
    ["mini", "test"],
)


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("\x1b[31m/scratch/erika/x\x1b[0m", "[path]"),
        (r"\x1b[1;31m/scratch/erika/x.py\x1b[0m", "[path]/x.py"),
        (r"'Error\n/scratch/erika/x\t/home/j/y'", r"'Error\n[path]\t[path]'"),
        (r"\x00/scratch/erika", r"\x00[path]"),
        ("open //scratch/erika/x, not http://a.example//b/c", "open [path], not http://a.example//b/c"),
        ("in '/scratch/my data/a' or x=/nfs/coco/b.json", "in '[path]' or x=[path]/b.json"),
        (r"-isystem/nfs/coco \ngpu07", r"-isystem/-[path] \na node"),
        ("gpu[07-08].cluster.example", "a node"),
        ("on gpu07, gpu08.cluster.example, gpu[08,11-12], r1n2", "on a node, a node, a node, a node"),
        ("gpu09, r2n1", "gpu09, r2n1"),
        ("from 10.0.0.7:29500, 10 of 10.0", "from a node:29500, 10 of 10.0"),
        ("10", "10"),
        ("mini", "mini"),
        ("mini on mini.cluster.example, test", "mini on a node, test"),
        ("see https://a.example/b, 3/12, /dev/null", "see https://a.example/b, 3/12, /dev/null"),
    ],
)
def test_paths_and_nodes_are_left_out(text: str, shared: str) -> None:
    assert SHARE(text) == shared


def test_lists_of_nodes() -> None:
    assert list(node_names("r[1-2]n[09-10],login1,gpu[07,09-10].x")) == [
        *("r1n09", "r1n10", "r2n09", "r2n10", "login1", "gpu07.x", "gpu09.x", "gpu10.x")
    ]
