"""Writes the answers of the app's routes as files, and has the pages refer to the files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.routing import Match, Route
from tqdm import tqdm

from interface import compare, downloads, figures
from interface.serving import Models

# The addresses in the pages that the app answers, and pictures that stand in the page.
_DATA = "data:image/png;base64,"
_ADDRESS = re.compile(rf"(?:(?<=\")(?:figures|comparison|downloads)/|{_DATA})[^\"\\]+")


def freeze(models: Models, pages: Mapping[str, str], folder: Path) -> None:
    """Writes pages, and what their addresses have the app answer as files beside them.

    A file's name ends with a hash of its content: browsers may keep it for ever.

    Args:
        models: the models of the pages.
        pages: HTML by path.
        folder: where to write.
    """
    routes = [figures.route(models), downloads.route(models), compare.route(models)]
    found = dict.fromkeys(address for page in pages.values() for address in _ADDRESS.findall(page))
    files = {address: _write(routes, address, folder) for address in tqdm(found, disable=None)}
    for name, page in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_ADDRESS.sub(lambda match: files[match[0]], page), encoding="utf-8")


def _write(routes: list[Route], address: str, folder: Path) -> str:
    """Writes the answer to an address, as it stands in HTML; returns the path of the file."""
    if address.startswith(_DATA):
        content, path = base64.b64decode(address.removeprefix(_DATA)), Path("figures/picture.png")
    else:
        parts = urlsplit(html.unescape(address))
        content, path = _answer(routes, parts.path, parts.query), Path(parts.path)
    name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
    file = folder / path.with_name(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return path.with_name(name).as_posix()


def _answer(routes: list[Route], path: str, query: str) -> bytes:
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/{path}",
        "query_string": query.encode(),
        "headers": [],
    }
    matches = (route.matches(scope) for route in routes)
    found = next(child for match, child in matches if match is Match.FULL)
    return bytes(asyncio.run(found["endpoint"](Request({**scope, **found}))).body)
