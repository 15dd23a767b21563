"""The figures of the *Evaluation* tab: drawn when a browser requests one, then cached."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifier.errors import InputError
from evaluation.themes import THEMES
from interface.markup import fill
from interface.serving import Models, Served
from interface.translations import LANGUAGES, locale, word

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 6  # distinguishable curves in one figure
FORMS = ("wide", "narrow")  # the second for phones
MAX_ZOOMED = 10  # classes in a part of the confusion matrix
CACHED = 400  # figures of about 60 KB
# The figures that can be requested, under the names of the model folder's plots.
OF_EVALUATION = ("class_histograms", "best_and_worst_classes", "most_confused_pairs")
OF_CLASSES = ("class_confusions", "confusion_zoom", "precision_recall", "roc")  # chosen by visitors
DRAWN = (
    *("confusion_matrix", "superclass_confusion_matrix", "reliability", "training"),
    *OF_EVALUATION,
    *OF_CLASSES,
)
drawing = threading.Lock()  # drawing holds the GIL: two at once would only block the page
# A pool of its own: requests that wait for figures do not delay uploads, which use the default one.
_threads = ThreadPoolExecutor(4, thread_name_prefix="draw")

Drawn = TypeVar("Drawn")


async def in_thread(draw: Callable[..., Drawn], *arguments: Any) -> Drawn:
    """Returns the result of a function that draws figures, without blocking the event loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, partial(draw, *arguments))


