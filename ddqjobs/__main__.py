"""``python -m ddqjobs``."""

from ddqjobs.cli.main import main

main()
