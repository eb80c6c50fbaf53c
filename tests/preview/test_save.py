"""Saved clips read back: a sheet, an animation, a film, a recording with the stored bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stmtrain.errors import UsageError
from stmtrain.preview.clips import Clips
from stmtrain.preview.save import saver
from stmtrain.preview.stored import in_order, stored_clips
from stmtrain.shards.reader import ShardSet
from tests.drawn_samples import sample, write


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    samples = [sample("short", 0, frames=3), sample("long", 1, frames=20)]
    return ShardSet.open(write(tmp_path_factory.mktemp("save") / "set", samples))


@pytest.fixture
def clips(shards: ShardSet) -> Clips:
    return stored_clips([shards], in_order([shards]), None)


def save(path: Path, clips: Clips) -> Path:
    saver(path)(path, clips)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path


def test_a_sheet_has_every_frame(tmp_path: Path, clips: Clips) -> None:
    with Image.open(save(tmp_path / "a.PNG", clips)) as image:
        assert image.format == "PNG"
        assert image.height > 180 * (1 + 4)  # lines of six frames


def test_an_animation_is_as_long_as_the_longest_clip(tmp_path: Path, clips: Clips) -> None:
    with Image.open(save(tmp_path / "a.gif", clips)) as image:
        assert image.n_frames == 20  # type: ignore[attr-defined]
        assert image.info["duration"] == 100
    with Image.open(save(tmp_path / "b" / "b.gif", clips[:1])) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
        assert image.info["duration"] == 330


def test_a_film_lasts_some_seconds(tmp_path: Path, clips: Clips) -> None:
    av = pytest.importorskip("av")
    for name, part, seconds in (("a.mp4", clips[:1], 4), ("b/b.mp4", clips, 4)):
        with av.open(str(save(tmp_path / name, part))) as film:
            stream = film.streams.video[0]
            assert abs(stream.frames / stream.average_rate - seconds) < 0.1
            first = next(film.decode(video=0)).to_ndarray(format="rgb24")
            assert first.shape[0] >= 360
            assert first.std() > 10


def test_a_recording_has_the_stored_bytes_and_masks(
    tmp_path: Path, shards: ShardSet, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    rerun = pytest.importorskip("rerun")
    logged: list[tuple[Sequence[str], Any]] = []
    log = rerun.RecordingStream.log

    def keep(self: Any, place: Sequence[str], value: Any, **more: Any) -> None:
        logged.append((place, value))
        log(self, place, value, **more)

    monkeypatch.setattr(rerun.RecordingStream, "log", keep)
    path = save(tmp_path / "a.rrd", clips)
    assert path.read_bytes().startswith(b"RRF")
    frames = [v for p, v in logged if p == ["1", "long", "frame"]]
    masks = [v for p, v in logged if p == ["1", "long", "mask"]]
    stored = shards.read(1)
    assert [f.blob.as_arrow_array()[0].values.to_numpy().tobytes() for f in frames] == list(
        stored.frames.values()
    )
    shown = [np.frombuffer(m.buffer.as_arrow_array()[0].values.to_numpy(), np.uint8) for m in masks]
    assert [set(m.tolist()) - {0} for m in shown] == [
        set(np.unique(shards[1].masks[t]).tolist()) - {0} for t in range(20)
    ]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"a.*: expected a name that ends in one of \.png, \.gif"):
        saver(Path(name))


def test_a_missing_extra_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stmtrain.extras.find_spec", lambda _name: None)
    for name, extra in (("a.mp4", "video"), ("a.rrd", "rerun")):
        with pytest.raises(UsageError, match=rf"{name} needs .* pip install 'stm-vos\[{extra}\]'"):
            saver(Path(name))
