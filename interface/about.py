"""The *About* tab: the model card."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gradio as gr

from interface.events import TEXT_EVENT
from interface.figures import DRAWN, evaluation_figure
from interface.serving import Models, Served
from interface.translations import word

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_PLOT = re.compile(r"!\[[^\]]*\]\(plots/(\w+)\.png\)")


def build(models: Models, model: gr.Radio, language: gr.Textbox) -> list[Any]:
    """Lays out the tab and its events; returns the events that fill it when the page loads."""
    card = gr.Markdown(elem_id="card", latex_delimiters=[])

    async def show(name: str, language: str) -> str:
        return render(models.get(name), language)

    event = {"fn": show, "inputs": [model, language], "outputs": card, **TEXT_EVENT}
    model.change(**event)
    return [event]


def render(
    served: Served, language: str, plot: Callable[[Served, str, str], str] | None = None
) -> str:
    """Returns the model card as Markdown, without metadata and with plots drawn by the app.

    Args:
        served: the model.
        language: of the headings and notes around it.
        plot: returns what stands for a plot, of which it takes model, name and language; by
            default `figure`.
    """
    card = served.folder.card
    if card is None:
        return word("no_card", language)
    plot = plot or figure
    text = _PLOT.sub(lambda found: plot(served, found[1], language), _FRONT_MATTER.sub("", card))
    note = word("card_language", language)
    return f"*{note}*\n\n{text}" if note else text


def figure(served: Served, name: str, language: str) -> str:
    """Returns a plot of the model card, as the app draws it, as HTML."""
    if name not in DRAWN or served.evaluation is None:
        return ""
    return evaluation_figure(served, name, language)
