"""Cost and repeatability of trainings on a GPU: ``python -m tests.bench.gpu OUT`` (see __main__)."""
