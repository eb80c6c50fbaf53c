"""A shard set as a tree of files, and back: the samples are the same, to the byte."""

from pathlib import Path

import pytest

from stmdata.packing.export import export_tree
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.tree import open_dataset
from stmtrain.errors import DataError, UsageError
from stmtrain.shards.reader import ShardSet
from tests.datasets.drawn import draw
from tests.packing.test_layouts import DRAWN
from tests.sets import pack_videos


@pytest.mark.parametrize("layout", DRAWN)
def test_an_exported_set_packs_to_the_same_samples(tmp_path: Path, layout: str) -> None:
    for name in ("my clip.v1", "my_clip.v1", "third"):  # two of which would have one sample key
        if layout != "cvat-video-xml" or name == "third":
            draw(find_dataset(layout), tmp_path / "tree", name)
    pack_videos(layout, tmp_path / "tree", None, tmp_path / "a")
    assert export_tree(tmp_path / "a", tmp_path / "files") == len(ShardSet.open(tmp_path / "a"))
    assert open_dataset(tmp_path / "files").dataset.name == "stm-export"
    pack_videos("auto", tmp_path / "files", None, tmp_path / "b")
    before, after = ShardSet.open(tmp_path / "a"), ShardSet.open(tmp_path / "b")
    assert list(before.keys()) == list(after.keys())
    for i in range(len(before)):
        assert before.read(i) == after.read(i)


def test_an_export_needs_an_empty_folder_and_all_its_files(tmp_path: Path) -> None:
    draw(find_dataset("mose-v2"), tmp_path / "tree")
    pack_videos("mose-v2", tmp_path / "tree", None, tmp_path / "a")
    with pytest.raises(UsageError, match=r"expected an empty folder"):
        export_tree(tmp_path / "a", tmp_path / "tree")
    export_tree(tmp_path / "a", tmp_path / "files")
    next((tmp_path / "files/JPEGImages").glob("*/frame_000000.jpg")).unlink()
    with pytest.raises(DataError, match=r"none for frame_000000; export the set again"):
        pack_videos("stm-export", tmp_path / "files", None, tmp_path / "b")
    (tmp_path / "files/records.json").write_text("[3]")
    with pytest.raises(DataError, match=r"records.json: expected the records of an export"):
        pack_videos("stm-export", tmp_path / "files", None, tmp_path / "b")
