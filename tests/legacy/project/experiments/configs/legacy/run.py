"""Run a program of mmdet's tools, which its wheel brings: ``run.py train.py ...``."""

import runpy
import sys
from pathlib import Path

import mmdet

if __name__ == "__main__":
    sys.argv[0:1] = []
    runpy.run_path(str(Path(mmdet.__file__).parent / ".mim" / "tools" / sys.argv[0]), run_name="__main__")
