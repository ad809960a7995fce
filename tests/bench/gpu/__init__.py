"""What a GPU costs and keeps: ``python -m tests.bench.gpu OUT`` (see __main__)."""
