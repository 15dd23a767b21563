"""The first tab: a picture in, five guesses out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from classifier.prediction.classifier import Prediction
from classifier.prediction.confidence import Confidence
from classifier.prediction.occlusion import importance, occlude, overlay
from interface import uploads
from interface.events import WITH_LANGUAGE, with_user_errors
from interface.pictures import data_uri
from interface.serving import Models, Served
from interface.translations import (
    class_name,
    language_of,
    number,
    percent,
    static_html,
    static_texts,
    word,
)
from interface.uploads import EXAMPLES, EXAMPLES_ROUTE, Upload

SHOWN_SUPERCLASSES = 4
# Several pictures are under way at once: they wait for the models, not for each other.
AT_ONCE = 32
# An example is chosen in the browser: it is known to the server by its name.
CHOOSE_EXAMPLE = """() => {
    const path = %s;
    const url = new URL(path, document.baseURI).href;
    return {path, url, orig_name: %s, meta: {_type: "gradio.FileData"}};
}"""
# Where the answer stands below the picture it would be out of sight.
SHOW_THE_ANSWER = """() => {
    if (window.innerWidth < 700) document.getElementById("answer").scrollIntoView();
}"""


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> gr.Image:
    """Lays the tab out and connects it; returns the picture, which other tabs take too."""
    text = static_texts()
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,  # the file as it came: our own preprocessing does the rest
                sources=["upload", "webcam", "clipboard"],
                label=text("picture"),
                placeholder=text("picture_help"),  # type: ignore[arg-type] # it is translated
                height=320,
                buttons=[],
                elem_id="picture",
            )
            gr.HTML(text("examples"), elem_classes="examples-title")
            with gr.Row(elem_classes="examples", elem_id="examples"):
                for name in EXAMPLES:
                    address = f"{EXAMPLES_ROUTE}/{name}"
                    stem = Path(name).stem
                    button = gr.Button(
                        text(f"example_{stem}"), min_width=0, elem_id=f"example-{stem}"
                    )
                    # Under the page's own address, wherever the page is served.
                    button.icon = {"path": address, "url": address}
                    button.click(
                        None,
                        None,
                        picture,
                        js=CHOOSE_EXAMPLE % (json.dumps(address), json.dumps(name)),
                        queue=False,
                        show_progress="hidden",
                        api_visibility="private",
                    )
            gr.HTML(text("privacy"), elem_classes="privacy")
        with gr.Column(scale=6, min_width=300):
            answer = gr.Label(num_top_classes=5, label=text("answer"), elem_id="answer")
            note = gr.HTML("", elem_id="note")
            with gr.Row(elem_classes="details"):
                with gr.Column(min_width=260):
                    details = gr.HTML(static_html("waiting", waiting), elem_id="details")
                    others = gr.HTML("", elem_id="others")
                view = gr.HTML("", elem_id="view")

    async def respond(picture: Upload | None, name: str, language: str) -> tuple[Any, ...]:
        language = language_of(language)
        if picture is None:
            return None, "", waiting(language), "", ""
        prediction = await models.classify(picture, name)
        return (
            label_value(prediction, language),
            render_note(prediction, models.get(name), language),
            render_superclasses(prediction, language),
            render_view(prediction.model_input, None, language),
            gr.skip(),
        )

    async def ask_all(picture: Upload | None, name: str, language: str) -> str:
        language = language_of(language)
        if picture is None or len(models.names) < 2:
            return ""
        pixels = await models.decode(picture, models.image_sizes)
        return render_all(await ask_every(models, pixels), models.get(name), language)

    async def explain(picture: Upload | None, name: str, language: str) -> str:
        language = language_of(language)
        if picture is None:
            return ""
        size = models.get(name).image_size
        pixels = (await models.decode(picture, {size}))[size]
        return render_view(pixels, await saliency(models, name, pixels), language)

    common: dict[str, Any] = {
        "inputs": [picture, model, language],
        "js": WITH_LANGUAGE,
        "preprocess": False,
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    event = gr.on(
        [picture.change, model.change],
        with_user_errors(respond),
        outputs=[answer, note, details, view, others],
        show_progress="minimal",
        concurrency_limit=AT_ONCE,
        concurrency_id="classify",
        **common,
    )
    event.success(None, None, None, js=SHOW_THE_ANSWER, queue=False, api_visibility="private")
    event.success(
        with_user_errors(ask_all),
        outputs=others,
        show_progress="hidden",
        concurrency_limit=AT_ONCE,
        concurrency_id="classify",
        **common,
    )
    # Eighty questions to the model: one visitor at a time, so that answers do not wait for them.
    event.success(
        with_user_errors(explain),
        outputs=view,
        show_progress="hidden",
        concurrency_limit=1,
        concurrency_id="explain",
        **common,
    )
    event.failure(
        lambda language: (None, "", refused(language_of(language)), "", ""),
        language,
        [answer, note, details, view, others],
        js=WITH_LANGUAGE,
        api_visibility="private",
        queue=False,
    )
    return picture


async def saliency(models: Models, name: str | None, pixels: np.ndarray) -> np.ndarray:
    """Returns how much each pixel, float, (S, S), added to a model's answer."""
    images, masks = occlude(pixels)
    answers = await models.probabilities(np.concatenate([pixels[None], images]), name)
    answer = int(answers[0].argmax())
    return importance(float(answers[0, answer]), answers[1:, answer], masks)


