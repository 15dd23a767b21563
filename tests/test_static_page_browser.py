"""Classification in the static page, in a real headless Chromium: it answers as Python does."""

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from chromium import Open, fits, look_for_barriers
from classifier.data.images import MAX_BYTES, open_image, to_model_input
from classifier.prediction.occlusion import importance, occlude, overlay
from interface.translations import word
from model_folders import CLASSES
from pictures import bad_pictures, encoded, good_pictures, orientation, scene
from static_page.builder import RUNTIME, limits
from static_site import served

pytestmark = pytest.mark.browser
SIZE = 32
INEXACT = re.compile(r"^(grey_16\.png|large_.*\.jpg)$")  # 16 bits, or decoded at a smaller scale
FORMATS = re.compile(r"\.(tif|ppm)$")  # browsers decode neither
# Where the browser finds the fault of a file at another place than Pillow.
OTHER_REASONS = {"cut.avif": "damaged", "head_only.png": "damaged"}

DECODE = """async ([address, size, limits]) => {
    const { decode } = await import(new URL("scripts/pixels.js", document.baseURI));
    const file = await (await fetch(address)).blob();
    return decode(file, [size], limits).then(
        (pixels) => ({pixels: [...pixels[size]]}), (error) => ({error: error.code ?? String(error)})
    );
}"""
# Adds noise to what is read from a canvas, as browsers do against fingerprinting.
NOISE = """
const readExactly = OffscreenCanvasRenderingContext2D.prototype.getImageData;
OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...rectangle) {
    const image = readExactly.apply(this, rectangle);
    for (let index = 0; index < image.data.length; index += 40) image.data[index] ^= 1;
    return image;
};
"""
# Shows something of every file, as some browsers do.
LENIENT = """
self.createImageBitmap = async () => {
    const canvas = new OffscreenCanvas(200, 120);
    canvas.getContext("2d");
    return canvas.transferToImageBitmap();
};
"""

CONFIDENCE = {"threshold": 0.9, "accuracy": 0.71, "coverage": 0.12, "samples": 60}


def choose(page: Page, name: str, content: bytes) -> dict[str, str]:
    """Uploads a file; returns the attributes of the answer, once it is there."""
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("#picture input[type=file]").set_input_files(file)
    return answer(page, name)


def answer(page: Page, name: str) -> dict[str, str]:
    """Waits for the answer to a file; returns its attributes."""
    expect(page.locator("#answer")).to_have_attribute("data-file", name)
    return page.locator("#answer").evaluate("answer => ({...answer.dataset})")


def probabilities(site: Path, model: str, pixels: np.ndarray) -> np.ndarray:
    """Returns what ONNX Runtime for Python answers: (N, S, S, 3) to (N, C)."""
    (file,) = site.glob(f"models/{model}-*.onnx.gz")
    content = gzip.decompress(file.read_bytes())
    return onnxruntime.InferenceSession(content).run(None, {"images": np.float32(pixels)})[0]


def pictures() -> dict[str, bytes]:
    """Returns pictures that must be answered; browsers have the limits of the app."""
    large = scene(1401, 1203)
    lossless = {"lossless": True, "exif": orientation(6)}
    return {
        **{name: content for name, content in good_pictures().items() if len(content) <= MAX_BYTES},
        **{
            f"large_{value}.jpg": encoded(large, "JPEG", exif=orientation(value))
            for value in (1, 8)
        },
        "turned.webp": encoded(scene(301, 211), "WEBP", **lossless),
        "turned.png": encoded(scene(301, 211), "PNG", exif=orientation(7)),
        "reduced.png": encoded(large, "PNG"),
    }


def test_the_input_of_the_model_is_that_of_python(
    open_site: Open, site_address: str, site: Path
) -> None:
    page = open_site()
    files = pictures()
    page.route(
        "**/held/*",
        lambda route: route.fulfill(body=files[route.request.url.rpartition("/")[2]]),
    )
    for name, content in files.items():
        found = page.evaluate(DECODE, [f"{site_address}/held/{name}", SIZE, limits()])
        if FORMATS.search(name):
            assert found == {"error": "browser_format"}, name
            continue
        pixels = np.reshape(found["pixels"], (SIZE, SIZE, 3))
        expected = to_model_input(open_image(content), SIZE).astype(int)
        assert np.abs(pixels - expected).max() <= (2 if INEXACT.match(name) else 0), name
        if INEXACT.match(name):
            answers = probabilities(site, "tiny", np.stack([pixels, expected])).argmax(axis=1)
            assert answers[0] == answers[1], name


