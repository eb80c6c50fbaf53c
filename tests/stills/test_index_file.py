"""The index on disk: built once, complete or absent, rebuilt when stale or damaged."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from stmdata.stills import coco_index, index_file
from stmdata.stills.coco import CocoIndex
from stmtrain import files
from stmtrain.errors import StmError
from stmtrain.shards.cache import default_folder
from tests.coco_files import document, write


@contextmanager
def counting_builds() -> Iterator[list[Path]]:
    built: list[Path] = []

    def build(path: Path) -> Any:
        built.append(path)
        return coco_index.build_index(path)

    with patch.object(index_file, "build_index", build):
        yield built


def test_indexed_once_and_again_only_when_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    with counting_builds() as built:
        CocoIndex.open(path)
        CocoIndex.open(path)
        assert len(built) == 1
        os.utime(path, ns=(1, 1))  # touched: same content
        CocoIndex.open(path)
        assert len(built) == 1
        changed = document()
        changed["images"][0]["file_name"] = "z.jpg"  # same size, other content
        write(tmp_path, changed)
        os.utime(path, ns=(2, 2))
        assert CocoIndex.open(path).image(0).file_name == "z.jpg"
        assert len(built) == 2
        write(tmp_path, document(images=document()["images"][:1], annotations=[]))
        assert CocoIndex.open(path).images == 1
        assert len(built) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "magic", "version", "header"])
def test_a_damaged_index_is_built_again(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, document())
    CocoIndex.open(path)
    place = index_file.index_path(path)
    data = place.read_bytes()
    place.write_bytes(
        {
            "cut": data[:-64],
            "empty": b"",
            "magic": b"X" + data[1:],
            "version": data.replace(b'"version": 2', b'"version": 1'),
            "header": data.replace(b'"<f4"', b'"|O8"'),
        }[damage]
    )
    with counting_builds() as built:
        assert CocoIndex.open(path).annotations == 4
    assert len(built) == 1
    assert place.read_bytes() == data


def test_the_folder_of_the_annotations_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = write(folder, document())
    cache = tmp_path / "cache"
    folder.chmod(0o555)  # no protection from root, hence the names below
    assert CocoIndex.open(path, cache).annotations == 4
    assert CocoIndex.open(path).annotations == 4
    assert list(folder.iterdir()) == [path]
    assert index_file.index_path(path, cache).is_file()
    assert index_file.index_path(path).is_relative_to(default_folder())
    folder.chmod(0o755)


def test_two_files_of_one_name_have_two_indices(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("b", {"annotations": []})):
        (tmp_path / name).mkdir()
        write(tmp_path / name, document(**more))
    found = [CocoIndex.open(tmp_path / name / "instances.json").annotations for name in "aba"]
    assert found == [4, 0, 4]


def test_a_cache_that_is_not_writable_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    refused = PermissionError(13, "Permission denied")
    with (
        patch.object(files, "_create", side_effect=refused),
        pytest.raises(StmError, match=r"\.stmindex: .*Permission denied.*--cache"),
    ):
        CocoIndex.open(path)


def annotations_in(path: Path) -> int:
    return CocoIndex.open(path).annotations


def test_processes_may_start_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, document(annotations=document()["annotations"] * 500))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        opened = pool.map(annotations_in, [path] * 4, chunksize=1)
    assert opened == [2000] * 4
    place = index_file.index_path(path)
    assert not list(place.parent.glob(f"{place.name}.*"))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    with (
        patch.object(os, "fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(StmError, match="No space left"),
    ):
        CocoIndex.open(path, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "annotations").iterdir())
