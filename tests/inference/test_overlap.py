"""Frames on their way: order, how far ahead, errors, and the GPU's own stream."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import DataError
from stmtrain.inference.overlap import (
    decode_ahead,
    iterate_ahead,
    start_fetch,
    upload_ahead,
    writing_behind,
)


@pytest.mark.parametrize("depth", [0, 1, 4, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_frames_come_in_order_and_no_more_than_depth_are_read_ahead(
    depth: int, threads: int
) -> None:
    read, lock = [], threading.Lock()

    def slow(name: str) -> str:
        time.sleep(0.002 if name == "0" else 0)  # the first is overtaken by those behind it
        with lock:
            read.append(name)
        return name + "!"

    names = [str(i) for i in range(20)]
    got = []
    for item in decode_ahead(slow, names, depth=depth, threads=threads):
        with lock:
            assert len(read) <= len(got) + 1 + depth
        got.append(item)
    assert got == [name + "!" for name in names]
    assert sorted(read) == sorted(names)


def test_a_frame_is_read_while_the_one_before_is_used() -> None:
    started = threading.Event()

    def read(name: str) -> str:
        if name == "b":
            started.set()
        return name

    frames = decode_ahead(read, ["a", "b"], depth=1, threads=1)
    assert next(frames) == "a"
    assert started.wait(5)


def test_an_error_comes_where_its_frame_is_due() -> None:
    def read(name: str) -> str:
        if name == "00002":
            raise DataError("cut short")
        return name

    frames = decode_ahead(read, [f"{i:05d}" for i in range(9)], depth=2)
    assert [next(frames), next(frames)] == ["00000", "00001"]
    with pytest.raises(DataError, match="cut short"):
        next(frames)


def test_threads_end_when_the_video_is_left_early() -> None:
    frames = decode_ahead(str, [str(i) for i in range(50)], depth=3, threads=2)
    next(frames)
    frames.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("stm-decode")]


@given(st.lists(st.integers()), st.integers(0, 30))
def test_items_come_in_order_and_an_error_where_its_item_is_due(items: list[int], bad: int) -> None:
    def source() -> Iterator[int]:
        for i, item in enumerate(items):
            if i == bad:
                raise ValueError("here")
            yield item

    got: list[int] = []
    if bad < len(items):
        with pytest.raises(ValueError, match="here"):
            got.extend(iterate_ahead(source()))
    got = list(iterate_ahead(items[:bad]))
    assert got == items[:bad]


def test_writing_keeps_order_and_raises_the_first_error() -> None:
    done: list[int] = []
    with writing_behind(most=2) as later:
        for i in range(20):
            later(done.append, i)
    assert done == list(range(20))
    with pytest.raises(ZeroDivisionError), writing_behind() as later:
        later(lambda: 1 // 0)


def test_on_the_cpu_nothing_is_copied_and_no_frame_is_taken_early() -> None:
    video = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    taken = []
    images = upload_ahead((taken.append(t) or video[t] for t in range(3)), torch.device("cpu"))
    first = next(images)
    assert taken == [0]
    assert first.data_ptr() == video.ctypes.data
    assert [first.dtype, first.shape] == [torch.uint8, (4, 5, 3)]
    assert np.shares_memory(start_fetch(first)(), video)


@pytest.mark.gpu
def test_on_a_gpu_frames_arrive_unharmed_and_one_ahead() -> None:
    device = torch.device("cuda")
    video = np.random.default_rng(0).integers(0, 256, (40, 480, 854, 3), dtype=np.uint8)
    taken = []
    frames = (taken.append(t) or video[t].copy() for t in range(40))
    fetched = []
    for t, image in enumerate(upload_ahead(frames, device)):
        assert image.device.type == "cuda"
        assert len(taken) == min(40, t + 2)
        busy = torch.randn(1024, 1024, device=device)
        for _ in range(20):  # work in flight while the next frame is on its way
            busy = busy @ busy / 32
        fetched.append(start_fetch(255 - image))
    assert all((wait() == 255 - frame).all() for wait, frame in zip(fetched, video, strict=True))
