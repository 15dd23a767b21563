"""The figures of the *Evaluation* tab: drawn when a browser asks for one, and kept for the next."""

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

MAX_CLASSES = 6  # curves in one figure that can be told apart
FORMS = ("wide", "narrow")  # the second for phones
MAX_ZOOMED = 10  # classes in a part of the confusion matrix
KEPT = 400  # figures of about 60 KB
drawing = threading.Lock()  # drawing is Python: two at once would only stall the page
# Threads of its own: those who wait for a figure keep nobody waiting whose picture is read.
_threads = ThreadPoolExecutor(4, thread_name_prefix="draw")

Drawn = TypeVar("Drawn")


async def beside(draw: Callable[..., Drawn], *arguments: Any) -> Drawn:
    """Returns what a function gives that draws figures, while the page goes on."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, partial(draw, *arguments))


def image(
    served: Served, figure: str, language: str, alt: str, classes: tuple[int, ...] = ()
) -> str:
    """Returns a figure as HTML, in the light and the dark theme; the page shows one of them."""
    query = {
        "model": served.name,
        "language": language,
        "version": hashlib.sha256(served.key.encode()).hexdigest()[:12],
    }
    if classes:
        query["classes"] = ",".join(map(str, classes))
    return figure_element(f"figures/{figure}.png", query, alt, language)


def figure_element(
    path: str, query: Mapping[str, str], alt: str, language: str, kind: str = ""
) -> str:
    """Returns the HTML of a figure in both themes, and in the form that each has on a phone.

    Args:
        path: where the figure is drawn.
        query: the figure's choices, without theme and form.
        alt: the text that stands for it where it is not seen.
        language: the visitor's.
        kind: a class of the element.
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
        InputError: the model has not what it takes, or the figure needs a choice of classes.
    """
    return _cached(served, figure, theme, language, classes, form)[0]


def route(models: Models) -> Route:
    """Returns the route that draws a figure of a served model."""

    async def answer(request: Request) -> Response:
        try:
            served, wanted = _checked(models, request.path_params["figure"], request.query_params)
            content = await beside(png, served, *wanted)
        except InputError as error:
            return Response(str(error), status_code=404, media_type="text/plain")
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(content, media_type="image/png", headers=headers)

    return Route("/figures/{figure}.png", answer)


def class_at(models: Models, address: str, x: float, y: float) -> int | None:
    """Returns the class that lies at a point of a confusion matrix, None if there is none.

    A cell stands for the true class of its row, a name at the side or below for that class.

    Args:
        models: the served models.
        address: of the figure, as `image` made it.
        x: from the left edge of the figure, as a share of its width.
        y: from its upper edge, as a share of its height.

    Raises:
        InputError: there is no such figure.
    """
    parts = urlsplit(address)
    name = parts.path.rpartition("/")[2].removesuffix(".png")
    served, wanted = _checked(models, name, dict(parse_qsl(parts.query)))
    if name not in ("confusion_matrix", "confusion_zoom"):
        return None
    order = wanted[3] if name == "confusion_zoom" else _order(served)
    left, bottom, right, top = _cached(served, *wanted)[1]
    column = int((x - left) / (right - left) * len(order) // 1)
    row = int((y - (1 - top)) / (top - bottom) * len(order) // 1)
    inside = range(len(order))
    if row in inside and x < right:
        return int(order[row])
    if column in inside and y > 1 - bottom:
        return int(order[column])
    return None


def _order(served: Served) -> tuple[int, ...]:
    from evaluation.plots import by_superclass

    return tuple(by_superclass(served.labels))


def _checked(
    models: Models, figure: str, query: Mapping[str, str]
) -> tuple[Served, tuple[str, str, str, tuple[int, ...], str]]:
    served = models.get(query.get("model"))
    theme, language = query.get("theme", "light"), query.get("language", LANGUAGES[0])
    form = query.get("form", FORMS[0])
    known = theme in THEMES and language in LANGUAGES and form in FORMS
    if figure not in DRAWN or not known:
        raise InputError("there is no such figure")
    try:
        classes = tuple(int(item) for item in query.get("classes", "").split(",") if item)
    except ValueError:
        raise InputError("classes are numbers, with commas between them") from None
    count, most = len(served.labels.classes), MAX_ZOOMED if "zoom" in figure else MAX_CLASSES
    # A figure is drawn once: classes named twice, or where none are chosen, make no other one.
    classes = tuple(dict.fromkeys(classes)) if figure in OF_CLASSES else ()
    if len(classes) > most or any(not 0 <= index < count for index in classes):
        raise InputError(f"at most {most} classes from 0 to {count - 1} can be drawn")
    return served, (figure, theme, language, classes, form)


@lru_cache(KEPT)
def _cached(
    served: Served, figure: str, theme: str, language: str, classes: tuple[int, ...], form: str
) -> tuple[bytes, tuple[float, ...]]:
    """Returns a PNG file's content, and where its first axes lie: left, bottom, right, top."""
    from evaluation import plots

    with drawing:
        look = {
            "theme": THEMES[theme],
            "locale": locale(language),
            "narrow": form == "narrow",
        }
        drawn = DRAWN[figure](served, classes, look)
        content = plots.png(drawn)
        return content, tuple(map(float, drawn.axes[0].get_position().extents))


