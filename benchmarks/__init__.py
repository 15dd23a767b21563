"""Benchmarks; each writes its table and figures to `results/`."""
