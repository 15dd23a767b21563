"""The page as a whole: its head, its tabs, its endpoints, and what no request may do."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio.route_utils import API_PREFIX
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware

from interface import about, api, classify, compare, downloads, evaluation, figures, header, try_it
from interface.delivery import Delivery, Door
from interface.events import TEXT_EVENT, RequestError, as_error, in_words
from interface.serving import Models
from interface.theme import CSS_FILE, SCRIPT_FILE, theme
from interface.translations import LANGUAGES, language_of, static_html, static_texts, word, words

logger = logging.getLogger(__name__)

UPLOAD_LIMIT = "10mb"
QUEUE_LENGTH = 1000
# Gradio keeps a copy of the page's description, 140 KB, for each of its last sessions, and every
# call without a client is one. Nothing of ours is in them: a session that returns gets a new one.
SESSIONS = 100
# Seconds between two looks for old uploads, and how old they get: within the hour that we promise.
CLEANING, KEPT = 300, 3000
# What the page's script puts in the place of messages that Gradio has only in English.
TOLD_BY_THE_SCRIPT = (
    *("error_title", "error_queue_full", "error_upload_limit"),
    *("error_unknown_format", "error_connection"),
)
LABELS = "label_"  # how the names of its labels begin, which it has only in English, too


class Page(gr.Blocks):
    """A `gr.Blocks` whose server fetches no address that a request names.

    Gradio downloads what is at an http address wherever a request may hold a file. Every request,
    of the page, of clients and of MCP, passes through here.
    """

    models: Models

    def get_api_info(self, *args: Any, **kwargs: Any) -> Any:
        """Describes the endpoints, for the API page, clients and MCP."""
        return api.document(dict(super().get_api_info(*args, **kwargs)), self.models)

    async def preprocess_data(self, block_fn: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses addresses and fills in what may be left out, then does what `gr.Blocks` does."""
        inputs = with_uploads_named(inputs)
        if names_address(inputs):
            raise gr.Error(
                word("error_address", "en"),
                title=word("error_title", "en"),
                print_exception=False,
            )
        if isinstance(inputs, list):
            inputs = inputs + [None] * (len(block_fn.inputs) - len(inputs))
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:  # a request that no page and no client of ours would send
            logger.warning("refused a request: %s", " ".join(str(error).split())[:200])
            raise as_error(RequestError(), LANGUAGES[0]) from None


def with_uploads_named(value: Any) -> Any:
    """Returns an event's inputs with the addresses of our own uploads as the paths they hold.

    Tools of MCP name a picture by the address that its upload got. Nothing is fetched for it: the
    path passes the same checks as every other.
    """
    if isinstance(value, dict):
        changed = {key: with_uploads_named(item) for key, item in value.items()}
        address = changed.get("path")
        if isinstance(address, str) and is_http_url_like(address.strip()):
            path = unquote(urlsplit(address.strip()).path)
            _, marked, upload = path.partition(f"{API_PREFIX}/file=")
            if marked:
                changed |= {"path": upload, "url": None}
        return changed
    if isinstance(value, (list, tuple)):
        return [with_uploads_named(item) for item in value]
    return value


def names_address(value: Any) -> bool:
    """Tells whether a file in an event's inputs is named by an address instead of an upload."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str) and is_http_url_like(value["path"].strip()):
            return True
        return any(names_address(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(names_address(item) for item in value)
    return False


def build(models: Models, *, changing: bool = False) -> Page:
    """Builds the page.

    Args:
        models: the served models.
        changing: whether their revisions may change while the page is served.
    """
    text = static_texts()
    # Of models of several sizes the page's title names that of the default one.
    title = static_html("title", lambda code: word("title", code, size=models.get().image_size))
    with Page(title=title, analytics_enabled=False, delete_cache=(CLEANING, KEPT)) as page:
        page.models = models
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
            with gr.Tab(text("tab_classify"), id="classify"):
                picture = classify.build(models, model, language)
            with gr.Tab(text("tab_try"), id="try"):
                fillings = [try_it.build(models, picture, language)]
            with gr.Tab(text("tab_evaluation"), id="evaluation") as tab:
                fillings += evaluation.build(models, model, tab, language)
            with gr.Tab(text("tab_compare"), id="compare"):
                fillings += compare.build(models, language)
            with gr.Tab(text("tab_about"), id="about"):
                fillings += about.build(models, model, language)
        gr.HTML(text("footer"), elem_classes="foot")
        api.build(models)
        facts = _facts_event(models, model, head, language)
        model.change(**facts)
        if changing:
            fillings.append(facts)
        for filling in fillings:
            page.load(**filling)
    page.queue(max_size=QUEUE_LENGTH, default_concurrency_limit=4, api_open=True)
    for block in page.blocks.values():
        block.get_config = described_once(block.get_config)
    return page


def described_once(describe: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Keeps Gradio from describing a component anew for each call of the API.

    It does so for each new session, and a call without a client is one: half of the time that the
    server spends on it.

    Args:
        describe: `get_config` of a component that is laid out for good.
    """
    known: dict[str, Any] = {}

    def described(*arguments: Any, **options: Any) -> dict[str, Any]:
        if arguments or options:
            return describe(*arguments, **options)
        if not known:
            known.update(describe())
        return dict(known)  # a session writes its own values into it

    return described


def launch_options(models: Models, door: Door) -> dict[str, Any]:
    """Returns what `launch` needs to know of the page beside its address.

    Args:
        models: the served models.
        door: through which all requests will pass.
    """
    told = {
        key: texts
        for key, texts in words().items()
        if key in TOLD_BY_THE_SCRIPT or key.startswith(LABELS)
    }
    script = f"const pageTexts = {json.dumps(told)};\n{SCRIPT_FILE.read_text(encoding='utf-8')}"
    return {
        "theme": theme(),
        "css_paths": CSS_FILE,
        "i18n": static_texts(),
        "max_file_size": UPLOAD_LIMIT,
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
                api.health_route(models),
            ],
            "middleware": [Middleware(Delivery, script, door)],
        },
    }


def _facts_event(
    models: Models, model: gr.Radio, head: gr.HTML, language: gr.Textbox
) -> dict[str, Any]:
    """Returns the event that shows the facts of the chosen model at the head."""

    async def render(name: str, language: str) -> str:
        return header.render(models, language_of(language), name)

    return {"fn": in_words(render), "inputs": [model, language], "outputs": head, **TEXT_EVENT}
