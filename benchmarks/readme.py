"""Puts the tables that the benchmarks wrote into the documents, between comments that name them.

python -m benchmarks.readme        # every benchmark does so itself when it is through

A table stands between `<!-- benchmarks/results/NAME.md -->` and `<!-- / -->`. The Spanish README
has the same figures under translated labels.
"""

import re
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `python benchmarks/readme.py`

from classifier import command_line
from classifier.errors import ClassifierError, InputError
from classifier.files import write_atomically

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
PAGES = ("README.md", "README.es.md", "docs/scale-out.md")
TABLE = re.compile(r"(<!-- benchmarks/results/([\w-]+\.md) -->\n).*?(<!-- / -->)", re.DOTALL)

SPANISH = {
    "parameters": "parámetros",
    "operations per image": "operaciones por imagen",
    "model folder": "carpeta del modelo",
    "latency, one image on one core": "latencia, una imagen en un núcleo",
    "training time": "tiempo de entrenamiento",
    "95% interval": "intervalo del 95%",
    "macro F1": "F1 macro",
    "superclass top-1": "top-1 por superclase",
    "calibration error": "error de calibración",
    "top-1 on training images": "top-1 en las imágenes de entrenamiento",
    "train–test gap": "brecha entrenamiento–test",
    "points": "puntos",
    "shifted by 4 pixels": "desplazada 4 píxeles",
    "shifted by 8 pixels": "desplazada 8 píxeles",
    "rotated by": "girada",
    "blurred (radius 1 pixel)": "desenfocada (radio de 1 píxel)",
    "at 40% of the brightness": "con el 40% del brillo",
    "noise (σ = 20 of 255)": "ruido (σ = 20 de 255)",
    "test images of": "imágenes de test de",
    "Latency: one image on one core of": "Latencia: una imagen en un núcleo de",
    "Keras on": "Keras con",
    "images/s": "imágenes/s",
    "range": "rango",
    "share of the matrix product": "parte del producto de matrices",
    "Keras is faster by": "Keras es más rápido",
    "Keras, this project's training step": "Keras, el paso de entrenamiento de este proyecto",
    "Keras, this project's step without fusing": "Keras, el paso de este proyecto sin fusionar",
    "matrix product alone": "solo el producto de matrices",
    "fused AdamW": "AdamW fusionado",
    "Medians of": "Medianas de",
    "interleaved rounds of": "rondas alternas de",
    "images, batch": "imágenes, lotes de",
    "on": "en",
    "cores of": "núcleos de",
    "constant app": "aplicación constante",
    "this app": "esta aplicación",
    "ratio": "proporción",
    "target": "objetivo",
    "page, after process start": "página, desde el inicio del proceso",
    "first `/classify`, after process start": "primer `/classify`, desde el inicio del proceso",
    "median, one client": "mediana, un cliente",
    "answers a second": "respuestas por segundo",
    "clients at once": "clientes a la vez",
    "95th percentile": "percentil 95 de la espera",
    "slowest client to median client": "cliente más lento frente al mediano",
    "memory growth over": "crecimiento de la memoria en",
    "classifications": "clasificaciones",
    "peak memory, three models": "pico de memoria, tres modelos",
    "at most": "como máximo",
    "at least": "al menos",
    "below": "menos de",
    "clients, 5": "clientes, 5",
    "images each, no errors": "imágenes cada uno, sin errores",
    "starts, on": "arranques, en",
    "clients included": "clientes incluidos",
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
            write_atomically(path, partial(Path.write_bytes, data=after.encode()))
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
