"""All figures of the card and the app, as pure functions that return matplotlib Figures.

They do not use pyplot, which has global state: they can be called from any thread. All take the
fields of `Look` as keyword arguments: theme, locale and layout.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from classifier.model_folder.folder import ClassNames
from evaluation import curves
from evaluation.plots.appearance import NARROW
from evaluation.plots.calibration import reliability_diagram
from evaluation.plots.classes import best_and_worst_classes, class_histograms, most_confused_pairs
from evaluation.plots.comparison import ablation_bars, class_differences, robustness_curves
from evaluation.plots.matrices import by_superclass, class_confusions, confusion_matrix
from evaluation.plots.rankings import precision_recall_plot, roc_plot
from evaluation.plots.training import training_curves

__all__ = [
    "ablation_bars",
    "best_and_worst_classes",
    "by_superclass",
    "class_confusions",
    "class_differences",
    "class_histograms",
    "confusion_matrix",
    "default_classes",
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
    """
    matrix = evaluation["confusion_matrix"]
    chosen = default_classes(evaluation)
    yield "confusion_matrix", confusion_matrix(matrix, names, **style)
    if names.superclass_of is not None:
        yield (
            "superclass_confusion_matrix",
            confusion_matrix(matrix, names, level="superclass", **style),
        )
    precision_recall = curves.precision_recall_curves(probabilities, labels)
    yield "precision_recall", precision_recall_plot(precision_recall, names, chosen, **style)
    roc = curves.roc_curves(probabilities, labels)
    yield "roc", roc_plot(roc, names, chosen, **style)
    yield "class_histograms", class_histograms(evaluation, **style)
    yield "best_and_worst_classes", best_and_worst_classes(evaluation, **style)
    yield "most_confused_pairs", most_confused_pairs(evaluation, **style)
    reliability = curves.reliability(probabilities, labels)
    yield "reliability", reliability_diagram(reliability, **style)
    if history:
        yield "training", training_curves(history, **style)


def default_classes(evaluation: Mapping[str, Any]) -> list[int]:
    """Returns the indices of the three best and worst classes: their curves are drawn at first."""
    names = [row["name"] for row in evaluation["per_class"]]
    chosen = [*evaluation["best_classes"][:3], *evaluation["worst_classes"][:3]]
    return [names.index(name) for name in dict.fromkeys(chosen)]


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file's content; the same figure gives the same bytes."""
    content = io.BytesIO()
    # The screens of phones have two or three pixels for each of a page.
    resolution = _RESOLUTION * (2 if figure.get_figwidth() <= NARROW else 1)
    figure.savefig(content, format="png", dpi=resolution, metadata={"Software": None})
    return content.getvalue()
