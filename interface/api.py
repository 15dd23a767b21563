"""The API endpoints /classify, /evaluation and /models, and the health check /health."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio_client import handle_file
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from classifier.data.images import MAX_MEGABYTES, MAX_MEGAPIXELS, READABLE
from classifier.model_folder.folder import TOP
from classifier.prediction.classifier import Prediction
from interface.classify import CONCURRENCY
from interface.pictures import PHOTOGRAPH
from interface.serving import Models
from interface.uploads import RefusedFileError, Upload

# Descriptions of the inputs on the API page and in MCP tools.
IMAGE = (
    f"An uploaded picture: {READABLE}, at most {MAX_MEGABYTES} MB and {MAX_MEGAPIXELS} megapixels. "
    "URLs of other servers are not downloaded; MCP also accepts data URLs."
)
MODEL = "Name of a served model, as listed by /models; by default the first."


def document(info: dict[str, Any], models: Models) -> dict[str, Any]:
    """Returns Gradio's description of the endpoints with our texts and examples."""
    # The code examples of the API page take the name of the file from either field.
    picture = handle_file(gr.get_image(PHOTOGRAPH)) | {"path": PHOTOGRAPH, "url": PHOTOGRAPH}
    inputs = {"image": (IMAGE, picture), "model": (MODEL, models.names[0])}
    for endpoint in info["named_endpoints"].values():
        for parameter in endpoint["parameters"]:
            text, parameter["example_input"] = inputs[parameter["parameter_name"]]
            parameter["python_type"] |= {"description": text}
            parameter["type"] = parameter["type"] | {"description": text}
    return info


def build(models: Models) -> None:
    """Adds the endpoints to the page; they return the names of the data set, untranslated."""
    picture = gr.Image(visible=False, type="filepath", image_mode=None, label="image")
    model = gr.Textbox(visible=False, label="model")
    label = gr.Label(visible=False, num_top_classes=TOP, label="label")
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
        fields = ("name", "source", "revision", "top1")
        return [{field: getattr(item, field) for field in fields} for item in models]

    # Gradio reads the descriptions of the parameters of an MCP tool from its docstring.
    classify.__doc__ = f"Args:\n    image: {IMAGE}\n    model: {MODEL}"
    evaluation.__doc__ = f"Args:\n    model: {MODEL}"
    trigger = gr.Button(visible=False)
    trigger.click(
        classify,
        [picture, model],
        [label, more],
        api_name="classify",
        api_description=f"Classifies a picture: returns the {TOP} most probable classes with their "
        "probabilities, then the superclasses, with the names of the data set.",
        preprocess=False,
        concurrency_limit=CONCURRENCY,
        concurrency_id="classify",
    )
    trigger.click(
        evaluation,
        model,
        figures,
        api_name="evaluation",
        api_description="Returns the evaluation of a served model on the test split, which is its "
        "evaluation.json: accuracies, macro averages, a row per class, the confusion matrix.",
        preprocess=False,
    )
    trigger.click(
        list_models,
        None,
        served,
        api_name="models",
        api_description="Lists the served models, the default first: name, source (hub, cache, "
        "embedded or folder), revision and top-1 accuracy.",
    )


def details(prediction: Prediction, model: str) -> dict[str, Any]:
    """Returns the second output of `/classify`."""
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


def health_route(models: Models) -> Route:
    """Returns the health check: status 503 if no model answers."""

    async def health(request: Request) -> JSONResponse:
        able = await models.can_answer()
        status = "ok" if able else "no model answers"
        return JSONResponse({"status": status, "models": models.names}, 200 if able else 503)

    return Route("/health", health)
