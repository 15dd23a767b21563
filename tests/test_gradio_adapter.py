"""What the app needs of Gradio beyond its documentation is there, and does what the adapter says.

If one of these fails after an upgrade: read the changed code of Gradio, then `gradio_adapter.py`.
"""

import asyncio
import inspect
import json
from typing import Any

import gradio as gr
import gradio.mcp
import mcp.shared.session
import pytest
from gradio.routes import App
from mcp.server import Server

from interface.events import LANGUAGE_INPUT
from interface.gradio_adapter import (
    CheckedBlocks,
    McpServer,
    has_session,
    is_awaited,
)
from interface.translations import word


def test_every_event_passes_preprocess_data_and_call_function() -> None:
    source = inspect.getsource(gr.Blocks.process_api)
    assert "self.preprocess_data(" in source, "inputs no longer pass `preprocess_data`: files do"
    assert "self.call_function(" in source, "functions no longer run in `call_function`"
    assert list(inspect.signature(gr.Blocks.preprocess_data).parameters)[1:3] == [
        "block_fn",
        "inputs",
    ], "`preprocess_data` takes other arguments"


def test_gradio_looks_its_mcp_server_up_when_it_starts() -> None:
    source = inspect.getsource(App.setup_mcp_server)
    assert "gradio.mcp.GradioMCPServer(blocks)" in source, "our MCP server is no longer taken"
    for name in ("convert_strings_to_filedata", "postprocess_output_data"):
        ours, theirs = (getattr(kind, name) for kind in (McpServer, gradio.mcp.GradioMCPServer))
        if theirs is not ours:
            assert inspect.signature(ours).parameters.keys() == (
                inspect.signature(theirs).parameters.keys()
            ), f"`{name}` of Gradio's MCP server takes other arguments"
    tool = inspect.getsource(gradio.mcp.GradioMCPServer.create_mcp_server)
    assert "self.postprocess_output_data(" in tool, "MCP answers are no longer ours"
    prepare = inspect.getsource(gradio.mcp.GradioMCPServer._prepare_tool_call_args)
    assert "self.convert_strings_to_filedata(" in prepare, "MCP arguments are no longer checked"


def test_the_mcp_library_lets_tools_check_their_arguments_themselves() -> None:
    source = inspect.getsource(gradio.mcp.GradioMCPServer.create_mcp_server)
    assert "self.Server(" in source, "our server under Gradio's MCP server is no longer taken"
    assert "server.call_tool()" in source, "Gradio chooses itself whether arguments are checked"
    assert "validate_input" in inspect.signature(Server.call_tool).parameters
    noise = inspect.getsource(mcp.shared.session)
    assert "Failed to validate " in noise, (
        "`_is_relevant` filters other lines than the library writes"
    )


def test_the_queue_says_what_is_waited_for() -> None:
    source = inspect.getsource(App.create_app)
    for name in ("pending_messages_per_session", "event_ids_to_events"):
        assert f"queue.{name}" in source, f"Gradio looks sessions and events up without `{name}`"
    with CheckedBlocks() as blocks:
        pass
    blocks.queue()
    assert not has_session(blocks, "nobody")
    assert not is_awaited(blocks, "nothing")


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


def test_tools_of_mcp_answer_in_json() -> None:
    server = McpServer.__new__(McpServer)
    for data in ([({"a": None}, [True])], [{"a": None}, [True]]):
        texts = [item.text for item in server.postprocess_output_data(data, "")]
        assert [json.loads(text) for text in texts] == [{"a": None}, [True]]
