"""Our sets as raw data sets of SAM 2's training code: its paths, numbers, ids and masks."""

import io
import pickle
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import stmtrain
from stmtrain.adapters.sam2 import ShardRawDataset
from stmtrain.errors import UsageError
from tests.sets import pack_davis, pack_youtube_vos


class PathHandler:
    """As in ``iopath``: what it supports, and how it opens a path."""


class PathManager:
    """The part of ``iopath`` that SAM 2 reads frames with."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def register_handler(self, handler: Any, allow_override: bool = True) -> None:
        assert isinstance(handler, PathHandler)
        for prefix in handler._get_supported_prefixes():
            if prefix in self.handlers and not allow_override:
                raise KeyError(prefix)
            self.handlers[prefix] = handler

    def open(self, path: str, mode: str) -> io.BytesIO:
        (handler,) = [h for prefix, h in self.handlers.items() if path.startswith(prefix)]
        return handler._open(path, mode, buffering=-1)


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> PathManager:
    """``iopath`` is a part of SAM 2's environment, not of ours."""
    module: Any = ModuleType("iopath.common.file_io")
    module.PathHandler, module.g_pathmgr = PathHandler, PathManager()
    for name in ("iopath", "iopath.common"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.g_pathmgr


def test_frames_are_the_bytes_of_the_files(
    packed: Path, davis_tree: Path, paths: PathManager
) -> None:
    raw = ShardRawDataset(packed)
    assert len(raw) == len(stmtrain.open_shards(packed))
    for idx in range(len(raw)):
        video, _ = raw.get_video(idx)
        files = sorted((davis_tree / "JPEGImages" / "480p" / video.video_name).glob("*.jpg"))
        assert [frame.frame_idx for frame in video.frames] == [int(file.stem) for file in files]
        assert (len(video), video.video_id) == (len(files), idx)
        for frame, file in zip(video.frames, files, strict=True):
            assert frame.data is None
            with paths.open(frame.image_path, "rb") as opened:
                assert opened.read() == file.read_bytes()


@pytest.mark.usefixtures("paths")
def test_segments_are_the_objects_in_the_order_of_their_first_pixels(
    davis_tree: Path, tmp_path: Path
) -> None:
    """Void is none of them."""
    tree = Path(shutil.copytree(davis_tree, tmp_path / "tree"))
    values = np.arange(256, dtype=np.uint8)
    values[[1, 3]] = 3, 1  # otherwise the first objects have the lowest ids
    for file in (tree / "Annotations").rglob("*.png"):
        image = Image.open(file)
        mask = values[np.asarray(image)]
        mask[0, :5] = 255
        changed = Image.fromarray(mask)
        changed.putpalette(image.getpalette())
        changed.save(file)
    pack_davis(tree, 2017, "train", tmp_path / "packed")
    raw = ShardRawDataset(tmp_path / "packed")
    orders = set()
    for idx in range(len(raw)):
        video, segments = raw.get_video(idx)
        folder = tree / "Annotations" / "480p" / video.video_name
        for frame in video.frames:
            mask = np.asarray(Image.open(folder / f"{frame.frame_idx:05d}.png"))
            loaded = segments.load(frame.frame_idx)
            order = [i for i in dict.fromkeys(mask.ravel().tolist()) if i not in (0, 255)]
            assert list(loaded) == order
            orders.add(tuple(order))
            for object_id, segment in loaded.items():
                assert np.array_equal(segment.numpy(), mask == object_id)
            assert segments.load(frame.frame_idx) is loaded  # decoded once
    assert any(list(order) != sorted(order) for order in orders)


@pytest.mark.usefixtures("paths")
def test_only_frames_with_a_mask_and_every_nth_of_them(
    youtube_vos_tree: Path, tmp_path: Path
) -> None:
    pack_youtube_vos(youtube_vos_tree, "train", tmp_path)
    shards = stmtrain.open_shards(tmp_path)
    record = shards.record(0)
    assert len(record.mask_frames) < len(record.frames)
    numbers = [int(name) for name in record.mask_frames]
    for rate in (1, 2):
        video, segments = ShardRawDataset(tmp_path, sample_rate=rate).get_video(0)
        assert [frame.frame_idx for frame in video.frames] == numbers[::rate]
        assert set(segments.load(video.frames[-1].frame_idx)) <= set(record.object_ids)
    with pytest.raises(UsageError, match="sample_rate 0"):
        ShardRawDataset(tmp_path, sample_rate=0)


@pytest.mark.usefixtures("paths")
def test_grey_masks_have_one_object(davis2016_tree: Path, tmp_path: Path) -> None:
    pack_davis(davis2016_tree, 2016, "train", tmp_path, workers=1)
    video, segments = ShardRawDataset(tmp_path).get_video(0)
    assert set(segments.load(video.frames[0].frame_idx)) == {1}


def test_a_spawned_worker_reads_too(packed: Path, paths: PathManager) -> None:
    raw = ShardRawDataset(packed)
    ShardRawDataset(packed)  # twice the same set
    expected = raw.get_video(0)[0].frames[1]
    state = pickle.dumps(raw)
    paths.handlers.clear()
    frame = pickle.loads(state).get_video(0)[0].frames[1]
    assert frame == expected
    with paths.open(frame.image_path, "rb") as opened:
        assert opened.read().startswith(b"\xff\xd8")
