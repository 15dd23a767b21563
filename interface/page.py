"""Builds the page: header, tabs and endpoints, and the options to launch it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from classifier.data.images import MAX_BYTES
from interface import about, api, classify, compare, downloads, evaluation, figures, header, try_it
from interface.events import LANGUAGE_INPUT, TEXT_EVENT
from interface.gradio_adapter import CheckedBlocks, describe_once
from interface.markup import fill
from interface.middleware import EXCEPTION_HANDLERS, PageMiddleware
from interface.serving import Models
from interface.theme import CSS_FILE, SCRIPT_FILES, theme
from interface.translations import LANGUAGES, locale, static_html, static_texts, word, words

QUEUE_LENGTH = 1000
# By default Gradio sends their place to all waiting clients after each answer: for 200 clients,
# this delayed finished answers by 8 seconds.
SECONDS_BETWEEN_QUEUE_UPDATES = 2
# Gradio stores a copy of the page's description, 140 KB, for each of the last sessions; every call
# without a client is a session. They contain no state of this app.
SESSIONS = 100
# Prefixes of the translations of messages and labels that Gradio only has in English.
SCRIPT_TEXTS = ("error_", "label_")


def build(models: Models, *, changing: bool = False) -> CheckedBlocks:
    """Builds the page; `changing` says whether the models may be replaced while it is served."""
    text = static_texts()
    # The title states the image size of the default model.
    title = static_html("title", lambda code: word("title", code, size=models.get().image_size))
    with CheckedBlocks(title=title, analytics_enabled=False) as page:
        page.document = partial(api.document, models=models)
        head = gr.HTML(
            static_html("head", lambda language: header.render(models, language)), elem_id="head"
        )
        language = gr.Textbox(LANGUAGES[0], visible=False, elem_id=LANGUAGE_INPUT)
        model = gr.Radio(
            models.names,
            value=models.names[0],
            label=text("choose_model"),
            visible=len(models.names) > 1,
            elem_id="model",
        )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(text("tab_classify"), id="classify", elem_id="tab-classify"):
                picture, answered = classify.build(models, model, language)
            with gr.Tab(text("tab_try"), id="try", elem_id="tab-try"):
                fillings = [try_it.build(models, picture, answered, language)]
            with gr.Tab(text("tab_evaluation"), id="evaluation", elem_id="tab-evaluation") as tab:
                fillings += evaluation.build(models, model, tab, language)
            with gr.Tab(text("tab_compare"), id="compare", elem_id="tab-compare"):
                fillings += compare.build(models, language)
            with gr.Tab(text("tab_about"), id="about", elem_id="tab-about"):
                fillings += about.build(models, model, language)
        gr.HTML(text("footer"), elem_classes="foot")
        api.build(models)

        async def describe(name: str, language: str) -> str:
            return header.render(models, language, name)

        inputs = [model, language]
        facts = {"fn": describe, "inputs": inputs, "outputs": head, **TEXT_EVENT}
        model.change(**facts)
        if changing:
            fillings.append(facts)
        for filling in fillings:
            page.load(**filling)
    page.queue(
        max_size=QUEUE_LENGTH,
        default_concurrency_limit=4,
        api_open=True,
        status_update_rate=SECONDS_BETWEEN_QUEUE_UPDATES,
    )
    describe_once(page)
    return page


def launch_options(models: Models) -> dict[str, Any]:
    """Returns the arguments of `launch` without the address."""
    texts = {key: texts for key, texts in words().items() if key.startswith(SCRIPT_TEXTS)}
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPT_FILES)
    languages = {code: {"percentSign": locale(code).percent_sign} for code in LANGUAGES}
    script = f"const pageTexts = {json.dumps(texts)};\n"
    script += f"const pageLanguages = {json.dumps(languages)};\n{scripts}"
    foot = fill(
        "noscript",
        LANGUAGES[0],
        texts={language: word("no_script", language) for language in LANGUAGES},
    )
    return {
        "theme": theme(),
        "css_paths": CSS_FILE,
        "i18n": static_texts(),
        "max_file_size": MAX_BYTES,
        "mcp_server": True,
        "run_history": False,
        "enable_monitoring": False,
        "strict_cors": True,
        "state_session_capacity": SESSIONS,
        "ssr_mode": False,
        "show_error": True,
        "footer_links": ["api"],
        "app_kwargs": {
            "routes": [
                figures.route(models),
                downloads.route(models),
                classify.examples_route(),
                api.health_route(models),
            ],
            "middleware": [Middleware(PageMiddleware, script, foot)],
            "exception_handlers": EXCEPTION_HANDLERS,
        },
    }


def prepare_figures(models: Models) -> None:
    """Draws the figures that the tabs show at first, those of the default model before others."""
    first, *others = models
    drawings = [*figures.drawings_of(first, figures.LOOKS), *compare.drawings(models)]
    for served in others:
        drawings += figures.drawings_of(served, figures.LOOKS)
    models.figures.prepare(drawings)
