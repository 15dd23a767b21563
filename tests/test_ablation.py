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
    runs, out = tmp_path / "runs", tmp_path / "out"
    arguments = ["--dataset", str(small_dataset), "--epochs", "1", "--rows", "baseline"]
    arguments += ["--seeds", "3", "--runs", str(runs), "--output", str(out)]
    ablation.main(arguments)
    written = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    (row,) = written["rows"]
    model = tmp_path / "runs" / "baseline-1-3" / "model"
    evaluation = json.loads((model / "evaluation.json").read_text(encoding="utf-8"))
    assert (row["seeds"], row["top1"]) == ([3], [evaluation["top1"]])
    assert shlex.split(row["command"])[2:6] == ["--preset", "mlp-baseline", "--epochs", "1"]
    table = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    assert f"{100 * evaluation['top1']:.1f}%" in table
    assert (tmp_path / "out" / "ablation.png").read_bytes().startswith(b"\x89PNG")

    written_at = (model / "model.weights.h5").stat().st_mtime_ns
    capfd.readouterr()
    ablation.main(arguments)
    assert "train.py" not in capfd.readouterr().out
    assert (model / "model.weights.h5").stat().st_mtime_ns == written_at


def test_seeds_that_were_trained_elsewhere_are_kept(tmp_path: Path) -> None:
    options = ablation.parse(["--dataset", "x", "--runs", str(tmp_path)])
    options.output = tmp_path
    known = {"name": "pruning", "seeds": [0, 1], "top1": [0.4, 0.5], "validation_top1": [0.3, 0.4]}
    known |= {"parameters": 5, "seconds": 60.0}
    earlier = {"epochs": 30, "machines": ["EPYC"], "rows": [known]}
    (tmp_path / "ablation.json").write_text(json.dumps(earlier), encoding="utf-8")
    collected = ablation.collect(options, [])
    (row,) = collected["rows"]
    assert {**row, **known} == row
    assert collected["machines"] == ["EPYC"]
    assert "| 45.0 ± 7.1% | 2 |" in ablation.table(collected)
    (tmp_path / "ablation.json").write_text(json.dumps({**earlier, "epochs": 1}), encoding="utf-8")
    assert ablation.collect(options, [])["rows"] == []
