"""Hyperparameter search with optuna: search space, storage, trials and results."""

SAMPLERS = ("grid", "random", "tpe")
PRUNERS = ("median", "hyperband", "none")
