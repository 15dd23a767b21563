"""The named endpoints: /classify, /evaluation and /models, and /health for those who watch."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio_client import handle_file
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from classifier.data.images import MAX_MEGABYTES, MAX_MEGAPIXELS, READABLE
from classifier.prediction.classifier import Prediction
from interface.classify import AT_ONCE
from interface.events import with_user_errors
from interface.serving import Models
from interface.uploads import RefusedFileError, Upload

# What the API page and the tools of MCP say of the inputs.
IMAGE = (
    f"An uploaded picture: {READABLE}, at most {MAX_MEGABYTES} MB and {MAX_MEGAPIXELS} megapixels. "
    "Addresses of other servers are not fetched; MCP takes a data: address, too."
)
MODEL = "Name of a served model, as /models lists them; the default one if it is left out."
EXAMPLE = "lion.jpg"  # comes with Gradio


def document(info: dict[str, Any], models: Models) -> dict[str, Any]:
    """Returns Gradio's description of the endpoints with what our inputs take, and examples.

    Gradio's own example of a picture is an address, which this server would refuse.
    """
    # A file, as clients upload it: the languages of the API page take its name from either field.
    picture = handle_file(gr.get_image(EXAMPLE)) | {"path": EXAMPLE, "url": EXAMPLE}
    inputs = {"image": (IMAGE, picture), "model": (MODEL, models.names[0])}
    for endpoint in info["named_endpoints"].values():
        for parameter in endpoint["parameters"]:
            text, parameter["example_input"] = inputs[parameter["parameter_name"]]
            parameter["python_type"] |= {"description": text}
            parameter["type"] = parameter["type"] | {"description": text}
    return info


def build(models: Models) -> None:
    """Adds the endpoints to the page; their answers carry the data set's own names."""
    picture = gr.Image(visible=False, type="filepath", image_mode=None, label="image")
    model = gr.Textbox(visible=False, label="model")
    label = gr.Label(visible=False, num_top_classes=5, label="label")
    more = gr.JSON(visible=False, label="details")
    figures = gr.JSON(visible=False, label="evaluation")
    served = gr.JSON(visible=False, label="models")

    async def classify(
        image: Upload | None, model: str | None = None
    ) -> tuple[dict[str, float], dict]:
        if image is None:
            raise RefusedFileError
        prediction = await models.classify(image, model)
        return prediction.confidences, details(prediction, models.get(model).name)

    async def evaluation(model: str | None = None) -> dict[str, Any] | None:
        return models.get(model).evaluation

    async def list_models() -> list[dict[str, Any]]:
        return [item.describe() for item in models]

    classify.__doc__ = _parameters(image=IMAGE, model=MODEL)
    evaluation.__doc__ = _parameters(model=MODEL)
    trigger = gr.Button(visible=False)
    trigger.click(
        with_user_errors(classify, "en"),
        [picture, model],
        [label, more],
        api_name="classify",
        api_description="Says which of the data set's classes a picture shows: the five likeliest "
        "with their probabilities, then the superclasses, under the names of the data set.",
        preprocess=False,
        concurrency_limit=AT_ONCE,
        concurrency_id="classify",
    )
    trigger.click(
        with_user_errors(evaluation, "en"),
        model,
        figures,
        api_name="evaluation",
        api_description="Returns the figures of a served model on the test split, as they stand in "
        "its evaluation.json: accuracies, macro averages, a row per class, the confusion matrix.",
        preprocess=False,
    )
    trigger.click(
        with_user_errors(list_models, "en"),
        None,
        served,
        api_name="models",
        api_description="Lists the served models, the default first: name, source (hub, cache, "
        "embedded or folder), revision and top-1 accuracy.",
    )


def details(prediction: Prediction, model: str) -> dict[str, Any]:
    """Returns what `/classify` says beside the label."""
    return {
        "model": model,
        "superclass": prediction.superclass,
        "superclasses": [
            {"label": name, "confidence": share}
            for name, share in zip(
                prediction.superclasses, prediction.superclass_probabilities, strict=True
            )
        ],
    }


def _parameters(**texts: str) -> str:
    """Returns the docstring out of which Gradio takes what a tool of MCP says of its inputs."""
    return "\n".join(["Args:", *(f"    {name}: {text}" for name, text in texts.items())])


def health_route(models: Models) -> Route:
    """Returns the route that says whether the app can answer: 503 while no model does."""

    async def health(request: Request) -> JSONResponse:
        able = await models.can_answer()
        status = "ok" if able else "no model answers"
        return JSONResponse({"status": status, "models": models.names}, 200 if able else 503)

    return Route("/health", health)
