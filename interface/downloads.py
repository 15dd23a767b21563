"""Downloads of an evaluation: evaluation.json, a table of the classes, the plots."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import zipfile
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifier.errors import InputError
from interface.figures import LOOKS, drawings_of
from interface.markup import fill
from interface.serving import Models, Served

COLUMNS = ("accuracy", "precision", "recall", "f1", "average_precision", "roc_auc")


def render(served: Served, language: str) -> str:
    """Returns links to the downloads as HTML."""
    files = {name: text for name, (text, _, _) in FILES.items()}
    query = urlencode({"model": served.name})
    return fill("downloads", language, files=files, query=query, model=served.name)


def route(models: Models) -> Route:
    """Returns the route of the downloads."""

    async def answer(request: Request) -> Response:
        served = models.get(request.query_params.get("model"))
        name = request.path_params["name"]
        if name not in FILES or served.evaluation is None:
            raise InputError("there is no such file")
        _, write, media_type = FILES[name]
        return Response(await write(models, served), media_type=media_type)

    return Route("/downloads/{name}", answer)


async def _json(_: Models, served: Served) -> bytes:
    return json.dumps(served.evaluation, indent=1).encode()


async def _csv(_: Models, served: Served) -> bytes:
    """A row per class, in the columns of evaluation.json."""
    text = io.StringIO()
    table = csv.DictWriter(text, ("name", "support", *COLUMNS), extrasaction="ignore")
    table.writeheader()
    table.writerows((served.evaluation or {})["per_class"])
    return text.getvalue().encode()


async def _plots(models: Models, served: Served) -> bytes:
    """The plots of the model card, as the app draws them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for drawing in drawings_of(served, [LOOKS[0]]):
            with contextlib.suppress(InputError):  # data are missing
                plot = await asyncio.wrap_future(models.figures.get(drawing))
                archive.writestr(f"{drawing.figure}.png", plot)
    return content.getvalue()


# By name: the text of the link, the function that writes the content, the media type.
FILES: dict[str, tuple[str, Callable[[Models, Served], Awaitable[bytes]], str]] = {
    "evaluation.json": ("download_json", _json, "application/json"),
    "classes.csv": ("download_csv", _csv, "text/csv"),
    "plots.zip": ("download_plots", _plots, "application/zip"),
}
