"""The table of data sets, and that nothing else needs to know one."""

import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from stmdata.checking.repair import options_needed
from stmdata.packing.pack import pack
from stmdata.packing.videos import prepare_videos
from stmtrain.datasets.dataset import DATASETS, find_dataset
from stmtrain.datasets.definition import Dataset
from stmtrain.datasets.files import pair_files
from stmtrain.datasets.listing import Entry, Listing
from stmtrain.datasets.packed import packed_set
from stmtrain.datasets.protocol import LATE_OBJECTS, YOUTUBE_VOS, Protocol
from stmtrain.datasets.video import Video
from tests.datasets.trees import box, draw_folder
from tests.paths import ROOT

YOUTUBE = find_dataset("youtube-vos")


def test_names_are_those_of_packed_sets() -> None:
    """Sets of earlier releases have these names in their records; they must never change."""
    assert {"davis2016", "davis2017", "youtube-vos"} <= set(DATASETS)
    assert all(dataset.name == name for name, dataset in DATASETS.items())
    assert {d.name: d.binary for d in DATASETS.values() if d.binary} == {"davis2016": True}


def test_no_name_of_a_data_set_is_compared_outside_the_table() -> None:
    quoted = "|".join(map(re.escape, DATASETS))
    compared = re.compile(
        rf"""(==|!=|\bin)\s*\(?["']({quoted})["']|["']({quoted})["']\s*(==|!=)"""
        rf"""|(startswith|removeprefix|endswith)\(\(?["']({quoted}|davis|youtube)"""
    )
    for package in ("stmdata", "stmtrain"):
        for path in (ROOT / package).rglob("*.py"):
            assert not compared.search(path.read_text()), path


@dataclass(frozen=True)
class MyForm:
    """One video in a folder of its split."""

    variant: str = "a"
    overlaps: bool = False

    def splits(self, root: Path) -> tuple[str, ...]:
        return tuple(folder.name for folder in root.iterdir())

    def listing(self, root: Path, split: str) -> Listing:
        return Listing((Entry("clip", split, partial(self.clip, root / split)),))

    def clip(self, folder: Path) -> Video:
        frames, masks = pair_files(folder / "JPEGImages/clip", folder / "Annotations/clip")
        return Video("clip", frames, masks, origin={"variant": self.variant})


@pytest.mark.parametrize("protocol", [Protocol("mine"), LATE_OBJECTS])
def test_a_line_of_the_table_is_all_that_a_new_data_set_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    mine = Dataset(
        name="mine",
        title="My set",
        form=MyForm(),
        protocol=protocol,
        splits=("fine",),
        scored_split="fine",
        options={"variant": "a"},
        binary=True,
    )
    monkeypatch.setitem(DATASETS, "mine", mine)  # type: ignore[arg-type]
    root = tmp_path / "tree"
    draw_folder(root / "fine", {"00002": box(200, 4), "00004": box(9, 20)})
    manifest = pack(prepare_videos("mine", root, "fine", options={"variant": "b"}), tmp_path / "o")
    assert manifest.config["variant"] == "b"
    assert options_needed(manifest.config) == ("root",)
    tree, packed = find_dataset("mine").open(root), packed_set(tmp_path / "o")
    assert packed.dataset == tree.dataset == "My set fine"
    assert packed.protocol == tree.protocol == protocol
    (video,) = packed.videos
    assert video.binary
    assert video.record.origin["variant"] == "b"  # type: ignore[attr-defined]
    assert (video.read_mask("00004") == (box(9, 20) > 0)).all()
    assert video.first_seen == ({1: "00002"} if protocol.late_objects else {})


def test_youtube_vos_reads_all_frames_where_they_are(
    youtube_vos_tree: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(youtube_vos_tree, tmp_path / "tree"))
    assert YOUTUBE.open(root, "valid").notes == ("frames from valid; there is no valid_all_frames",)
    (sparse,) = YOUTUBE.open(root, "valid").videos
    folder = root / "valid_all_frames" / "JPEGImages" / sparse.name
    first = root / "valid" / "JPEGImages" / sparse.name / f"{next(iter(sparse.frames))}.jpg"
    folder.mkdir(parents=True)
    for t in range(int(max(sparse.frames)) + 1):
        shutil.copy(first, folder / f"{t:05d}.jpg")
    for split in ("valid", "valid_all_frames"):
        videos = YOUTUBE.open(root, split)
        assert videos.notes == ("frames from valid_all_frames",)
        assert videos.dataset == "YouTube-VOS valid"
        (video,) = videos.videos
        assert len(video.frames) == int(max(sparse.frames)) + 1
        assert YOUTUBE_VOS.exported(video) == YOUTUBE_VOS.exported(sparse)
