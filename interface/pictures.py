"""Pixels as data URLs, and a photograph."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
from PIL import Image

from classifier.data.images import open_image, to_model_input

PHOTOGRAPH = "lion.jpg"  # part of Gradio


@cache
def photograph() -> np.ndarray:
    """Returns the photograph at 32×32 pixels: uint8, (32, 32, 3)."""
    import gradio as gr  # slow, and not needed by the processes that draw

    return to_model_input(open_image(gr.get_image(PHOTOGRAPH)))


def data_uri(pixels: np.ndarray) -> str:
    """Returns pixels, uint8, (H, W, 3) or (H, W, 4), as a data URL of a PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
