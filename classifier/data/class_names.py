"""When two names of classes are the same: file systems and keyboards write one name in two ways."""

import unicodedata
from collections.abc import Sequence

from classifier.errors import InputError

NAMED = 5  # in a message


def normal_form(name: str) -> str:
    """Returns what is compared of a name: its Unicode normal form NFC without spaces around it.

    >>> normal_form("cafe\\u0301 ") == normal_form("caf\\xe9")
    True
    """
    return unicodedata.normalize("NFC", name).strip()


def match_classes(names: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """Returns for each name the index of the same name among others, None if it is not there.

    >>> match_classes(["cat", "dog"], ["eel", "cat"])
    [1, None]
    """
    index = {normal_form(other): number for number, other in enumerate(others)}
    return [index.get(normal_form(name)) for name in names]


def first_few(names: Sequence[str]) -> str:
    """Lists the first few of many names, for a message."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def check_spellings(names: Sequence[str], dataset: str) -> None:
    """Raises InputError if two names of a data set are the same."""
    spellings: dict[str, str] = {}
    for name in names:
        other = spellings.setdefault(normal_form(name), name)
        if other != name:
            raise InputError(
                f"a class has two spellings in {dataset} that differ in their Unicode normal form "
                f"or in spaces around them ({other!a} and {name!a}): use one of them"
            )
