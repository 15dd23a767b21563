"""The formats in which `classify.py` writes predictions, in one table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
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


def text_line(answer: Answer, top: int) -> str:
    """Returns an answer for people to read."""
    path = printable(answer.path)
    if answer.prediction is None:
        return f"{path}: error: {answer.error}\n"
    pairs = answer.prediction.confidences.items()
    return f"{path}: " + ", ".join(f"{label} {share:.1%}" for label, share in pairs) + "\n"


def csv_line(values: Iterable[Any]) -> str:
    """Returns values as a row of CSV."""
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


class Format(NamedTuple):
    """A description; how a row and the header are written, for `top` classes."""

    description: str
    line: Callable[[Answer, int], str]
    header: Callable[[int], str] = lambda top: ""


FORMATS = {
    "text": Format("a line of text for each file", text_line),
    "csv": Format(
        "a row of CSV for each file",
        lambda answer, top: csv_line(row(answer, top).values()),
        lambda top: csv_line(row(Answer(""), top)),
    ),
    "jsonl": Format(
        "a line of JSON for each file",
        lambda answer, top: json.dumps(row(answer, top), ensure_ascii=False) + "\n",
    ),
}
