"""Hyperparameter search with optuna: search space, storage, workers, trials and results."""

SAMPLERS = ("grid", "random", "tpe")
PRUNERS = ("median", "hyperband", "none")
