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
from interface.translations import class_name, static_html, static_texts

SHOWN, MAX_SHOWN = 24, 240
ALL = -1  # instead of a class
BANDS = {  # confidence of the wrong prediction: from, to
    "all": (0.0, 1.1),
    "sure": (0.8, 1.1),
    "middle": (0.5, 0.8),
    "unsure": (0.0, 0.5),
}
CHOICE: dict[str, object] = {"mistakes": ALL, "band": "all"}  # what the address of the page holds


def build(
    models: Models,
    images: EvaluatedImages,
    model: gr.Radio,
    tab: gr.Tab,
    choices: Sequence[tuple[str, int]],
    language: gr.Textbox,
) -> tuple[gr.Dropdown, gr.Radio]:
    """Lays out the gallery and its events; returns its inputs for the class and the confidence."""
    text = static_texts()
    with gr.Group(elem_classes="panel"):
        heading("mistakes")
        with gr.Row(elem_classes="controls"):
            wanted = gr.Dropdown(
                list(choices), value=ALL, label=text("mistakes_class"), elem_id="mistakes-class"
            )
            band = gr.Radio(
                [(text(f"band_{key}"), key) for key in BANDS],
                value="all",
                label=text("mistakes_band"),
                elem_id="mistakes-band",
            )
        gallery = gr.HTML(
            static_html("mistakes_rest", partial(line, "mistakes_fetching")), elem_id="mistakes"
        )
        more = gr.Button(text("mistakes_more"), visible=False, elem_id="mistakes-more")
    opened = gr.Textbox("", visible="hidden")
    shown = gr.Number(SHOWN, visible="hidden")

    async def redraw(
        name: str, opened: str, shown: int, wanted: int | None, band: str, language: str
    ) -> AsyncIterator[tuple[Any, Any]]:
        served = models.get(name)
        if not opened and not images.is_cached(served):  # the tab has not been opened
            yield gr.skip(), gr.skip()
            return
        if not images.is_cached(served):
            yield line("mistakes_fetching", language), gr.Button(visible=False)
        try:
            pixels = await images.load(served)
        except ImagesMissingError as error:
            text = line(f"images_{error.reason}", language, dataset=error.dataset)
            yield text, gr.Button(visible=False)
            return
        found = mistakes(served, wanted, band)
        count = min(max(int(shown or SHOWN), 1), MAX_SHOWN)
        some_left = count < min(len(found), MAX_SHOWN)
        yield render(served, pixels, found, count, language), gr.Button(visible=some_left)

    filling: dict[str, Any] = {
        "inputs": [model, opened, shown, wanted, band, language],
        "outputs": [gallery, more],
        "js": restore_from_url(**CHOICE),
        "preprocess": False,
        "show_progress": "hidden",
        "concurrency_limit": None,  # waiting for the images must not block others
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    tab.select(None, None, opened, js="() => 'opened'", **INSTANT).then(redraw, **filling)
    # A choice is stored in the address, and the first page of the gallery is shown.
    store = f"(...inputs) => ({store_in_url(**CHOICE)})(...inputs, null) && {SHOWN}"
    gr.on([wanted.change, band.change], None, [wanted, band], shown, js=store, **INSTANT).then(
        redraw, **filling
    )
    model.change(None, None, shown, js=f"() => {SHOWN}", **INSTANT).then(redraw, **filling)
    more.click(None, shown, shown, js=f"(count) => count + {SHOWN}", **INSTANT).then(
        redraw, **filling
    )
    return wanted, band


def mistakes(served: Served, wanted: int | None = None, band: str = "all") -> np.ndarray:
    """Returns the misclassified images, most confident first, as indices, int64, (M,).

    Args:
        served: an evaluated model.
        wanted: only images of this class.
        band: the range of confidence, a key of `BANDS`.
    """
    if served.predictions is None:
        return np.empty(0, np.int64)
    probabilities, labels = served.predictions
    confidence = probabilities.max(axis=1).astype(np.float32)
    low, high = BANDS.get(band, BANDS["all"])
    chosen = (probabilities.argmax(axis=1) != labels) & (confidence >= low) & (confidence < high)
    if isinstance(wanted, int) and wanted >= 0:
        chosen &= labels == wanted
    found = np.flatnonzero(chosen)
    return found[np.argsort(-confidence[found], kind="stable")]


def render(served: Served, images: np.ndarray, found: np.ndarray, shown: int, language: str) -> str:
    """Returns the gallery as HTML.

    Args:
        served: an evaluated model.
        images: uint8, (N, S, S, 3), the test images.
        found: the indices of the mistakes, of which the first are shown.
        shown: the maximal number.
        language: of names and numbers.
    """
    if not len(found) or served.predictions is None:
        return line("mistakes_none", language)
    probabilities, labels = served.predictions
    classes = served.labels.classes
    items = [
        (
            data_uri(images[index]),
            class_name(classes[labels[index]], language),
            class_name(classes[int(probabilities[index].argmax())], language),
            float(probabilities[index].max()),
        )
        for index in found[:shown]
    ]
    return fill("mistakes", language, items=items, count=len(found))
