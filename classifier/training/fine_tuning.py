"""Fine-tuning: training that starts from the weights of a trained model.

Architecture and normalisation are those of the initial model. If the classes are the same, in any
order, its last layer is kept; otherwise the last layer is new and can be trained alone first, so
that its random weights do not damage the others. If the initial model has convolutions and the
settings have dense layers of the same names, these start as the equivalent dense layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import InputError
from classifier.hub.sources import locate
from classifier.model_folder.folder import ModelFolder
from classifier.presets import ARCHITECTURE
from classifier.settings import Settings
from classifier.training.distribution import undistributed

if TYPE_CHECKING:
    import keras

PRESET = "fine-tune"  # the default of --preset with --init-from
ADVICE = "start from a model that this version of train.py has trained"


@dataclass(frozen=True)
class Origin:
    """The initial model.

    Attributes:
        source: the Hub id or folder, as given by the user.
        name: the Hub id, or the name of the folder, for the records.
        revision: its commit on the Hub, None for a folder.
        folder: its model folder, checked.
    """

    source: str
    name: str
    revision: str | None
    folder: ModelFolder

    @classmethod
    def find(cls, source: str, revision: str | None = None) -> Origin:
        """Finds the model of a source; arguments and errors are those of `locate`."""
        found = locate(source, revision=revision)
        return cls(source, found.name, found.revision, found.folder)

    def adopt(self, settings: Settings, named: Collection[str]) -> Settings:
        """Returns the settings with the architecture of the initial model.

        Args:
            settings: of the new training.
            named: the names of settings that the user gave; they must not contradict the model.

        Raises:
            InputError: they do, or the model has no record of its architecture.
        """
        built = self.folder.training.get("settings") or {}
        if "architecture" not in built:
            raise InputError(f"{self.source} does not record its architecture: {ADVICE}")
        built = {name: built[name] for name in ARCHITECTURE if name in built}
        stored = Settings().replace(**{**built, "image_size": self.folder.image_size})
        adopted = {name: getattr(stored, name) for name in ARCHITECTURE}
        for name in ARCHITECTURE:
            if name in named and getattr(settings, name) != adopted[name]:
                raise InputError(
                    f"{self.source} has {name} {stored.to_dict()[name]!r}, not "
                    f"{settings.to_dict()[name]!r}: leave {name} out, or start from another model"
                )
        return settings.replace(**adopted)

    def to_dict(self) -> dict[str, Any]:
        """Returns the record of the run."""
        return {
            "source": self.source,
            "name": self.name,
            "revision": self.revision,
            "wall_seconds": self.folder.training.get("wall_seconds"),
        }


class InitialWeights:
    """The weights of the initial model.

    Args:
        origin: the model.
        settings: of the new training, as `Origin.adopt` returns them.

    Attributes:
        mean, deviation: float32, (3,): the model's normalisation.

    Raises:
        InputError: the model cannot be loaded.
    """

    def __init__(self, origin: Origin, settings: Settings) -> None:
        import keras

        from classifier.architectures import NORMALISATION
        from classifier.architectures.tied_start import dense_form

        self.origin = origin
        with undistributed():  # each process loads the whole model
            model = origin.folder.load_model()
        untie = settings.local_maps and not settings.tied
        self._weights = {
            layer.name: dense_form(layer)
            if untie and isinstance(layer, keras.layers.Conv2D)
            else layer.get_weights()
            for layer in model.layers
        }
        config = model.get_layer(NORMALISATION).get_config()
        self.mean = np.asarray(config["mean"], "float32").reshape(3)
        self.deviation = np.sqrt(np.asarray(config["variance"], "float32")).reshape(3)

    def give_weights(self, network: keras.Model, classes: tuple[str, ...]) -> bool:
        """Copies the weights into a network.

        Args:
            network: from `build_network`, with the architecture of the initial model.
            classes: of the new training.

        Returns:
            Whether the last layer is new, because the classes are different. If only their order
            is different, the weights of the last layer are reordered.

        Raises:
            InputError: the initial model has other layers.
            ValueError: a layer has another size.
        """
        from classifier.architectures import LAST_LAYER

        before = self.origin.folder.labels.classes
        new_classes = sorted(classes) != sorted(before)
        layers = {layer.name: layer for layer in network.layers if layer.weights}
        if layers.keys() != {name for name, weights in self._weights.items() if weights}:
            raise InputError(f"{self.origin.source} has other layers than its settings: {ADVICE}")
        if new_classes:
            del layers[LAST_LAYER]
        for name, layer in layers.items():
            weights = self._weights[name]
            if name == LAST_LAYER:
                order = [before.index(name) for name in classes]
                weights = [array[..., order] for array in weights]
            layer.set_weights(weights)
        return new_classes


class Start:
    """The start of a fine-tuning, which is kept in the folder of the run: it is resumed from there.

    Args:
        record: the entry `init_from` of `run.json`.
        file: where the initial weights of the network are kept, `….weights.h5`.
        settings: of the training.

    Attributes:
        record: with `mean`, `deviation` and, after `initialise`, `new_layer`.
        mean, deviation: float32, (3,): the normalisation of the initial model.

    Raises:
        InputError: the initial model cannot be loaded.
    """

    def __init__(self, record: dict[str, Any], file: Path, settings: Settings) -> None:
        self.record, self.file = record, file
        self._weights: InitialWeights | None = None
        if "new_layer" not in record:  # not resumed
            origin = Origin.find(str(record["source"]), record["revision"])
            self._weights = InitialWeights(origin, settings)
            statistics = {"mean": self._weights.mean, "deviation": self._weights.deviation}
            self.record |= {name: value.tolist() for name, value in statistics.items()}
        self.mean = np.asarray(self.record["mean"], "float32")
        self.deviation = np.asarray(self.record["deviation"], "float32")

    def initialise(self, network: keras.Model, classes: tuple[str, ...], *, write: bool) -> None:
        """Gives the network its initial weights, and keeps them if `write`."""
        if self._weights is None:
            network.load_weights(self.file)
        else:
            self.record["new_layer"] = self._weights.give_weights(network, classes)
            if write:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                network.save_weights(self.file)

    @property
    def source(self) -> str:
        """The initial model, as the user named it."""
        return str(self.record["source"])

    @property
    def new_layer(self) -> bool:
        """Whether the last layer has new weights, for other classes."""
        return bool(self.record["new_layer"])


def last_layer_settings(settings: Settings) -> Settings:
    """Returns the settings of the first epochs, in which the new last layer is trained alone."""
    return settings.replace(
        epochs=settings.freeze_epochs, schedule="constant", early_stopping_patience=0
    )


@contextlib.contextmanager
def last_layer_only(network: keras.Model) -> Iterator[None]:
    """Freezes all layers but the last while a training runs inside."""
    from classifier.architectures import LAST_LAYER

    for layer in network.layers:
        layer.trainable = layer.name == LAST_LAYER
    try:
        yield
    finally:
        for layer in network.layers:
            layer.trainable = True
