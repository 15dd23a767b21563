"""Hyperparameter search with optuna: search space, storage, trials and results."""