def test_a_damaged_file_is_refused_where_browsers_show_what_they_can_read(
    open_site: Open, site_address: str
) -> None:
    page = open_site(before=LENIENT)
    files = {form: encoded(scene(), form) for form in ("JPEG", "PNG", "GIF", "BMP")}
    files |= {f"{form}_bad": content[: len(content) * 9 // 10] for form, content in files.items()}
    files["BMP_of_a_wrong_stated_size"] = files["BMP"][:2] + b"\xff\xff\xff\x7f" + files["BMP"][6:]
    files["checksum_bad"] = bad_pictures()["broken_checksum.png"][0]
    page.route(
        "**/held/*", lambda route: route.fulfill(body=files[route.request.url.rpartition("/")[2]])
    )
    for name in files:
        found = page.evaluate(DECODE, [f"{site_address}/held/{name}", SIZE, limits()])
        assert found.get("error") == ("damaged" if name.endswith("_bad") else None), name


def test_the_probability_is_that_of_onnxruntime_in_python(open_site: Open, site: Path) -> None:
    page = open_site()
    for model, size in (("tiny", 32), ("user/large", 48)):
        page.locator(f"#model input[value='{model}']").check()
        for name in ("photo.jpg", "rgba.png", "orientation_6.jpg"):
            content = good_pictures()[name]
            found = choose(page, f"{size}-{name}", content)
            pixels = to_model_input(open_image(content), size)
            (expected,) = probabilities(site, model, pixels[None])
            assert found["model"] == model
            assert found["top1"] == CLASSES[expected.argmax()]
            assert float(found["probability"]) == pytest.approx(float(expected.max()), abs=1e-3)


def test_an_answer_has_everything_in_both_languages(open_site: Open) -> None:
    page = open_site()
    choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    expect(page.locator("#answer li")).to_have_count(5)
    expect(page.locator("#answer li .value").first).to_have_text(re.compile(r"^\d+%$"))
    expect(page.locator("#details .superclasses li")).to_have_count(2)
    expect(page.locator("#view .layer")).to_be_visible()
    expect(page.locator("#offline")).to_contain_text("works offline")
    page.locator("[data-do=others]").click()
    expect(page.locator("#others li")).to_have_count(2)
    expect(page.locator("[data-do=others]")).to_have_count(0)
    page.locator("[data-language=es]").click()
    expect(page.locator("#answer li .value").first).to_have_text(re.compile(r"^\d+\xa0%$"))
    expect(page.locator("#details h2")).to_have_text("Superclases")
    expect(page.locator("#offline")).to_contain_text("sin conexión")
    expect(page.locator("#picture-help")).to_contain_text("Sube una imagen")


def test_the_statement_of_confidence_is_that_of_the_model(open_site: Open, site: Path) -> None:
    page = open_site()
    change_data(page, lambda data: data["models"][0].update(confidence=CONFIDENCE))
    page.reload()
    found = choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    assert float(found["probability"]) < CONFIDENCE["threshold"]
    expect(page.locator("#note .unsure")).to_contain_text("The confidence is below 90%.")
    expect(page.locator("#note")).to_contain_text("71% of the predictions")
    expect(page.locator("#note")).to_contain_text("none of the 6 classes")


def change_data(page: Page, change: Callable[[dict], object]) -> None:
    """Changes what the page tells its scripts, from the next load on."""

    def changed(route: Route) -> None:
        text = route.fetch().text()
        before, rest = text.split('id="page-data">', 1)
        content, after = rest.split("</script>", 1)
        data = json.loads(content)
        change(data)
        route.fulfill(body=f'{before}id="page-data">{json.dumps(data)}</script>{after}')

    page.route(re.compile(r"/(\?.*)?$"), changed)


def test_the_occlusion_map_is_that_of_python(open_site: Open, site: Path) -> None:
    content = good_pictures()["rgba.png"]
    page = open_site()
    change_data(page, lambda data: data["models"][0].update(flops=None))  # comes when asked for
    page.reload()
    choose(page, "rgba.png", content)
    expect(page.locator("#view .layer")).to_have_count(0)
    page.locator("[data-do=map]").click()
    expect(page.locator("[data-do=map], [data-do=stop]")).to_have_count(0)
    layer = page.locator("#view .layer").evaluate(
        """async (image) => {
            await image.decode();
            const context = new OffscreenCanvas(32, 32).getContext("2d");
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, 32, 32).data];
        }"""
    )
    pixels = to_model_input(open_image(content), SIZE)
    images, masks = occlude(pixels)
    answers = probabilities(site, "tiny", np.concatenate([pixels[None], images]))
    index = answers[0].argmax()
    expected = overlay(importance(float(answers[0, index]), answers[1:, index], masks))
    found = np.reshape(layer, (SIZE, SIZE, 4)).astype(int)
    assert np.abs(found[..., 3] - expected[..., 3]).max() <= 2
    clear = expected[..., 3] > 100  # canvases round the colours of transparent pixels
    assert np.abs(found[..., :3] - expected[..., :3])[clear].max() <= 2


def test_an_occlusion_map_is_stopped(open_site: Open) -> None:
    page = open_site()
    change_data(page, lambda data: data["models"][0].update(flops=None))
    # The worker waits between two batches, so that there is time to click.
    wait = (
        "const later = globalThis.setTimeout; globalThis.setTimeout = (call) => later(call, 2000);"
    )
    patch(page, "worker.js", wait)
    page.reload()
    choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    page.locator("[data-do=map]").click()
    page.locator("[data-do=stop]").click()
    expect(page.locator("[data-do=map]")).to_be_visible()
    expect(page.locator("#view .layer")).to_have_count(0)
    choose(page, "rgb.png", good_pictures()["rgb.png"])


def test_the_last_choice_counts(open_site: Open) -> None:
    page = open_site("?level=unknown")
    page.route(
        "**/examples/lion.jpg", lambda route: page.wait_for_timeout(500) or route.continue_()
    )
    page.evaluate(
        "for (const name of ['lion', 'bus']) document.getElementById(`example-${name}`).click()"
    )
    answer(page, "bus.png")
    page.wait_for_load_state("networkidle")
    expect(page.locator("#answer")).to_have_attribute("data-file", "bus.png")
    page.locator("[data-tab-id=evaluation]").click()
    expect(page.locator("#matrix img:visible")).to_have_count(1)
    page.locator("[data-language=es]").click()
    page.go_back()  # to the first tab; the language stays
    expect(page).to_have_url(re.compile("lang=es"))
    expect(page.locator("html")).to_have_attribute("lang", "es")


def test_a_map_that_was_stopped_does_not_end_the_next(open_site: Open) -> None:
    page = open_site()
    change_data(page, lambda data: data["models"][0].update(flops=None))
    page.reload()
    choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    page.evaluate(
        "for (const name of ['map', 'stop', 'map'])"
        " document.querySelector(`#view [data-do=${name}]`).click()"
    )
    expect(page.locator("#view .layer")).to_have_count(1)
    expect(page.locator("#view [data-do]")).to_have_count(0)


def patch(page: Page, script: str, before: str) -> None:
    """Has a script of the page start with other lines."""
    page.route(
        f"**/scripts/{script}",
        lambda route: route.fulfill(
            body=before + route.fetch().text(), content_type="text/javascript"
        ),
    )


def test_a_file_that_cannot_be_used_gets_the_sentence_of_the_app(open_site: Open) -> None:
    page = open_site()
    message = page.locator("#details [role=alert]")
    for name, (content, reason) in bad_pictures().items():
        if name == "many_comments.png":  # for Pillow alone they are too many
            continue
        code = "browser_format" if FORMATS.search(name) else OTHER_REASONS.get(name, reason)
        found = choose(page, name, content)
        assert found["error"] == code, name
        assert "top1" not in found
        expect(message).to_contain_text(word(f"error_{code}", "en"))
        expect(page.locator("#answer")).to_be_empty()
    page.locator("[data-language=es]").click()
    expect(message).to_contain_text(word(f"error_{code}", "es"))
    assert "error" not in choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    expect(message).to_have_count(0)


def test_examples_pasted_and_dropped_pictures_are_answered(open_site: Open) -> None:
    page = open_site("?example=bus")
    assert answer(page, "bus.png")["model"] == "tiny"
    page.locator("#example-tower").click()
    answer(page, "tower.jpg")
    expect(page).to_have_url(re.compile("example=tower"))
    for event, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """async ([event, field]) => {
                const content = await (await fetch("examples/bus.png")).blob();
                const items = new DataTransfer();
                items.items.add(new File([content], `${event}.png`));
                const options = {bubbles: true, cancelable: true, [field]: items};
                const Event = event === "drop" ? DragEvent : ClipboardEvent;
                document.querySelector("#picture").dispatchEvent(new Event(event, options));
            }""",
            [event, field],
        )
        answer(page, f"{event}.png")
    page.locator("[data-do=remove]").click()
    expect(page.locator("#details .waiting")).to_be_visible()


def test_a_photograph_of_the_camera_is_answered(open_site: Open) -> None:
    page = open_site(
        before="""
        navigator.mediaDevices.getUserMedia = async () => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 48});
            canvas.getContext("2d").fillRect(0, 0, 30, 48);
            return canvas.captureStream(10);
        };
        """
    )
    page.locator("[data-do=camera]").click()
    page.locator("[data-do=close]").click()
    expect(page.locator("#picture video")).to_be_hidden()
    page.locator("[data-do=camera]").click()
    page.locator("[data-do=take]").click()
    assert "error" not in answer(page, "camera.png")
    expect(page.locator("#picture video")).to_be_hidden()


def test_the_page_works_offline_after_the_first_answer(browser: Browser, site: Path) -> None:
    context = browser.new_context()
    with served(site.parent) as url:
        page = context.new_page()
        page.goto(f"{url}/site/?lang=en")
        before = choose(page, "photo.jpg", good_pictures()["photo.jpg"])
        expect(page.locator("#offline")).to_contain_text("works offline")
    page.goto("about:blank")
    page.goto(f"{url}/site/index.html?lang=en")  # the server has ended
    assert choose(page, "photo.jpg", good_pictures()["photo.jpg"]) == before
    page.locator("#example-bus").click()
    assert "error" not in answer(page, "bus.png")
    page.locator("#model input[value='user/large']").check()  # was not used before
    expect(page.locator("#details [role=alert]")).to_contain_text("no connection")
    context.close()


def test_a_new_page_forgets_the_files_of_the_old_one(
    browser: Browser, site: Path, tmp_path: Path
) -> None:
    place = shutil.copytree(site, tmp_path / "site")
    kept = """async () => {
        const cache = await caches.open((await caches.keys())[0]);
        return (await cache.keys()).map(({ url }) => url);
    }"""
    with served(place) as url:
        page = browser.new_page()
        page.goto(f"{url}/?lang=en")
        choose(page, "photo.jpg", good_pictures()["photo.jpg"])
        expect(page.locator("#offline")).to_contain_text("works offline")
        assert [address for address in page.evaluate(kept) if "/models/" in address]
        index = place / "index.html"
        index.write_text(index.read_text(encoding="utf-8") + "<!-- new -->", encoding="utf-8")
        page.reload()
        expect(page.locator("#picture")).to_be_visible()
        assert not [address for address in page.evaluate(kept) if "/models/" in address]
        page.close()


def test_a_large_avif_is_read_in_the_worker(open_site: Open) -> None:
    page = open_site()
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), "AVIF", quality=95)
    assert len(content) > 100_000
    assert "error" not in choose(page, "noise.avif", content)


