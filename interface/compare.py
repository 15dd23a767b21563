"""The *Compare* tab: accuracy, cost and robustness of the models, and the ablation."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifier.data.images import open_image, to_model_input
from classifier.errors import InputError
from interface.events import TEXT_EVENT
from interface.figures import (
    FORMS,
    appearance,
    drawing,
    figure_element,
    in_thread,
    png_response,
    style,
)
from interface.markup import fill, heading
from interface.serving import Models, Served
from interface.translations import (
    number,
    percent,
    static_html,
    static_texts,
    word,
)

# Written by `python -m benchmarks.compare`.
COMPARISON = Path(__file__).resolve().parent.parent / "pretrained" / "comparison.json"
ABLATION = COMPARISON.with_name("ablation.json")  # by `python -m benchmarks.ablation`
PHOTOGRAPH = "lion.jpg"  # part of Gradio: the example of the corruptions in the figure
SHIFT, NOISE = 4, 20  # pixels and standard deviation (of 255), in the text above the figure
FIGURES = ("robustness", "class_differences", "ablation")
# page.js stores the two models in the address.
FROM_ADDRESS = """() => [
    pageAddress.get("first"), pageAddress.get("second"), document.documentElement.lang
]"""
KEEP_THE_CHOICE = """(first, second) => {
    pageAddress.set("first", first);
    pageAddress.set("second", second);
    return [first, second, document.documentElement.lang];
}"""


def build(models: Models, language: gr.Textbox) -> list[dict[str, Any]]:
    """Lays out the tab and its events; returns the events that fill it when the page loads."""
    text = static_texts()
    gr.HTML(static_html("compare", lambda code: render(models, code)), elem_id="compare")
    comparison = suitable(models)
    fillings: list[dict[str, Any]] = []
    if comparison is not None and len(comparison["class_accuracy"]) > 1:
        names = list(comparison["class_accuracy"])
        with gr.Group(elem_classes="panel"):
            heading("compare_classes", "compare_classes_note")
            with gr.Row(elem_classes="controls"):
                first = gr.Dropdown(
                    names, value=names[-1], label=text("compare_first"), elem_id="compare-first"
                )
                second = gr.Dropdown(
                    names, value=names[-2], label=text("compare_second"), elem_id="compare-second"
                )
            differences = gr.HTML(elem_id="differences")

        async def redraw(one: str, other: str, language: str) -> tuple[str, str, str]:
            one, other = one if one in names else names[-1], other if other in names else names[-2]
            return one, other, render_differences(one, other, language)

        event: dict[str, Any] = {
            "fn": redraw,
            "inputs": [first, second, language],
            "outputs": [first, second, differences],
            **TEXT_EVENT,
        }
        gr.on([first.input, second.input], **{**event, "js": KEEP_THE_CHOICE})
        fillings.append({**event, "js": FROM_ADDRESS})
    if comparison is not None and ablation() is not None:
        gr.HTML(static_html("ablation", render_ablation), elem_id="ablation")
    return fillings


@cache
def measured() -> dict[str, Any] | None:
    """Returns the content of `comparison.json`, None if it does not exist."""
    return _content(COMPARISON)


@cache
def ablation() -> dict[str, Any] | None:
    """Returns the content of `ablation.json`, None if it does not exist."""
    return _content(ABLATION)


def _content(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def suitable(models: Models) -> dict[str, Any] | None:
    """Returns the comparison if its classes are those of the served models."""
    comparison = measured()
    if comparison is None:
        return None
    known = set(next(iter(comparison["class_accuracy"].values()), {}))
    return comparison if known == set(models.get().labels.classes) else None


def render(models: Models, language: str) -> str:
    """Returns the table and the robustness curves of all models as HTML."""
    comparison = suitable(models)
    columns = list(comparison["models"]) if comparison else []
    compared = {column["name"] for column in columns}
    columns += [_column(served) for served in models if served.name not in compared]
    lesson = figure = source = ""
    if comparison:
        lesson, source = _lesson(comparison, language), _source(comparison, language)
        alternative = f"{word('alt_robustness', language)} {lesson}"
        figure = image("robustness", language, alternative=alternative)
    return fill(
        "comparison",
        language,
        lesson=lesson,
        figure=figure,
        source=source,
        columns=columns,
        rows=ROWS,
    )


def render_ablation(language: str) -> str:
    """Returns the figure of the ablation as HTML."""
    measurement = ablation() or {}
    source = word(
        "ablation_source",
        language,
        epochs=measurement["epochs"],
        machines=", ".join(measurement["machines"]),
        date=measurement["date"],
        command=measurement["command"],
    )
    figure = image("ablation", language, alternative=word("alt_ablation", language))
    return fill("ablation", language, figure=figure, source=source)


def render_differences(first: str, second: str, language: str) -> str:
    """Returns the figure of the differences between two models per class, as HTML.

    Raises:
        InputError: no such model was compared.
    """
    _check_names(first, second)
    if first == second:
        return fill(
            "message", language, kind="", title="", text=word("compare_same", language), ghosts=()
        )
    alt = word("alt_class_differences", language, first=first, second=second)
    return image("class_differences", language, alternative=alt, first=first, second=second)


def image(figure: str, language: str, *, alternative: str, **choice: str) -> str:
    """Returns a figure as HTML, in the light and the dark theme; the page shows one of them."""
    query = {"language": language, "version": (measured() or {}).get("date", ""), **choice}
    return figure_element(f"comparison/{figure}.png", query, alternative, language, "slide")


def route() -> Route:
    """Returns the route that draws the figures."""

    async def answer(request: Request) -> Response:
        query, figure = request.query_params, request.path_params["figure"]
        names: tuple[str, ...] = ()
        looks = appearance(query)
        if figure not in FIGURES:
            raise InputError("there is no such figure")
        if (ablation() if figure == "ablation" else measured()) is None:
            raise InputError("the models were not compared")
        if figure == "class_differences":
            names = query.get("first", ""), query.get("second", "")
            _check_names(*names)
        return png_response(await in_thread(png, figure, *looks, *names))

    return Route("/comparison/{figure}.png", answer)


@lru_cache(64)
def png(
    figure: str,
    theme: str,
    language: str,
    form: str = FORMS[0],
    first: str = "",
    second: str = "",
) -> bytes:
    """Returns a figure as a PNG file's content; draws it only once."""
    from evaluation import plots

    comparison, options = measured() or {}, style(theme, language, form)
    with drawing:
        if figure == "ablation":
            drawn = plots.ablation_bars((ablation() or {})["rows"], **options)
        elif figure == "robustness":
            curves = comparison["robustness"]
            drawn = plots.robustness_curves(curves, examples=_examples(), **options)
        else:
            one, other = (_per_class(comparison, name) for name in (first, second))
            drawn = plots.class_differences(one, other, (first, second), **options)
        return plots.png(drawn)


