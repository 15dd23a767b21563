"""Fine-tuning: training that starts from the weights of a trained model.

Architecture and normalisation are those of the initial model. If the classes are the same, in any
order, its last layer is kept; otherwise the last layer is new and can be trained alone first, so
that its random weights do not damage the others. If the initial model has convolutions and the
settings have dense layers of the same names, these start as the equivalent dense layers.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.data.class_names import match_classes
from classifier.errors import InputError
from classifier.hub.sources import locate
from classifier.presets import ARCHITECTURE_SETTINGS
from classifier.provenance import training_seconds
from classifier.settings import Settings
from classifier.training.distribution import undistributed

if TYPE_CHECKING:
    import keras

PRESET = "fine-tune"  # the default of --preset with --init-from
ADVICE = "start from a model that this version of train.py has trained"


def adopt(
    source: str, settings: Settings, named: Collection[str]
) -> tuple[Settings, dict[str, Any]]:
    """Returns the settings with the architecture of an initial model, and the record of the model.

    Args:
        source: the initial model, as for `locate`.
        settings: of the new training.
        named: the names of settings that the user gave; they must not contradict the model.

    Returns:
        The settings; and the entry `init_from` of `run.json`: the `source`, its `name` for the
        records, its commit on the Hub (`revision`, else None), and how long its training took.

    Raises:
        InputError: the model cannot be found, has no record of its architecture, or a setting
            contradicts it.
    """
    found = locate(source)
    training = found.folder.training
    built = training.get("settings") or {}
    if "architecture" not in built:
        raise InputError(f"{source} does not record its architecture: {ADVICE}")
    built = {name: built[name] for name in ARCHITECTURE_SETTINGS if name in built}
    stored = Settings().replace(**{**built, "image_size": found.folder.image_size})
    for name in ARCHITECTURE_SETTINGS:
        if name in named and getattr(settings, name) != getattr(stored, name):
            raise InputError(
                f"{source} has {name} {stored.to_dict()[name]!r}, not "
                f"{settings.to_dict()[name]!r}: leave {name} out, or start from another model"
            )
    record = {
        "source": source,
        "name": found.name,
        "revision": found.revision,
        "wall_seconds": training_seconds(training),
    }
    return settings.replace(
        **{name: getattr(stored, name) for name in ARCHITECTURE_SETTINGS}
    ), record


class InitialModel:
    """The model that a fine-tuning starts from; the folder of the run keeps what it needs of it.

    Args:
        record: the entry `init_from` of `run.json`, from `adopt`.
        file: where the initial weights of the network are kept, `….weights.h5`.
        settings: of the training, from `adopt`.

    Attributes:
        record: with `mean`, `deviation` and, after `initialise`, `new_layer`.
        mean, deviation: float32, (3,): the normalisation of the initial model.
        new_layer: whether the last layer has new weights, for other classes; after `initialise`.

    Raises:
        InputError: the initial model cannot be loaded.
    """

    def __init__(self, record: dict[str, Any], file: Path, settings: Settings) -> None:
        self.record, self.file = record, file
        self.new_layer = bool(record.get("new_layer"))
        self._weights: dict[str, list[np.ndarray]] = {}
        self._classes: tuple[str, ...] = ()
        if "new_layer" not in record:  # not resumed
            self._load(settings)
        self.mean = np.asarray(record["mean"], "float32")
        self.deviation = np.asarray(record["deviation"], "float32")

    def initialise(self, network: keras.Model, classes: tuple[str, ...]) -> None:
        """Gives a network of the initial model's architecture its weights.

        The last layer has new weights if the classes are others; if only their order is another
        one, its weights are reordered.

        Raises:
            InputError: the initial model has other layers.
            ValueError: a layer has another size.
        """
        from classifier.architectures import LAST_LAYER

        if not self._weights:
            network.load_weights(self.file)
            return
        known = match_classes(classes, self._classes)
        order = [index for index in known if index is not None]
        self.new_layer = not len(known) == len(order) == len(self._classes)
        self.record["new_layer"] = self.new_layer
        layers = {layer.name: layer for layer in network.layers if layer.weights}
        if layers.keys() != {name for name, weights in self._weights.items() if weights}:
            source = self.record["source"]
            raise InputError(f"{source} has other layers than its settings: {ADVICE}")
        for name, layer in layers.items():
            if name != LAST_LAYER:
                layer.set_weights(self._weights[name])
            elif not self.new_layer:
                layer.set_weights([array[..., order] for array in self._weights[name]])

    def keep(self, network: keras.Model) -> None:
        """Saves the initial weights of a network, unless they come from the file."""
        if self._weights:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                network.save_weights(self.file)
            except BaseException:  # a new run needs an empty folder
                shutil.rmtree(self.file.parent)
                raise

    def _load(self, settings: Settings) -> None:
        import keras

        from classifier.architectures import NORMALISATION
        from classifier.architectures.tied_start import dense_form
        from classifier.architectures.views import networks_of

        folder = locate(self.record["source"], revision=self.record["revision"]).folder
        self._classes = folder.labels.classes
        with undistributed():  # each process loads the whole model
            model = networks_of(folder.load_model())[0]  # of a committee the first
        untie = settings.local_maps and not settings.tied
        self._weights = {
            layer.name: dense_form(layer)
            if untie and isinstance(layer, keras.layers.Conv2D)
            else layer.get_weights()
            for layer in model.layers
        }
        config = model.get_layer(NORMALISATION).get_config()
        mean, variance = (np.ravel(np.float32(config[name])) for name in ("mean", "variance"))
        self.record |= {"mean": mean.tolist(), "deviation": np.sqrt(variance).tolist()}


def last_layer_settings(settings: Settings) -> Settings:
    """Returns the settings of the first epochs, in which the new last layer is trained alone."""
    epochs = settings.freeze_epochs
    return settings.replace(epochs=epochs, schedule="constant", early_stopping_patience=0)


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
