"""Validates saved Keras models before they are loaded, and loads them.

Keras's safe mode runs no code of a saved model and refuses weights that point to other files. Here
every object of the configuration must also be in an allowlist of layers that only compute, and the
weights, which ONNX Runtime's path reads without Keras, must be plain arrays inside the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.environment import import_quietly
from classifier.errors import InputError
from classifier.settings import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE

if TYPE_CHECKING:
    import h5py
    import keras


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MIN_KERAS_VERSION = "3.6.0"  # the first whose `load_model` takes hf://; tested with four backends
# Options of layers that Keras 3.15 writes and Keras 3.6 does not know, with their defaults.
NEW_DEFAULTS: dict[str, Any] = {
    "quantization_config": None,
    "input_axes": None,
    "output_axes": None,
    "optional": False,
    "rms_scaling": False,
    "synchronized": False,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "antialias": False,
}

MODELS = frozenset({"Functional", "Model", "Sequential"})
# Layers that only compute: none reads files, contains code or calls another framework.
LAYERS = _names(
    """
    InputLayer Dense Flatten Reshape Identity Activation ReLU LeakyReLU ELU Softmax
    Conv2D DepthwiseConv2D SeparableConv2D ZeroPadding2D Cropping2D UpSampling2D
    MaxPooling2D AveragePooling2D GlobalMaxPooling2D GlobalAveragePooling2D
    BatchNormalization LayerNormalization GroupNormalization Normalization Rescaling Resizing
    Dropout SpatialDropout2D GaussianNoise
    Add Subtract Multiply Average Maximum Concatenate
    RandomFlip RandomTranslation RandomRotation RandomZoom RandomContrast RandomBrightness
    """
)
OPERATIONS_MODULE = "keras.src.ops.numpy"
# What may be in a configuration: the names of each module.
ALLOWED = {
    "keras": MODELS | {"DTypePolicy"},
    **dict.fromkeys(("keras.models", "keras.src.models.functional"), MODELS),
    "keras.src.models.sequential": MODELS,
    "keras.layers": LAYERS,
    OPERATIONS_MODULE: frozenset({"Flip", "Reshape", "Mean"}),  # to average over views
    "keras.initializers": _names(
        """
        Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling
        GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
        """
    ),
    "keras.regularizers": frozenset({"L1", "L2", "L1L2"}),
    "keras.constraints": frozenset({"MaxNorm", "NonNeg", "UnitNorm"}),
    "keras.random": frozenset({"SeedGenerator"}),
    "keras.src.random.seed_generator": frozenset({"SeedGenerator"}),
    "None": frozenset({"__keras_tensor__", "__numpy__", "__tuple__", "__slice__", "__ellipsis__"}),
}
ACTIVATIONS = _names(
    """
    elu exponential gelu hard_sigmoid hard_silu leaky_relu linear log_softmax mish relu relu6 selu
    sigmoid silu softmax softplus softsign swish tanh
    """
)
MAX_PARAMETERS = 250_000_000  # 1 GB in float32
ADVICE = "only models made of Keras's own computing layers are loaded"


def check(config: dict[str, Any], weights: Path) -> None:
    """Checks a saved model, its `config.json` and the file of its weights, without loading it.

    Raises:
        InputError: an object of the configuration is not allowed, the input is not
            (None, S, S, 3), or the weights are not plain arrays inside the file.
    """
    waiting: list[Any] = [{**config, "compile_config": None}]  # which is not loaded
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class_name" in node or "registered_name" in node:
                _check_object(node)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    image_size(config)
    _check_weights(weights)


def image_size(config: dict[str, Any]) -> int:
    """Returns the side in pixels of the images that a model takes, according to `config.json`.

    Raises:
        InputError: the input is not (None, S, S, 3), or S is out of range.
    """
    try:
        layers = config["config"]["layers"]
        inputs = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
        shapes = [settings["batch_shape"] for settings in inputs]
    except (KeyError, TypeError):
        raise InputError("config.json describes no layers: save the model with Keras 3") from None
    return _image_side(shapes[0] if len(shapes) == 1 else shapes)


def load(folder: Path, *, classes: int) -> keras.Model:
    """Loads a model that `check` has accepted, uncompiled, in Keras's safe mode.

    Raises:
        InputError: Keras cannot read it, or the weights or shapes do not match.
    """
    import_quietly("keras")
    import keras

    try:
        model = keras.saving.load_model(folder, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds of errors for a file that does not match
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"Keras {keras.__version__} cannot load the model in {folder}: {reason}"
        ) from error
    # The actual shapes: the configuration may state others.
    _image_side(list(model.input_shape))
    if tuple(model.output_shape) != (None, classes):
        raise InputError(
            f"the model in {folder} must map images to (None, {classes}), as labels.json names "
            f"{classes} classes. Received: {tuple(model.output_shape)}"
        )
    return model


def for_older_keras(config: Any) -> Any:
    """Returns a `config.json`, or a part of it, as older versions of Keras 3 can read it.

    Newer options are removed if they have their defaults, and so are the repeated names of
    operations. A model that uses a newer option keeps it and needs a newer Keras.
    """
    if isinstance(config, dict):
        compatible = {
            key: for_older_keras(value)
            for key, value in config.items()
            if key not in NEW_DEFAULTS or value != NEW_DEFAULTS[key]
        }
        if config.get("module") == OPERATIONS_MODULE and isinstance(config.get("config"), dict):
            compatible["config"].pop("name", None)
        return compatible
    return [for_older_keras(item) for item in config] if isinstance(config, list) else config


def _image_side(shape: Any) -> int:
    """Returns S of an input's shape, which must be [None, S, S, 3]; else raises `InputError`."""
    side = shape[1] if isinstance(shape, list) and len(shape) == 4 else None
    if (
        type(side) is not int
        or shape != [None, side, side, 3]
        or not MIN_IMAGE_SIZE <= side <= MAX_IMAGE_SIZE
    ):
        raise InputError(
            f"the model's input must be (None, S, S, 3): RGB images of S = "
            f"{MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels. Received: {shape}"
        )
    return side


