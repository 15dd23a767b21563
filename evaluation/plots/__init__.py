"""All figures of the card and the app, as pure functions that return matplotlib Figures.

They do not use pyplot, which has global state: they can be called from any thread. All take the
fields of `Look` as keyword arguments: theme, locale and layout.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from classifier.errors import InputError
from classifier.model_folder.folder import ClassNames
from evaluation import curves
from evaluation.plots.appearance import NARROW, PLAIN_TEXT
from evaluation.plots.calibration import reliability_diagram
from evaluation.plots.classes import best_and_worst_classes, class_histograms, most_confused_pairs
from evaluation.plots.comparison import ablation_bars, class_differences, robustness_curves
from evaluation.plots.matrices import class_confusions, confusion_matrix
from evaluation.plots.rankings import precision_recall_plot, roc_plot
from evaluation.plots.training import training_curves

__all__ = [
    "FIGURES",
    "Records",
    "ablation_bars",
    "best_and_worst_classes",
    "class_confusions",
    "class_differences",
    "class_histograms",
    "confusion_matrix",
    "draw_all",
    "most_confused_pairs",
    "png",
    "precision_recall_plot",
    "reliability_diagram",
    "robustness_curves",
    "roc_plot",
    "training_curves",
]

_RESOLUTION = 150  # pixels per inch
OF_CLASSES = ("precision_recall", "roc")  # a card shows them for some classes


@dataclass(frozen=True)
class Records:
    """What the figures of a model are drawn from.

    Attributes:
        names: the C classes.
        evaluation: the content of `evaluation.json`, if the model was evaluated.
        predictions: the probabilities, float, (N, C), and the labels, (N,), if they are stored.
        history: the rows of `history.csv`.
    """

    names: ClassNames
    evaluation: Mapping[str, Any] | None = None
    predictions: tuple[np.ndarray, np.ndarray] | None = None
    history: Sequence[Mapping[str, float]] = ()

    @property
    def evaluated(self) -> Mapping[str, Any]:
        """The evaluation; raises `InputError` without one."""
        if self.evaluation is None:
            raise InputError("the model is not evaluated")
        return self.evaluation

    @property
    def predicted(self) -> tuple[np.ndarray, np.ndarray]:
        """The predictions; raises `InputError` without them."""
        if self.predictions is None:
            raise InputError("the model has no stored predictions")
        return self.predictions

    @cached_property
    def precision_recall(self) -> curves.ClassCurves:
        """The precision-recall curves."""
        return curves.precision_recall_curves(*self.predicted)

    @cached_property
    def roc(self) -> curves.ClassCurves:
        """The ROC curves."""
        return curves.roc_curves(*self.predicted)

    @property
    def matrix(self) -> tuple[Any, ClassNames]:
        """The confusion matrix, counts (C, C), and its classes."""
        return self.evaluated["confusion_matrix"], self.names


def _chosen(classes: Sequence[int]) -> Sequence[int]:
    if not classes:
        raise InputError("name the classes")
    return classes


def _superclasses(found: Records, _: Sequence[int], **style: Any) -> Figure:
    if found.names.superclass_of is None:
        raise InputError("the classes have no superclasses")
    return confusion_matrix(*found.matrix, level="superclass", **style)


def _training(found: Records, _: Sequence[int], **style: Any) -> Figure:
    if not found.history:
        raise InputError("the model has no training history")
    return training_curves(found.history, **style)


# The figures of a model, by name: functions of its records, the chosen classes and the style.
FIGURES: dict[str, Callable[..., Figure]] = {
    "confusion_matrix": lambda found, _, **style: confusion_matrix(*found.matrix, **style),
    "superclass_confusion_matrix": _superclasses,
    "precision_recall": lambda found, classes, **style: precision_recall_plot(
        found.precision_recall, found.names, classes, **style
    ),
    "roc": lambda found, classes, **style: roc_plot(found.roc, found.names, classes, **style),
    "class_histograms": lambda found, _, **style: class_histograms(found.evaluated, **style),
    "best_and_worst_classes": lambda found, _, **style: best_and_worst_classes(
        found.evaluated, **style
    ),
    "most_confused_pairs": lambda found, _, **style: most_confused_pairs(found.evaluated, **style),
    "reliability": lambda found, _, **style: reliability_diagram(
        curves.reliability(*found.predicted), **style
    ),
    "training": _training,
    "class_confusions": lambda found, classes, **style: class_confusions(
        found.matrix[0], found.names, _chosen(classes)[0], **style
    ),
    "confusion_zoom": lambda found, classes, **style: confusion_matrix(
        *found.matrix, classes=_chosen(classes), **style
    ),
}


def draw_all(
    evaluation: Mapping[str, Any],
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: ClassNames,
    history: Sequence[Mapping[str, float]] = (),
    **style: Any,
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of a model card; yields their names and the figures.

    Args:
        evaluation: the content of `evaluation.json`.
        probabilities: float, (N, C).
        labels: integers, (N,).
        names: the classes.
        history: the rows of `history.csv`; without them there are no training curves.
        style: the fields of `Look`.
    """
    found = Records(names, evaluation, (probabilities, labels), history)
    for name, draw in FIGURES.items():
        of_classes = curves.default_classes(evaluation) if name in OF_CLASSES else ()
        # Figures that need a choice, or data that the model does not have, are skipped.
        try:
            drawn = draw(found, of_classes, **style)
        except InputError:
            continue
        yield name, drawn


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file's content; the same figure gives the same bytes.

    The file's text `Axes` of a matrix states its left, bottom, right and top edge as fractions.
    """
    content = io.BytesIO()
    metadata: dict[str, str | None] = {"Software": None}
    # The screens of phones have two or three pixels for each of a page.
    resolution = _RESOLUTION * (2 if figure.get_figwidth() <= NARROW else 1)
    with rc_context(PLAIN_TEXT):
        if figure.axes[0].images:
            figure.draw_without_rendering()  # places the axes
            edges = figure.axes[0].get_position().extents
            metadata["Axes"] = " ".join(f"{edge:.5f}" for edge in edges)
        figure.savefig(content, format="png", dpi=resolution, metadata=metadata)
    return content.getvalue()