def test_an_answer_is_inert_until_the_next_one_is_there(open_site: Open) -> None:
    page = open_site()
    choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    page.evaluate("""() => {
        const panel = document.querySelector("#answer");
        window.seen = [];
        const note = () => window.seen.push(panel.inert);
        new MutationObserver(note).observe(panel, { attributeFilter: ["inert"] });
    }""")
    page.locator("#model input[value='user/large']").check()
    expect(page.locator("#answer")).to_have_attribute("data-model", "user/large")
    expect(page.locator("#answer")).to_have_attribute("data-file", "photo.jpg")
    assert page.evaluate("window.seen") == [True, False]


def test_nothing_is_loaded_before_the_first_touch(open_site: Open) -> None:
    page = open_site()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    assert not [url for url in asked if "/runtime/" in url or "/models/" in url]
    page.locator("#picture input[type=file]").focus()
    expect(page.locator("#loading progress")).to_have_attribute("value", re.compile("[1-9]"))
    expect(page.locator("#loading-text")).to_contain_text("MB")
    assert [url for url in asked if re.search(r"models/tiny-\w+\.onnx\.gz$", url)]


def test_a_browser_that_adds_noise_to_canvases_gets_a_sentence(open_site: Open) -> None:
    page = open_site()
    patch(page, "pixels.js", NOISE)
    page.reload()
    assert choose(page, "photo.jpg", good_pictures()["photo.jpg"])["error"] == "noisy_canvas"
    expect(page.locator("#details [role=alert]")).to_contain_text("changes the pixels")


