"""The ablation trains each row as `train.py` does, once, and states its figures."""

import json
import shlex
from pathlib import Path

import pytest

from benchmarks import ablation


def test_each_row_is_a_preset_with_settings_that_exist() -> None:
    from classifier.presets import load_preset, parse_overrides

    for row in ablation.ROWS:
        load_preset(row.preset).replace(**parse_overrides(list(row.changes)))
        if row.start:
            load_preset(row.start[0])


@pytest.mark.slow
def test_a_row_is_trained_once_and_its_figures_are_those_of_its_model_folder(
    small_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", str(small_dataset), "--epochs", "1", "--rows", "baseline"]
    arguments += [
        "--seeds",
        "3",
        "--runs",
        str(tmp_path / "runs"),
        "--output",
        str(tmp_path / "out"),
    ]
    ablation.main(arguments)
    written = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))
    (row,) = written["rows"]
    model = tmp_path / "runs" / "baseline-1-3" / "model"
    evaluation = json.loads((model / "evaluation.json").read_text(encoding="utf-8"))
    assert row["top1"] == [evaluation["top1"]]
    assert shlex.split(row["command"])[2:6] == ["--preset", "mlp-baseline", "--epochs", "1"]
    table = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    assert f"{100 * evaluation['top1']:.1f}%" in table
    assert (tmp_path / "out" / "ablation.png").read_bytes().startswith(b"\x89PNG")

    written_at = (model / "model.weights.h5").stat().st_mtime_ns
    capfd.readouterr()
    ablation.main(arguments)
    assert "train.py" not in capfd.readouterr().out
    assert (model / "model.weights.h5").stat().st_mtime_ns == written_at
