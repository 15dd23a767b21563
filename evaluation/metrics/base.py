"""The base class of the project's `evaluate` modules, which are loaded by the path of a folder.

They load offline, with the project's folder on Python's path:
`evaluate.load("evaluation/metrics/roc_auc")`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any

import datasets
import evaluate

# A score per class for each sample, (N, C), or its predicted class, (N,); and its true class, (N,).
SCORES = {
    "predictions": datasets.List(datasets.Value("float32")),
    "references": datasets.Value("int64"),
}
CLASSES = {name: datasets.Value("int64") for name in SCORES}


class Metric(evaluate.Metric, ABC):
    """A metric that is described by the docstring of its module.

    Attributes:
        inputs: `SCORES` or `CLASSES`.
    """

    inputs: dict[str, Any]

    # `evaluate` takes the first class of a module that is not abstract.
    @abstractmethod
    def _compute(self, *args: Any, **kwargs: Any) -> dict[str, Any]: ...

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=sys.modules[self.__module__].__doc__,
            inputs_description=sys.modules[self.__module__].__doc__,
            citation="",
            features=datasets.Features(self.inputs),
        )
