"""Plain trees of frames and masks."""

from pathlib import Path

import pytest

from stmtrain.datasets.video_set import given_objects
from stmtrain.errors import DataError
from tests.datasets.trees import SIZE, box, draw_folder, open_folder


def test_masks_of_0_and_255_are_one_object(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "t", {"00001": box(255, 4)})
    (video,) = open_folder(root).videos
    assert video.binary
    assert given_objects(video) == ({1: (1,)}, [])


def test_a_mask_further_off_is_refused(tmp_path: Path) -> None:
    off = box(2, 40, (SIZE[0], SIZE[1] - 3))
    root = draw_folder(tmp_path / "t", {"00000": box(1, 4), "00003": off})
    with pytest.raises(DataError, match=r"clip/00003.png: expected a mask of 64x48 .*found 61x48"):
        open_folder(root)
