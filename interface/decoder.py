"""Decodes pictures in separate processes: one that hangs only affects its own request."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from classifier.data.images import ImageError, open_image, to_model_input, too_costly
from classifier.errors import ClassifierError
from interface.uploads import Upload

PROCESSES = 2  # for two cores
SECONDS = 12.0  # several times the duration for the largest accepted picture
# Additional memory for decoding: with the 60 MB of each process at its start, all stay below 1 GB.
# 50 megapixels with transparency need 400 MB, with floats 1.5 GB; malicious metadata could use all
# memory of the machine.
MEMORY = 430 * 2**20
SECONDS_TO_START = 60.0  # of a process, on a busy machine


class Decoder:
    """Decodes pictures with a time limit; a process that exceeds it is killed and replaced."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        """Creates the decoder; processes are started by `start` or the first pictures."""
        self.seconds, self.memory = seconds, memory
        self._threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="decode")
        self._own = threading.local()  # each thread has a process
        self._running: set[_Process] = set()
        self._stopped = False

    def start(self) -> None:
        """Starts the first process in the background."""
        self._threads.submit(self._process)

    async def decode(self, upload: Upload, sizes: Iterable[int]) -> dict[int, np.ndarray]:
        """Returns the model input of each size S: uint8, (S, S, 3); the picture is decoded once.

        Raises:
            ImageError: the picture cannot be used, or decoding takes too long.
        """
        if not isinstance(upload, Upload):
            raise TypeError("only uploads from `uploads.read` are decoded")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._decode, upload.content, tuple(sizes))

    def stop(self) -> None:
        """Kills the processes."""
        self._stopped = True
        for process in list(self._running):
            process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _process(self) -> _Process:
        if self._stopped:
            raise ClassifierError("the app is ending")
        process = getattr(self._own, "process", None)
        if process is None or not process.is_alive():
            process = self._own.process = _Process(self.memory)
            self._running.add(process)
            if self._stopped:  # meanwhile
                process.kill()
        return process

    def _decode(self, content: bytes, sizes: tuple[int, ...]) -> dict[int, np.ndarray]:
        process = self._process()
        for _ in range(2):
            # Sending blocks too if the process does not read: killing it ends both.
            deadline = threading.Timer(self.seconds, process.kill)
            deadline.daemon = True
            deadline.start()
            try:
                return process.decode(content, sizes)
            except (EOFError, OSError):
                self._running.discard(process)
                if process.killed:  # by the timer
                    raise too_costly() from None
                self._own.process = None  # it may still be reported as alive for a moment
                process = self._process()  # it was killed from outside: try again in a new one
            finally:
                deadline.cancel()
        raise ImageError("damaged", "the picture crashes the decoder")


class _Process:
    """A process that decodes one picture at a time."""

    def __init__(self, memory: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, memory), daemon=True)
        self._process.start()
        theirs.close()
        self.killed = False
        if not self._connection.poll(SECONDS_TO_START):  # "ready", after all imports
            self.kill()
            raise ClassifierError("the process that decodes pictures does not start")
        with contextlib.suppress(EOFError):  # it has ended: `decode` will fail
            self._connection.recv()

    def is_alive(self) -> bool:
        return not self.killed and self._process.is_alive()

    def kill(self) -> None:
        self.killed = True
        self._process.kill()

    def decode(self, content: bytes, sizes: tuple[int, ...]) -> dict[int, np.ndarray]:
        self._connection.send((content, sizes))
        answer = self._connection.recv()
        if isinstance(answer, dict):
            return answer
        raise ImageError(*answer)


def _serve(connection: Connection, memory: int) -> None:
    """Runs in the process: receives pictures, sends pixels or errors, until the app ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # Pillow's, about metadata
    _limit_memory(memory)
    with contextlib.suppress(EOFError, OSError):
        connection.send("ready")
        while True:
            content, sizes = connection.recv()
            answer: dict[int, np.ndarray] | tuple[str, str]
            try:
                picture = open_image(content)
                answer = {size: to_model_input(picture, size) for size in sizes}
            except ImageError as error:
                answer = (error.reason, str(error))
            except MemoryError:
                answer = (too_costly().reason, str(too_costly()))
            except Exception:  # the decoder fails
                answer = ("damaged", "the picture is corrupt or truncated: choose another file")
            connection.send(answer)
    os._exit(0)


def _limit_memory(allowed: int) -> None:
    """Limits the memory of this process, if the operating system supports it."""
    with contextlib.suppress(OSError, ValueError):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = in_use + allowed
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY or hard > limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
