"""The data set of emoji: its images, and calls that are refused."""

from pathlib import Path

import pytest
from matplotlib import font_manager

from benchmarks import emoji
from classifier import command_line


@pytest.fixture
def any_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """A font that comes with Matplotlib; it draws boxes for emoji."""
    monkeypatch.setattr(emoji, "FONT", font_manager.findfont("DejaVu Sans"))


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
