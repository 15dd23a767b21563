"""The tab that puts models beside each other, on the embedded ones and on others."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from benchmarks.ablation import ROWS
from classifier.model_folder.folder import ModelFolder
from interface import compare, figures
from interface.drawing import FigureCache
from interface.middleware import EXCEPTION_HANDLERS
from interface.serving import Served
from interface.translations import LANGUAGES, locale

PROJECT = Path(__file__).resolve().parent.parent


class Shown(list[Served]):
    """What the tab needs to know of the served models: no worker loads them."""

    figures: FigureCache

    def get(self) -> Served:
        return self[0]


@pytest.fixture
def embedded() -> Shown:
    return Shown(
        Served(path.name, ModelFolder(path), "embedded")
        for path in sorted((PROJECT / "pretrained").iterdir())
        if path.is_dir()
    )


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    models = Shown()
    models.figures = FigureCache()
    routes = [figures.route(models)]  # type: ignore[arg-type]
    yield TestClient(Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS))
    models.figures.stop()


def test_the_measured_figures_are_those_of_the_embedded_models(embedded: Shown) -> None:
    comparison = json.loads(compare.COMPARISON.read_text())
    compared = {model["name"]: model for model in comparison["models"]}
    assert set(compared) == {served.name for served in embedded}
    for served in embedded:
        assert served.evaluation is not None
        for key in ("top1", "top5", "macro_f1", "superclass_top1", "expected_calibration_error"):
            # Another processor rounds otherwise: a few images in ten thousand may fall elsewhere.
            assert compared[served.name][key] == pytest.approx(served.evaluation[key], abs=1e-3)
        curve = comparison["robustness"]["shift"]["top1"][served.name]
        # Of a part of the test images: the 95% interval of 2,000 is 2 points to each side.
        assert curve[0] == pytest.approx(compared[served.name]["top1"], abs=0.025)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_models_are_in_the_table_in_both_languages(embedded: Shown, language: str) -> None:
    page = compare.render(embedded, language)  # type: ignore[arg-type]
    for served in embedded:
        assert f'<th scope="col">{served.name}</th>' in page
        assert locale(language).percent((served.evaluation or {})["top1"]) in page
    assert page.count('<th scope="row">') == len(compare.ROWS)
    assert "figures/robustness.png" in page


def test_a_model_of_ones_own_is_not_taken_for_the_measured_one_of_its_name(
    embedded: Shown, tmp_path: Path
) -> None:
    own = shutil.copytree(embedded[0].folder.path, tmp_path / embedded[0].name)
    evaluation = {**(embedded[0].evaluation or {}), "top1": 0.0625}
    (own / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    page = compare.render(Shown([Served(own.name, ModelFolder(own), "folder")]), "en")  # type: ignore[arg-type]
    assert f'<th scope="col">{own.name} (from a local folder)</th>' in page
    assert "6.2%" in page


def test_models_of_other_classes_are_not_put_beside_the_measured_ones(
    tiny_model_folder: Path,
) -> None:
    shown = Shown([Served("mine", ModelFolder(tiny_model_folder), "folder")])
    page = compare.render(shown, "en")  # type: ignore[arg-type]
    assert "mine" in page
    assert "mlp-baseline" not in page
    assert "robustness" not in page


@pytest.mark.parametrize(
    "address",
    [
        "/figures/secrets.png",
        "/figures/robustness.png?theme=pink",
        "/figures/robustness.png?language=xx",
        "/figures/class_differences.png?first=cnn&second=../../etc/passwd",
    ],
)
def test_what_does_not_exist_is_not_found(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert "passwd" not in answer.text or "no model named" in answer.text


@pytest.fixture
def measured_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An ablation, whether or not the embedded models come with one."""
    rows = [
        {"name": row.name, "category": "dense only, alone", "top1": [0.3, 0.31]} for row in ROWS
    ]
    measurement = {
        "command": "python -m benchmarks.ablation",
        "date": "2026-11-27",
        "machines": ["A processor"],
        "epochs": 30,
        "rows": rows,
    }
    (tmp_path / "ablation.json").write_text(json.dumps(measurement))
    monkeypatch.setattr(compare, "ABLATION", tmp_path / "ablation.json")
    return measurement


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_ablation_is_shown_with_its_source(
    measured_ablation: dict[str, Any], language: str
) -> None:
    page = compare.render_ablation(language)
    assert "figures/ablation.png" in page
    for key in ("command", "date"):
        assert measured_ablation[key] in page
