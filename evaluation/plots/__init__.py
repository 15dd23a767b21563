"""All figures of the card and the app, as pure functions that return matplotlib Figures.

They do not use pyplot, which has global state: they can be called from any thread. All take the
fields of `Look` as keyword arguments: theme, locale and layout.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from classifier.errors import InputError
from evaluation.curves import Records
from evaluation.plots.appearance import NARROW, PLAIN_TEXT
from evaluation.plots.calibration import reliability_diagram
from evaluation.plots.classes import best_and_worst_classes, class_histograms, most_confused_pairs
from evaluation.plots.comparison import ablation_bars, class_differences, robustness_curves
from evaluation.plots.matrices import (
    class_confusions,
    confusion_matrix,
    superclass_confusion_matrix,
)
from evaluation.plots.rankings import precision_recall_plot, roc_plot
from evaluation.plots.training import training_curves

_RESOLUTION = 150  # pixels per inch
# The figures of a model's card, by name: functions of its records; the second and the third also
# take some classes.
OF_THE_CARD: dict[str, Callable[..., Figure]] = {
    "confusion_matrix": confusion_matrix,
    "superclass_confusion_matrix": superclass_confusion_matrix,
    "precision_recall": precision_recall_plot,
    "roc": roc_plot,
    "class_histograms": class_histograms,
    "best_and_worst_classes": best_and_worst_classes,
    "most_confused_pairs": most_confused_pairs,
    "reliability": reliability_diagram,
    "training": training_curves,
}
# With those of chosen classes.
FIGURES = OF_THE_CARD | {"class_confusions": class_confusions, "confusion_zoom": confusion_matrix}
# Those of several models, by name: functions of a field of `comparison.json` or `ablation.json`.
COMPARISONS: dict[str, tuple[Callable[..., Figure], str]] = {
    "robustness": (robustness_curves, "robustness"),
    "class_differences": (class_differences, "class_accuracy"),
    "ablation": (ablation_bars, "rows"),
}


def draw_all(found: Records, **style: Any) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of a model card; yields their names and the figures.

    Those of superclasses or a training history that a model does not have are left out.
    """
    for name, draw in OF_THE_CARD.items():
        try:
            drawn = draw(found, **style)
        except InputError:
            continue
        yield name, drawn


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file's content; the same figure gives the same bytes."""
    content = io.BytesIO()
    # The screens of phones have two or three pixels for each of a page.
    resolution = _RESOLUTION * (2 if figure.get_figwidth() <= NARROW else 1)
    with rc_context(PLAIN_TEXT):
        figure.savefig(content, format="png", dpi=resolution, metadata={"Software": None})
    return content.getvalue()