@cache
def _examples() -> dict[str, Any]:
    from evaluation.corruptions import series

    return series(to_model_input(open_image(gr.get_image(PHOTOGRAPH))))


def _per_class(comparison: dict[str, Any], name: str) -> dict[str, Any]:
    accuracy = comparison["class_accuracy"][name]
    return {"per_class": [{"name": key, "accuracy": value} for key, value in accuracy.items()]}


def _check_names(*names: str) -> None:
    known = (measured() or {}).get("class_accuracy", {})
    for name in names:
        if name not in known:
            raise InputError(f"no model named {str(name)[:80]!r} was compared")


def _column(served: Served) -> dict[str, Any]:
    """Returns the values of a model that is not in the comparison, as far as they are known."""
    evaluation, training = served.evaluation or {}, served.training or {}
    top1, trained = evaluation.get("top1"), training.get("train_top1")
    folder = served.folder
    return {
        **evaluation,
        "name": served.name,
        "parameters": training.get("parameters"),
        "flops_per_image": training.get("flops_per_image"),
        "bytes": sum((folder.path / file).stat().st_size for file in folder.files()),
        "train_top1": trained,
        "train_test_gap": None if top1 is None or trained is None else trained - top1,
        "training_seconds": training.get("wall_seconds"),
        "training_machine": training.get("machine"),
    }


