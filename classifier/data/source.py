"""Which data are meant: the options of a data set, the same for every command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from classifier.data.split import split_of
from classifier.errors import InputError

DEFAULT_DATASET = "uoft-cs/cifar100"


@dataclass(frozen=True)
class DataSource:
    """A data set and how it is to be read; each field is an option of the commands.

    Attributes:
        dataset: a Hub id, optionally with `@revision`; a folder or a ZIP of images; a folder that
            `datasets.load_dataset` reads; the Toronto archive `cifar-100-python.tar.gz`; or the
            folder that it unpacks to.
        label_column: the target; by default as `classifier/data/columns.py` chooses it.
        config: the configuration, of a data set that has several.
        test_split: the split that is the test split, by default the one named so.
        test_fraction: the share of the training images, between 0 and 1, that is the test split; by
            default `split.TEST_FRACTION` where the data set has no test split.

    Raises:
        InputError: the test split is `train`, or the fraction is not between 0 and 1.
    """

    dataset: str = DEFAULT_DATASET
    label_column: str | None = None
    config: str | None = None
    test_split: str | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        if split_of(self.test_split or "") == "train":
            raise InputError(
                f"--test-split {self.test_split}: name another split, or give --test-fraction"
            )
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise InputError(
                f"--test-fraction must lie between 0 and 1. Received: {self.test_fraction}"
            )

    @classmethod
    def from_options(
        cls, options: argparse.Namespace, recorded: Mapping[str, Any] | None = None
    ) -> DataSource:
        """Returns what the options of `add_data_arguments` name.

        Args:
            options: the parsed command line.
            recorded: the entry `dataset` of the `training.json` of these data, from which what the
                options leave out is taken, so that the same images are found again.
        """
        given = given_options(options)
        known = dict(recorded or {})
        if ABOUT_TEST & given.keys():
            known = {name: value for name, value in known.items() if name not in ABOUT_TEST}
        chosen = {name: known[name] for name in OPTIONS[1:] if known.get(name) is not None}
        return cls(**{**chosen, **given})

    def options(self) -> dict[str, Any]:
        """Returns the options that are given but the data set, for `dataset` of `training.json`."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in OPTIONS[1:] if values[name] is not None}

    def arguments(self) -> list[str]:
        """Returns the words of the command line that name these data."""
        words = ["--dataset", self.dataset]
        for name, value in self.options().items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return words


OPTIONS = tuple(field.name for field in dataclasses.fields(DataSource))
ABOUT_TEST = {"test_split", "test_fraction"}  # one replaces the other


def given_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the fields of `DataSource` that the command line gives."""
    values = {name: getattr(options, name, None) for name in OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def add_data_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Adds the options of `DataSource` to a parser; each is None if it is not given.

    An `optional` data set has no default.
    """
    default = "" if optional else f" (default: {DEFAULT_DATASET})"
    parser.add_argument(
        "--dataset",
        help=f"Hub id (@revision allowed), folder, ZIP, Toronto archive or its folder{default}",
    )
    parser.add_argument("--label-column", metavar="NAME", help="column of the labels, if ambiguous")
    parser.add_argument("--config", metavar="NAME", help="configuration, of several")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test-split", metavar="NAME", help="split to test on (default: test)")
    test.add_argument(
        "--test-fraction",
        type=float,
        metavar="F",
        help="test on this share of the training images (default: 0.2 without a test split)",
    )
