"""The first tab: a picture in, five guesses out."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from classifier.prediction import Prediction
from interface.events import WITH_LANGUAGE, in_words, path_of
from interface.serving import Models
from interface.translations import class_name, language_of, percent, static_texts, word

# Photographs that come with Gradio: no network, and none of the data set.
EXAMPLES = ("lion.jpg", "bus.png", "cheetah1.jpg", "tower.jpg")
SHOWN_SUPERCLASSES = 4
# Several pictures are under way at once: they wait for the models, not for each other.
AT_ONCE = 16


@dataclass
class ClassifyTab:
    """What other tabs need of this one: the picture."""

    picture: gr.Image


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> ClassifyTab:
    """Lays the tab out and connects it."""
    text = static_texts()
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,  # the file as it came: our own preprocessing does the rest
                sources=["upload", "webcam", "clipboard"],
                label=text("picture"),
                placeholder=text("picture_help"),  # type: ignore[arg-type] # it is translated
                height=380,
                buttons=[],
                elem_id="picture",
            )
            gr.HTML(text("privacy"), elem_classes="privacy")
            gr.HTML(text("examples"), elem_classes="examples-title")
            with gr.Row(elem_classes="examples", elem_id="examples"):
                for path in examples():
                    button = gr.Button(text(f"example_{path.stem}"), icon=path, min_width=0)
                    button.click(
                        partial(str, path),
                        None,
                        picture,
                        queue=False,
                        show_progress="hidden",
                        api_visibility="private",
                    )
        with gr.Column(scale=6, min_width=300):
            answer = gr.Label(num_top_classes=5, label=text("answer"), elem_id="answer")
            details = gr.HTML(waiting("en"), elem_id="details")

    async def respond(picture: Any, name: str, language: str) -> tuple[Any, str]:
        language = language_of(language)
        if picture is None:
            return None, waiting(language)
        prediction = await models.classify(path_of(picture, language), name)
        return label_value(prediction, language), render(prediction, language)

    event = gr.on(
        [picture.change, model.change],
        in_words(respond),
        [picture, model, language],
        [answer, details],
        js=WITH_LANGUAGE,
        preprocess=False,
        show_progress="minimal",
        trigger_mode="always_last",
        concurrency_limit=AT_ONCE,
        concurrency_id="classify",
        api_visibility="private",
    )
    event.failure(
        lambda language: (None, refused(language_of(language))),
        language,
        [answer, details],
        js=WITH_LANGUAGE,
        api_visibility="private",
        queue=False,
    )
    return ClassifyTab(picture)


def examples() -> list[Path]:
    """Returns the example photographs, which Gradio may serve from where they lie."""
    paths = [Path(gr.get_image(name)) for name in EXAMPLES]
    gr.set_static_paths(paths)
    return paths


def label_value(prediction: Prediction, language: str) -> dict[str, float]:
    """Returns the guesses as `gr.Label` takes them, with names in the visitor's language."""
    named: dict[str, float] = {}
    for label, probability in prediction.confidences.items():
        name = class_name(label, language)
        named[name if name not in named else f"{name} ({label})"] = probability
    return named


def waiting(language: str) -> str:
    """Returns what stands in place of an answer before there is one."""
    return _message("waiting", language)


def refused(language: str) -> str:
    """Returns what stands in place of an answer to a picture that was refused."""
    return _message("refused", language)


def render(prediction: Prediction, language: str) -> str:
    """Returns the superclasses and the model's view of the picture as HTML."""
    parts = _superclasses(prediction, language) + _view(prediction, language)
    return f'<div class="details">{parts}</div>'


def data_uri(pixels: np.ndarray) -> str:
    """Returns pixels, uint8, (H, W, 3) or (H, W, 4), as the address of an image in a page."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _superclasses(prediction: Prediction, language: str) -> str:
    if not prediction.superclasses:
        return ""
    shown = list(zip(prediction.superclasses, prediction.superclass_probabilities, strict=True))[
        :SHOWN_SUPERCLASSES
    ]
    rows = [(class_name(name, language), share) for name, share in shown]
    rest = 1 - sum(share for _, share in shown)
    if rest > 0 and len(prediction.superclasses) > SHOWN_SUPERCLASSES:
        rows.append((word("others", language), rest))
    items = "".join(
        f"<li><span>{escape(name)}</span>"
        f"<span class='value'>{percent(share, language, 0)}</span>"
        f"<span class='bar' style='--share:{share:.4f}'></span></li>"
        for name, share in rows
    )
    title = escape(word("superclass", language))
    return f'<section class="card superclasses"><h2>{title}</h2><ul>{items}</ul></section>'


def _view(prediction: Prediction, language: str) -> str:
    return (
        f'<section class="card view"><h2>{escape(word("model_view", language))}</h2>'
        f'<img class="pixels" width="256" height="256" src="{data_uri(prediction.model_input)}" '
        f'alt="{escape(word("model_view_alt", language))}">'
        f"<p>{escape(word('model_view_note', language))}</p></section>"
    )


def _message(key: str, language: str) -> str:
    return (
        f'<div class="empty"><h2>{escape(word(f"{key}_title", language))}</h2>'
        f"<p>{escape(word(key, language))}</p></div>"
    )
