"""What a Hugging Face Inference Endpoint calls: published as `handler.py` beside the weights.

It needs Keras, one of its backends and Pillow, and nothing of the project that the model is from.
"""

import base64
import binascii
import importlib.util
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM")
TOP = 5  # answers, where the request names no `top_k`


class EndpointHandler:
    """Classifies one image a request.

    Example:
        >>> handler = EndpointHandler("path/to/model")  # doctest: +SKIP
        >>> handler({"inputs": open("photo.jpg", "rb").read()})  # doctest: +SKIP
        [{'label': 'castle', 'score': 0.91}, …]
    """

    def __init__(self, path: str = "") -> None:
        """Loads the model.

        Args:
            path: the folder of the repository, with `config.json` and `labels.json` in it.
        """
        # The container of an endpoint brings PyTorch, and Keras looks for TensorFlow by itself.
        there = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
        if there:
            os.environ.setdefault("KERAS_BACKEND", there[0])
        import keras

        self.model = keras.saving.load_model(path)
        labels = json.loads((Path(path) / "labels.json").read_text(encoding="utf-8"))
        self.classes: list[str] = labels["classes"]

    def __call__(self, data: Any) -> list[dict[str, Any]]:
        """Answers one request.

        Args:
            data: `{"inputs": image, "parameters": {"top_k": 5}}`, or the image alone. An image is
                the bytes of a file, the same in base64 (perhaps as a data URL), or Pillow's.

        Returns:
            `[{"label", "score"}]`, the likeliest class first; scores are probabilities.

        Raises:
            ValueError: there is no image that can be read, or `top_k` is no positive number.
        """
        request = data if isinstance(data, dict) else {"inputs": data}
        top = (request.get("parameters") or {}).get("top_k", TOP)
        if type(top) is not int or top < 1:
            raise ValueError(f"top_k must be a positive integer. Received: {top!r}")
        pixels = to_pixels(open_image(request.get("inputs")), self.model.input_shape[1])
        (scores,) = np.asarray(self.model.predict_on_batch(pixels[np.newaxis]), "float32")
        return [
            {"label": self.classes[index], "score": float(scores[index])}
            for index in scores.argsort()[::-1][:top]
        ]


def open_image(source: Any) -> Image.Image:
    """Decodes what a request holds; raises ValueError if that is no image."""
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, str):
        text = source.partition(",")[2] if source.startswith("data:") else source
        try:
            source = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("inputs is text, but no base64 of an image") from None
    if not isinstance(source, (bytes, bytearray)):
        raise ValueError("inputs must be an image: its bytes, or base64 of them")
    try:
        image: Image.Image = Image.open(io.BytesIO(source), formats=FORMATS)
        image.load()
    except Exception as error:  # whatever Pillow's readers raise for a damaged file
        raise ValueError(f"inputs is no image that can be read: {error}") from None
    return image


def to_pixels(image: Image.Image, side: int) -> np.ndarray:
    """Turns an image upright, puts it on white, and brings its middle square to the model's size.

    Returns:
        float32, (side, side, 3), RGB 0–255.
    """
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    image = image.convert("RGB")
    if image.size != (side, side):
        square = min(image.size)
        left, top = (image.width - square) // 2, (image.height - square) // 2
        image = image.crop((left, top, left + square, top + square))
        image = image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image, "float32")
