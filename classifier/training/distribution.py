"""Data-parallel training over devices, processes and hosts: Keras' own distribution on JAX.

Every process runs the same program on the same batches. The graph divides each batch among the
devices, and JAX sums the gradients. Random numbers belong to the whole batch, so that several
processes arrive where one does, but for rounding. The first process alone writes.

Keras reads who takes part from the environment: `KERAS_DISTRIBUTION_JOB_ADDRESSES` (host:port of
the first process), `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`. Without
them one process trains on all the devices that it has.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from classifier.errors import ClassifierError, InputError
from classifier.training.rendezvous import report, wait_for_processes

PREFIX = "KERAS_DISTRIBUTION_"
ADDRESSES, PROCESSES, NUMBER = (
    f"{PREFIX}{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)
SECONDS_TO_CONNECT = 300  # until all processes are there


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together.

    Attributes:
        processes: how many.
        number: of this one, counted from 0.
        devices: of all processes together; 0 as long as this one has not joined.
    """

    processes: int = 1
    number: int = 0
    devices: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.number == 0

    def in_words(self) -> str:
        """Returns what the line that begins a training adds of the group."""
        if not self.devices:
            return ""
        return f"; process {self.number + 1} of {self.processes}, {self.devices} devices in all"

    def join(self, batch_size: int, plan: Mapping[str, Any] | None = None) -> "ProcessGroup":
        """Joins the other processes, and distributes what is built from now on.

        Args:
            batch_size: images per step, of all processes together.
            plan: what else all processes must have in common, as JSON can hold it.

        Returns:
            The group with its devices.

        Raises:
            InputError: the processes do not agree, or the batch cannot be divided evenly among the
                devices.
            ClassifierError: the other processes cannot be reached.
        """
        import keras

        if self.processes > 1:
            self._check_agreement({"batch_size": batch_size, **(plan or {})})
            try:
                keras.distribution.initialize()
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise ClassifierError(
                    f"the {self.processes} processes did not come together ({reason}): start all "
                    f"of them with the same {ADDRESSES}"
                ) from error
        devices = len(keras.distribution.list_devices())
        if batch_size % devices:
            suggestion = max(1, round(batch_size / devices)) * devices
            raise InputError(
                f"a batch of {batch_size} images cannot be divided evenly among {devices} devices: "
                f"choose --batch-size {suggestion}"
            )
        keras.distribution.set_distribution(_divided_in_the_graph())
        return replace(self, devices=devices)

    def shard(self, batch: Any) -> Any:
        """Has each device compute its part of a batch; a rest that is uneven is computed by all.

        Args:
            batch: a tensor inside a graph, (N, …).
        """
        if self.devices < 2 or batch.shape[0] % self.devices:
            return batch
        import keras

        distribution = keras.distribution.distribution()
        return keras.distribution.distribute_tensor(
            batch,
            keras.distribution.TensorLayout(
                [distribution.batch_dim_name] + [None] * (len(batch.shape) - 1),
                distribution.device_mesh,
            ),
        )

    def check_same(self, number: int, what: str) -> None:
        """Raises `ClassifierError` if the processes do not have the same number."""
        if self.processes == 1:
            return
        import numpy as np
        from jax.experimental import multihost_utils

        numbers = multihost_utils.process_allgather(np.array(number)).ravel().tolist()
        if len(set(numbers)) > 1:
            raise ClassifierError(
                f"the processes disagree on {what} ({numbers}): give all of them the same command "
                "and an --output that they share"
            )

    def leave(self) -> None:
        """Ends the work together: from now on this process is alone."""
        if not self.devices:
            return
        import keras

        keras.distribution.set_distribution(None)
        if self.processes > 1:
            import jax
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("trained")
            jax.distributed.shutdown()

    def _check_agreement(self, plan: Mapping[str, Any]) -> None:
        """Waits until all processes are there: JAX itself would abort without a word."""
        address = os.environ[ADDRESSES].split(",")[0]
        print(
            f"Process {self.number} of {self.processes} waits at {address} for the others, at most "
            f"{SECONDS_TO_CONNECT:g} s …",
            flush=True,
        )
        call = wait_for_processes if self.is_chief else partial(report, number=self.number)
        call(address, processes=self.processes, plan=plan, seconds=SECONDS_TO_CONNECT)


ALONE = ProcessGroup()


def read_process_group() -> ProcessGroup:
    """Returns the team that the environment names; one process where it names none.

    Keras is told to compute with JAX, unless the environment names another backend.

    Raises:
        InputError: JAX is missing, Keras was told to use another backend, or the variables do not
            go together.
    """
    if importlib.util.find_spec("jax") is None:
        raise InputError("--distributed needs JAX: pip install jax -c requirements.lock")
    backend = os.environ.setdefault("KERAS_BACKEND", "jax")
    if backend != "jax":
        raise InputError(f"--distributed needs Keras on JAX, not on {backend}: KERAS_BACKEND=jax")
    given = [name for name in (ADDRESSES, PROCESSES, NUMBER) if os.environ.get(name)]
    if not given:
        return ProcessGroup()
    missing = [name for name in (ADDRESSES, PROCESSES, NUMBER) if name not in given]
    if missing:
        raise InputError(f"{' and '.join(given)} without {' and '.join(missing)}: set all three")
    try:
        processes, number = int(os.environ[PROCESSES]), int(os.environ[NUMBER])
    except ValueError:
        raise InputError(f"{PROCESSES} and {NUMBER} must be whole numbers") from None
    if not 0 <= number < processes:
        raise InputError(f"{NUMBER} must lie between 0 and {processes - 1}. Received: {number}")
    host, _, port = os.environ[ADDRESSES].split(",")[0].rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{ADDRESSES} takes HOST:PORT. Received: {os.environ[ADDRESSES]!r}")
    return ProcessGroup(processes, number)


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """What is built and computed inside belongs to this process alone."""
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _divided_in_the_graph() -> Any:
    """Returns Keras' data parallelism, with batches that arrive whole at every process.

    So random numbers, the mixing of images and the last batch of an epoch, which may be uneven, are
    what they are in one process. The price: every process reads whole batches, 3 KB an image.
    """
    import keras

    class DividedInTheGraph(keras.distribution.DataParallel):
        def get_data_layout(self, data_shape: tuple[int, ...]) -> Any:
            """Returns the layout of a tensor that every device has whole."""
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    return DividedInTheGraph(auto_shard_dataset=False)
