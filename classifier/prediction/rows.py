"""Writes predictions in the formats of `FORMATS`: a format is a class and its entry there."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, BinaryIO

from classifier.data.data_files import printable
from classifier.prediction.stream import Answer

DIGITS = 6  # decimals of a probability
ERRORS = "backslashreplace"  # for file names that are not UTF-8


def columns(top: int) -> list[str]:
    """Returns the CSV columns, which are also the JSON keys, for `top` classes."""
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    named = [f"{name}{rank}" for rank in ranks for name in ("class", "probability")]
    return ["path", *named, "superclass", "error"]


def row(answer: Answer, top: int) -> dict[str, Any]:
    """Returns the values of a file by column, None if it has none."""
    values = dict.fromkeys(columns(top), None) | {"path": answer.path, "error": answer.error}
    if answer.prediction is not None:
        values["superclass"] = answer.prediction.superclass
        pairs = answer.prediction.confidences.items()
        for rank, (label, probability) in enumerate(pairs, start=1):
            suffix = f"_{rank}" if rank > 1 else ""
            values[f"class{suffix}"] = label
            values[f"probability{suffix}"] = round(probability, DIGITS)
    return values


class TextRows:
    """Lines of text for people; the base of the other formats."""

    description = "a line of text for each file"

    def __init__(self, stream: BinaryIO, top: int) -> None:
        """Starts to write rows with `top` classes."""
        self.stream, self.top = stream, top

    def write(self, answers: Sequence[Answer]) -> None:
        """Writes a row for each answer."""
        for answer in answers:
            self.put(f"{self.line(answer)}\n")

    def line(self, answer: Answer) -> str:
        """Returns the row of an answer."""
        path = printable(answer.path)
        if answer.prediction is None:
            return f"{path}: error: {answer.error}"
        pairs = answer.prediction.confidences.items()
        return f"{path}: " + ", ".join(f"{label} {share:.1%}" for label, share in pairs)

    def put(self, text: str) -> None:
        """Writes text in UTF-8."""
        self.stream.write(text.encode("utf-8", ERRORS))


class CsvRows(TextRows):
    """CSV with a header."""

    description = "a row of CSV for each file"

    def __init__(self, stream: BinaryIO, top: int) -> None:
        super().__init__(stream, top)
        self._table = csv.DictWriter(SimpleNamespace(write=self.put), columns(top))
        self._table.writeheader()

    def write(self, answers: Sequence[Answer]) -> None:
        self._table.writerows(row(answer, self.top) for answer in answers)


class JsonRows(TextRows):
    """JSON lines, whose keys are the columns of CSV."""

    description = "a line of JSON for each file"

    def line(self, answer: Answer) -> str:
        return json.dumps(row(answer, self.top), ensure_ascii=False)


FORMATS: dict[str, type[TextRows]] = {"text": TextRows, "csv": CsvRows, "jsonl": JsonRows}
