"""Frames of a video file by number: in any order, the same pixels; one pass where they ascend."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stmtrain.errors import DataError
from stmtrain.images import video_file
from stmtrain.images.video_file import VideoFile, decode_video, read_header
from tests.datasets.drawn import save_film


def test_frames_are_those_of_one_pass_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_film(tmp_path / "a.mp4", 24)
    every = [pixels for pixels, *_ in decode_video(tmp_path / "a.mp4")]
    assert len(every) == read_header(tmp_path / "a.mp4").length == 24
    passes = 0

    def counted(path: Path, threads: int) -> Iterator[object]:
        nonlocal passes
        passes += 1
        return decode(path, threads)

    decode = video_file._decode
    monkeypatch.setattr(video_file, "_decode", counted)
    film = VideoFile(tmp_path / "a.mp4")
    for number in (0, 4, 3, 8, 9, 23, 20):  # threads that read ahead do not ask in order
        np.testing.assert_array_equal(film.read(number), every[number])
    assert passes == 3, "frames 3 and 20 were passed over"
    for number in (20, 23, 9):
        film.read(number)
    assert passes == 3, "the last frames are kept"


def test_a_file_that_cannot_be_read_need_not_be_converted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)") as caught:
        read_header(tmp_path)
    assert "convert" not in str(caught.value)
    (tmp_path / "a.mp4").write_bytes(b"no film")
    with pytest.raises(DataError, match=r"a\.mp4: .*convert it to MP4"):
        read_header(tmp_path / "a.mp4")


def test_a_frame_beyond_the_end_is_named(tmp_path: Path) -> None:
    save_film(tmp_path / "a.mp4", 6)
    film = VideoFile(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"a.mp4: expected frame 9, .*, found 6 frames"):
        film.read(9)
    assert film.read(5).shape == film.read(0).shape