@pytest.mark.parametrize("name", ["WebAssembly", "DecompressionStream", "OffscreenCanvas"])
def test_a_browser_that_cannot_run_the_models_gets_a_sentence(open_site: Open, name: str) -> None:
    page = open_site(before=f"delete window.{name};")
    expect(page.locator("#problem")).to_contain_text("does not run WebAssembly")
    assert choose(page, "photo.jpg", good_pictures()["photo.jpg"])["error"] == "browser"


def test_a_browser_without_storage_answers_and_says_that_it_keeps_nothing(open_site: Open) -> None:
    page = open_site(
        before="""
        for (const name of ["localStorage", "caches"]) {
            const refuse = () => { throw new DOMException("refused", "SecurityError"); };
            Object.defineProperty(window, name, {get: refuse});
        }
        """
    )
    assert "error" not in choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    expect(page.locator("#offline")).to_contain_text("stores no files")


def test_in_a_frame_that_refuses_storage_the_page_links_to_itself(
    open_site: Open, site_address: str
) -> None:
    page = open_site()
    page.route(
        "**/frame.html",
        lambda route: route.fulfill(
            body=f"<iframe src='{site_address}/' width=1200 height=900></iframe>",
            content_type="text/html",
        ),
    )
    page.add_init_script("if (window !== top) delete Navigator.prototype.serviceWorker;")
    page.goto(f"{site_address}/frame.html")
    frame = page.frame_locator("iframe")
    frame.locator("#example-bus").click()
    expect(frame.locator("#answer")).to_have_attribute("data-file", "bus.png")
    expect(frame.locator("#offline a")).to_contain_text("tab of its own")


