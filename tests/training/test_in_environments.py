"""The tests that need torch, inside both built environments of the miniature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support import inside, processor
from tests.support.inside import GROUPS, LIMIT_S

pytestmark = pytest.mark.timeout(2 * LIMIT_S)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inside.tools(tmp_path_factory.mktemp("tools"))


@pytest.fixture
def triton(tmp_path: Path) -> Path:
    return inside.triton(tmp_path)


def passes(
    name: str,
    files: Sequence[str],
    folders: Sequence[Path],
    marks: str,
    variables: Mapping[str, str] | None = None,
) -> None:
    """The tests of these files with these marks pass; none may be skipped."""
    done = inside.run(name, files, folders, "-m", marks, variables=variables)
    assert done.code == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_the_task_code_works_in_the_environment(group: str, tools: Path) -> None:
    name, files = GROUPS[group]
    passes(name, files, [tools], "not gpu and not long")


@pytest.mark.long
@pytest.mark.parametrize("group", ["models", "overfit", "speed"])
def test_all_models_and_processes(group: str, tools: Path) -> None:
    name, files = GROUPS[group]
    passes(name, files, [tools], "long and not gpu")


@pytest.mark.parametrize(
    "file", [inside.INTERPRETED, inside.COMPILED], ids=["in the interpreter", "compiled"]
)
def test_the_triton_operators(file: str, tools: Path, triton: Path) -> None:
    passes("mini-new", (file,), [tools, triton], "not gpu")


@pytest.mark.parametrize("capability", ["default", pytest.param("avx2", marks=pytest.mark.long)])
def test_bits_do_not_depend_on_the_instructions(capability: str, tools: Path) -> None:
    """The quick ones; ``make test-isa`` tries all."""
    if capability not in processor.capabilities(inside.python("mini-new")):
        pytest.skip(f"this processor has no {capability}")
    variables = {"ATEN_CPU_CAPABILITY": capability}
    passes("mini-new", inside.QUICK, [tools], "bits and not gpu", variables)