def _share(key: str) -> Callable[[dict[str, Any], str], str]:
    return lambda column, language: percent(column.get(key), language)


def _scaled(
    key: str, factor: float, unit: str, digits: int = 1
) -> Callable[[dict[str, Any], str], str]:
    def text(column: dict[str, Any], language: str) -> str:
        value = column.get(key)
        return "–" if value is None else f"{number(value * factor, language, digits)} {unit}"

    return text


def _training_time(column: dict[str, Any], language: str) -> str:
    minutes = _scaled("training_seconds", 1 / 60, "min", 0)(column, language)
    accelerator = (column.get("training_machine") or {}).get("accelerator")
    return f"{minutes}, {accelerator}" if accelerator else minutes


def _latency(column: dict[str, Any], language: str) -> str:
    value = (column.get("latency_ms") or {}).get("median")
    return "–" if value is None else f"{number(value, language, 1)} ms"


def _interval(column: dict[str, Any], language: str) -> str:
    if not column.get("top1_interval"):
        return "–"
    return " – ".join(percent(bound, language) for bound in column["top1_interval"])


def _gap(column: dict[str, Any], language: str) -> str:
    value = column.get("train_test_gap")
    return "–" if value is None else number(100 * value, language, 1)


# The rows of the table.
ROWS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "top1": _share("top1"),
    "interval": _interval,
    "top5": _share("top5"),
    "superclass_top1": _share("superclass_top1"),
    "macro_f1": _share("macro_f1"),
    "calibration": _share("expected_calibration_error"),
    "train_top1": _share("train_top1"),
    "gap": _gap,
    "parameters": _scaled("parameters", 1e-6, "M", 2),
    "flops": _scaled("flops_per_image", 1e-6, "MFLOP"),
    "size": _scaled("bytes", 2**-20, "MB"),
    "latency": _latency,
    "training_time": _training_time,
}


def _lesson(comparison: dict[str, Any], language: str) -> str:
    """Describes the effect of a shift on each model."""
    curve = comparison["robustness"]["shift"]
    place = curve["levels"].index(SHIFT)
    kept = {name: (top1[0], top1[place]) for name, top1 in curve["top1"].items()}
    costs = [
        word(
            "compare_cost",
            language,
            name=name,
            before=percent(before, language),
            after=percent(after, language),
        )
        for name, (before, after) in kept.items()
    ]
    sentences = [f"{word('compare_note', language, pixels=SHIFT)} {'; '.join(costs)}."]
    return " ".join(sentences + _reversal(comparison, language))


def _reversal(comparison: dict[str, Any], language: str) -> list[str]:
    """Describes the effect of noise, if another model is best with it."""
    curve = comparison["robustness"]["noise"]
    place = curve["levels"].index(NOISE)
    left = {name: top1[place] for name, top1 in curve["top1"].items()}
    best = list(left)[-1]  # the models are sorted by their top-1
    first = max(left, key=lambda name: left[name])
    if first == best:
        return []
    shares = {"kept": percent(left[first], language), "left": percent(left[best], language)}
    return [word("compare_noise", language, level=NOISE, name=first, best=best, **shares)]


def _source(comparison: dict[str, Any], language: str) -> str:
    return word(
        "compare_source",
        language,
        images=number(comparison["dataset"]["images"], language),
        processor=comparison["machine"]["processor"],
        date=comparison["date"],
        command=comparison["command"],
    )
