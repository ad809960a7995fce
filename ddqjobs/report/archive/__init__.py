"""One file with all that an experiment's numbers stand on, and its verification anywhere."""
