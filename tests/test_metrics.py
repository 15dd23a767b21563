"""The figures and their `evaluate` modules: they load offline and agree with scikit-learn."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
)

from classifier.model_folder.folder import ClassNames
from evaluation.metrics import METRICS as TABLE
from evaluation.metrics import Predictions

ROOT = Path(__file__).parent.parent
METRICS = ROOT / "evaluation" / "metrics"
NAMES = sorted(path.name for path in METRICS.iterdir() if (path / f"{path.name}.py").exists())
CLASSES = 12


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (600, 12) that are right more often than not, and labels."""
    random = np.random.default_rng(7)
    labels = random.integers(0, CLASSES, 600)
    logits = random.normal(size=(600, CLASSES))
    logits[np.arange(600), labels] += random.normal(2, 1, 600)
    exponentials = np.exp(1.5 * logits)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32), labels


def load(name: str) -> evaluate.Metric:
    """The module as anyone would load it."""
    return evaluate.load(str(METRICS / name))


def test_every_module_loads_in_an_empty_home_without_a_network_and_is_one_call(tmp_path):
    assert len(NAMES) == 7
    program = (
        "import evaluate\n"
        f"for name in {NAMES}:\n"
        f"    metric = evaluate.load({str(METRICS)!r} + '/' + name)\n"
        "    assert isinstance(metric, evaluate.Metric) and metric.description, name\n"
        "    print(name)\n"
    )
    nowhere = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == NAMES
    for name in NAMES:
        assert len((METRICS / name / f"{name}.py").read_text().splitlines()) <= 25, name


def test_balanced_accuracy_is_stated_if_classes_differ_by_more_than_a_fifth(predictions):
    probabilities, labels = predictions
    names = ClassNames("a", tuple(map(str, range(CLASSES))))
    equal = np.concatenate([np.flatnonzero(labels == label)[:30] for label in range(CLASSES)])
    for fewer, stated in ((0, False), (6, False), (7, True)):
        chosen = equal[fewer:]  # of the first class
        found = Predictions(probabilities[chosen], labels[chosen], names)
        balanced = TABLE["balanced_accuracy"].compute(found)
        expected = balanced_accuracy_score(found.labels, found.answers)
        assert balanced == (pytest.approx(expected) if stated else None)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_in_a_modules_description_is_true(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    description = load(name).inputs_description
    examples = doctest.DocTestParser().get_doctest(description, {"evaluate": evaluate}, name, "", 0)
    assert examples.examples
    complaints: list[str] = []
    doctest.DocTestRunner().run(examples, out=complaints.append)
    assert not complaints, "".join(complaints)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_what_its_definition_says_image_by_image(predictions, bins):
    probabilities, labels = predictions
    groups: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities.astype(float), labels, strict=True):
        confidence = max(row)
        # The bin of index i is (i / bins, (i + 1) / bins].
        place = int(np.ceil(confidence * bins)) - 1
        groups.setdefault(place, []).append((confidence, int(np.argmax(row)) == label))
    expected = sum(
        len(group)
        / len(labels)
        * abs(np.mean([sure for sure, _ in group]) - np.mean([right for _, right in group]))
        for group in groups.values()
    )
    ours = load("expected_calibration_error").compute(
        predictions=probabilities, references=labels, bins=bins
    )
    assert ours["expected_calibration_error"] == pytest.approx(expected, abs=1e-9)


def test_a_class_without_samples_has_no_figures_and_does_not_count_in_the_averages(predictions):
    probabilities, labels = predictions
    keep = labels != 4
    probabilities, labels = probabilities[keep], labels[keep]
    ranked = load("average_precision").compute(predictions=probabilities, references=labels)
    area = load("roc_auc").compute(predictions=probabilities, references=labels)
    counted = load("precision_recall_f1").compute(
        predictions=probabilities.argmax(axis=1), references=labels, classes=CLASSES
    )
    assert (probabilities.argmax(axis=1) == 4).any(), "the class must be predicted now and then"
    for values, macro in (
        (ranked["average_precision"], ranked["macro_average_precision"]),
        (area["roc_auc"], area["macro_roc_auc"]),
        (counted["precision"], counted["macro_precision"]),
        (counted["recall"], counted["macro_recall"]),
        (counted["f1"], counted["macro_f1"]),
    ):
        assert [index for index, value in enumerate(values) if value is None] == [4]
        assert macro == pytest.approx(np.mean([value for value in values if value is not None]))
