"""Uses of undocumented parts of Gradio. Tested with Gradio 6.31.0.

- `Blocks.preprocess_data` gets the inputs of every event of the page, the API and MCP. Gradio only
  checks files with its own mark (`meta`), copies them before the function is called, and downloads
  URLs. Here files are read or refused before.
- `Blocks.call_function` calls an event's function: its exceptions become messages for visitors.
- `Blocks.get_api_info` describes the endpoints; Gradio's example is a URL.
- `gradio.mcp.GradioMCPServer` passes files that a tool names to a client inside the server, which
  opens any path, and its results are Python's `repr`. Neither can
  be replaced in a documented way.
- `Block.get_config`: Gradio describes every component again for each API call.
- `Blocks.server` is uvicorn's: by default it waits for all requests at the end.

`tests/test_gradio_adapter.py` names those that an upgrade has changed.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
import gradio.mcp
from gradio.blocks import BlockFunction
from gradio.route_utils import API_PREFIX

from classifier.errors import InputError
from interface import uploads
from interface.events import LANGUAGE_INPUT, RequestError, as_error
from interface.translations import LANGUAGES, language_of, word

logger = logging.getLogger(__name__)


class CheckedBlocks(gr.Blocks):
    """A `gr.Blocks` whose events get pictures as `Upload` or None, never as a path.

    An event may have an input with the id `LANGUAGE_INPUT`, its last: the event gets it as one of
    `LANGUAGES`, and its error messages are in that language, otherwise in English.
    """

    document: Callable[[dict[str, Any]], dict[str, Any]]

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Launches with our MCP server instead of Gradio's."""
        gradio.mcp.GradioMCPServer = McpServer  # type: ignore[misc]
        logging.getLogger("mcp").setLevel(logging.ERROR)
        return super().launch(*args, **kwargs)

    def get_api_info(self, *args: Any, **kwargs: Any) -> Any:
        """Describes the endpoints, for the API page, clients and MCP."""
        return self.document(dict(super().get_api_info(*args, **kwargs)))

    async def preprocess_data(self, block_fn: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Reads the uploads that a request names, and refuses all other files."""
        try:
            plain, pictures = await _without_files(block_fn, inputs)
            processed = list(await super().preprocess_data(block_fn, plain, *args, **kwargs))
        except InputError as error:
            raise as_error(error, LANGUAGES[0]) from None
        except Exception as error:  # a malformed request
            logger.warning("refused a request: %s", " ".join(str(error).split())[:200])
            raise as_error(RequestError(), LANGUAGES[0]) from None
        for index, picture in pictures.items():
            processed[index] = picture
        return processed

    async def call_function(
        self, block_fn: Any, processed_input: list[Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Calls an event's function; its exceptions become messages for visitors."""
        try:
            return await super().call_function(block_fn, processed_input, *args, **kwargs)
        except (StopAsyncIteration, StopIteration):
            raise
        except Exception as error:
            reached = _passed(error, block_fn.fn)
            if reached and isinstance(error, gr.Error):
                raise
            known = processed_input and _is_language(block_fn.inputs[-1])
            language = processed_input[-1] if known else LANGUAGES[0]
            if not reached:  # Gradio failed on what the request says
                logger.warning("refused a request: %s", " ".join(str(error).split())[:200])
                error = RequestError()
            raise as_error(error, language) from None


async def _without_files(
    block_fn: BlockFunction, inputs: Any
) -> tuple[list[Any], dict[int, uploads.Upload | None]]:
    """Returns an event's inputs with None instead of pictures, and the pictures by index."""
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
        elif _is_language(block):
            plain[index] = language_of(value)
    return plain, pictures


def _passed(error: Exception, function: Any) -> bool:
    """Returns whether an exception was raised in a function, and not before it was called."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_language(block: Any) -> bool:
    return block.elem_id == LANGUAGE_INPUT


def _fits(block: Any, value: Any) -> bool:
    """Returns whether a value is text, a number, or a list of them for several choices."""
    if isinstance(block, gr.Dropdown) and block.multiselect:
        return value is None or (isinstance(value, list) and all(map(_is_plain, value)))
    if isinstance(block, (gr.Number, gr.Slider)):
        return value is None or type(value) in (int, float)
    return _is_plain(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


class McpServer(gradio.mcp.GradioMCPServer):
    """Gradio's MCP server: its tools take pictures as data URLs and uploads, and answer in JSON."""

    def convert_strings_to_filedata(self, value: Any, filedata_positions: Any) -> Any:
        """Returns a tool's arguments with files instead of the text that names them.

        Raises:
            ValueError: an argument is invalid; the message is for the user.
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

    async def _execute_tool_without_progress(self, job: Any) -> list[Any]:
        """Waits for an answer; Gradio's own waits in one of the threads that answer requests."""
        return [await asyncio.wrap_future(job.future)]

    def _file(self, text: str) -> dict[str, Any]:
        text = text.strip()
        if text[:5].lower() == "data:":
            try:
                file = uploads.from_data_url(text)
            except OSError:
                raise ValueError(uploads.FULL) from None
            except InputError:
                raise ValueError(word("error_data_url", LANGUAGES[0])) from None
            self.blocks.upload_file_set.add(file["path"])  # Gradio deletes it with the others
            return file
        path = unquote(urlsplit(text).path)
        _, marked, upload = path.partition(f"{API_PREFIX}/file=")
        if not marked or not text.lower().startswith(("http://", "https://")):
            raise ValueError(word("error_mcp", LANGUAGES[0]))
        return {"path": upload}  # checked by `preprocess_data`


def describe_once(blocks: gr.Blocks) -> None:
    """Caches `get_config` of the components, which do not change.

    Gradio describes all components for each new session. A call without a client is a session: it
    was half of the server's time for it.
    """
    for block in blocks.blocks.values():
        block.get_config = _described_once(block.get_config)  # type: ignore[method-assign]


def end(blocks: gr.Blocks, seconds: float, stop: Callable[[], None]) -> None:
    """Ends the server; running requests have some seconds before the models `stop`."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    blocks.app.stop_event.set()  # ends the streams of open pages
    blocks.server.should_exit = True
    blocks.server.thread.join(seconds)
    stop()  # otherwise the server would wait for requests that hang
    blocks.server.force_exit = True
    blocks.close(verbose=False)


def _described_once(describe: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    known: dict[str, Any] = {}

    def described(*arguments: Any, **options: Any) -> dict[str, Any]:
        if arguments or options:
            return describe(*arguments, **options)
        if not known:
            known.update(describe())
        return dict(known)  # sessions modify it

    return described