def test_the_button_pastes_a_picture_or_gives_a_sentence(open_site: Open) -> None:
    page = open_site()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy = "(item) => navigator.clipboard.write([new ClipboardItem(item)])"
    page.evaluate(f"({copy})({{'text/plain': 'no picture'}})")
    page.locator("[data-do=paste]").click()
    expect(page.locator("#problem")).to_contain_text("no picture on the clipboard")
    page.evaluate(
        f"""async () => {{
            const canvas = new OffscreenCanvas(40, 40);
            canvas.getContext("2d").fillRect(0, 0, 20, 20);
            await ({copy})({{"image/png": await canvas.convertToBlob()}});
        }}"""
    )
    page.locator("[data-do=paste]").click()
    assert "error" not in answer(page, "clipboard.png")


def test_a_browser_without_a_camera_gets_a_sentence(open_site: Open) -> None:
    page = open_site(before="delete Navigator.prototype.mediaDevices;")
    page.locator("[data-do=camera]").click()
    expect(page.locator("#problem")).to_contain_text("There is no camera")


@pytest.mark.parametrize(
    ("language", "phone", "theme"), [("en", True, "dark"), ("es", False, "light")]
)
def test_answers_and_messages_are_accessible_and_fit(
    open_site: Open, language: str, phone: bool, theme: str
) -> None:
    page = open_site(f"?lang={language}&__theme={theme}", phone=phone)
    choose(page, "photo.jpg", good_pictures()["photo.jpg"])
    expect(page.locator("#view .layer")).to_be_visible()
    expect(page.locator("#answer h2")).to_be_in_viewport()
    fits(page)
    look_for_barriers(page, "an answer")
    choose(page, "text.jpg", bad_pictures()["text.jpg"][0])
    fits(page)
    look_for_barriers(page, "a refusal")


def test_the_page_is_used_with_the_keyboard_alone(open_site: Open) -> None:
    page = open_site()
    page.locator("#example-lion").focus()
    page.keyboard.press("Enter")
    answer(page, "lion.jpg")
    expect(page.locator("#view .layer")).to_be_visible()
    page.locator("[data-opacity]").focus()
    page.keyboard.press("End")
    expect(page).to_have_url(re.compile("opacity=100"))


def test_the_runtime_is_the_one_that_its_record_names() -> None:
    record = json.loads((RUNTIME / "runtime.json").read_text(encoding="utf-8"))
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((RUNTIME / name).read_bytes()).hexdigest() == digest
    assert f"v{record['version']}" in (RUNTIME / "ort.wasm.bundle.min.js").read_text()[:100]
    assert (RUNTIME / "LICENSE").read_text().startswith("MIT License")
