"""The core, which is read to understand how a network is trained: short, and on its own."""

import ast

from conftest import PROJECT

# The way from settings and arrays of pixels to a trained network, and to its scores.
CORE = (
    "classifier/settings.py",
    "classifier/architectures/__init__.py",
    "classifier/architectures/mlp.py",
    "classifier/architectures/residual_mlp.py",
    "classifier/architectures/cnn.py",
    "classifier/training/augmentation.py",
    "classifier/training/fit.py",
    "evaluation/scoring.py",
)
MAX_FILES, MAX_LINES = 8, 950
PACKAGES = ("classifier", "evaluation", "interface", "static_page", "benchmarks")


def test_core_has_at_most_950_lines_in_at_most_8_files() -> None:
    lines = [len((PROJECT / file).read_text().splitlines()) for file in CORE]
    assert len(CORE) <= MAX_FILES
    assert sum(lines) <= MAX_LINES, dict(zip(CORE, lines, strict=True))


def test_core_imports_nothing_of_ours_but_itself_and_errors() -> None:
    modules = {
        file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in CORE
    }
    for file in CORE:
        for node in ast.walk(ast.parse((PROJECT / file).read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                if f"{node.module}.{node.names[0].name}" in modules:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
            ours = {name for name in names if name.split(".")[0] in PACKAGES}
            assert ours <= modules | {"classifier.errors"}, f"{file}: {ours}"
