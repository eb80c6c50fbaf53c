"""Frames of folders and video files, and sources that are refused."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stmtrain.errors import DataError
from stmtrain.inference.own_video import open_frames
from tests.inference.own import film, picture


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
