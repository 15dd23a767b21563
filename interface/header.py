"""The header of the page: title, served model, and the switches for language and theme."""

from __future__ import annotations

from classifier.provenance import without_local_paths
from interface.markup import fill
from interface.pictures import data_uri, photograph
from interface.serving import Models
from interface.translations import LANGUAGES, locale


def render(models: Models, language: str, name: str | None = None) -> str:
    """Returns the header of the page, with the named model, by default the first, as HTML."""
    served = models.get(name)
    dataset = without_local_paths(served.training.get("dataset"))
    return fill(
        "header",
        language,
        banner=data_uri(photograph()),
        languages={code: locale(code).language_name for code in LANGUAGES},
        served=served,
        dataset=dataset.get("id") if isinstance(dataset, dict) else None,  # anybody's record
        notice=models.notice,
    )
