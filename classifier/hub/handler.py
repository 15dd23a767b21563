"""The handler of a Hugging Face Inference Endpoint, published as `handler.py` with the weights.

It needs Keras, one of its backends and Pillow; no other file of the project.
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
JPEG_SIDE = 512  # pixels: larger JPEGs are decoded at a fraction of their size, as in the training
TOP = 5  # classes returned if the request has no `top_k`


class EndpointHandler:
    """Classifies one image per request.

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
        # The container of an endpoint has PyTorch; Keras' default is TensorFlow.
        installed = [
            name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)
        ]
        if installed:
            os.environ.setdefault("KERAS_BACKEND", installed[0])
        import keras

        self.model = keras.saving.load_model(path)
        labels = json.loads((Path(path) / "labels.json").read_text(encoding="utf-8"))
        self.classes: list[str] = labels["classes"]

    def __call__(self, data: Any) -> list[dict[str, Any]]:
        """Answers one request.

        Args:
            data: `{"inputs": image, "parameters": {"top_k": 5}}`, or only the image. An image is
                the content of a file, as bytes or base64 (also as a data URL), or a Pillow image.

        Returns:
            `[{"label", "score"}]`, the most probable class first; scores are probabilities.

        Raises:
            ValueError: there is no readable image, or `top_k` is not a positive integer.
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
    """Decodes the image of a request; raises ValueError if it is not an image."""
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, str):
        text = source.partition(",")[2] if source.startswith("data:") else source
        try:
            source = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("inputs is text, but not base64") from None
    if not isinstance(source, (bytes, bytearray)):
        raise ValueError("inputs must be an image, as bytes or base64")
    try:
        image: Image.Image = Image.open(io.BytesIO(source), formats=FORMATS)
        image.draft(None, (JPEG_SIDE, JPEG_SIDE))
        image.load()
    except Exception as error:  # Pillow's decoders can raise anything for a damaged file
        raise ValueError(f"inputs is not a readable image: {error}") from None
    return image


def to_pixels(image: Image.Image, side: int) -> np.ndarray:
    """Applies the EXIF orientation, puts transparency on white, crops the centre and resizes.

    Returns:
        float32, (side, side, 3), RGB 0–255.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16 bits; `convert` would clip them
        image = Image.fromarray(np.rint(np.asarray(image) / np.float32(257)).astype("uint8"))
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
