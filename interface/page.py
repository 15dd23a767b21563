"""The page as a whole: its head, its tabs, its endpoints, and what no request may do."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware

from classifier.data.images import MAX_BYTES
from interface import about, api, classify, compare, downloads, evaluation, figures, header, try_it
from interface.events import TEXT_EVENT, with_user_errors
from interface.gradio_adapter import CheckedBlocks, described_once
from interface.markup import fill
from interface.middleware import PageMiddleware, RequestGate, malformed
from interface.serving import Models
from interface.theme import CSS_FILE, SCRIPT_FILES, theme
from interface.translations import (
    LANGUAGES,
    language_of,
    locale,
    static_html,
    static_texts,
    word,
    words,
)

QUEUE_LENGTH = 1000
# By default Gradio tells all who wait their place after each answer: with 200 of them these
# messages kept finished answers from being delivered for 8 seconds.
SECONDS_BETWEEN_QUEUE_UPDATES = 2
# Gradio keeps a copy of the page's description, 140 KB, for each of its last sessions, and every
# call without a client is one. Nothing of ours is in them: a session that returns gets a new one.
SESSIONS = 100
# Seconds between two looks for old uploads, and how old they get: within the hour that we promise.
CLEANING, KEPT = 300, 3000
# What the page's script puts in the place of messages that Gradio has only in English.
SCRIPT_TEXTS = (
    *("error_title", "error_queue_full", "error_upload_limit", "error_uploads_full"),
    *("error_unknown_format", "error_connection"),
)
LABELS = "label_"  # how the names of its labels begin, which it has only in English, too


def build(models: Models, *, changing: bool = False) -> CheckedBlocks:
    """Builds the page.

    Args:
        models: the served models.
        changing: whether their revisions may change while the page is served.
    """
    text = static_texts()
    # Of models of several sizes the page's title names that of the default one.
    title = static_html("title", lambda code: word("title", code, size=models.get().image_size))
    with CheckedBlocks(title=title, analytics_enabled=False, delete_cache=(CLEANING, KEPT)) as page:
        page.document = partial(api.document, models=models)
        head = gr.HTML(
            static_html("head", lambda language: header.render(models, language)), elem_id="head"
        )
        language = gr.Textbox(LANGUAGES[0], visible=False)
        model = gr.Radio(
            models.names,
            value=models.names[0],
            label=text("choose_model"),
            visible=len(models.names) > 1,
            elem_id="model",
        )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(text("tab_classify"), id="classify", elem_id="tab-classify"):
                picture = classify.build(models, model, language)
            with gr.Tab(text("tab_try"), id="try", elem_id="tab-try"):
                fillings = [try_it.build(models, picture, language)]
            with gr.Tab(text("tab_evaluation"), id="evaluation", elem_id="tab-evaluation") as tab:
                fillings += evaluation.build(models, model, tab, language)
            with gr.Tab(text("tab_compare"), id="compare", elem_id="tab-compare"):
                fillings += compare.build(models, language)
            with gr.Tab(text("tab_about"), id="about", elem_id="tab-about"):
                fillings += about.build(models, model, language)
        gr.HTML(text("footer"), elem_classes="foot")
        api.build(models)
        facts = _facts_event(models, model, head, language)
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
    for block in page.blocks.values():
        block.get_config = described_once(block.get_config)
    return page


def launch_options(
    page: CheckedBlocks, models: Models, gate: RequestGate, *, trusting: bool
) -> dict[str, Any]:
    """Returns what `launch` needs to know of the page beside its address.

    Args:
        page: the page.
        models: the served models.
        gate: through which all requests will pass.
        trusting: whether a proxy stands before the app, which says by what address it is known.
    """
    texts = {
        key: texts
        for key, texts in words().items()
        if key in SCRIPT_TEXTS or key.startswith(LABELS)
    }
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
                compare.route(),
                downloads.route(models),
                classify.examples_route(),
                api.health_route(models),
            ],
            "middleware": [Middleware(PageMiddleware, script, foot, gate, page, trusting)],
            "exception_handlers": {RequestValidationError: malformed},
        },
    }


def _facts_event(
    models: Models, model: gr.Radio, head: gr.HTML, language: gr.Textbox
) -> dict[str, Any]:
    """Returns the event that shows the facts of the chosen model at the head."""

    async def render(name: str, language: str) -> str:
        return header.render(models, language_of(language), name)

    return {
        "fn": with_user_errors(render),
        "inputs": [model, language],
        "outputs": head,
        **TEXT_EVENT,
    }
