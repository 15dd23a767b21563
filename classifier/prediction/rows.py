"""The formats in which `classify.py` writes predictions, in one table."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from classifier.data.data_files import printable
from classifier.prediction.stream import Answer

DIGITS = 6  # decimals of a probability


def row(answer: Answer, top: int) -> dict[str, Any]:
    """Returns the values of a file by column of CSV, or key of JSON; None if it has none."""
    prediction = answer.prediction
    pairs = list(prediction.confidences.items()) if prediction else []
    values: dict[str, Any] = {"path": answer.path}
    for rank in range(top):
        suffix = f"_{rank + 1}" if rank else ""
        label, share = pairs[rank] if pairs else (None, 0.0)
        values[f"class{suffix}"] = label
        values[f"probability{suffix}"] = round(share, DIGITS) if pairs else None
    superclass = prediction and prediction.superclass
    return {**values, "superclass": superclass, "error": answer.error}


def text_line(answer: Answer) -> str:
    """Returns an answer for people to read."""
    path = printable(answer.path)
    if answer.prediction is None:
        return f"{path}: error: {answer.error}\n"
    pairs = answer.prediction.confidences.items()
    return f"{path}: " + ", ".join(f"{label} {share:.1%}" for label, share in pairs) + "\n"


def text(answers: Iterable[Answer], top: int) -> Iterator[bytes]:
    """Yields a line for people to read for each answer."""
    for answer in answers:
        yield encode(text_line(answer))


def csv_table(answers: Iterable[Answer], top: int) -> Iterator[bytes]:
    """Yields the header of a table, and a row for each answer."""
    for values in itertools.chain(
        [row(Answer(""), top)], (row(each, top).values() for each in answers)
    ):
        line = io.StringIO()
        csv.writer(line).writerow(values)
        yield encode(line.getvalue())


def json_lines(answers: Iterable[Answer], top: int) -> Iterator[bytes]:
    """Yields a line of JSON for each answer; its keys are the columns of CSV."""
    for answer in answers:
        yield encode(json.dumps(row(answer, top), ensure_ascii=False) + "\n")


def encode(text: str) -> bytes:
    """Returns UTF-8; what cannot be encoded, as in some file names, is escaped."""
    return text.encode(errors="backslashreplace")


class Format(NamedTuple):
    """A description, and what yields the content of the output, for `top` classes."""

    description: str
    write: Callable[[Iterable[Answer], int], Iterator[bytes]]


FORMATS = {
    "text": Format("a line of text for each file", text),
    "csv": Format("a row of CSV for each file", csv_table),
    "jsonl": Format("a line of JSON for each file", json_lines),
}
