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
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from classifier.errors import InputError

if TYPE_CHECKING:
    from classifier.training.fit import TrainingModel

ADDRESSES, WORLD_SIZE, RANK = (
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together.

    Attributes:
        world_size: their number.
        rank: the index of this process, from 0.
        devices: the number of devices of all processes; 0 before `join`.
    """

    world_size: int = 1
    rank: int = 0
    devices: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def describe(self) -> str:
        """Returns a description for the message at the start of a training; empty before `join`."""
        if not self.devices:
            return ""
        return f"; process {self.rank + 1} of {self.world_size}, {self.devices} devices in all"

    def join(self, batch_size: int) -> "ProcessGroup":
        """Connects the processes, and distributes all models that are built from now on.

        The batches are those of all processes together.

        Raises:
            InputError: a batch cannot be divided evenly among the devices.
            RuntimeError: JAX cannot reach the other processes. (After its own time-out of five
                minutes it ends the process with a message of its own.)
        """
        import keras

        if self.world_size > 1:
            print(
                f"Process {self.rank + 1} of {self.world_size} waits for the others at "
                f"{os.environ[ADDRESSES].split(',')[0]}, at most five minutes …",
                flush=True,
            )
            keras.distribution.initialize()
        devices = len(keras.distribution.list_devices())
        if batch_size % devices:
            suggestion = max(1, round(batch_size / devices)) * devices
            raise InputError(
                f"a batch of {batch_size} images cannot be divided evenly among {devices} devices: "
                f"choose --batch-size {suggestion}"
            )
        keras.distribution.set_distribution(_shard_in_graph())
        return replace(self, devices=devices)

    def check_same(self, plan: Mapping[str, Any]) -> None:
        """Raises `InputError` if a value of the plan differs between the processes."""
        if self.world_size == 1:
            return
        import numpy as np
        from jax.experimental import multihost_utils

        own = np.array([zlib.crc32(repr(value).encode()) for value in plan.values()], "uint32")
        equal = (multihost_utils.process_allgather(own) == own).all(axis=0)
        for name, same in zip(plan, equal, strict=True):
            if not same:
                raise InputError(
                    f"the processes differ in {name} (here: {plan[name]!r}): give all of them the "
                    "same command, data and --output"
                )

    def leave(self) -> None:
        """Disconnects: from now on this process is undistributed."""
        if not self.devices:
            return
        import keras

        keras.distribution.set_distribution(None)
        if self.world_size > 1:
            import jax
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("trained")
            jax.distributed.shutdown()


ALONE = ProcessGroup()


def read_process_group() -> ProcessGroup:
    """Reads the process group from the environment variables; without them it is one process.

    Sets `KERAS_BACKEND` to JAX.

    Raises:
        InputError: JAX is missing, `KERAS_BACKEND` is another backend, or a variable is missing.
        ValueError: number or index of the processes is no whole number.
    """
    if importlib.util.find_spec("jax") is None:
        raise InputError("--distributed needs JAX: pip install jax -c requirements.lock")
    backend = os.environ.setdefault("KERAS_BACKEND", "jax")
    if backend != "jax":
        raise InputError(f"--distributed needs Keras on JAX, not on {backend}: KERAS_BACKEND=jax")
    missing = {name for name in (ADDRESSES, WORLD_SIZE, RANK) if not os.environ.get(name)}
    if len(missing) == 3:
        return ProcessGroup()
    if missing:
        raise InputError(f"{' and '.join(sorted(missing))} is missing: set all three or none")
    return ProcessGroup(int(os.environ[WORLD_SIZE]), int(os.environ[RANK]))


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


def sharded_model() -> "type[TrainingModel]":
    """Returns a `TrainingModel` that shards each batch over the devices of the distribution."""
    from classifier.training.fit import TrainingModel

    class ShardedModel(TrainingModel):
        def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
            """Classifies a batch, of which each device gets a part."""
            sharded = {name: shard(value) for name, value in batch.items()}
            return super().call(sharded, training=training)

    return ShardedModel


def shard(batch: Any) -> Any:
    """Shards a tensor (N, …) over the devices; one that cannot be divided evenly is replicated."""
    import keras

    distribution = keras.distribution.distribution()
    mesh = distribution.device_mesh
    if batch.shape[0] % mesh.devices.size:
        return batch
    axes = [distribution.batch_dim_name] + [None] * (len(batch.shape) - 1)
    layout = keras.distribution.TensorLayout(axes, mesh)
    return keras.distribution.distribute_tensor(batch, layout)


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
