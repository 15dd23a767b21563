"""Writes predictions as text, CSV or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from classifier.data.data_files import printable
from classifier.prediction.stream import Answer

DIGITS = 6  # decimals of a probability

Write = Callable[[Iterable[Answer]], None]


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


def writer(form: str, stream: TextIO, top: int) -> Write:
    """Returns a function that writes answers as "csv", "jsonl" or "text".

    The header of CSV is written at once.
    """
    if form == "csv":
        table = csv.DictWriter(stream, columns(top))
        table.writeheader()
        return lambda answers: table.writerows(row(answer, top) for answer in answers)
    line = _json if form == "jsonl" else _text
    return lambda answers: stream.writelines(line(answer, top) + "\n" for answer in answers)


def _json(answer: Answer, top: int) -> str:
    return json.dumps(row(answer, top), ensure_ascii=False)


def _text(answer: Answer, top: int) -> str:
    path = printable(answer.path)
    if answer.prediction is None:
        return f"{path}: error: {answer.error}"
    pairs = answer.prediction.confidences.items()
    return f"{path}: " + ", ".join(f"{label} {share:.1%}" for label, share in pairs)
