"""What the figures of a model are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from classifier.model_folder.folder import ClassNames
from evaluation import curves


@dataclass(frozen=True)
class Records:
    """The results of a model.

    Attributes:
        names: the C classes.
        evaluation: the content of `evaluation.json`.
        predictions: the probabilities, float, (N, C), and the labels, (N,).
        history: the rows of `history.csv`.
    """

    names: ClassNames
    evaluation: Mapping[str, Any]
    predictions: tuple[np.ndarray, np.ndarray]
    history: Sequence[Mapping[str, float]] = ()

    @property
    def matrix(self) -> np.ndarray:
        """The confusion matrix: counts, (C, C)."""
        return np.asarray(self.evaluation["confusion_matrix"])

    @cached_property
    def precision_recall(self) -> curves.ClassCurves:
        """The precision-recall curves."""
        return curves.precision_recall_curves(*self.predictions)

    @cached_property
    def roc(self) -> curves.ClassCurves:
        """The ROC curves."""
        return curves.roc_curves(*self.predictions)
