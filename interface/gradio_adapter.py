"""What this app needs of Gradio beyond its documentation. Tried with Gradio 6.31.0.

- `Blocks.preprocess_data` is the one method that the inputs of every event pass: those of the page,
  of the named endpoints and of MCP. Gradio itself checks only files that carry its own mark
  (`meta`), reads and copies them before a function sees them, and fetches addresses. Here they
  never get there.
- `Blocks.call_function` is where an event's function runs: what it raises unforeseen gets one line.
- `Blocks.get_api_info` is the description of the endpoints, whose example would be an address.
- `gradio.mcp.GradioMCPServer` hands files that a tool names to a client inside the server, which
  opens any path; its answers are Python's `repr`; and the library under it checks arguments by a
  JSON schema, in words of its own. No documented way exchanges any of these.
- `Blocks._queue` knows which sessions and events are waited for; asked for another one, Gradio
  begins to answer before it fails.
- `Block.get_config`: Gradio describes every component anew for each call of the API.

`tests/test_gradio_adapter.py` says in words which of these an upgrade has changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
import gradio.mcp
from gradio.blocks import BlockFunction
from gradio.route_utils import API_PREFIX
from mcp.server import Server

from classifier.errors import InputError
from interface import uploads
from interface.events import RequestError, as_error
from interface.translations import LANGUAGES, word

logger = logging.getLogger(__name__)


class CheckedBlocks(gr.Blocks):
    """A `gr.Blocks` whose events get an `Upload` or None in the place of a picture, no path."""

    document: Callable[[dict[str, Any]], dict[str, Any]]

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Launches with our MCP server in the place of Gradio's."""
        gradio.mcp.GradioMCPServer = McpServer  # type: ignore[misc]
        logging.getLogger().addFilter(_is_news)
        logging.getLogger("mcp").setLevel(logging.ERROR)
        return super().launch(*args, **kwargs)

    def get_api_info(self, *args: Any, **kwargs: Any) -> Any:
        """Describes the endpoints, for the API page, clients and MCP."""
        return self.document(dict(super().get_api_info(*args, **kwargs)))

    async def preprocess_data(self, block_fn: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Reads the uploads that a request names and refuses every other file."""
        try:
            plain, pictures = await _without_files(block_fn, inputs)
            processed = list(await super().preprocess_data(block_fn, plain, *args, **kwargs))
        except gr.Error:
            raise
        except InputError as error:
            raise as_error(error, LANGUAGES[0]) from None
        except Exception as error:  # a request that no page and no client of ours would send
            logger.warning("refused a request: %s", " ".join(str(error).split())[:200])
            raise as_error(RequestError(), LANGUAGES[0]) from None
        for index, picture in pictures.items():
            processed[index] = picture
        return processed

    async def call_function(self, *args: Any, **kwargs: Any) -> Any:
        """Runs an event's function; what it did not foresee becomes one line."""
        try:
            return await super().call_function(*args, **kwargs)
        except (gr.Error, StopAsyncIteration, StopIteration):
            raise
        except Exception as error:
            raise as_error(error, LANGUAGES[0]) from None


async def _without_files(
    block_fn: BlockFunction, inputs: Any
) -> tuple[list[Any], dict[int, uploads.Upload | None]]:
    """Returns an event's inputs with None in the place of pictures, and the pictures by index."""
    if not isinstance(inputs, (list, tuple)) or len(inputs) > len(block_fn.inputs):
        raise RequestError
    plain = list(inputs) + [None] * (len(block_fn.inputs) - len(inputs))
    pictures: dict[int, uploads.Upload | None] = {}
    for index, block in enumerate(block_fn.inputs):
        value = plain[index]
        if isinstance(block, gr.Image):
            plain[index] = pictures[index] = None
            if value is not None:
                pictures[index] = await asyncio.to_thread(uploads.read, value)
        elif not _fits(block, value):
            raise RequestError
    return plain, pictures


def _is_news(record: logging.LogRecord) -> bool:
    """Tells whether a line of the log is none of the MCP library's about a stranger's request.

    It writes dozens of lines of pydantic's for each, to the root logger.
    """
    return not str(record.msg).startswith("Failed to validate ")


def _fits(block: Any, value: Any) -> bool:
    """Tells whether an input may have a value: text or a number, or a list if it is of choices.

    No file can hide in it.
    """
    if isinstance(block, gr.Dropdown) and block.multiselect:
        return value is None or (isinstance(value, list) and all(map(_is_plain, value)))
    if isinstance(block, (gr.Number, gr.Slider)):
        return value is None or type(value) in (int, float)
    return _is_plain(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


class UncheckedServer(Server):
    """The server of the MCP library, whose tools check their arguments themselves."""

    def call_tool(self, *, validate_input: bool = False) -> Any:
        """Returns the decorator of the function that calls tools."""
        return super().call_tool(validate_input=validate_input)


class McpServer(gradio.mcp.GradioMCPServer):
    """Gradio's MCP server: its tools take pictures as data URLs and uploads, and answer in JSON."""

    Server = UncheckedServer

    def convert_strings_to_filedata(self, value: Any, filedata_positions: Any) -> Any:
        """Returns a tool's arguments with a file in the place of the text that names it.

        Raises:
            ValueError: in the visitor's words, what an argument should be.
        """
        pictures = [position[0] for position in filedata_positions]
        if (
            not isinstance(value, dict)
            or not value.keys() <= {*pictures, "model"}
            or not all(text is None or isinstance(text, str) for text in value.values())
            or not all(isinstance(value.get(name), str) for name in pictures)
        ):
            raise ValueError(word("error_mcp", LANGUAGES[0]))
        return value | {name: self._file(value[name]) for name in pictures}

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        """Returns the outputs of a tool, each as JSON."""
        del root_url  # no tool returns a file
        if len(data) == 1 and isinstance(data[0], tuple):  # several outputs, as clients get them
            data = data[0]
        texts = (json.dumps(output, ensure_ascii=False) for output in data)
        return [self.types.TextContent(type="text", text=text) for text in texts]

    def _file(self, text: str) -> dict[str, Any]:
        text = text.strip()
        if text[:5].lower() == "data:":
            try:
                file = uploads.from_data_url(text)
            except uploads.FolderFullError as error:
                raise ValueError(str(error)) from None
            except InputError:
                raise ValueError(word("error_data_url", LANGUAGES[0])) from None
            self.blocks.upload_file_set.add(file["path"])  # deleted with the others
            return file
        path = unquote(urlsplit(text).path)
        _, marked, upload = path.partition(f"{API_PREFIX}/file=")
        if not marked or not text.lower().startswith(("http://", "https://")):
            raise ValueError(word("error_mcp", LANGUAGES[0]))
        return {"path": upload}  # as good as any path that a request names: it is checked there


def is_awaited(blocks: gr.Blocks, event: str) -> bool:
    """Tells whether somebody may fetch the answer of an event, of a call through the queue."""
    queue = blocks._queue
    return (
        has_session(blocks, event)
        or event in queue.event_ids_to_events
        or any(event in events for events in queue.pending_event_ids_session.values())
    )


def has_session(blocks: gr.Blocks, session: str) -> bool:
    """Tells whether a session has asked anything through the queue."""
    return session in blocks._queue.pending_messages_per_session


def event_function(
    blocks: gr.Blocks, index: int | None, name: str | None = None
) -> BlockFunction | None:
    """Returns an event by its number or else by the name of its endpoint; None if there is none."""
    events = {key: event for key, event in blocks.fns.items() if event.fn}  # others run in the page
    if index is not None:
        return events.get(index)
    return next((event for event in events.values() if event.api_name == name), None)


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
