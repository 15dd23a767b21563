"""The tables of the documents are those that the benchmarks wrote last."""

from pathlib import Path

import pytest

from benchmarks import output
from classifier.errors import InputError

pytestmark = pytest.mark.documents


def test_documents_show_the_tables_that_were_written_last(tmp_path: Path) -> None:
    pages = [output.PROJECT / "README.md", *sorted(output.PROJECT.glob("docs/*.md"))]
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results").symlink_to(output.RESULTS)
    for page in pages:
        copy = tmp_path / page.relative_to(output.PROJECT)
        copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    output.refresh(tmp_path)
    for page in pages:
        assert (tmp_path / page.relative_to(output.PROJECT)).read_text() == page.read_text()


def test_a_table_is_replaced_between_its_comments_and_nothing_else(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    page = "before\n<!-- benchmarks/results/speed.md -->\n| 1 |\n<!-- / -->\nafter\n"
    (tmp_path / "README.md").write_text(page)
    with pytest.raises(InputError, match=r"speed\.md is not there: run its benchmark first"):
        output.refresh(tmp_path)
    (results / "speed.md").write_text("| 2 |\n")
    output.refresh(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text == page.replace("| 1 |", "\n| 2 |\n")
