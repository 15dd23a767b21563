"""The benchmark of fine-tuning: the pictures it draws, and what it writes of the trainings."""

import json
from pathlib import Path

import pytest
from matplotlib import font_manager

from benchmarks import emoji, fine_tuning
from classifier import command_line


@pytest.fixture
def any_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """A font that comes with Matplotlib; it draws boxes for emoji."""
    path = font_manager.findfont("DejaVu Sans")
    monkeypatch.setattr(emoji, "find_font", lambda: path)


def test_each_emoji_belongs_to_one_kind_and_to_one_split(any_font: None, tmp_path: Path) -> None:
    every = "".join(emoji.KINDS.values())
    assert len(every) == len(set(every))
    emoji.write(tmp_path / "emoji", per_class=10, seed=0)
    for kind, drawn in emoji.KINDS.items():
        train, test = (
            {path.stem for path in (tmp_path / "emoji" / split / kind).glob("*.png")}
            for split in ("train", "test")
        )
        assert len(train) == 10
        assert train | test == {f"{ord(letter):x}" for letter in drawn}
        assert not train & test


def test_another_seed_draws_others_for_the_training(any_font: None, tmp_path: Path) -> None:
    for seed in (0, 0, 1):
        emoji.write(tmp_path / f"{len(list(tmp_path.iterdir()))}", per_class=5, seed=seed)
    first, again, other = (
        sorted(path.name for path in (tmp_path / name / "train").rglob("*.png")) for name in "012"
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "--per-class", "1"], "--per-class takes 2 to 16. Received: 1"),
        (["new", "--per-class", "17"], "Received: 17"),
        (["."], "already exists: choose a new folder"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(
    any_font: None,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line.run(emoji.main, arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_font_is_named_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    for main, arguments in ((emoji.main, ["new"]), (fine_tuning.main, [])):
        assert command_line.run(main, arguments) == 2
        assert "apt-get install fonts-noto-color-emoji" in capsys.readouterr().err


def test_mean_and_spread_of_both_trainings_are_written(
    any_font: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def train(dataset: Path, run: Path, words: list[str]) -> float:
        assert (dataset / "train" / "bird").is_dir()
        calls.append(words)
        return (0.6 if "--init-from" in words else 0.3) + 0.01 * int(words[-1])

    monkeypatch.setattr(fine_tuning, "train", train)
    fine_tuning.main(["--output", str(tmp_path), "--epochs", "7"])
    result = json.loads((tmp_path / "fine_tuning.json").read_text())
    assert result["top1"]["fine-tuned"] == pytest.approx([0.6, 0.61, 0.62])
    table = (tmp_path / "fine_tuning.md").read_text()
    assert "| from nothing | 31.0% | 1.0 points | 30.0%, 31.0%, 32.0% |" in table
    assert "| fine-tuned | 61.0% | 1.0 points |" in table
    scratch, tuned = calls[:2]
    assert 'architecture="cnn"' in scratch
    assert f"epochs={result['epochs']}" in scratch  # as many in all, the last layer's included
    assert result["epochs"] > 7
    assert tuned[tuned.index("--epochs") + 1] == "7"