def image(
    served: Served, figure: str, language: str, classes: tuple[int, ...] = (), about: str = ""
) -> str:
    """Returns a figure as HTML; its alternative text ends with what it is about, if given."""
    query = {
        "model": served.name,
        "language": language,
        "version": hashlib.sha256(served.key.encode()).hexdigest()[:12],
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


def png(
    served: Served,
    figure: str,
    theme: str = "light",
    language: str = LANGUAGES[0],
    classes: tuple[int, ...] = (),
    form: str = FORMS[0],
) -> bytes:
    """Returns a figure as a PNG file's content; draws it only once.

    Raises:
        InputError: the model has no data for it, or the figure needs a choice of classes.
    """
    return _cached(served, figure, theme, language, classes, form)[0]


def route(models: Models) -> Route:
    """Returns the route that draws a figure of a served model."""

    async def answer(request: Request) -> Response:
        served, wanted = _checked(models, request.path_params["figure"], request.query_params)
        return png_response(await in_thread(png, served, *wanted))

    return Route("/figures/{figure}.png", answer)


def png_response(content: bytes) -> Response:
    """Returns a PNG file as a response that browsers cache for an hour."""
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(content, media_type="image/png", headers=headers)


def appearance(query: Mapping[str, str]) -> tuple[str, str, str]:
    """Returns theme, language and form from a query; raises `InputError` for unknown ones."""
    theme, language = query.get("theme", "light"), query.get("language", LANGUAGES[0])
    form = query.get("form", FORMS[0])
    if theme not in THEMES or language not in LANGUAGES or form not in FORMS:
        raise InputError("there is no such figure")
    return theme, language, form


def style(theme: str, language: str, form: str) -> dict[str, Any]:
    """Returns the keyword arguments of the functions in `evaluation.plots`."""
    return {"theme": THEMES[theme], "locale": locale(language), "narrow": form == "narrow"}


def class_at(models: Models, address: str, x: float, y: float) -> int | None:
    """Returns the class at a point of a confusion matrix, None if there is none.

    A cell stands for the true class of its row, a name at the side or below for that class.

    Args:
        models: the served models.
        address: of the figure, from `image`; raises `InputError` if there is no such figure.
        x: from the left edge of the figure, as a fraction of its width.
        y: from its upper edge, as a fraction of its height.
    """
    from evaluation.plots import by_superclass

    parts = urlsplit(address)
    name = parts.path.rpartition("/")[2].removesuffix(".png")
    served, wanted = _checked(models, name, dict(parse_qsl(parts.query)))
    if name not in ("confusion_matrix", "confusion_zoom"):
        return None
    order = wanted[3] if name == "confusion_zoom" else by_superclass(served.labels)
    left, bottom, right, top = _cached(served, *wanted)[1]
    column = int((x - left) / (right - left) * len(order) // 1)
    row = int((y - (1 - top)) / (top - bottom) * len(order) // 1)
    inside = range(len(order))
    if row in inside and x < right:
        return int(order[row])
    if column in inside and y > 1 - bottom:
        return int(order[column])
    return None


def _checked(
    models: Models, figure: str, query: Mapping[str, str]
) -> tuple[Served, tuple[str, str, str, tuple[int, ...], str]]:
    """Returns the model and the other arguments of `_cached`."""
    served = models.get(query.get("model"))
    theme, language, form = appearance(query)
    if figure not in DRAWN:
        raise InputError("there is no such figure")
    try:
        classes = tuple(int(item) for item in query.get("classes", "").split(",") if item)
    except ValueError:
        raise InputError("classes are numbers, with commas between them") from None
    count, most = len(served.labels.classes), MAX_ZOOMED if "zoom" in figure else MAX_CLASSES
    # Repeated or superfluous classes must not cause the same figure to be drawn again.
    classes = tuple(dict.fromkeys(classes)) if figure in OF_CLASSES else ()
    if len(classes) > most or any(not 0 <= index < count for index in classes):
        raise InputError(f"at most {most} classes from 0 to {count - 1} can be drawn")
    return served, (figure, theme, language, classes, form)


@lru_cache(CACHED)
def _cached(
    served: Served, figure: str, theme: str, language: str, classes: tuple[int, ...], form: str
) -> tuple[bytes, tuple[float, ...]]:
    """Returns a PNG file's content, and the extents of its first axes: left, bottom, right, top."""
    from evaluation import plots

    with drawing:
        drawn = _draw(served, figure, classes, style(theme, language, form))
        content = plots.png(drawn)
        return content, tuple(map(float, drawn.axes[0].get_position().extents))


def _draw(served: Served, figure: str, classes: tuple[int, ...], options: dict[str, Any]) -> Figure:
    from evaluation import curves, plots

    names = served.labels
    if figure in ("precision_recall", "roc"):
        draw = plots.roc_plot if figure == "roc" else plots.precision_recall_plot
        return draw(_curves(served, figure), names, classes, **options)
    if figure == "reliability":
        return plots.reliability_diagram(curves.reliability(*_predictions(served)), **options)
    if figure == "training":
        history = served.folder.history
        if not history:
            raise InputError(f"{served.name} has no training history")
        return plots.training_curves(history, **options)
    if served.evaluation is None:
        raise InputError(f"{served.name} is not evaluated")
    if figure in OF_EVALUATION:
        return getattr(plots, figure)(served.evaluation, **options)
    matrix = served.evaluation["confusion_matrix"]
    if figure == "confusion_matrix":
        return plots.confusion_matrix(matrix, names, **options)
    if figure == "superclass_confusion_matrix":
        if names.superclasses is None:
            raise InputError(f"the classes of {served.name} have no superclasses")
        return plots.confusion_matrix(matrix, names, level="superclass", **options)
    if not classes:
        raise InputError("name the classes")
    if figure == "class_confusions":
        return plots.class_confusions(matrix, names, classes[0], **options)
    return plots.confusion_matrix(matrix, names, classes=classes, **options)


@lru_cache(8)
def _curves(served: Served, kind: str) -> Any:
    from evaluation import curves

    compute = curves.roc_curves if kind == "roc" else curves.precision_recall_curves
    return compute(*_predictions(served))


def _predictions(served: Served) -> Any:
    if served.predictions is None:
        raise InputError(f"{served.name} has no stored predictions")
    return served.predictions
