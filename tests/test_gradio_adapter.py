"""What the app needs of Gradio beyond its documentation is there, and does what the adapter says.

If one of these fails after an upgrade: read the changed code of Gradio, then `gradio_adapter.py`.
"""

import asyncio
import json
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import gradio as gr
import gradio.mcp
import pytest

from interface.events import LANGUAGE_INPUT
from interface.gradio_adapter import (
    CheckedBlocks,
    McpServer,
)
from interface.middleware import DIRECT_CALLS, PageMiddleware
from interface.translations import word


def test_a_function_gets_no_path_and_what_it_raises_becomes_one_line() -> None:
    seen: list[Any] = []

    def note(picture: Any, text: str) -> str:
        seen.append(picture)
        raise ZeroDivisionError("a secret of ours")

    with CheckedBlocks() as blocks:
        picture, text = gr.Image(type="filepath"), gr.Textbox()
        text.change(note, [picture, text], text, api_name="note", preprocess=False)
    (event,) = (event for event in blocks.fns.values() if event.api_name == "note")
    for inputs in ([{"path": "/etc/passwd"}, "x"], ["/etc/passwd", "x"], [None, {"path": "x"}]):
        with pytest.raises(gr.Error):
            asyncio.run(blocks.process_api(event, inputs))
    assert seen == []
    with pytest.raises(gr.Error, match=word("error_model", "en")):
        asyncio.run(blocks.process_api(event, [{"path": "examples/lion.jpg"}, "x"]))
    assert [type(item).__name__ for item in seen] == ["Upload"]


def test_an_event_gets_the_visitors_language_and_its_messages_are_in_it() -> None:
    seen: list[str] = []

    def note(language: str) -> None:
        seen.append(language)
        raise ZeroDivisionError

    with CheckedBlocks() as blocks:
        language = gr.Textbox(elem_id=LANGUAGE_INPUT)
        language.change(note, language, None, api_name="note", preprocess=False)
    (event,) = (event for event in blocks.fns.values() if event.api_name == "note")
    for wanted, code in (("es-MX", "es"), ("xx", "en"), (None, "en")):
        with pytest.raises(gr.Error, match=word("error_model", code)):
            asyncio.run(blocks.process_api(event, [wanted]))
    assert seen == ["es", "en", "en"]


def test_a_tool_of_mcp_that_waits_occupies_no_thread() -> None:
    server = McpServer.__new__(McpServer)
    jobs = [SimpleNamespace(future=Future()) for _ in range(100)]

    async def ask() -> list[list[Any]]:
        calls = [asyncio.ensure_future(server._execute_tool_without_progress(job)) for job in jobs]
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.to_thread(int), 5)
        for number, job in enumerate(jobs):
            job.future.set_result(number)
        return await asyncio.gather(*calls)

    before = threading.active_count()
    assert asyncio.run(ask()) == [[number] for number in range(100)]
    assert threading.active_count() <= before + 1


def test_calls_without_the_queue_wait_for_each_other() -> None:
    running, most = 0, 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async def call(page: PageMiddleware) -> None:
        path = "/gradio_api/run/classify"
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        await page(scope, None, None)  # type: ignore[arg-type]

    async def many() -> None:
        page = PageMiddleware(app, "", "")
        await asyncio.gather(*(call(page) for _ in range(3 * DIRECT_CALLS)))

    asyncio.run(many())
    assert most == DIRECT_CALLS


def test_tools_of_mcp_answer_in_json() -> None:
    server = McpServer.__new__(McpServer)
    for data in ([({"a": None}, [True])], [{"a": None}, [True]]):
        texts = [item.text for item in server.postprocess_output_data(data, "")]
        assert [json.loads(text) for text in texts] == [{"a": None}, [True]]
