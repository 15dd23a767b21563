"""Training that starts from the weights of a trained model instead of random ones.

Architecture and normalisation are those of the source. Its last layer is kept where the classes are
the same, in any order, and made anew where they are others; then it can be trained alone first,
since its random weights would only spoil the others. Where the source has convolutions and the
settings dense layers of the same names, these start as the dense forms of the convolutions.
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

PRESET = "fine-tune"  # the recipe where none is named
ANOTHER = "start from a model that this version of train.py has trained"


@dataclass(frozen=True)
class Origin:
    """The model that a training starts from.

    Attributes:
        source: a Hub id or folder, as the user named it.
        name: what the records call it: the Hub id, or the name of the folder.
        revision: its commit on the Hub, None for a folder.
        folder: its model folder, checked.
    """

    source: str
    name: str
    revision: str | None
    folder: ModelFolder

    @classmethod
    def find(cls, source: str, revision: str | None = None) -> Origin:
        """Returns the model that a source names; raises what `sources.locate` raises."""
        found = locate(source, revision=revision)
        return cls(source, found.name, found.revision, found.folder)

    def adopt(self, settings: Settings, named: Collection[str]) -> Settings:
        """Returns the settings of a new training with the architecture of the source.

        Args:
            settings: of the new training.
            named: those that the user set one by one, which must not contradict the source.

        Raises:
            InputError: they do, or the source does not say how it was built.
        """
        recorded = self.folder.training.get("settings")
        recorded = recorded if isinstance(recorded, dict) else {}
        built = current_names(recorded)
        if "architecture" not in built:
            raise InputError(f"{self.source} does not say how it was built: {ANOTHER}")
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
        """Returns what a run writes down of it."""
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
            InputError: it cannot be loaded, or has other layers than the settings say.
        """
        with undistributed():  # each process reads its own
            model = self.folder.load_model()
        start = Start(self, model, untie=bool(settings.local_maps) and not settings.tied)
        start.check(settings)
        return start


class Start:
    """The weights that a training starts from.

    Attributes:
        origin: where they come from.
        mean, deviation: float32, (3,): the normalisation that they were trained with.
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
            raise self._unlike()
        config = normalisation.get_config()
        self.mean = np.asarray(config["mean"], "float32").reshape(3)
        self.deviation = np.sqrt(np.asarray(config["variance"], "float32")).reshape(3)

    def check(self, settings: Settings) -> None:
        """Refuses settings of layers that the source has not, before anything that large is built.

        Raises:
            InputError: its `training.json` states layers wider or more than its weights are.
        """
        widest = max((size for a in self._arrays() for size in a.shape), default=0)
        widths = (
            *{"mlp": settings.hidden_units, "cnn": settings.channels}.get(
                settings.architecture, (settings.width * settings.expansion, settings.local_units)
            ),
        )
        counts = (settings.depth, *map(len, (settings.hidden_units, settings.channels)))
        if max(widths) > widest or max(counts) > len(self._weights):
            raise self._unlike()

    def give_weights(self, network: keras.Model, classes: tuple[str, ...]) -> bool:
        """Sets a new network's weights to those of the source.

        Args:
            network: from `build_network`, with the settings that the source was built with.
            classes: of the new training.

        Returns:
            Whether the last layer was left as it is, since the classes are others. The same classes
            in another order are no others: the weights are put in the new order.

        Raises:
            InputError: the source has other layers.
        """
        from classifier.architectures import LAST_LAYER

        before = self.origin.folder.labels.classes
        new_classes = sorted(classes) != sorted(before)
        layers = {layer.name: layer for layer in network.layers if layer.weights}
        if layers.keys() != {name for name, weights in self._weights.items() if weights}:
            raise self._unlike()
        if new_classes:
            del layers[LAST_LAYER]
        for name, layer in layers.items():
            weights = self._weights[name]
            if [x.shape for x in weights] != [tuple(x.shape) for x in layer.weights]:
                raise self._unlike()
            if name == LAST_LAYER:
                order = [before.index(one) for one in classes]
                weights = [array[..., order] for array in weights]
            layer.set_weights(weights)
        return new_classes

    def _arrays(self) -> list[np.ndarray]:
        return [array for weights in self._weights.values() for array in weights]

    def _unlike(self) -> InputError:
        return InputError(f"{self.origin.source} has other layers than its settings say: {ANOTHER}")


def train_last_layer(
    network: keras.Model, settings: Settings, fit: Callable[[Settings], RunState]
) -> RunState:
    """Trains the last layer for `freeze_epochs` at a constant learning rate; the others stay.

    Args:
        network: with trained weights in all other layers.
        settings: of the whole training.
        fit: trains the network by the settings that it is given.
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
