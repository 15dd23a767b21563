"""Live evaluation on the *Evaluation* tab: the served model classifies test images again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from interface.evaluated_images import EvaluatedImages, ImagesMissingError
from interface.events import INSTANT, WITH_LANGUAGE, as_error
from interface.markup import fill, heading, line
from interface.serving import Models, Served
from interface.translations import locale, static_texts, word

MIN_IMAGES, MAX_IMAGES, DEFAULT_IMAGES = 100, 10_000, 2000  # images
BATCH_SIZE = 50  # images; a visitor's picture waits for at most one batch


@dataclass(frozen=True)
class Progress:
    """The progress of a live evaluation.

    Attributes:
        done: images classified.
        total: images to classify.
        right: correct predictions.
        same: predictions of the same class as in the stored predictions.
    """

    done: int
    total: int
    right: int = 0
    same: int = 0


def build(models: Models, images: EvaluatedImages, model: gr.Radio, language: gr.Textbox) -> None:
    """Lays out the panel and its events."""
    text = static_texts()
    with gr.Group(elem_classes="panel"):
        heading("rerun", "rerun_note")
        with gr.Row(elem_classes="controls"):
            count = gr.Slider(
                MIN_IMAGES,
                MAX_IMAGES,
                DEFAULT_IMAGES,
                step=100,
                label=text("rerun_count"),
                elem_id="rerun-count",
            )
            with gr.Row(elem_classes="buttons"):
                start = gr.Button(text("rerun_start"), variant="primary", elem_id="rerun-start")
                stop = gr.Button(text("rerun_stop"), interactive=False, elem_id="rerun-stop")
        result = gr.HTML("", elem_id="rerun")

    async def run(name: str, count: int, language: str) -> AsyncIterator[tuple[Any, ...]]:
        served = models.get(name)
        off, on = gr.Button(interactive=False), gr.Button(interactive=True)
        progress = Progress(0, 0)
        try:
            yield line("rerun_fetching", language), off, on
            async for progress in evaluate(models, images, served, int(count or DEFAULT_IMAGES)):
                yield render(served, progress, language), gr.skip(), gr.skip()
        except ImagesMissingError as error:
            yield line(f"images_{error.reason}", language, dataset=error.dataset), on, off
        except Exception as error:
            yield render(served, progress, language, stopped=True), on, off
            raise as_error(error, language) from None
        else:
            yield gr.skip(), on, off

    running = start.click(
        run,
        [model, count, language],
        [result, start, stop],
        js=WITH_LANGUAGE,
        preprocess=False,
        show_progress="minimal",
        concurrency_limit=1,  # two at once would be no faster
        concurrency_id="rerun",
        api_visibility="private",
    )

    def end() -> tuple[gr.Button, gr.Button]:
        return gr.Button(interactive=True), gr.Button(interactive=False)

    ended: dict[str, Any] = {"cancels": running, "show_progress": "hidden", **INSTANT}
    stop.click(end, None, [start, stop], **ended)
    model.change(lambda: ("", *end()), None, [result, start, stop], **ended)


async def evaluate(
    models: Models, images: EvaluatedImages, served: Served, count: int
) -> AsyncIterator[Progress]:
    """Classifies a stratified subset in batches; other visitors' requests are answered in between.

    Raises:
        ImagesMissingError: the images are not available.
        UnknownModelError: the model has been replaced by another revision.
    """
    from evaluation.samples import stratified_subset, to_float16

    pixels = await images.load(served)
    assert served.predictions is not None  # checked by `images.load`
    probabilities, labels = served.predictions
    chosen = stratified_subset(labels, min(max(count, MIN_IMAGES), MAX_IMAGES))
    progress = Progress(0, len(chosen))
    yield progress
    for start in range(0, len(chosen), BATCH_SIZE):
        part = chosen[start : start + BATCH_SIZE]
        answers = await models.probabilities(np.asarray(pixels[part]), served.name, served.key)
        classes = to_float16(answers).argmax(axis=1)
        progress = Progress(
            progress.done + len(part),
            len(chosen),
            progress.right + int((classes == labels[part]).sum()),
            progress.same + int((classes == probabilities[part].argmax(axis=1)).sum()),
        )
        yield progress


def render(served: Served, progress: Progress, language: str, *, stopped: bool = False) -> str:
    """Returns the progress of a live evaluation and the published accuracy as HTML."""
    from evaluation.report import top1_interval

    done, total = locale(language).number(progress.done), locale(language).number(progress.total)
    ended = progress.done == progress.total
    key = "rerun_done" if ended else "rerun_stopped" if stopped else "rerun_running"
    tiles, same, published = [], "", served.evaluation
    if progress.done:
        now, interval = progress.right / progress.done, top1_interval(progress.right, progress.done)
        tiles.append(_tile("rerun_now", now, interval, language))
        same = word("rerun_same", language, same=locale(language).number(progress.same), done=done)
    if published is not None:
        top1, interval = published["top1"], published["top1_interval"]
        tiles.append(_tile("rerun_published", top1, interval, language))
    state = word(key, language, done=done, total=total)
    return fill("rerun", language, progress=progress, line=state, tiles=tiles, same=same)


def _tile(key: str, share: float, interval: list[float], language: str) -> tuple[str, ...]:
    low, high = (locale(language).percent(value) for value in interval)
    note = word("tile_top1_note", language, low=low, high=high)
    return "", word(key, language), locale(language).percent(share), note
