"""Reads presets and the settings of a command line. Both are YAML: data, never executed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from classifier.errors import InputError
from classifier.settings import Settings

DEFAULT_PRESET = "mlp-baseline"
PRESETS = Path(__file__).resolve().parent.parent / "presets"
RENAMED = {  # settings of earlier versions and their present names
    "average_flip": "tta_flip",
    "average_zoom": "tta_zoom",
    "sparsity": "prune_threshold",
}
# The settings that trained weights determine: fine-tuning takes them from the initial model.
ARCHITECTURE_SETTINGS = (
    "image_size",
    "architecture",
    "hidden_units",
    "width",
    "depth",
    "expansion",
    "local_units",
    "local_patches",
    "local_maps",
    "channels",
)


def preset_names() -> list[str]:
    """Returns the names of the presets that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name_or_file: str | Path) -> Settings:
    """Reads a preset.

    Args:
        name_or_file: a name in `presets/`, or the path of a YAML file of settings. The entry
            `search` is for `tune.py` and ignored.

    Raises:
        InputError: no such preset, not a mapping, an unknown name or an invalid value.
    """
    path, content = read_preset(name_or_file)
    content.pop("search", None)
    return Settings(**{"preset": path.stem, **content})


def read_preset(name_or_file: str | Path) -> tuple[Path, dict[str, Any]]:
    """Returns a preset's file and its content; raises `InputError` if it is not a mapping."""
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{name_or_file}.yaml"
    if not path.is_file():
        raise InputError(
            f"no preset {str(name_or_file)!r}: choose one of {', '.join(preset_names())}, or name "
            "a YAML file that exists"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except Exception as error:  # of PyYAML, its constructors, no text, or too deep a nesting
        message = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML: {message}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} is not a preset: it must hold `setting: value` lines")
    return path, content


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which itself ignores repeated keys and reads `1e-3` as a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping; raises `YAMLError` for a key that is given twice."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"{key!r} is given twice in the mapping of line {line}")
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")  # as in YAML 1.2
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_overrides(pairs: list[str], **named: Any) -> dict[str, Any]:
    """Returns the settings that a command line changes.

    Args:
        pairs: `["dropout=0.2"]`, as `--set` gives them; the values are YAML.
        named: values of options such as `--epochs`, None if not given.

    Raises:
        InputError: a name is given twice, or a value cannot be read.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"--set takes KEY=VALUE. Received: {pair!r}")
        name = name.strip()
        if name in overrides:
            raise InputError(f"--set names {name} twice: give it once")
        try:
            overrides[name] = yaml.load(value, _Loader) if value.strip() else ""
        except Exception:  # as of a preset's file
            raise InputError(f"--set {name}: cannot read the value {value!r}") from None
    given = {name: value for name, value in named.items() if value is not None}
    for name in given.keys() & overrides.keys():
        raise InputError(f"{name} is given twice: by its option and by --set")
    return overrides | given


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that an earlier version recorded, as the present one names them.

    >>> current_names({"sparsity": 0.8, "epochs": 9})
    {'prune_threshold': 0.8, 'epochs': 9}
    """
    current = {RENAMED.get(name, name): value for name, value in settings.items()}
    if current.get("architecture") == "residual_mlp" and current.get("local_units"):
        current["architecture"] = "local_mlp"
    return current
