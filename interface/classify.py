"""The *Classify* tab: the most probable classes of a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from classifier.data.images import ImageError
from classifier.errors import InputError
from classifier.model_folder.folder import TOP
from classifier.prediction.classifier import Prediction
from classifier.prediction.confidence import Confidence
from classifier.prediction.occlusion import importance, occlude, overlay
from interface import uploads
from interface.events import INSTANT, WITH_LANGUAGE
from interface.markup import fill, message
from interface.pictures import data_uri
from interface.serving import Models, Served
from interface.translations import locale, static_html, static_texts, word
from interface.uploads import EXAMPLES, EXAMPLES_ROUTE, Upload

SHOWN = TOP  # classes
SHOWN_SUPERCLASSES = 4
CONCURRENCY = 32  # pictures; the models answer them in batches
# Examples are chosen in the browser; the server knows them by their names.
CHOOSE_EXAMPLE = """() => {
    const path = %s;
    const url = new URL(path, document.baseURI).href;
    return {path, url, orig_name: %s, meta: {_type: "gradio.FileData"}};
}"""
# On narrow screens the answer is below the picture.
SCROLL_TO_ANSWER = """() => {
    if (window.innerWidth < 700) document.getElementById("answer").scrollIntoView();
}"""


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> tuple[gr.Image, Dependency]:
    """Lays out the tab and its events.

    Returns:
        The picture, which other tabs use too, and the event of a new picture. Other events of a new
        picture follow it: Gradio would run all events of a change again for each that was deferred.
    """
    text = static_texts()
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,  # the unchanged file: `to_model_input` preprocesses it
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
                    # Relative to the address of the page.
                    button.icon = {"path": address, "url": address}
                    button.click(
                        None,
                        None,
                        picture,
                        js=CHOOSE_EXAMPLE % (json.dumps(address), json.dumps(name)),
                        show_progress="hidden",
                        **INSTANT,
                    )
            gr.HTML(text("privacy"), elem_classes="privacy")
        with gr.Column(scale=6, min_width=300):
            heading = static_html("answer", lambda code: word("answer", code, count=SHOWN))
            answer = gr.Label(num_top_classes=SHOWN, label=heading, elem_id="answer")
            note = gr.HTML("", elem_id="note")
            with gr.Row(elem_classes="details"):
                with gr.Column(min_width=260):
                    details = gr.HTML(static_html("waiting", waiting), elem_id="details")
                    others = gr.HTML("", elem_id="others")
                view = gr.HTML("", elem_id="view")

    async def respond(picture: Upload | None, name: str, language: str) -> tuple[Any, ...]:
        if picture is None:
            return None, "", waiting(language), "", ""
        try:
            prediction = await models.classify(picture, name, SHOWN)
        except ImageError as error:  # after an event that fails, Gradio forgets a newer picture
            gr.Warning(word(f"error_{error.reason}", language), title=word("error_title", language))
            return None, "", refused(language), "", ""
        return (
            label_value(prediction, language),
            render_note(prediction, models.get(name), language),
            render_superclasses(prediction, language),
            render_view(prediction.model_input, None, language),
            gr.skip(),
        )

    async def predict_with_all(picture: Upload | None, name: str, language: str) -> str:
        if picture is None or len(models.names) < 2:
            return ""
        try:
            pixels = await models.decoder.decode(picture, models.image_sizes)
        except ImageError:  # of a newer picture: its own `respond` reports the error
            return ""
        images = {size: image[None] for size, image in pixels.items()}
        return render_all(await models.predict_all(images), models.get(name), language)

    async def explain(picture: Upload | None, name: str, language: str) -> str:
        if picture is None:
            return ""
        size = models.get(name).image_size
        try:
            pixels = (await models.decoder.decode(picture, {size}))[size]
        except ImageError:  # likewise
            return ""
        return render_view(pixels, await saliency(models, name, pixels), language)

    common: dict[str, Any] = {
        "inputs": [picture, model, language],
        "js": WITH_LANGUAGE,
        "preprocess": False,
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    picture.change(None, picture, None, js="pageAddress.storeExample", **INSTANT)
    event = gr.on(
        [picture.change, model.change],
        respond,
        outputs=[answer, note, details, view, others],
        show_progress="minimal",
        concurrency_limit=CONCURRENCY,
        concurrency_id="classify",
        **common,
    )
    event.success(None, None, None, js=SCROLL_TO_ANSWER, **INSTANT)
    # Occlusion takes 81 predictions: one visitor at a time, so that they do not delay answers.
    for function, output, limit, kind in (
        (predict_with_all, others, CONCURRENCY, "classify"),
        (explain, view, 1, "explain"),
    ):
        event.success(
            function,
            outputs=output,
            show_progress="hidden",
            concurrency_limit=limit,
            concurrency_id=kind,
            **common,
        )
    event.failure(
        lambda language: (None, "", refused(language), "", ""),
        language,
        [answer, note, details, view, others],
        js=WITH_LANGUAGE,
        **INSTANT,
    )
    return picture, event


async def saliency(models: Models, name: str | None, pixels: np.ndarray) -> np.ndarray:
    """Returns the importance of each pixel for a model's prediction, float, (S, S)."""
    images, masks = occlude(pixels)
    answers = await models.probabilities(np.concatenate([pixels[None], images]), name)
    answer = int(answers[0].argmax())
    return importance(float(answers[0, answer]), answers[1:, answer], masks)


