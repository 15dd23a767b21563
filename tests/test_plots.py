"""The figures: complete, legible in both themes and both languages, and drawn in any thread."""

import re
import string
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from classifier.model_folder.folder import ClassNames
from evaluation import plots, report
from evaluation.corruptions import LEVELS
from evaluation.curves import Records
from evaluation.locales import ENGLISH, LOCALES
from evaluation.themes import THEMES, Theme

SUPERCLASSES = ("fruit_and_vegetables", "household electrical devices", "trees", "vehicles 1")
NAMES = ClassNames(
    "a-data-set",
    ("apple", "clock", "maple_tree", "bus", "pear", "lamp", "oak_tree", "tram"),
    SUPERCLASSES,
    (0, 1, 2, 3, 0, 1, 2, 3),
)
HISTORY = [
    {
        "loss": 4 - 0.3 * epoch,
        "accuracy": 0.04 * epoch,
        "val_loss": 4 - 0.2 * epoch,
        "val_accuracy": 0.03 * epoch,
        "learning_rate": 0.1 / (1 + epoch),
        "seconds": 3.0,
    }
    for epoch in range(12)
]
FIGURES = [
    *("confusion_matrix", "superclass_confusion_matrix", "precision_recall", "roc"),
    *("class_histograms", "best_and_worst_classes", "most_confused_pairs", "reliability"),
    "training",
]


def predict(names: ClassNames, samples: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a middling model, (samples, C), and labels."""
    classes = len(names.classes)
    random = np.random.default_rng(11)
    labels = random.integers(0, classes, samples)
    logits = random.normal(size=(samples, classes))
    logits[np.arange(samples), labels] += 1.5
    exponentials = np.exp(1.4 * logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    return predict(NAMES)


@pytest.fixture(scope="module")
def evaluation(predictions) -> dict:
    return report.summarise(*predictions, NAMES)


def every_figure(evaluation: dict, predictions, **look) -> dict[str, Figure]:
    """All figures that the card and the app show."""
    found = Records(NAMES, evaluation, predictions, HISTORY)
    drawn = dict(plots.draw_all(found, **look))
    accuracy = {row["name"]: row["accuracy"] for row in evaluation["per_class"]}
    results = {"shift": {"levels": [0, 4, 8], "top1": {"mlp": [0.5, 0.3, 0.1], "cnn": [0.6] * 3}}}
    return {
        **drawn,
        "zoom": plots.confusion_matrix(found, [0, 2, 3], **look),
        "one class": plots.class_confusions(found, [2], **look),
        "robustness": plots.robustness_curves(results, **look),
        "differences": plots.class_differences({"a": accuracy, "b": accuracy}, "a", "b", **look),
    }


def words(figure: Figure) -> list[str]:
    """The texts of a figure as they are seen."""
    return [text.get_text() for text in visible_texts(figure)]


def visible_texts(figure: Figure) -> list[Text]:
    figure.draw_without_rendering()
    unseen = {text for axes in figure.axes for text in unseen_texts(axes)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in unseen
    ]


def unseen_texts(axes: Axes) -> list[Text]:
    """Labels of ticks that lie outside of the axes' limits, or of axes that are switched off."""
    unseen = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not (axes.axison and low - 1e-9 <= tick.get_loc() <= high + 1e-9):
                unseen += [tick.label1, tick.label2]
    return unseen


def contrast(first: str, second: str) -> float:
    """The contrast of two colours as WCAG 2 defines it, 1 to 21."""

    def luminance(colour: str) -> float:
        values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_card_gets_every_figure_as_a_sharp_png(evaluation, predictions):
    drawn = dict(plots.draw_all(Records(NAMES, evaluation, predictions, HISTORY)))
    assert list(drawn) == FIGURES
    for name, figure in drawn.items():
        content = plots.png(figure)
        path = Path(name)
        assert content.startswith(b"\x89PNG"), path
        assert len(content) < 400_000, path


@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_no_text_of_any_figure_is_cut_off(evaluation, predictions, locale):
    for name, figure in every_figure(evaluation, predictions, locale=locale).items():
        assert_no_text_is_cut_off(name, figure)


def assert_no_text_is_cut_off(name: str, figure: Figure) -> None:
    texts = visible_texts(figure)
    canvas = figure.bbox
    assert len(texts) > 2, name
    for text in texts:
        box = text.get_window_extent()
        inside = (
            box.x0 >= canvas.x0 - 1
            and box.x1 <= canvas.x1 + 1
            and box.y0 >= canvas.y0 - 1
            and box.y1 <= canvas.y1 + 1
        )
        assert inside, f"{name}: “{text.get_text()}” at {box} leaves {canvas}"


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_text_stands_out_from_the_background(theme: Theme):
    for colour in (theme.ink, theme.muted, *theme.series):
        assert contrast(colour, theme.background) >= 4.5, colour


def test_both_languages_say_the_same_things_with_the_same_figures():
    def fields(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text) if field}

    for locale in LOCALES.values():
        for key, english in ENGLISH.texts.items():
            assert fields(english) == fields(locale.texts[key]), key
            assert locale.texts[key], key


