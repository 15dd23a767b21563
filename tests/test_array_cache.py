"""The cache of decoded splits: hits, changed sources, damaged files, eviction."""

import os
from pathlib import Path

import numpy as np
import pytest

from classifier.data import array_cache
from classifier.data.labelled_images import LabelledImages, label_images


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives the folder of a cache that only this test uses."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(folder))
    return folder


def a_split(seed: int = 0, count: int = 8) -> LabelledImages:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 3
    return label_images(
        images, labels, ("a", "b", "c"), ("x", "y"), (0, 1, 1), dataset="made", revision="1234"
    )


def fail() -> LabelledImages:
    raise AssertionError("the split was built again")


def same(one: LabelledImages, other: LabelledImages) -> bool:
    names = ("classes", "superclasses", "superclass_of", "dataset", "revision", "fingerprint")
    return (
        all(getattr(one, name) == getattr(other, name) for name in names)
        and np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
    )


def test_load_or_build_builds_once() -> None:
    built = array_cache.load_or_build("place", lambda: "state", a_split)
    found = array_cache.load_or_build("place", lambda: "state", fail)
    assert same(built, found)
    assert same(built, a_split())
    assert type(found.images) is np.ndarray
    for split in (built, found):
        assert not split.images.flags.writeable
        assert not split.labels.flags.writeable


def test_load_or_build_builds_again_for_another_state_or_place() -> None:
    array_cache.load_or_build("place", lambda: "one", a_split)
    changed = array_cache.load_or_build("place", lambda: "two", lambda: a_split(1))
    elsewhere = array_cache.load_or_build("elsewhere", lambda: "one", lambda: a_split(2))
    assert same(changed, a_split(1))
    assert same(elsewhere, a_split(2))
    assert array_cache.find("place", "one") is None
    last = array_cache.find("place")  # whatever the state
    assert last is not None
    assert same(last, a_split(1))


def test_load_or_build_does_not_store_data_that_changes_meanwhile() -> None:
    states = iter(("before", "after"))
    split = array_cache.load_or_build("place", lambda: next(states), a_split)
    assert same(split, a_split())
    assert array_cache.find("place") is None


DAMAGES = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-7]),
    "cut in the images": lambda file: file.write_bytes(file.read_bytes()[:500]),
    "empty": lambda file: file.write_bytes(b""),
    "a pickle": lambda file: np.save(file.open("wb"), np.array([{}]), allow_pickle=True),
    "text": lambda file: file.write_text("[1, 2]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_load_or_build_replaces_a_damaged_entry(cache: Path, damage: str) -> None:
    array_cache.load_or_build("place", lambda: "state", a_split)
    (file,) = cache.glob("*.split")
    DAMAGES[damage](file)
    assert same(array_cache.load_or_build("place", lambda: "state", a_split), a_split())
    assert same(array_cache.load_or_build("place", lambda: "state", fail), a_split())


def test_load_or_build_works_without_a_writable_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CIFAR100_MLP_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert same(array_cache.load_or_build("place", lambda: "state", a_split), a_split())


def test_load_or_build_evicts_the_least_recently_used_splits(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_cache, "MAX_SPLITS", 2)
    monkeypatch.setattr(array_cache, "ORPHAN_SECONDS", -1)
    cache.mkdir()
    (cache / ".killed.0123.tmp").touch()
    for number in range(3):
        array_cache.load_or_build(f"place {number}", lambda: "s", lambda n=number: a_split(n))
        for age, file in enumerate(sorted(cache.glob("*.split"), key=os.path.getmtime)):
            os.utime(file, (1e9 + age, 1e9 + age))  # a clock too coarse for the order
    assert array_cache.find("place 0") is None
    assert array_cache.find("place 1")
    assert array_cache.find("place 2")
    assert not list(cache.glob(".*.tmp"))


def test_label_images_fingerprints_pixels_labels_and_names() -> None:
    base = a_split()
    names = ("images", "labels", "classes", "superclasses", "superclass_of")
    values = {name: getattr(base, name) for name in names}
    changes = {
        "images": 255 - base.images,
        "labels": 2 - base.labels,
        "classes": ("a", "b", "d"),
        "superclasses": ("x", "z"),
        "superclass_of": (0, 1, 0),
    }
    others = [label_images(**{**values, name: new}, dataset="x") for name, new in changes.items()]
    assert label_images(**values, dataset="x").fingerprint == base.fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6
