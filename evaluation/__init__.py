"""Metrics, curves, plots and the report of a trained model; `python -m evaluation` runs them."""
