"""The handler of a Hugging Face Inference Endpoint, published as `handler.py` with the weights.

It needs Keras, one of its backends and Pillow.
"""

import base64
import binascii
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# In the published file, the code of these modules stands here.
from classifier.data.preprocessing import load_pixels, read_header, to_model_input
from classifier.model_folder.folder import TOP  # classes returned without `top_k`


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
        installed = [*filter(importlib.util.find_spec, ("tensorflow", "jax", "torch"))]
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
        return load_pixels(read_header(bytes(source)))
    except Exception as error:  # Pillow's decoders can raise anything for a damaged file
        raise ValueError(f"inputs is not a readable image: {error}") from None


def to_pixels(image: Image.Image, side: int) -> np.ndarray:
    """Applies the EXIF orientation, puts transparency on white, crops the centre and resizes.

    Returns:
        float32, (side, side, 3), RGB 0–255.
    """
    return to_model_input(image, side).astype("float32")
