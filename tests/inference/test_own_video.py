"""Frames of folders and video files, and sources that are refused."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stmtrain.errors import DataError
from stmtrain.images.upright import turn
from stmtrain.inference.own_video import open_frames
from tests.inference.own import exif_folder, film, picture


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_a_turned_video_is_upright(tmp_path: Path, turn: int) -> None:
    _, pixels = next(open_frames(film(tmp_path / "v.mp4", turn=turn)).open())
    upright = np.rot90(picture(0), turn // 90 % 4)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 4


def test_bad_sources(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: expected .jpg, .*found none"):
        open_frames(empty)
    with pytest.raises(DataError, match="found neither"):
        open_frames(tmp_path / "missing")
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    with pytest.raises(DataError, match=r"notes.mp4: expected a video that FFmpeg can read"):
        open_frames(text)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{film(tmp_path / 'v.mp4')}\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match=r"list.m3u8: expected a video"):
        open_frames(playlist)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = np.zeros((1, 800), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"sound.wav: expected a video stream"):
        open_frames(sound)
    Image.new("RGB", (60, 48)).save(folder / "00003.jpg")
    with pytest.raises(DataError, match=r"00003.jpg: expected 64x48 .*found 60x48"):
        list(open_frames(folder).open())


def test_a_cut_video_is_refused(tmp_path: Path) -> None:
    source = film(tmp_path / "v.mkv", frames=40)
    data = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    frames = open_frames(tmp_path / "cut.mkv")
    assert len(list(frames.open())) < 40
    (tmp_path / "none.mkv").write_bytes(data[:700])
    with pytest.raises(DataError, match=r"none.mkv: "):
        list(open_frames(tmp_path / "none.mkv").open())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("off", [0, 2])
def test_frames_are_turned_as_the_mask_fits(tmp_path: Path, orientation: int, off: int) -> None:
    """Upright where the mask fits that or both; as stored where only that fits."""
    stored = picture(0)
    upright = turn(stored, orientation)
    frames = open_frames(exif_folder(tmp_path / "v", stored, orientation))
    for size, expected in (
        (None, upright),
        (upright.shape[:2], upright),
        (stored.shape[:2], upright if orientation < 5 else stored),
    ):
        masks = size if size is None else (size[0] + off, size[1] - off)
        for _, pixels in frames.open(masks):
            np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("angle", "expected"), [(90, (64, 48)), (180, (48, 64))])
def test_a_video_file_is_turned_as_the_mask_fits(
    tmp_path: Path, angle: int, expected: tuple[int, int]
) -> None:
    frames = open_frames(film(tmp_path / "v.mp4", turn=angle))
    assert next(frames.open((64, 48)))[1].shape[:2] == expected
    _, pixels = next(frames.open((48, 64)))
    wanted = picture(0) if angle == 90 else np.rot90(picture(0), 2)
    assert np.abs(pixels.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize(
    ("times", "uneven"), [((), False), ((0, 1, 2, 3, 4, 5), False), ((0, 1, 2, 20, 21, 40), True)]
)
def test_a_variable_frame_rate_is_noted(
    tmp_path: Path, times: tuple[int, ...], uneven: bool
) -> None:
    frames = open_frames(film(tmp_path / "v.mp4", times=times))
    assert len(list(frames.open())) == 6
    assert ["variable frame rate" in note for note in frames.notes] == [True] * uneven
