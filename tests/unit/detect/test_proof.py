"""The proof at the start of an attempt: hooks of `site` from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from ddqjobs.detect import proof


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_a_hook_of_another_place_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("sitecustomize", "usercustomize"):
        monkeypatch.delitem(sys.modules, other, raising=False)
    hook = ModuleType(name)
    hook.__file__ = str(tmp_path / f"{name}.py")
    monkeypatch.setitem(sys.modules, name, hook)
    finding = f"{hook.__file__} runs before every program and is not the environment's"
    assert list(proof._foreign_hooks([sys.prefix])) == [finding]
    assert list(proof._foreign_hooks([str(tmp_path)])) == []
    hook.__file__ = str(Path(proof._interpreter()[0]) / f"{name}.py")  # of the distribution, as Debian's
    assert list(proof._foreign_hooks([sys.prefix])) == []
