"""Trees of files that inherit: laid on top of each other, and what a file adds to its base. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ddqjobs.spec.nodes import Node, Path


def merge(base: Node, child: Node) -> Node:
    """``child`` on top of ``base``; neither is changed. Each part keeps the place where it was written."""
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)):
        return child
    both, removed = dict(base.value), dict(base.removed or {})
    for key, node in child.value.items():
        if key not in both:
            both[key] = node
        elif node.value is None and not node.bad:
            del both[key]
            removed[key] = node
        else:
            both[key] = merge(both[key], node)
    return Node(both, child.file, child.line, removed=removed or None)


def merged(trees: list[Node]) -> tuple[Node, dict[str, Node]]:
    """All trees as one, the first at the bottom; and for each file but the first what it was laid on."""
    root, bases = trees[0], {}
    for tree in trees[1:]:
        bases[tree.file] = root
        root = merge(root, tree)
    return root, bases


def added_to(bases: Mapping[str, Node], node: Node, path: Path) -> Node | None:
    """The base that has entries beside ``path``, but none there, where its heir has ``node``.

    ``bases`` has for each file that inherits the tree of all that it inherits.
    """
    base = bases.get(node.file)
    while base is not None and base.below(path) is not None:
        base = bases.get(base.file)
    return base if base is not None and names_beside(base, path) else None


def names_beside(base: Node, path: Path) -> list[str]:
    """The entries of the mapping that ``path`` would lie in."""
    section = base.below(path[:-1])
    return list(section.value) if section is not None and isinstance(section.value, dict) else []
