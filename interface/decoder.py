"""Pictures are decoded in processes of their own: one that gets stuck costs its request alone."""

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

# Pictures that are decoded at a time: more would only wait for the same two cores.
AT_A_TIME = 2
# Several times as long as the largest picture takes that is accepted.
SECONDS = 12.0
# What decoding may take above the 60 MB that a process has at its start, so that all of them stay
# below 1 GB. 50 megapixels with transparency take 400 MB, of floats 1.5 GB; the metadata of a
# hostile file would take all that the machine has.
MEMORY = 430 * 2**20
SECONDS_TO_START = 60.0  # a process, on a machine that is busy with everything else


class Decoder:
    """Decodes pictures under a deadline; a process that misses it is killed and replaced."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        """Starts nothing yet: the first picture or `start` does."""
        self.seconds, self.memory = seconds, memory
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="decode")
        self._own = threading.local()  # each thread has a process
        self._running: set[_Process] = set()
        self._stopped = False

    def start(self) -> None:
        """Has the first process started, so that the first picture need not wait for it."""
        self._threads.submit(self._process)

    async def decode(self, upload: Upload, sizes: Iterable[int]) -> dict[int, np.ndarray]:
        """Decodes a picture once, and returns what models of each size S see: uint8, (S, S, 3).

        Raises:
            ImageError: the picture cannot be used, or not in time.
        """
        if not isinstance(upload, Upload):
            raise TypeError("only what `uploads.read` gives is decoded")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._decode, upload.content, tuple(sizes))

    def stop(self) -> None:
        """Ends the processes, whatever they are at."""
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
            # Also sending waits for a process that does not listen: killed, it ends both.
            deadline = threading.Timer(self.seconds, process.kill)
            deadline.daemon = True
            deadline.start()
            try:
                return process.decode(content, sizes)
            except (EOFError, OSError):
                self._running.discard(process)
                if process.killed:  # it has had its time
                    raise too_costly() from None
                self._own.process = None  # the system may call it alive for a moment yet
                process = self._process()  # somebody else ended it: once more, in a new one
            finally:
                deadline.cancel()
        raise ImageError("damaged", "the picture ends whatever decodes it")


class _Process:
    """A process that decodes one picture at a time."""

    def __init__(self, memory: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, memory), daemon=True)
        self._process.start()
        theirs.close()
        self.killed = False
        if not self._connection.poll(SECONDS_TO_START):  # it says that it has imported everything
            self.kill()
            raise ClassifierError("the process that decodes pictures does not start")
        with contextlib.suppress(EOFError):  # it has ended: the first picture will tell
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
    """What the process does: picture in, pixels or a refusal out, until the app is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what Pillow thinks of a visitor's metadata is no news
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
            except Exception:  # a picture that the decoder's own code trips over
                answer = ("damaged", "the picture is damaged or cut off: choose another file")
            connection.send(answer)
    os._exit(0)


def _limit_memory(allowed: int) -> None:
    """Bounds the memory of this process, where the system can: then the picture is refused."""
    with contextlib.suppress(OSError, ValueError):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = in_use + allowed
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY or hard > most:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
