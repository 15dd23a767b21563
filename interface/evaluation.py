"""The *Evaluation* tab: the evaluation of a model, with figures."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import ArrayLike

from evaluation.curves import default_classes
from evaluation.metrics import METRICS
from interface import downloads, mistakes, rerun
from interface.downloads import COLUMNS
from interface.evaluated_images import EvaluatedImages
from interface.events import TEXT_EVENT, restore_from_url, store_in_url
from interface.figures import MAX_CLASSES, MAX_ZOOMED, evaluation_figure
from interface.markup import fill, heading, message
from interface.mistakes import ALL
from interface.serving import Models, Served
from interface.translations import LANGUAGES, locale, static_texts, word

CLASS_FIGURES = ("best_and_worst_classes", "most_confused_pairs", "class_histograms")
TRAINING_FIGURES = ("reliability", "training")
LEVELS = ("class", "superclass")
KINDS = ("precision_recall", "roc")
# What the address of the page holds.
MATRIX_CHOICE: dict[str, object] = {"level": LEVELS[0], "zoom": ALL}
CURVES_CHOICE: dict[str, object] = {"curve": KINDS[0], "curves": []}


def build(models: Models, model: gr.Radio, tab: gr.Tab, language: gr.Textbox) -> list[Any]:
    """Lays out the tab and its events; returns the events that fill it when the page loads."""
    text = static_texts()
    choices, every = _choices(models.get(), LANGUAGES[0])
    images = EvaluatedImages()
    headline = gr.HTML(elem_id="headline")
    with gr.Group(elem_classes="panel"):
        heading("confusion", "matrix_hint")
        with gr.Row(elem_classes="controls"):
            level = gr.Radio(
                [(text(f"level_{level}"), level) for level in LEVELS],
                value=LEVELS[0],
                label=text("level"),
                elem_id="level",
            )
            zoom = gr.Dropdown(every, value=ALL, label=text("zoom"), elem_id="zoom")
        matrix = gr.HTML(elem_id="matrix")
    wrong_class, gallery = mistakes.build(models, images, model, tab, every, language)
    with gr.Group(elem_classes="panel"):
        heading("curves")
        with gr.Row(elem_classes="controls"):
            kind = gr.Radio(
                [(text(f"curve_{kind}"), kind) for kind in KINDS],
                value=KINDS[0],
                label=text("curve_kind"),
                elem_id="curve-kind",
            )
            chosen = gr.Dropdown(
                choices,
                value=[],
                multiselect=True,
                max_choices=MAX_CLASSES,
                label=text("curve_classes"),
                elem_id="curve-classes",
            )
        curves = gr.HTML(elem_id="curves")
    rest = gr.HTML(elem_id="rest")
    rerun.build(models, images, model, language)
    classes = gr.HTML(elem_id="classes")

    async def redraw(
        name: str, level: str, zoom: int, kind: str, chosen: list[int], wanted: int, language: str
    ) -> tuple[Any, ...]:
        served = models.get(name)
        level = level if level in LEVELS else LEVELS[0]
        kind = kind if kind in KINDS else KINDS[0]
        zoom, wanted = ((*_known(served, [index]), ALL)[0] for index in (zoom, wanted))
        drawn = _known(served, chosen) or list(default_classes(served.evaluation))
        choices, every = _choices(served, language)
        return (
            render_headline(served, language),
            level,
            gr.Dropdown(choices=every, value=zoom),
            render_matrix(served, level, zoom, language),
            gr.Dropdown(choices=every, value=wanted),
            kind,
            gr.Dropdown(choices=choices, value=drawn),
            render_curves(served, kind, drawn, language),
            render_rest(served, language),
            render_classes(served, language),
        )

    async def redraw_matrix(name: str, level: str, zoom: int | None, language: str) -> str:
        return render_matrix(models.get(name), level, zoom, language)

    async def redraw_curves(name: str, kind: str, chosen: list[int], language: str) -> str:
        return render_curves(models.get(name), kind, chosen or [], language)

    gr.on(
        [level.change, zoom.change],
        redraw_matrix,
        [model, level, zoom, language],
        matrix,
        **{**TEXT_EVENT, "js": store_in_url(**MATRIX_CHOICE)},
    )
    gr.on(
        [kind.input, chosen.input],
        redraw_curves,
        [model, kind, chosen, language],
        curves,
        **{**TEXT_EVENT, "js": store_in_url(**CURVES_CHOICE)},
        trigger_mode="always_last",
    )
    everything: dict[str, Any] = {
        "fn": redraw,
        "inputs": [model, level, zoom, kind, chosen, wrong_class, language],
        "outputs": [
            *(headline, level, zoom, matrix, wrong_class),
            *(kind, chosen, curves, rest, classes),
        ],
        **TEXT_EVENT,
        "js": restore_from_url(**MATRIX_CHOICE, **CURVES_CHOICE, **mistakes.CHOICE),
    }
    # Gradio ends the events of one change before it starts the next: the images may take minutes.
    model.change(**everything).then(**gallery)
    return [everything]


def render_headline(served: Served, language: str) -> str:
    """Returns the main metrics as HTML."""
    evaluation = served.evaluation
    if evaluation is None:
        text, title = word("no_evaluation", language), word("no_evaluation_title", language)
        return message(text, language, title)
    tiles = _tiles(evaluation, language)
    return fill("headline", language, evaluation=evaluation, tiles=tiles)


def render_matrix(served: Served, level: str, zoom: int | None, language: str) -> str:
    """Returns the confusion matrix, and the confusions of a chosen class, as HTML."""
    if served.evaluation is None:
        return ""
    figure = "confusion_matrix"
    if level == "superclass" and served.labels.superclasses:
        figure = "superclass_confusion_matrix"
    zoomed: list[str] = []
    if isinstance(zoom, int) and 0 <= zoom < len(served.labels.classes):
        partners = confused_with(served.evaluation["confusion_matrix"], zoom)
        name = locale(language).name(served.labels.classes[zoom])
        for part, classes in (("class_confusions", (zoom,)), ("confusion_zoom", partners)):
            zoomed.append(evaluation_figure(served, part, language, classes, about=name))
    whole = evaluation_figure(served, figure, language)
    return fill("matrix", language, zoomed=zoomed, matrix=whole)


def confused_with(matrix: ArrayLike, chosen: int) -> tuple[int, ...]:
    """Returns a class and those that it is most often confused with."""
    counts = np.asarray(matrix)
    both = counts[chosen] + counts[:, chosen]
    both[chosen] = -1
    partners = np.argsort(-both, kind="stable")[: MAX_ZOOMED - 1]
    return (chosen, *(int(index) for index in partners if both[index] > 0))


def render_classes(served: Served, language: str) -> str:
    """Returns the table of the classes as HTML; page.js sorts and searches it."""
    if served.evaluation is None:
        return ""
    names, group_of = served.labels.superclasses, served.labels.superclass_of
    rows = [
        (row, names[group_of[index]] if names and group_of else "")
        for index, row in enumerate(served.evaluation["per_class"])
    ]
    links = downloads.render(served, language)
    return fill("classes", language, columns=[*COLUMNS], rows=rows, downloads=links)


def render_curves(served: Served, kind: str, classes: list[int], language: str) -> str:
    """Returns the curves of the chosen classes as HTML."""
    if served.evaluation is None or served.predictions is None:
        return ""
    figure = "roc" if kind == "roc" else "precision_recall"
    return evaluation_figure(served, figure, language, tuple(_known(served, classes)))


def render_rest(served: Served, language: str) -> str:
    """Returns the figures that need no choice as HTML."""
    if served.evaluation is None:
        return ""
    panels = {
        heading: [
            evaluation_figure(served, figure, language)
            for figure in figures
            if figure != "training" or served.folder.history
        ]
        for heading, figures in (
            ("classes_heading", CLASS_FIGURES),
            ("training_heading", TRAINING_FIGURES),
        )
    }
    return fill("figure_panels", language, panels=panels)


def _tiles(evaluation: dict[str, Any], language: str) -> list[tuple[str, str, str, str]]:
    """Returns the main metrics: kind, name, value, note."""
    notation = locale(language)
    low, high = map(notation.percent, evaluation["top1_interval"])
    gap = 100 * ((evaluation.get("train_top1") or 0) - evaluation["top1"])
    fields = {
        "low": low,
        "high": high,
        "precision": notation.percent(evaluation.get("macro_precision")),
        "recall": notation.percent(evaluation.get("macro_recall")),
        "gap": notation.number(gap, 1),
        "count": evaluation.get("duplicates"),
    }
    tiles = []
    for key, metric in METRICS.items():
        value = evaluation.get(key)
        if metric.tile and value is not None:
            shown = notation.percent(value) if metric.percent else notation.number(value, 3)
            kind, name = "wide" if key == "top1" else "", word(f"tile_{key}", language)
            tiles.append((kind, name, shown, word(f"tile_{key}_note", language, **fields)))
    return tiles


def _choices(served: Served, language: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Returns the classes, sorted by name, with their indices; and the same after "all"."""
    names = map(locale(language).name, served.labels.classes)
    choices = sorted((name, index) for index, name in enumerate(names))
    return choices, [(word("zoom_all", language), ALL), *choices]


def _known(served: Served, classes: object) -> list[int]:
    """Returns the valid class indices in a request, at most `MAX_CLASSES`."""
    count = len(served.labels.classes)
    numbers = classes if isinstance(classes, list) else []
    known = [index for index in numbers if isinstance(index, int) and 0 <= index < count]
    return known[:MAX_CLASSES]