async def ask_every(
    models: Models, pixels: Mapping[int, np.ndarray]
) -> list[tuple[Served, np.ndarray]]:
    """Returns every served model with its probabilities, (C,), for a picture.

    Args:
        models: the served models.
        pixels: what those of each size S see of it, uint8, (S, S, 3), as `decode` gives it.
    """
    served = list(models)
    answers = await asyncio.gather(
        *(models.probabilities(pixels[item.image_size][None], item.name) for item in served)
    )
    return [(item, answer[0]) for item, answer in zip(served, answers, strict=True)]


def examples_route() -> Route:
    """Returns the route that serves the example photographs."""

    async def answer(request: Request) -> Response:
        path = uploads.examples().get(f"{EXAMPLES_ROUTE}/{request.path_params['name']}")
        if path is None:
            return Response("there is no such example", status_code=404, media_type="text/plain")
        return FileResponse(path)

    return Route(f"/{EXAMPLES_ROUTE}/{{name}}", answer)


def label_value(prediction: Prediction, language: str) -> dict[str, float]:
    """Returns the guesses as `gr.Label` takes them, with names in the visitor's language."""
    named: dict[str, float] = {}
    for label, probability in prediction.confidences.items():
        name = class_name(label, language)
        named[name if name not in named else f"{name} ({label})"] = probability
    return named


def waiting(language: str) -> str:
    """Returns what stands in place of an answer before there is one."""
    ghosts = "".join(f'<i style="--share:{share}"></i>' for share in (0.62, 0.2, 0.12, 0.08, 0.05))
    return _message("waiting", language, f'<div class="ghosts" aria-hidden="true">{ghosts}</div>')


def refused(language: str) -> str:
    """Returns what stands in place of an answer to a picture that was refused."""
    return _message("refused", language)


def render_note(prediction: Prediction, served: Served, language: str) -> str:
    """Returns how far the answer can be trusted, as HTML; nothing if the model does not state it.

    The threshold and what it promises were found on the validation images.
    """
    stated = Confidence.read(served.training.get("confidence"))
    if stated is None:
        return ""
    sure = prediction.probabilities[0] >= stated.threshold
    title = word("sure_title" if sure else "unsure_title", language)
    text = word(
        "sure" if sure else "unsure",
        language,
        threshold=percent(stated.threshold, language, 0),
        accuracy=percent(stated.accuracy, language, 0),
        coverage=percent(stated.coverage, language, 0),
        classes=number(len(served.labels.classes), language),
    )
    kind = "sure" if sure else "unsure"
    return (
        f'<div class="trust {kind}"><strong>{escape(title)}</strong> '
        f"<span>{escape(text)}</span></div>"
    )


def render_superclasses(prediction: Prediction, language: str) -> str:
    """Returns the probabilities summed up by superclass as HTML."""
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


def render_all(answers: list[tuple[Served, np.ndarray]], chosen: Served, language: str) -> str:
    """Returns the first answers of all models to one picture, side by side, as HTML.

    Args:
        answers: the models, each with its probabilities, (C,).
        chosen: the model whose answer is shown in full beside them.
        language: the visitor's.
    """
    items = "".join(
        f"<li{' aria-current=true' if served is chosen else ''}>"
        f"<span><b>{escape(served.name)}</b> "
        f"{escape(class_name(served.labels.classes[int(answer.argmax())], language))}</span>"
        f"<span class='value'>{percent(float(answer.max()), language, 0)}</span>"
        f"<span class='bar' style='--share:{float(answer.max()):.4f}'></span></li>"
        for served, answer in answers
    )
    return (
        f'<section class="card all"><h2>{escape(word("all_models", language))}</h2>'
        f"<ul>{items}</ul>"
        f'<p><a href="?tab=try" data-open-tab="try">{escape(word("all_models_try", language))}</a>'
        "</p></section>"
    )


def render_view(pixels: np.ndarray, importance: np.ndarray | None, language: str) -> str:
    """Returns what the model sees as HTML, with the pixels that mattered laid over it if known.

    Args:
        pixels: uint8, (S, S, 3).
        importance: float, (S, S), as `saliency` gives it; None while it is not known.
        language: the visitor's.
    """
    size = len(pixels)
    layer, controls = "", f"<p>{escape(word('model_view_note', language, size=size))}</p>"
    if importance is not None:
        layer = f'<img class="pixels layer" src="{data_uri(overlay(importance))}" alt="">'
        controls = (
            f'<label class="opacity">{escape(word("opacity", language))}'
            '<input type="range" min="0" max="100" value="60" data-opacity></label>'
            f'<p class="legend"><span class="for">{escape(word("pixels_for", language))}</span> '
            f'<span class="against">{escape(word("pixels_against", language))}</span> '
            f"{escape(word('pixels_note', language))}</p>"
        )
    return (
        f'<section class="card view"><h2>{escape(word("model_view", language))}</h2>'
        f'<div class="stack"><img class="pixels" width="256" height="256" src="{data_uri(pixels)}" '
        f'alt="{escape(word("model_view_alt", language, size=size), quote=True)}">{layer}</div>'
        f"{controls}</section>"
    )


def _message(key: str, language: str, drawing: str = "") -> str:
    return (
        f'<div class="empty {key}"><h2>{escape(word(f"{key}_title", language))}</h2>'
        f"<p>{escape(word(key, language))}</p>{drawing}</div>"
    )
