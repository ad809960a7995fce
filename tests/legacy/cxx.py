#!/usr/bin/env python3
"""A C++ compiler for mmcv's operators that takes a minute in place of twenty.

As ``CXX`` of mmcv's setup.py. Nearly all of the time goes into torch's headers, once a file, and into
optimising what the tests call a few times. So the files are compiled in a few units of many files each,
without optimisation: the first file of a unit stands for all of its files, the others become empty objects.
Everything else is handed to the compiler as it is.
"""

import os
import sys
import tempfile
from pathlib import Path

UNITS = 5
COMPILER = "c++"


def unit(source: Path) -> "list[Path]":
    """The files that this one's object holds."""
    folder = source.parent.parent if source.parent.name == "cpu" else source.parent
    files = sorted([*folder.glob("*.cpp"), *folder.glob("cpu/*.cpp")])
    place = files.index(source)
    return files[place::UNITS] if place < UNITS else []


def main(arguments: "list[str]") -> None:
    sources = [word for word in arguments if word.endswith(".cpp") and "/ops/csrc/pytorch/" in word]
    if not sources or "-c" not in arguments:
        os.execvp(COMPILER, [COMPILER, *arguments])
    source = Path(sources[0]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "unit.cpp"
        files = unit(source)
        headers = ["<torch/extension.h>"] if files else []  # before what the files define
        includes = [*headers, *(f'"{file}"' for file in files)]
        together.write_text("".join(f"#include {name}\n" for name in includes))
        arguments = [str(together) if word == sources[0] else word for word in arguments if word != "-g"]
        code = os.spawnvp(os.P_WAIT, COMPILER, [COMPILER, *arguments, f"-I{source.parent}", "-O0", "-w"])
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
