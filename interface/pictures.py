"""Pixels as pictures in a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def data_uri(pixels: np.ndarray) -> str:
    """Returns pixels, uint8, (H, W, 3) or (H, W, 4), as the address of an image in a page."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
