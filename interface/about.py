"""The *About* tab: the model card."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from markdown_it import MarkdownIt
from markupsafe import Markup

from interface.events import TEXT_EVENT
from interface.figures import DRAWN, evaluation_figure
from interface.markup import fill, line
from interface.serving import Models, Served

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_PLOT = re.compile(r'<p><img src="plots/(\w+)\.png"[^>]*></p>')
# Images and the starts of links to other files beside the card.
_RELATIVE = re.compile(r'<(?:a href|img src)="(?!https?:|mailto:|#)[^>]*>')
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> list[Any]:
    """Lays out the tab and its events; returns the events that fill it when the page loads."""
    card = gr.HTML(elem_id="card")

    async def show(name: str, language: str) -> str:
        return render(models.get(name), language)

    event = {"fn": show, "inputs": [model, language], "outputs": card, **TEXT_EVENT}
    model.change(**event)
    return [event]


def render(served: Served, language: str) -> Markup:
    """Returns the model card as HTML, without metadata and with plots drawn by the app.

    Cards may be anybody's: HTML in them is escaped.
    """
    card = served.folder.card
    if card is None:
        return line("no_card", language)

    def figure(found: re.Match[str]) -> str:
        shown = found[1] in DRAWN and served.evaluation is not None
        return evaluation_figure(served, found[1], language) if shown else ""

    html = _PLOT.sub(figure, _MARKDOWN.render(_FRONT_MATTER.sub("", card)))
    html = _RELATIVE.sub("", html)
    html = html.replace('<a href="http', '<a target="_blank" rel="noopener" href="http')
    start, *sections = (Markup(part) for part in html.split("<h2>"))
    folded = [section.split("</h2>", 1) for section in sections]
    return fill("card", language, start=start, sections=folded)
