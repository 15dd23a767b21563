"""The *Try it* tab: the predictions of all models for a shifted, rotated and blurred picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from classifier.errors import ClassifierError
from classifier.prediction.classifier import rank
from evaluation import corruptions
from interface.classify import refused
from interface.events import as_error, restore_from_url, store_in_url
from interface.markup import fill, heading, message
from interface.pictures import data_uri
from interface.serving import Models, Served
from interface.translations import locale, static_html, static_texts, word
from interface.uploads import Upload

SHOWN = 3
CONCURRENCY = 2  # requests of sliders, so that they do not delay uploads
UNITS_PER_SIDE = 32  # shifts and blurs are in pixels of a 32×32 image
MAX_SHIFT, MAX_TURN, MAX_BLUR = 12.0, 180.0, 4.0  # in these units, and degrees
# Slider, which the address of the page holds: its range and step.
SLIDERS = {
    "right": (-MAX_SHIFT, MAX_SHIFT, 1),
    "down": (-MAX_SHIFT, MAX_SHIFT, 1),
    "turn": (-MAX_TURN, MAX_TURN, 5),
    "blur": (0, MAX_BLUR, 0.25),
}


def build(
    models: Models, picture: gr.Image, answered: Dependency, language: gr.Textbox
) -> dict[str, Any]:
    """Lays out the tab and its events; returns the event that sets the sliders when the page loads.

    Args:
        models: the served models.
        picture: the picture of the *Classify* tab.
        answered: the event after which that tab has answered, or refused, a picture.
        language: the visitor's.
    """
    text = static_texts()
    heading("try_heading", "try_note" if len(models.names) > 1 else "try_note_one")
    with gr.Row(elem_classes="sliders"):
        sliders = [
            gr.Slider(
                minimum, maximum, 0, step=step, label=text(f"slider_{name}"), elem_id=f"try-{name}"
            )
            for name, (minimum, maximum, step) in SLIDERS.items()
        ]
    reset = gr.Button(text("reset"), elem_id="try-reset", size="sm")
    answers = gr.HTML(static_html("try_waiting", waiting), elem_id="answers")

    async def respond(
        picture: Upload | None, right: Any, down: Any, turn: Any, blur: Any, language: str
    ) -> str:
        if picture is None:
            return waiting(language)
        try:
            pixels = await models.decoder.decode(picture, models.image_sizes)
        except ClassifierError as error:  # the *Classify* tab shows the error message
            return refused(language, str(as_error(error, language)))
        both = {
            size: np.stack([image, corrupt(image, right, down, turn, blur)])
            for size, image in pixels.items()
        }
        return await render_answers(models, both, language)

    defaults = dict.fromkeys(SLIDERS, 0)
    event: dict[str, Any] = {
        "fn": respond,
        "inputs": [picture, *sliders, language],
        "outputs": answers,
        "js": store_in_url(**defaults),
        "preprocess": False,
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        "concurrency_limit": CONCURRENCY,
        "concurrency_id": "compare",
        "api_visibility": "private",
    }
    answered.success(**event)
    answered.failure(**event)  # `then` follows answers only
    gr.on([slider.input for slider in sliders], **event)
    zeros = f"() => {list(defaults.values())}"
    cleared = reset.click(None, None, sliders, js=zeros, api_visibility="private")
    cleared.then(**event)
    return {
        "fn": None,
        "inputs": None,
        "outputs": sliders,
        "js": f"() => ({restore_from_url(**defaults)})(null).slice(0, -1)",
        "api_visibility": "private",
    }


def corrupt(
    pixels: np.ndarray,
    right: float | None,
    down: float | None,
    turn: float | None,
    blur: float | None,
) -> np.ndarray:
    """Shifts, rotates and blurs an image by the values of the sliders, clipped to their ranges.

    Args:
        pixels: uint8, (side, side, 3).
        right: in `UNITS_PER_SIDE`; a missing value counts as 0.
        down: in `UNITS_PER_SIDE`.
        turn: degrees, clockwise.
        blur: standard deviation of a Gaussian, in `UNITS_PER_SIDE`.
    """
    images = pixels[np.newaxis]
    if degrees := _bounded(turn, MAX_TURN):
        images = corruptions.rotate(images, degrees)
    images = corruptions.shift(
        images,
        _bounded(right, MAX_SHIFT) / UNITS_PER_SIDE,
        _bounded(down, MAX_SHIFT) / UNITS_PER_SIDE,
    )
    deviation = _bounded(blur, MAX_BLUR) / UNITS_PER_SIDE
    return (corruptions.blur(images, deviation) if deviation > 0 else images)[0]


async def render_answers(models: Models, both: Mapping[int, np.ndarray], language: str) -> str:
    """Returns the predictions of all models as HTML.

    The images are original and changed model input of each size S: uint8, (2, S, S, 3).
    """
    columns = [
        _column(served, answer, both[served.image_size][1], language)
        for served, answer in await models.predict_all(both)
    ]
    size = max(both)
    picture = data_uri(both[size][1])
    return fill("answers", language, picture=picture, size=size, models=columns)


def waiting(language: str) -> str:
    """Returns the placeholder before there is a picture."""
    text, title = word("try_waiting", language), word("waiting_title", language)
    return message(text, language, title, "waiting")


def _column(
    served: Served, answer: np.ndarray, corrupted: np.ndarray, language: str
) -> dict[str, Any]:
    """Returns a model's prediction for the changed picture, and the change of the original one."""
    now = rank(answer[1], served.labels, corrupted, SHOWN)
    first = int(answer[0].argmax())
    before, after = float(answer[0][first]), float(answer[1][first])
    same = now.labels[0] == served.labels.classes[first]
    points = locale(language).number(100 * (after - before), 1)
    return {
        "name": served.name,
        "top1": served.top1,
        "rows": [
            (locale(language).name(label), share, False)
            for label, share in zip(now.labels, now.probabilities, strict=True)
        ],
        "first": locale(language).name(served.labels.classes[first]),
        "change": None if before == after else "still" if same else "changed",
        "points": points if after < before else f"+{points}",
    }


def _bounded(value: float | None, limit: float) -> float:
    return min(max(value or 0.0, -limit), limit)