def examples_route() -> Route:
    """Returns the route that serves the example photographs."""

    async def answer(request: Request) -> Response:
        path = uploads.examples().get(f"{EXAMPLES_ROUTE}/{request.path_params['name']}")
        if path is None:
            raise InputError("there is no such example")
        return FileResponse(path)

    return Route(f"/{EXAMPLES_ROUTE}/{{name}}", answer)


def label_value(prediction: Prediction, language: str) -> dict[str, float]:
    """Returns the value of a `gr.Label`, with names in the visitor's language."""
    named: dict[str, float] = {}
    for label, probability in prediction.confidences.items():
        name = locale(language).name(label)
        named[name if name not in named else f"{name} ({label})"] = probability
    return named


def waiting(language: str) -> str:
    """Returns the placeholder before there is a picture."""
    text, title = word("waiting", language, count=SHOWN), word("waiting_title", language)
    return message(text, language, title, "waiting", ghosts=(0.62, 0.2, 0.12, 0.08, 0.05))


def refused(language: str, reason: str = "") -> str:
    """Returns the placeholder for a picture that was refused."""
    text, title = reason or word("refused", language), word("refused_title", language)
    return message(text, language, title, "refused")


def render_note(prediction: Prediction, served: Served, language: str) -> str:
    """Returns a note on the confidence of the prediction, as HTML; "" without a threshold."""
    stated = Confidence.read(served.training.get("confidence"))
    if stated is None:
        return ""
    sure = prediction.probabilities[0] >= stated.threshold
    title = word("sure_title" if sure else "unsure_title", language)
    text = word(
        "sure" if sure else "unsure",
        language,
        threshold=locale(language).percent(stated.threshold, 0),
        accuracy=locale(language).percent(stated.accuracy, 0),
        coverage=locale(language).percent(stated.coverage, 0),
        classes=locale(language).number(len(served.labels.classes)),
    )
    return fill("note", language, sure=sure, title=title, text=text)


def render_superclasses(prediction: Prediction, language: str) -> str:
    """Returns the probabilities summed up by superclass as HTML."""
    if not prediction.superclasses:
        return ""
    shares = zip(prediction.superclasses, prediction.superclass_probabilities, strict=True)
    rows = [(locale(language).name(name), share, False) for name, share in shares]
    rows = rows[:SHOWN_SUPERCLASSES]
    rest = 1 - sum(share for _, share, _ in rows)
    if rest > 0 and len(prediction.superclasses) > SHOWN_SUPERCLASSES:
        rows.append((word("others", language), rest, False))
    return fill("superclasses", language, rows=rows)


def render_all(answers: list[tuple[Served, np.ndarray]], chosen: Served, language: str) -> str:
    """Returns the most probable class of each model, with its probabilities (1, C), as HTML."""
    rows = []
    for served, (answer,) in answers:
        name = locale(language).name(served.labels.classes[int(answer.argmax())])
        label = Markup("<b>{}</b> {}").format(served.name, name)
        rows.append((label, float(answer.max()), served is chosen))
    return fill("all_models", language, rows=rows)


def render_view(pixels: np.ndarray, importance: np.ndarray | None, language: str) -> str:
    """Returns the model's input, uint8, (S, S, 3), as HTML.

    It has an overlay of the importance, (S, S), from `saliency`, unless that is None.
    """
    layer = None if importance is None else data_uri(overlay(importance))
    return fill("model_view", language, picture=data_uri(pixels), layer=layer, size=len(pixels))
