"""Builds the static page: a folder of plain files that classify pictures in the browser."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageOps

from classifier.data import images, preprocessing
from classifier.data.image_formats import IMAGE_FORMATS
from classifier.errors import InputError
from classifier.formats.onnx_graph import write_onnx
from classifier.hub.pulling import ResolvedModel
from classifier.prediction.confidence import Confidence
from evaluation.themes import DARK, LIGHT
from interface import classify
from interface.drawing import FigureCache
from interface.serving import Models, Served
from interface.theme import COLOURS, CSS_FILE
from interface.translations import LANGUAGES, locale, texts_of
from interface.uploads import examples
from static_page import tabs
from static_page.frozen import freeze

ROOM = Path(__file__).parent
SCRIPTS, RUNTIME = ROOM / "scripts", ROOM / "runtime"
SERVICE_WORKER = "service_worker.js"  # at the top: it controls the pages of its own folder
# What a page consists of at the top level: only a folder of nothing else is replaced by a new page.
CONTENTS = {"index.html", "style.css", "noscript.css", SERVICE_WORKER}
CONTENTS |= {"comparison", "downloads", "examples", "figures", "models", "runtime"}
CONTENTS |= {"scripts", "tabs"}
PAGE_DATA = 'id="page-data"'  # in its index.html
COMPRESSION = 6  # the highest, 9, takes twice as long for 1% less
THUMBNAIL = 160  # pixels, of the examples on their buttons; screens of phones show 80 of them


def build_site(models: Sequence[ResolvedModel], folder: Path) -> None:
    """Writes the static page of some models.

    Args:
        models: the default first.
        folder: a new or an empty folder. After an error it is incomplete.

    Raises:
        InputError: a model has a layer that is not translated to ONNX, or the name of another.
    """
    served = [Served(**vars(found)) for found in models]
    names = [model.name for model in served]
    if len(set(names)) < len(names):
        raise InputError(f"two models have the same name: rename one. Received: {', '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = Models(served, figures=FigureCache(niceness=0))
    code = sorted([*SCRIPTS.glob("*.js"), *RUNTIME.glob("*.json")])
    try:
        pictures = write_examples(folder)
        data = {
            "scripts": hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest(),
            "models": [describe(model, folder, export(model, folder)) for model in served],
            "shown": classify.SHOWN,
            "shown_superclasses": classify.SHOWN_SUPERCLASSES,
            "examples": pictures,
            "limits": limits(),
            "heads": tabs.heads(catalogue),
            "texts": {code: texts_of(code) for code in LANGUAGES},
        }
        copy_scripts(folder)
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        pages = tabs.render_all(catalogue, pictures, text.replace("<", "\\u003c"))
        freeze(catalogue, pages, folder)
    finally:
        catalogue.stop()


def export(model: Served, folder: Path) -> Path:
    """Writes a model as half-precision ONNX in gzip, named by its content, which it determines."""
    path = folder / "models" / f"{model.name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_onnx(model.folder, path, half=True)
    except InputError as error:
        raise InputError(f"{model.name} cannot become a static page: {error}") from error
    content = gzip.compress(path.read_bytes(), COMPRESSION, mtime=0)
    path.unlink()
    packed = path.with_name(f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}.onnx.gz")
    packed.write_bytes(content)
    return packed


def describe(model: Served, folder: Path, packed: Path) -> dict[str, Any]:
    """Returns what the scripts know of a model; they find its file by address and size."""
    labels = model.labels
    groups = labels.superclasses or ()
    confidence = Confidence.read(model.training.get("confidence"))
    return {
        "name": model.name,
        "url": quote(packed.relative_to(folder).as_posix()),
        "bytes": packed.stat().st_size,
        "image_size": model.image_size,
        "classes": labels.classes,
        "superclasses": labels.superclasses,
        "superclass_of": labels.superclass_of,
        "names": {code: [*map(locale(code).name, labels.classes)] for code in LANGUAGES},
        "superclass_names": {code: [*map(locale(code).name, groups)] for code in LANGUAGES},
        "top1": model.top1,
        "flops": model.training.get("flops_per_image"),
        "confidence": confidence and asdict(confidence),
    }


def write_examples(folder: Path) -> list[dict[str, str]]:
    """Copies the example photographs, and writes a small version of each for its button."""
    place = folder / "examples"
    (place / "small").mkdir(parents=True)
    described = []
    for path in dict.fromkeys(examples().values()):
        shutil.copyfile(path, place / path.name)
        small = place / "small" / f"{path.stem}.jpg"
        with Image.open(path) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (THUMBNAIL, THUMBNAIL))
            square.save(small, quality=80)
        address, thumbnail = (
            file.relative_to(folder).as_posix() for file in (place / path.name, small)
        )
        described.append({"name": path.stem, "url": address, "thumbnail": thumbnail})
    return described


def copy_scripts(folder: Path) -> None:
    """Copies the scripts and the runtime, and writes the style sheet."""
    (folder / SCRIPTS.name).mkdir()
    for path in sorted(SCRIPTS.glob("*.js")):
        place = folder if path.name == SERVICE_WORKER else folder / SCRIPTS.name
        shutil.copyfile(path, place / path.name)
    if RUNTIME.is_dir():
        shutil.copytree(RUNTIME, folder / RUNTIME.name)
    shutil.copyfile(ROOM / "noscript.css", folder / "noscript.css")
    sheets = (CSS_FILE, ROOM / "static_page.css")
    rules = [theme_variables(), *(path.read_text(encoding="utf-8") for path in sheets)]
    (folder / "style.css").write_text("\n".join(rules), encoding="utf-8")


def theme_variables() -> str:
    """Returns the colours of theme and figures as CSS variables, those of Gradio by its names."""
    rules = []
    for place, (selector, theme) in enumerate((("body", LIGHT), (".dark", DARK))):
        named = {name.replace("_", "-"): both[place] for name, both in COLOURS.items()}
        named |= {f"series-{order}": colour for order, colour in enumerate(theme.series, 1)}
        named |= {f"ramp-{order}": colour for order, colour in enumerate(theme.ramp)}
        lines = (f"--{name}: {colour};" for name, colour in named.items())
        rules.append(f"{selector} {{ {' '.join(lines)} }}")
    return "\n".join(rules)


def limits() -> dict[str, Any]:
    """Returns the limits on pictures, how their files begin, and the settings of the resizing."""
    return {
        "max_bytes": images.UPLOADS.bytes,
        "max_pixels": images.UPLOADS.pixels,
        "max_aspect": images.MAX_ASPECT,
        "starts": {known.name: known.start for known in IMAGE_FORMATS},
        "jpeg_side": preprocessing.JPEG_SIDE,
        "reducing_gap": preprocessing.REDUCING_GAP,
    }
