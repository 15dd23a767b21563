"""The settings of a training, one a line: type and range, name, default, meaning and unit.

The tables below it name what can be chosen; command line, checks and model card follow them.
"""

import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from classifier.errors import InputError

DEFAULT_IMAGE_SIZE = 32  # pixels of a side; CIFAR's
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 8, 256
SEEDED = ("network", "augmentation", "views")
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2  # YAML can repeat a list in lists a billion times
shorten = _SHORT.repr


class Choice(NamedTuple):
    """A description for the model card, Keras' class, and its arguments by the settings."""

    text: str
    class_name: str = ""
    options: Callable[..., dict[str, Any]] = lambda *_: {}


ARCHITECTURES = {  # each a module in classifier/architectures
    "mlp": "a plain multilayer perceptron",
    "residual_mlp": "dense layers with residual connections",
    "local_mlp": "dense layers with residual connections behind local ones",
    "cnn": "a small convolutional network",
}


def _cosine_decay(settings: "Settings", steps_per_epoch: int) -> dict[str, Any]:
    """Linear increase from zero over the warm-up, then cosine decay to the final rate."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    return {
        "initial_learning_rate": 0.0 if warmup else settings.learning_rate,
        "decay_steps": max(1, settings.epochs * steps_per_epoch - warmup),
        "warmup_target": settings.learning_rate if warmup else None,
        "warmup_steps": warmup,
        "alpha": settings.final_rate,
    }


OPTIMIZERS = {  # classes of keras.optimizers
    "sgd": Choice(
        "SGD with Nesterov momentum", "SGD", lambda s: {"momentum": s.momentum, "nesterov": True}
    ),
    "adamw": Choice("AdamW", "AdamW", lambda s: {"weight_decay": s.weight_decay}),
    "lion": Choice("Lion", "Lion", lambda s: {"weight_decay": s.weight_decay}),
}
SCHEDULES = {  # classes of keras.optimizers.schedules; plateau is a callback
    "plateau": Choice("a learning rate that is reduced when the validation loss stagnates"),
    "cosine": Choice("cosine decay of the learning rate", "CosineDecay", _cosine_decay),
    "constant": Choice("a constant learning rate"),
}
AUGMENTATIONS = {  # settings of classifier/training/augmentation.py that are off at their default
    "crop_area": "random crop",
    "crop_aspect": "random crop",
    "flip": "horizontal flip",
    "shift": "shift",
    "rotation": "rotation",
    "brightness": "brightness",
    "contrast": "contrast",
    "noise": "Gaussian noise",
    "erasing": "random erasing",
    "cutmix": "CutMix",
    "mixup": "mixup",
}


def _one_of(names: Iterable[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            known = ", ".join(names)
            raise PydanticCustomError("choice", "Input should be one of {names}", {"names": known})
        return value

    return AfterValidator(check)


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value if type(value) is tuple else (value,)


ImageSize = Annotated[int, Field(ge=MIN_IMAGE_SIZE, le=MAX_IMAGE_SIZE)]
Count = Annotated[int, Field(gt=0, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
Sizes = Annotated[tuple[Count, ...], BeforeValidator(_to_tuple), Field(min_length=1)]
SizesOrEmpty = Annotated[tuple[Count, ...], BeforeValidator(_to_tuple)]
Positive = Annotated[float, Field(gt=0, le=1e30)]  # float32 ends at 3.4e38
Number = Annotated[float, Field(ge=0, le=1e30)]
Share = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """All settings of a training; lengths in "pixels of 32" are scaled with `image_size`.

    Raises:
        InputError: a name is unknown, or a value has the wrong type or is outside its range.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    preset: Annotated[str, Field(pattern=r"^\w[^/\\\x00-\x1f]{0,99}$")] = "custom"
    image_size: ImageSize = DEFAULT_IMAGE_SIZE  # pixels of a side, to which images are resized

    # Network
    architecture: Annotated[str, _one_of(ARCHITECTURES)] = "mlp"
    hidden_units: Sizes = (1024, 512, 256)  # mlp: width of each hidden layer
    dropout: Share = 0.0  # dropout rate after each hidden layer
    l2: Number = 0.0  # L2 regularisation factor (Dense and Conv2D kernels, not local ones)
    width: Count = 512  # residual_mlp: units between the blocks
    depth: Count = 6  # residual_mlp: number of blocks
    expansion: Count = 4  # residual_mlp: units inside a block, as a multiple of width
    local_units: CountOrZero = 0  # local_mlp: units of each layer with local weights
    local_patches: Sizes = (9,)  # local_mlp, pixels of 32: side of the initial receptive fields
    local_filters: Literal["random", "patches"] = "random"  # local_mlp: whitened image patches
    local_maps: SizesOrEmpty = ()  # local_mlp: side of the feature map of each local layer
    tied: bool = False  # local_mlp: share the weights of a map: convolutions
    channels: Sizes = (32, 64, 128, 256)  # cnn: filters of each stage

    # Optimisation
    optimizer: Annotated[str, _one_of(OPTIMIZERS)] = "sgd"
    learning_rate: Positive = 0.01  # maximum of the schedule
    momentum: Share = 0.9  # sgd only
    weight_decay: Number = 0.0  # decoupled; adamw and lion only
    prune_threshold: Number = 0.0  # in learning rates, of local weights: training/pruning.py
    clip_norm: Number = 0.0  # gradient clipping by global norm; 0: off
    ema_momentum: Share = 0.0  # exponential moving average of the weights, which is used; 0: off
    label_smoothing: Share = 0.0  # share of the target spread over all classes, unweighted
    class_weight: Literal["none", "balanced"] = "none"  # weight labels by their class's frequency
    class_weight_power: Probability = 1.0  # of the inverse frequency; 0.5: its square root
    batch_size: Count = 128  # images per step
    epochs: Count = 40  # maximum number of epochs
    freeze_epochs: CountOrZero = 0  # with --init-from: first epochs, of the new last layer alone
    schedule: Annotated[str, _one_of(SCHEDULES)] = "plateau"
    warmup_epochs: Number = 0.0  # cosine: linear increase from zero over the first epochs
    final_rate: Share = 0.0  # cosine: the last learning rate, as a share of the maximum
    plateau_patience: CountOrZero = 3  # epochs without a better val_loss before a reduction
    plateau_factor: PositiveShare = 0.3  # the rate is multiplied by this
    early_stopping_patience: CountOrZero = 0  # epochs without a better val_loss; 0: off

    # Augmentation of the training images, in the graph
    flip: Probability = 0.0  # probability of a horizontal flip
    crop_area: Annotated[float, Field(ge=0.05, le=1)] = 1.0  # smallest share of the image
    crop_aspect: Annotated[float, Field(ge=1, le=4)] = 1.0  # largest aspect ratio of a crop
    shift: Annotated[int, Field(ge=0, le=DEFAULT_IMAGE_SIZE)] = 0  # maximum, in pixels of 32
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0  # maximum, in degrees
    brightness: Number = 0.0  # maximum change, as a share of the full scale
    contrast: Number = 0.0  # maximum relative change of the contrast
    noise: Annotated[float, Field(ge=0, le=255)] = 0.0  # highest standard deviation
    erasing: Probability = 0.0  # probability of random erasing
    cutmix: Probability = 0.0  # probability of CutMix
    mixup: Number = 0.0  # alpha of the Beta distribution of mixup; 0: off
    mixup_probability: Probability = 1.0  # share of the batches with mixup

    # Knowledge distillation: a trained model's predictions for augmented images as targets
    teacher: str = ""  # a model folder or Hub id; empty: no distillation
    distillation_weight: Probability = 0.9  # weight of the teacher's predictions in the targets
    distillation_temperature: Positive = 1.0  # softens the teacher's probabilities
    distillation_views: Count = 20  # augmented views of each image, predicted once

    # Data, number format, calibration and export
    validation_fraction: PositiveShare = 0.1  # share of the training split used for validation
    seed: CountOrZero = 0  # of weights, validation images, order, augmentation and dropout
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # bfloat16 where in hardware
    calibrate: bool = True  # temperature scaling: training/calibration.py
    tta_flip: bool = False  # average the predictions for the image and its horizontal flip
    tta_zoom: Annotated[float, Field(ge=0.3, le=1)] = 1.0  # and for a center crop of this side
    tta_corners: Annotated[float, Field(ge=0.3, le=1)] = 1.0  # and for four corner crops of it
    average_teacher: bool = False  # average with the predictions of the teacher, in one model
    store_half: bool = False  # store the weights as float16 (they load as float32)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as refused:
            error = refused.errors()[0]
            name, message = str(error["loc"][0]), error["msg"].split(" should ", 1)[-1]
            message = "be a setting" if error["type"] == "extra_forbidden" else message
            raise InputError(f"{name} must {message}. Received: {shorten(values[name])}") from None
        if bool(self.local_units) != (self.architecture == "local_mlp"):
            raise InputError("local_units go with architecture: local_mlp, and it needs them")
        if self.average_teacher and not self.teacher:
            raise InputError("average_teacher needs a teacher: name it")

    def replace(self, **changes: Any) -> "Settings":
        """Returns these settings with some changed."""
        return Settings(**{**dict(self), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings in types that JSON and YAML support."""
        return self.model_dump(mode="json")

    def seeds(self, use: str) -> Iterator[int]:
        """Yields independent seeds without end, for one of `SEEDED`; the same each time."""
        sequence = np.random.SeedSequence(self.seed).spawn(len(SEEDED))[SEEDED.index(use)]
        while True:
            yield int(sequence.spawn(1)[0].generate_state(1)[0])
