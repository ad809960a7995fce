"""Entry point of the executables: ``python -S main.py dsub|djob|dkill WORDS...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.labs.donau.commands import main

sys.exit(main(sys.argv[1], sys.argv[2:]))
