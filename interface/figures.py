"""The figures of the page: their HTML, and the route that draws them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifier.errors import InputError
from evaluation.curves import default_classes
from evaluation.themes import THEMES
from interface.drawing import FORMS, Drawing, content_of
from interface.markup import fill
from interface.serving import Models, Served
from interface.translations import LANGUAGES, word

MAX_CLASSES = 6  # distinguishable curves in one figure
MAX_ZOOMED = 10  # classes in a part of the confusion matrix
# The figures that can be requested, under the names of the model folder's plots.
CURVES = ("precision_recall", "roc")  # of chosen classes, by default of the best and the worst
CHOSEN = ("class_confusions", "confusion_zoom")  # of the class that a visitor chooses
DRAWN = (
    *("confusion_matrix", "superclass_confusion_matrix", *CURVES, "class_histograms"),
    *("best_and_worst_classes", "most_confused_pairs", "reliability", "training", *CHOSEN),
)

# Written by `python -m benchmarks.compare` and `python -m benchmarks.ablation`.
COMPARISON = Path(__file__).resolve().parent.parent / "pretrained" / "comparison.json"
ABLATION = COMPARISON.with_name("ablation.json")
# The figures of several models, and what they are drawn from.
COMPARED = {"robustness": COMPARISON, "class_differences": COMPARISON, "ablation": ABLATION}
# Each form, language and theme.
LOOKS = tuple(product(FORMS, LANGUAGES, THEMES))


def evaluation_figure(
    served: Served, figure: str, language: str, classes: tuple[int, ...] = (), about: str = ""
) -> str:
    """Returns a figure as HTML; its alternative text ends with what it is about, if given."""
    query = {
        "model": served.name,
        "language": language,
        "version": content_of(served.folder.path)[:12],
    }
    if classes:
        query["classes"] = ",".join(map(str, classes))
    alternative = word(f"alt_{figure}", language, model=served.name)
    alternative += f": {about}" if about else ""
    return figure_element(f"figures/{figure}.png", query, alternative, language)


def figure_element(
    path: str, query: Mapping[str, str], alt: str, language: str, kind: str = ""
) -> str:
    """Returns a figure as HTML, in both themes, each with its form for phones.

    Args:
        path: the route of the figure.
        query: its parameters without theme and form.
        alt: the alternative text.
        language: the visitor's.
        kind: a CSS class of the element.
    """
    forms = [
        (
            theme,
            f"{path}?{urlencode({**query, 'theme': theme})}",
            f"{path}?{urlencode({**query, 'theme': theme, 'form': FORMS[1]})}",
        )
        for theme in THEMES
    ]
    return fill("figure", language, forms=forms, alt=alt, kind=kind)


def drawings_of(served: Served, wanted: Iterable[tuple[str, str, str]]) -> Iterator[Drawing]:
    """Yields the figures that the *Evaluation* tab shows at first, in the wanted looks."""
    for form, language, theme in wanted if served.evaluation is not None else ():
        for figure in DRAWN:
            if figure not in CHOSEN:
                yield Drawing(served.folder.path, figure, theme, language, form)


def route(models: Models) -> Route:
    """Returns the route that draws the figures; browsers cache them for an hour."""

    async def answer(request: Request) -> Response:
        query, figure = request.query_params, request.path_params["figure"]
        source: Path | None = None
        choice: tuple[Any, ...] = ()
        if figure in COMPARED:
            source, choice = COMPARED[figure], _compared(figure, query)
        elif figure in DRAWN:
            served = models.get(query.get("model"))
            source, choice = served.folder.path, _classes(served, figure, query.get("classes", ""))
        known = {"theme": tuple(THEMES), "language": LANGUAGES, "form": FORMS}
        look = {name: query.get(name, values[0]) for name, values in known.items()}
        if (
            source is None
            or not source.exists()
            or any(look[name] not in values for name, values in known.items())
        ):
            raise InputError("there is no such figure")
        drawn = models.figures.get(Drawing(source, figure, choice=choice, **look))
        # A visitor who leaves does not cancel it for others.
        content = await asyncio.shield(asyncio.wrap_future(drawn))
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(content, media_type="image/png", headers=headers)

    return Route("/figures/{figure}.png", answer)


@cache
def measured(path: Path) -> dict[str, Any] | None:
    """Returns the content of a file of measurements, None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _compared(figure: str, query: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the models that a request chooses for a figure of several, by name."""
    if figure != "class_differences":
        return ()
    names = query.get("first", ""), query.get("second", "")
    if not set(names) <= (measured(COMPARISON) or {}).get("class_accuracy", {}).keys():
        raise InputError("no model of this name was compared")
    return names


def _classes(served: Served, figure: str, text: str) -> tuple[int, ...]:
    """Returns the classes that a request chooses for a figure, by index."""
    if figure not in (*CURVES, *CHOSEN):
        return ()
    try:
        # Repeated classes must not cause the same figure to be drawn again.
        classes = tuple(dict.fromkeys(int(item) for item in text.split(",") if item))
    except ValueError:
        raise InputError("classes are numbers, with commas between them") from None
    count, most = len(served.labels.classes), MAX_ZOOMED if "zoom" in figure else MAX_CLASSES
    least = 1 if figure in CHOSEN else 0
    if not least <= len(classes) <= most or any(not 0 <= index < count for index in classes):
        raise InputError(f"{least} to {most} classes from 0 to {count - 1} can be drawn")
    return () if classes == default_classes(served.evaluation) else classes
