"""Fine-tuning: training that starts from the weights of a trained model.

Architecture and normalisation are those of the initial model. If the classes are the same, in any
order, its last layer is kept; otherwise the last layer is new and can be trained alone first, so
that its random weights do not damage the others. If the initial model has convolutions and the
settings have dense layers of the same names, these start as the equivalent dense layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.errors import InputError
from classifier.hub.sources import locate
from classifier.model_folder.folder import ModelFolder
from classifier.settings import ARCHITECTURE, Settings, current_names
from classifier.training.distribution import undistributed

if TYPE_CHECKING:
    import keras

    from classifier.training.checkpoints import RunState

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
        """Finds the model of a source; raises what `sources.locate` raises."""
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
        recorded = self.folder.training.get("settings")
        recorded = recorded if isinstance(recorded, dict) else {}
        built = current_names(recorded)
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

    def load(self, settings: Settings) -> Start:
        """Loads the model.

        Args:
            settings: of the new training, as `adopt` returns them.

        Raises:
            InputError: it cannot be loaded, or its layers do not match the settings.
        """
        with undistributed():  # each process loads the whole model
            model = self.folder.load_model()
        start = Start(self, model, untie=bool(settings.local_maps) and not settings.tied)
        start.check(settings)
        return start


class Start:
    """The initial weights.

    Attributes:
        origin: their model.
        mean, deviation: float32, (3,): its normalisation.
    """

    def __init__(self, origin: Origin, model: keras.Model, *, untie: bool = False) -> None:
        import keras

        from classifier.architectures import NORMALISATION
        from classifier.architectures.tied_start import dense_form

        self.origin = origin
        self._weights = {
            layer.name: dense_form(layer)
            if untie and isinstance(layer, keras.layers.Conv2D)
            else layer.get_weights()
            for layer in model.layers
        }
        normalisation = next((x for x in model.layers if x.name == NORMALISATION), None)
        if not isinstance(normalisation, keras.layers.Normalization):
            raise self._mismatch()
        config = normalisation.get_config()
        self.mean = np.asarray(config["mean"], "float32").reshape(3)
        self.deviation = np.sqrt(np.asarray(config["variance"], "float32")).reshape(3)

    def check(self, settings: Settings) -> None:
        """Raises `InputError` if the settings state more or wider layers than the weights have.

        A damaged or malicious `training.json` must not make `build_network` allocate all memory.
        """
        arrays = [array for weights in self._weights.values() for array in weights]
        widest = max((size for array in arrays for size in array.shape), default=0)
        widths = (
            *{"mlp": settings.hidden_units, "cnn": settings.channels}.get(
                settings.architecture, (settings.width * settings.expansion, settings.local_units)
            ),
        )
        counts = (settings.depth, *map(len, (settings.hidden_units, settings.channels)))
        if max(widths) > widest or max(counts) > len(self._weights):
            raise self._mismatch()

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
        """
        from classifier.architectures import LAST_LAYER

        before = self.origin.folder.labels.classes
        new_classes = sorted(classes) != sorted(before)
        layers = {layer.name: layer for layer in network.layers if layer.weights}
        if layers.keys() != {name for name, weights in self._weights.items() if weights}:
            raise self._mismatch()
        if new_classes:
            del layers[LAST_LAYER]
        for name, layer in layers.items():
            weights = self._weights[name]
            if [x.shape for x in weights] != [tuple(x.shape) for x in layer.weights]:
                raise self._mismatch()
            if name == LAST_LAYER:
                order = [before.index(name) for name in classes]
                weights = [array[..., order] for array in weights]
            layer.set_weights(weights)
        return new_classes

    def _mismatch(self) -> InputError:
        return InputError(f"{self.origin.source} has other layers than its settings: {ADVICE}")


def train_last_layer(
    network: keras.Model, settings: Settings, fit: Callable[[Settings], RunState]
) -> RunState:
    """Trains the last layer for `freeze_epochs` at a constant learning rate; freezes the others.

    Args:
        network: with trained weights in all other layers.
        settings: of the whole training.
        fit: trains the network with the settings that it gets.
    """
    from classifier.architectures import LAST_LAYER

    for layer in network.layers:
        layer.trainable = layer.name == LAST_LAYER
    try:
        return fit(
            settings.replace(
                epochs=settings.freeze_epochs,
                schedule="constant",
                early_stopping_patience=0,
            )
        )
    finally:
        for layer in network.layers:
            layer.trainable = True