def test_every_sentence_in_the_table_is_used_and_every_one_used_is_in_the_table():
    source = "".join(path.read_text() for path in Path(plots.__file__).parent.glob("*.py"))
    quoted = {*re.findall(r'"([a-z0-9_]+)"', source), *LEVELS}
    built = {f"{kind}_{part}" for kind in quoted for part in ("axis", "note")}
    begun = tuple(re.findall(r'f"([a-z]+_)\{', source))  # the rest comes with the data
    assert {key for key in ENGLISH.texts if not key.startswith(begun)} <= quoted | built


@pytest.mark.filterwarnings("error")
def test_names_of_any_script_and_length_and_with_dollar_signs_are_drawn_as_they_are(predictions):
    odd = ClassNames("a", ("$x_1$", "$$", "a" * 120, "猫" * 120, "قط", "🐱\x01\t", "{0} %s", "___"))
    evaluation = report.summarise(*predictions, odd)
    found = Records(odd, evaluation, predictions, HISTORY)
    for name, figure in plots.draw_all(found):
        assert plots.png(figure), name
        assert not any(text.get_parse_math() for text in figure.findobj(Text)), name
        assert_no_text_is_cut_off(name, figure)
    seen = words(plots.confusion_matrix(found))
    assert {"$x 1$", "$$", "قط", "{0} %s", "___"} < set(seen)


def test_the_class_matrix_is_sorted_by_superclass_and_shows_shares_of_the_true_class(
    evaluation, predictions
):
    counts = np.array(evaluation["confusion_matrix"])
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    figure = plots.confusion_matrix(Records(NAMES, evaluation, predictions))
    shown = figure.axes[0].images[0].get_array()
    expected = counts[np.ix_(order, order)] / counts[order].sum(axis=1, keepdims=True)
    assert np.allclose(shown, expected)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == [NAMES.classes[index].replace("_", " ") for index in order]


@pytest.mark.parametrize("samples", [1, 2, 9])
def test_very_few_images_and_no_superclasses_can_be_drawn(samples):
    names = ClassNames("a", ("cat", "dog", "horse"))
    probabilities, labels = predict(names, samples)
    evaluation = report.summarise(probabilities, labels, names)
    records = Records(names, evaluation, (probabilities, labels), HISTORY[:1])
    drawn = dict(plots.draw_all(records))
    assert list(drawn) == [name for name in FIGURES if name != "superclass_confusion_matrix"]
    for name, figure in drawn.items():
        assert visible_texts(figure), name


def test_training_curves_draw_values_of_zero(evaluation, predictions):
    history = [{**row, "learning_rate": 0.0, "val_accuracy": 0.0} for row in HISTORY]
    figure = plots.training_curves(Records(NAMES, evaluation, predictions, history))
    for axes, line in ((figure.axes[0], 1), (figure.axes[2], 0)):
        assert np.array_equal(axes.lines[line].get_ydata(), np.zeros(len(HISTORY)))


def test_threads_draw_the_same_pictures_as_one_alone(evaluation, predictions):
    found = Records(NAMES, evaluation, predictions)

    def draw(_: int) -> tuple[bytes, bytes]:
        return (
            plots.png(plots.most_confused_pairs(found)),
            plots.png(plots.class_histograms(found)),
        )

    alone = draw(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(draw, range(4))) == {alone}


def test_neither_pyplot_nor_a_heavy_library_is_imported_for_figures():
    program = (
        "import sys, evaluation.plots as plots\n"
        "plots.png(plots.ablation_bars([{'name': 'cnn', 'category': '', 'top1': [0.5]}]))\n"
        "heavy = {'matplotlib.pyplot', 'tensorflow', 'keras', 'evaluate', 'sklearn', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "[]", done.stderr