@lru_cache(8)
def _curves(served: Served, kind: str) -> Any:
    from evaluation import curves

    probabilities, labels = _predictions(served)
    return getattr(curves, f"{kind}_curves")(probabilities, labels)


def _evaluation(served: Served) -> dict[str, Any]:
    if served.evaluation is None:
        raise InputError(f"{served.name} is not evaluated")
    return served.evaluation


def _predictions(served: Served) -> Any:
    if served.predictions is None:
        raise InputError(f"the predictions of {served.name} are not there")
    return served.predictions


def _matrix(level: str) -> Callable[..., Figure]:
    def draw(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
        from evaluation import plots

        if level == "superclass" and served.labels.superclasses is None:
            raise InputError(f"the classes of {served.name} have no superclasses")
        matrix = _evaluation(served)["confusion_matrix"]
        return plots.confusion_matrix(matrix, served.labels, level=level, **look)

    return draw


def _class_confusions(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
    from evaluation import plots

    if not classes:
        raise InputError("name the class")
    matrix = _evaluation(served)["confusion_matrix"]
    return plots.class_confusions(matrix, served.labels, classes[0], **look)


def _zoom(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
    from evaluation import plots

    if not classes:
        raise InputError("name the classes")
    matrix = _evaluation(served)["confusion_matrix"]
    return plots.confusion_matrix(matrix, served.labels, classes=classes, **look)


def _precision_recall(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
    from evaluation import plots

    drawn = _curves(served, "precision_recall")
    return plots.precision_recall_plot(drawn, served.labels, classes, **look)


def _roc(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
    from evaluation import plots

    return plots.roc_plot(_curves(served, "roc"), served.labels, classes, **look)


def _of_evaluation(name: str) -> Callable[..., Figure]:
    def draw(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
        from evaluation import plots

        return getattr(plots, name)(_evaluation(served), **look)

    return draw


def _reliability(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
    from evaluation import curves, plots

    return plots.reliability_diagram(curves.reliability(*_predictions(served)), **look)


def _training(served: Served, classes: tuple[int, ...], look: dict[str, Any]) -> Figure:
    from evaluation import plots

    history = served.folder.history
    if not history:
        raise InputError(f"the history of {served.name} is not there")
    return plots.training_curves(history, **look)


# What can be asked for, under the names that the model folder gives its plots.
DRAWN: dict[str, Callable[..., Figure]] = {
    "confusion_matrix": _matrix("class"),
    "superclass_confusion_matrix": _matrix("superclass"),
    "class_confusions": _class_confusions,
    "confusion_zoom": _zoom,
    "precision_recall": _precision_recall,
    "roc": _roc,
    "class_histograms": _of_evaluation("class_histograms"),
    "best_and_worst_classes": _of_evaluation("best_and_worst_classes"),
    "most_confused_pairs": _of_evaluation("most_confused_pairs"),
    "reliability": _reliability,
    "training": _training,
}
# Those of classes that a visitor chooses.
OF_CLASSES = {"class_confusions", "confusion_zoom", "precision_recall", "roc"}


def alternative(figure: str, served: Served, language: str) -> str:
    """Returns the text that stands for a figure where it is not seen."""
    return word(f"alt_{figure}", language, model=served.name)
