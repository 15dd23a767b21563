"""The gallery of misclassified images on the *Evaluation* tab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from interface.evaluated_images import EvaluatedImages, ImagesMissingError
from interface.events import INSTANT, restore_from_url, store_in_url
from interface.markup import fill, heading, line
from interface.pictures import data_uri
from interface.serving import Models, Served
from interface.translations import locale, static_html, static_texts

SHOWN = 48
ALL = -1  # instead of a class
CHOICE: dict[str, object] = {"mistakes": ALL}  # what the address of the page holds


def build(
    models: Models,
    images: EvaluatedImages,
    model: gr.Radio,
    tab: gr.Tab,
    choices: Sequence[tuple[str, int]],
    language: gr.Textbox,
) -> tuple[gr.Dropdown, dict[str, Any]]:
    """Lays out the gallery and its events; returns its input for the class, and what redraws it."""
    with gr.Group(elem_classes="panel"):
        heading("mistakes")
        with gr.Row(elem_classes="controls"):
            wanted = gr.Dropdown(
                list(choices),
                value=ALL,
                label=static_texts()("mistakes_class"),
                elem_id="mistakes-class",
            )
        gallery = gr.HTML(
            static_html("mistakes_rest", partial(line, "mistakes_fetching")), elem_id="mistakes"
        )
    opened = gr.Textbox("", visible="hidden")

    async def redraw(
        name: str, opened: str, wanted: int | None, language: str
    ) -> AsyncIterator[Any]:
        served = models.get(name)
        if not images.is_cached(served):
            if not opened:  # the tab has not been opened
                yield gr.skip()
                return
            yield line("mistakes_fetching", language)
        try:
            pixels = await images.load(served)
        except ImagesMissingError as error:
            yield line(f"images_{error.reason}", language, dataset=error.dataset)
        else:
            yield render(served, pixels, mistakes(served, wanted), language)

    filling: dict[str, Any] = {
        "fn": redraw,
        "inputs": [model, opened, wanted, language],
        "outputs": gallery,
        "js": restore_from_url(**CHOICE),
        "preprocess": False,
        "show_progress": "hidden",
        "concurrency_limit": None,  # waiting for the images must not block others
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    tab.select(None, None, opened, js="() => 'opened'", **INSTANT).then(**filling)
    wanted.change(**{**filling, "js": store_in_url(**CHOICE)})
    return wanted, filling


def mistakes(served: Served, wanted: int | None = None) -> np.ndarray:
    """Returns the misclassified images, most confident first, as indices, int64, (M,).

    If a class is wanted, they are only those of this class.
    """
    if served.predictions is None:
        return np.empty(0, np.int64)
    probabilities, labels = served.predictions
    wrong = probabilities.argmax(axis=1) != labels
    if isinstance(wanted, int) and wanted >= 0:
        wrong &= labels == wanted
    found = np.flatnonzero(wrong)
    return found[np.argsort(-probabilities[found].max(axis=1), kind="stable")]


def render(served: Served, images: np.ndarray, found: np.ndarray, language: str) -> str:
    """Returns the gallery as HTML.

    Args:
        served: an evaluated model.
        images: uint8, (N, S, S, 3), the test images.
        found: the indices of the mistakes, of which the first `SHOWN` are shown.
        language: of names and numbers.
    """
    if not len(found) or served.predictions is None:
        return line("mistakes_none", language)
    probabilities, labels = served.predictions
    classes = served.labels.classes
    items = [
        (
            data_uri(images[index]),
            locale(language).name(classes[labels[index]]),
            locale(language).name(classes[int(probabilities[index].argmax())]),
            float(probabilities[index].max()),
        )
        for index in found[:SHOWN]
    ]
    return fill("mistakes", language, items=items, count=len(found))
