"""Pixels of a video in files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stmtrain.datasets.video import Video
from stmtrain.errors import DataError
from stmtrain.images.encode import encode_mask


def test_pixels_are_read_by_name(tmp_path):
    ids = np.array([[0, 3, 255], [7, 0, 0]], np.uint8)
    (tmp_path / "palette.png").write_bytes(encode_mask(ids))
    Image.fromarray(ids).convert("LA").save(tmp_path / "alpha.png")
    Image.fromarray(np.full((8, 9, 3), 100, np.uint8)).save(tmp_path / "0.jpg")
    masks = {"0": tmp_path / "palette.png", "1": tmp_path / "alpha.png", "2": tmp_path / "gone.png"}
    video = Video("v", {"0": tmp_path / "0.jpg"}, masks)
    for name in ("0", "1"):
        assert np.array_equal(video.read_mask(name), ids)
        binary = Video("v", {}, masks, binary=True).read_mask(name)
        assert binary.dtype == np.uint8
        assert np.array_equal(binary, ids > 0)
    assert video.read_frame("0").shape == (8, 9, 3)
    with pytest.raises(DataError, match=r"gone.png: cannot be read"):
        video.read_mask("2")
    with pytest.raises(
        DataError, match=r"'v': expected a mask for frame '9', found none; .*0, 1, 2"
    ):
        video.read_mask("9")


def test_the_mask_file_of_an_object_keeps_its_own_advice(tmp_path: Path) -> None:
    def wrong(_size: tuple[int, int]) -> NDArray[np.bool_]:
        raise DataError("m.png: expected 4x4 pixels; make it again")

    Image.new("RGB", (8, 8)).save(tmp_path / "0.jpg")
    video = Video("a", {"0": tmp_path / "0.jpg"}, {"0": {1: wrong}}, id_map={1: 1})
    with pytest.raises(DataError, match=r"frame '0', object 1: m\.png: .*; make it again$"):
        video.read_mask("0")
