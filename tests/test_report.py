"""The report: every figure of `evaluation.json`, and what makes it honest."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from classifier.data.loading import find_duplicates, load_split
from classifier.errors import InputError
from classifier.model_folder.folder import ClassNames, ModelFolder
from evaluation import curves, report
from evaluation.samples import stratified_subset, to_float16

NAMES = ClassNames(
    "a-data-set",
    ("apple", "bear", "maple_tree", "oak_tree", "bus", "tram"),
    ("fruit", "animals", "trees", "vehicles"),
    (0, 1, 2, 2, 3, 3),
)
FIELDS = [  # of the contract
    *("split", "samples", "top1", "top1_interval", "top5", "superclass_top1", "loss"),
    *("macro_precision", "macro_recall", "macro_f1", "macro_average_precision", "macro_roc_auc"),
    *("expected_calibration_error", "per_class", "best_classes", "worst_classes"),
    *("most_confused", "confusion_matrix"),
]
CLASS_FIELDS = [
    *("name", "support", "accuracy", "precision", "recall", "f1", "average_precision", "roc_auc"),
]


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (500, 6) of a model that is right about every other time, and labels."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 6, 500)
    logits = random.normal(size=(500, 6))
    logits[np.arange(500), labels] += 1.2
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="module")
def evaluation(predictions) -> dict:
    return report.summarise(*predictions, NAMES, duplicates=[1, 5, 8])


def test_the_report_has_every_field_of_the_contract(evaluation):
    assert set(FIELDS) <= set(evaluation)
    assert [row["name"] for row in evaluation["per_class"]] == list(NAMES.classes)
    assert all(list(row) == CLASS_FIELDS for row in evaluation["per_class"])


def test_the_figures_are_those_that_scikit_learn_finds_in_the_stored_predictions(
    evaluation, predictions
):
    probabilities, labels = predictions
    stored = probabilities.astype(np.float16).astype(np.float64)
    answers = stored.argmax(axis=1)
    one_hot = np.eye(6, dtype=int)[labels]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, answers, average="macro"
    )
    groups = np.array(NAMES.superclass_of)
    expected = {
        "top1": metrics.accuracy_score(labels, answers),
        "top5": metrics.top_k_accuracy_score(labels, stored, k=5),
        "superclass_top1": metrics.accuracy_score(groups[labels], groups[answers]),
        "loss": -np.log(stored[np.arange(500), labels]).mean(),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "macro_average_precision": metrics.average_precision_score(one_hot, stored),
        "macro_roc_auc": metrics.roc_auc_score(one_hot, stored),
    }
    assert {name: evaluation[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert evaluation["confusion_matrix"] == metrics.confusion_matrix(labels, answers).tolist()


def test_the_embedded_models_figures_follow_from_their_predictions():
    folder = ModelFolder(Path(__file__).parent.parent / "pretrained" / "mlp")
    stored = folder.evaluation
    again = report.summarise(
        *folder.predictions(),
        folder.labels,
        split=stored["split"],
        duplicates=stored["duplicate_indices"],
    )
    assert again == {name: stored.get(name) for name in again}


def test_storing_predictions_never_changes_the_models_answer():
    close = np.array([[0.30000001, 0.30000004, 0.39999995], [0.4, 0.40000004, 0.19999996]])
    many = np.random.default_rng(0).dirichlet(np.full(40, 50.0), 4000)  # almost level
    for probabilities in (close, many.astype(np.float32)):
        kept = to_float16(probabilities)
        assert kept.dtype == np.float16
        assert (kept.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        assert np.abs(kept - probabilities).max() < 0.0005
        assert (to_float16(kept) == kept).all()
    plain = many.astype(np.float16).argmax(axis=1)
    assert (plain != many.argmax(axis=1)).any(), "plain rounding must matter in this example"


def test_a_class_without_images_has_null_figures_and_the_file_is_strict_json(predictions):
    probabilities, labels = predictions
    keep = labels != 2
    evaluation = report.summarise(probabilities[keep], labels[keep], NAMES)
    text = report.as_json(evaluation)
    again = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert again == evaluation
    absent = again["per_class"][2]
    assert absent == {**dict.fromkeys(CLASS_FIELDS), "name": "maple_tree", "support": 0}
    present = [row for row in again["per_class"] if row["support"]]
    for field in ("precision", "recall", "f1", "average_precision", "roc_auc"):
        mean = np.mean([row[field] for row in present])
        assert again[f"macro_{field}"] == pytest.approx(mean, abs=1e-6)
    assert "maple_tree" not in again["best_classes"] + again["worst_classes"]


def test_top1_without_duplicates_leaves_them_out(evaluation, predictions):
    probabilities, labels = predictions
    right = np.delete(probabilities.argmax(axis=1) == labels, [1, 5, 8])
    assert evaluation["duplicates"] == 3
    assert evaluation["duplicate_indices"] == [1, 5, 8]
    assert evaluation["top1_without_duplicates"] == pytest.approx(right.mean(), abs=1e-6)
    uncounted = report.summarise(probabilities, labels, NAMES)
    assert uncounted["duplicates"] is None
    assert uncounted["top1_without_duplicates"] is None


def test_duplicates_are_found_byte_for_byte_and_not_when_nearly_the_same():
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    training = images[[4, 9, 9, 20]].copy()
    training[3, 0, 0, 0] ^= 1
    assert find_duplicates(images, training).tolist() == [4, 9]


@pytest.mark.slow
def test_ten_test_images_of_cifar100_are_training_images(cifar100_folder):
    test = load_split(str(cifar100_folder), "test")
    training = load_split(str(cifar100_folder), "train")
    assert len(find_duplicates(test.images, training.images)) == 10


def test_a_subset_keeps_the_proportions_of_the_classes_and_is_always_the_same():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    chosen = stratified_subset(labels, 100)
    assert np.bincount(labels[chosen]).tolist() == [60, 30, 10]
    assert (np.diff(chosen) > 0).all()
    assert (stratified_subset(labels, 100) == chosen).all()
    assert (chosen != np.arange(100)).any()
    assert np.bincount(labels[stratified_subset(labels, 10)]).tolist() == [6, 3, 1]
    assert (stratified_subset(labels, None) == np.arange(1000)).all()
    assert (stratified_subset(labels, 5000) == np.arange(1000)).all()
    with pytest.raises(InputError, match="at least 1"):
        stratified_subset(labels, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y: (p[:, :4], y), "shape"),
        (lambda p, y: (p[:0], y[:0]), "at least one"),
        (lambda p, y: (np.where(p > 0.5, np.nan, p), y), "finite"),
        (lambda p, y: (p, y + 1), "0 to 5"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_with_one_line(predictions, change, message):
    with pytest.raises(InputError, match=message) as refusal:
        report.summarise(*change(*predictions), NAMES)
    assert "\n" not in str(refusal.value)


def test_micro_and_macro_curves_have_the_areas_of_scikit_learn(predictions):
    probabilities, labels = predictions
    one_hot = np.eye(6, dtype=int)[labels]
    ranked = curves.precision_recall_curves(probabilities, labels)
    roc = curves.roc_curves(probabilities, labels)
    for average in ("micro", "macro"):
        precision = metrics.average_precision_score(one_hot, probabilities, average=average)
        area = metrics.roc_auc_score(one_hot, probabilities, average=average)
        assert getattr(ranked, average).area == pytest.approx(precision)
        assert getattr(roc, average).area == pytest.approx(area, abs=1e-6)
        drawn = getattr(roc, average)
        assert metrics.auc(drawn.x, drawn.y) == pytest.approx(area, abs=0.005)
