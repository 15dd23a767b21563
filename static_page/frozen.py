"""Writes the answers of the app's routes as files, and has the pages refer to the files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.routing import Match, Route
from tqdm import tqdm

from interface import downloads, figures
from interface.serving import Models

# Addresses that the app answers, and pictures that stand in the page: the values of attributes, in
# HTML or in JSON of HTML.
_DATA = "data:image/png;base64,"
_ADDRESS = re.compile(rf'(?:(?<==")|(?<==\\"))(?:(?:figures|downloads)/|{_DATA})[^"\\]+')


def freeze(models: Models, pages: Mapping[str, str], folder: Path) -> None:
    """Writes pages, and what their addresses have the app answer as files beside them.

    A file's name ends with a hash of its content: browsers may keep it for ever.

    Args:
        models: the models of the pages.
        pages: HTML by path.
        folder: where to write.
    """
    found = {address for page in pages.values() for address in _ADDRESS.findall(page)}
    files = asyncio.run(_write_all(models, sorted(found), folder))
    for name, page in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_ADDRESS.sub(lambda match: files[match[0]], page), encoding="utf-8")


async def _write_all(models: Models, addresses: Sequence[str], folder: Path) -> dict[str, str]:
    """Writes the answers to addresses as they stand in HTML; returns the path of each file."""
    routes = [figures.route(models), downloads.route(models)]
    contents = [_content(routes, address) for address in addresses]
    bar = tqdm(asyncio.as_completed(contents), total=len(contents), disable=None)
    written: dict[str, str] = {}
    for answered in bar:
        address, path, content = await answered
        name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
        file = folder / path.with_name(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        written[address] = path.with_name(name).as_posix()
    return written


async def _content(routes: Sequence[Route], address: str) -> tuple[str, Path, bytes]:
    """Returns an address, the path in it, and what the app answers there."""
    if address.startswith(_DATA):
        return address, Path("figures/picture.png"), base64.b64decode(address[len(_DATA) :])
    parts = urlsplit(html.unescape(address))
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/{parts.path}",
        "query_string": parts.query.encode(),
        "headers": [],
    }
    matches = (route.matches(scope) for route in routes)
    found = next(child for match, child in matches if match is Match.FULL)
    response = await found["endpoint"](Request({**scope, **found}))
    return address, Path(parts.path), bytes(response.body)
