"""Updates the benchmark tables in the documents.

python -m benchmarks.readme        # every benchmark also does this at its end

A table is enclosed by `<!-- benchmarks/results/NAME.md -->` and `<!-- / -->`. The Spanish README
contains only the summary, with translated terms.
"""

import re
import sys
from pathlib import Path

from classifier import command_line
from classifier.errors import ClassifierError, InputError
from classifier.files import write_text

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
PAGES = (
    "README.md",
    "README.es.md",
    "docs/formats.md",
    "docs/results.md",
    "docs/scale-out.md",
    "docs/serving-speed.md",
    "docs/training-speed.md",
    "docs/your-own-data.md",
)
TABLE = re.compile(r"(<!-- benchmarks/results/([\w-]+\.md) -->\n).*?(<!-- / -->)", re.DOTALL)

# The terms of the only table in the Spanish README.
SPANISH = {
    "training": "entrenamiento",
    "parameters": "parámetros",
    "calibration error": "error de calibración",
    "one image, one core": "una imagen, un núcleo",
    "dense only, alone": "solo densas, sin maestra",
    "dense only, alone: the published record": "solo densas, sin maestra: el récord publicado",
    "dense only, taught by our CNN": "solo densas, con nuestra CNN de maestra",
    "convolutional": "convolucional",
    "test images of": "imágenes de test de",
    "seed": "semilla",
}


def main(arguments: list[str]) -> None:
    """Refreshes both READMEs."""
    command_line.argument_parser(
        "Puts the tables that the benchmarks wrote into the READMEs.",
        prog="python -m benchmarks.readme",
    ).parse_args(arguments)
    refresh()


def refresh(project: Path = PROJECT) -> None:
    """Writes the tables of `benchmarks/results/` into the READMEs of a project.

    Raises:
        InputError: a README names a table that no benchmark wrote.
        ClassifierError: a README cannot be written.
    """
    for name in PAGES:
        path = project / name
        if not path.is_file():
            continue
        before = path.read_text(encoding="utf-8")
        after = with_tables(before, project, spanish=".es." in name)
        if after == before:
            continue
        try:
            write_text(path, after)
        except OSError as error:
            raise ClassifierError(f"{path} cannot be written: {error.strerror}") from error


def with_tables(text: str, project: Path, *, spanish: bool = False) -> str:
    """Returns a README's text with each table as the benchmark wrote it last."""

    def table(found: re.Match[str]) -> str:
        path = project / "benchmarks" / "results" / found[2]
        if not path.is_file():
            raise InputError(f"{path.relative_to(project)} is not there: run its benchmark first")
        content = path.read_text(encoding="utf-8").strip()
        return f"{found[1]}\n{translated(content) if spanish else content}\n\n{found[3]}"

    return TABLE.sub(table, text)


def translated(table: str) -> str:
    """Returns a table with its labels in Spanish and the same figures."""
    for english in sorted(SPANISH, key=len, reverse=True):
        pattern = rf"(?<![\w-]){re.escape(english)}(?![\w-])"
        table = re.sub(pattern, lambda _, english=english: SPANISH[english], table)
    return table


if __name__ == "__main__":
    sys.exit(command_line.run(main))
