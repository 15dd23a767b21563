"""Data-parallel training over devices, processes and hosts: Keras' distribution API on JAX.

Every process runs the same program on the same batches. The graph shards each batch over the
devices, and JAX sums the gradients. Random numbers are drawn for the whole batch: any number of
processes gives the same result up to rounding. Only the first process, the chief, writes files.

Keras reads the environment variables `KERAS_DISTRIBUTION_JOB_ADDRESSES` (host:port of the chief),
`KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`. Without them one process
trains on all its devices.
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
SECONDS_TO_CONNECT = 300  # for all processes to connect


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together.

    Attributes:
        processes: their number.
        number: the index of this process, from 0.
        devices: the number of devices of all processes; 0 before `join`.
    """

    processes: int = 1
    number: int = 0
    devices: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files."""
        return self.number == 0

    def describe(self) -> str:
        """Returns a description for the message at the start of a training; empty before `join`."""
        if not self.devices:
            return ""
        return f"; process {self.number + 1} of {self.processes}, {self.devices} devices in all"

    def join(self, batch_size: int, plan: Mapping[str, Any] | None = None) -> "ProcessGroup":
        """Connects the processes, and distributes all models that are built from now on.

        Args:
            batch_size: images per step, over all processes.
            plan: further values that must be the same in all processes, as JSON.

        Returns:
            The group with its devices.

        Raises:
            InputError: the processes have different plans, or the batch cannot be divided evenly
                among the devices.
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
                    f"the {self.processes} processes could not connect ({reason}): start all "
                    f"of them with the same {ADDRESSES}"
                ) from error
        devices = len(keras.distribution.list_devices())
        if batch_size % devices:
            suggestion = max(1, round(batch_size / devices)) * devices
            raise InputError(
                f"a batch of {batch_size} images cannot be divided evenly among {devices} devices: "
                f"choose --batch-size {suggestion}"
            )
        keras.distribution.set_distribution(_shard_in_graph())
        return replace(self, devices=devices)

    def shard(self, batch: Any) -> Any:
        """Shards a batch over the devices; one that cannot be divided evenly is replicated.

        Args:
            batch: a tensor in a graph, (N, …).
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
        """Raises `ClassifierError` if a number differs between the processes."""
        if self.processes == 1:
            return
        import numpy as np
        from jax.experimental import multihost_utils

        numbers = multihost_utils.process_allgather(np.array(number)).ravel().tolist()
        if len(set(numbers)) > 1:
            raise ClassifierError(
                f"the processes have different {what} ({numbers}): give all of them the same "
                "command and a shared --output"
            )

    def leave(self) -> None:
        """Disconnects: from now on this process is undistributed."""
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
        """Waits for all processes, because JAX would abort without an error message."""
        address = os.environ[ADDRESSES].split(",")[0]
        print(
            f"Process {self.number} of {self.processes} waits for the others at {address}, at most "
            f"{SECONDS_TO_CONNECT:g} s …",
            flush=True,
        )
        call = wait_for_processes if self.is_chief else partial(report, number=self.number)
        call(address, processes=self.processes, plan=plan, seconds=SECONDS_TO_CONNECT)


ALONE = ProcessGroup()


def read_process_group() -> ProcessGroup:
    """Reads the process group from the environment variables; without them it is one process.

    Sets `KERAS_BACKEND` to JAX.

    Raises:
        InputError: JAX is missing, `KERAS_BACKEND` is another backend, or the variables are
            incomplete or invalid.
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
    """Switches the distribution off for models that are built or run inside."""
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _shard_in_graph() -> Any:
    """Returns a `DataParallel` whose batches are replicated, to be sharded in the graph.

    Random numbers, mixup and the last, possibly uneven, batch of an epoch are then the same as in
    one process. The cost: every process reads whole batches, 3 KB per image.
    """
    import keras

    class ShardedInGraph(keras.distribution.DataParallel):
        def get_data_layout(self, data_shape: tuple[int, ...]) -> Any:
            """Returns the layout of a replicated tensor."""
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    return ShardedInGraph(auto_shard_dataset=False)
