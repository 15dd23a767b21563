"""What a visitor may do to a picture to try the models: shift, turn and blur it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from classifier.settings import DEFAULT_IMAGE_SIZE

MAX_SHIFT, MAX_TURN, MAX_BLUR = 12.0, 180.0, 4.0  # pixels of 32, degrees, pixels of 32


@dataclass(frozen=True)
class Disturbance:
    """A shift in pixels of 32, a turn in degrees and the radius of a blur in pixels of 32."""

    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0
    blur: float = 0.0

    @classmethod
    def of(cls, right: object, down: object, turn: object, blur: object) -> "Disturbance":
        """Returns what a request asks for, within bounds; what is no number counts as nothing."""
        return cls(
            _bounded(right, MAX_SHIFT),
            _bounded(down, MAX_SHIFT),
            _bounded(turn, MAX_TURN),
            max(_bounded(blur, MAX_BLUR), 0.0),
        )

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Disturbs a picture, uint8, (S, S, 3); what comes in from outside has its mean colour.

        Without a disturbance the pixels come back as they are.
        """
        if self == Disturbance():
            return pixels
        scale = len(pixels) / DEFAULT_IMAGE_SIZE
        mean = tuple(int(value) for value in pixels.reshape(-1, 3).mean(axis=0).round())
        image = Image.fromarray(pixels).rotate(
            -self.turn,
            Image.Resampling.BICUBIC,
            translate=(round(self.right * scale), round(self.down * scale)),
            fillcolor=mean,
        )
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur * scale))
        return np.asarray(image)


def _bounded(value: object, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return 0.0
    return float(min(max(value, -limit), limit))
