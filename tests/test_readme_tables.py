"""The tables of the READMEs are those that the benchmarks wrote last."""

import re
from pathlib import Path

import pytest

from benchmarks import readme
from classifier.errors import InputError

pytestmark = pytest.mark.documents

PROJECT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"\d[\d.,]*")


@pytest.mark.parametrize("name", readme.PAGES)
def test_the_tables_are_those_that_were_measured(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert readme.TABLE.search(text)
    assert readme.with_tables(text, PROJECT, spanish=".es." in name) == text


def test_a_translated_table_has_the_same_figures() -> None:
    table = (readme.RESULTS / "summary.md").read_text(encoding="utf-8")
    assert NUMBER.findall(readme.translated(table)) == NUMBER.findall(table)


def test_no_table_is_half_translated() -> None:
    text = (PROJECT / "README.es.md").read_text(encoding="utf-8")
    tables = [found[0] for found in readme.TABLE.finditer(text)]
    assert tables
    for table in tables:
        assert not re.search(r"\b(on|of|and|rounds|cores|batch)\b", table), table


def test_no_label_of_the_summary_is_left_in_english() -> None:
    table = readme.translated((readme.RESULTS / "summary.md").read_text(encoding="utf-8"))
    for word in ("images", "training", "parameters", "calibration", "dense only", "convolutional"):
        assert not re.search(rf"\b{word}\b", table), word


def test_a_table_is_replaced_between_its_comments_and_nothing_else(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "speed.md").write_text("| a |\n| --- |\n| 2 |\n")
    (tmp_path / "README.md").write_text(
        "before\n<!-- benchmarks/results/speed.md -->\n| a |\n| --- |\n| 1 |\n<!-- / -->\nafter\n"
    )
    readme.refresh(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- / -->\nafter\n")
    assert "| 2 |" in text
    assert "| 1 |" not in text


def test_a_table_that_nobody_measured_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- benchmarks/results/none.md -->\n<!-- / -->\n")
    with pytest.raises(InputError, match=r"none\.md is not there: run its benchmark first"):
        readme.refresh(tmp_path)