def _check_object(described: dict[str, Any]) -> None:
    """Raises InputError for an object that is not in the allowlists."""
    name, module = str(described.get("class_name")), str(described.get("module"))
    config, registered = described.get("config"), described.get("registered_name")
    if name == "function" and module in ("builtins", "keras.activations"):
        name, allowed = f"the function {config!r}", str(config) in ACTIVATIONS
    else:
        allowed = name in ALLOWED.get(module, ()) and registered in (None, name)
        name = f"{module}.{name}" if registered in (None, name) else str(registered)
    if not allowed:
        raise InputError(f"the model uses {name}: {ADVICE}")


def _check_weights(path: Path) -> None:
    """Raises InputError unless the file holds arrays of numbers alone, none too large to read."""
    import h5py

    links: list[tuple[str, Any]] = []
    try:
        with h5py.File(path, "r") as file:
            file.visititems_links(lambda name, link: links.append((name, link)))
            foreign = [
                name
                for name, link in links
                if not isinstance(link, h5py.HardLink) or not _is_plain(file[name])
            ]
    except Exception as error:  # for a damaged file h5py raises OSError, RuntimeError, KeyError …
        raise InputError(
            f"{path} is damaged or not an HDF5 file ({error}): download it again"
        ) from error
    if foreign or not links:
        reason = f"{foreign[0]!r}, which is no array of numbers in it" if foreign else "no weights"
        raise InputError(f"{path} holds {reason}: save the model again with Keras 3")


def _is_plain(item: h5py.Group | h5py.Dataset) -> bool:
    import h5py

    if isinstance(item, h5py.Group):
        return True
    inside = isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external
    # A declared size that is hardly stored would be allocated when it is read.
    return inside and item.dtype.kind in "fiubV" and item.size <= MAX_PARAMETERS
