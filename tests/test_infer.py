"""A video through STM: the memory policy, late objects, and agreement with the golden video."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stmtrain.errors import DataError
from stmtrain.infer import MemoryBank, segment_video, segment_video_soft
from stmtrain.model import STM


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18").eval()


def _video(frames: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 56, 3), dtype=np.uint8)


def _mask(**boxes: int) -> NDArray[np.uint8]:
    mask = np.zeros((40, 56), np.uint8)
    for side, object_id in boxes.items():
        mask[8:32, {"left": slice(4, 24), "right": slice(30, 52)}[side]] = object_id
    return mask


@pytest.mark.parametrize("every", [1, 3, 5])
def test_memory_holds_first_every_nth_and_previous(every: int) -> None:
    bank = MemoryBank()
    for t in range(12):
        bank.write(torch.full((2, 1, 1, 1), t), torch.zeros(2, 1, 1, 1), keep=t % every == 0)
        group = bank._groups[0]
        held = set(group.keys[0, 0, : group.filled].flatten().tolist())
        assert held == {s for s in range(t + 1) if s % every == 0} | {t}


def test_ids_are_the_given_ones_and_the_first_mask_comes_back(model: STM) -> None:
    first = _mask(left=7, right=3)
    labels = list(segment_video(model, _video(4), {0: first}))
    assert (labels[0] == first).all()
    assert set(np.unique(labels)) <= {0, 3, 7}
    assert all(label.dtype == np.uint8 and label.shape == (40, 56) for label in labels)


def test_void_is_not_an_object(model: STM) -> None:
    ids, _ = next(segment_video_soft(model, _video(1), {0: _mask(left=255, right=2)}))
    assert ids == [2]


def test_background_until_an_object_is_given(model: STM) -> None:
    labels = list(segment_video(model, _video(4), {2: _mask(left=5)}))
    assert not np.any(labels[:2])
    assert (labels[2] == _mask(left=5)).all()


def test_a_late_object_overwrites_and_starts_its_own_memory(model: STM) -> None:
    late = _mask(right=9)
    masks = {0: _mask(left=1), 3: late}
    soft = list(segment_video_soft(model, _video(6), masks))
    assert [ids for ids, _ in soft] == [[1]] * 3 + [[1, 9]] * 3
    assert (soft[3][1][2].numpy() == (late == 9)).all()
    for ids, probabilities in soft:
        assert probabilities.shape[0] == 1 + len(ids)
        assert torch.allclose(probabilities.sum(0), torch.ones(40, 56), atol=1e-5)


def test_what_was_seen_does_not_depend_on_what_comes(model: STM) -> None:
    frames = _video(6)
    early = list(segment_video(model, frames[:4], {0: _mask(left=1)}))
    whole = list(segment_video(model, frames, {0: _mask(left=1), 4: _mask(right=2)}))
    assert all((a == b).all() for a, b in zip(early, whole, strict=False))


def test_frames_are_read_one_at_a_time(model: STM) -> None:
    taken = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for t, frame in enumerate(_video(5)):
            taken.append(t)
            yield frame

    labels = segment_video(model, frames(), {0: _mask(left=1)})
    next(labels)
    assert taken == [0]


def test_a_mask_of_another_size_is_refused(model: STM) -> None:
    with pytest.raises(DataError, match=r"frame 0: expected a mask of 56x40 pixels, found 55x40"):
        list(segment_video(model, _video(1), {0: _mask(left=1)[:, :-1]}))


def test_working_at_another_size_gives_masks_of_the_frames_size(model: STM) -> None:
    first = _mask(left=7, right=3)
    small = list(segment_video(model, _video(3), {0: first}, size=32))
    assert [label.shape for label in small] == [(40, 56)] * 3
    assert np.mean(small[0] == first) > 0.95
    native = list(segment_video(model, _video(3), {0: first}))
    same = list(segment_video(model, _video(3), {0: first}, size=40))
    assert all((a == b).all() for a, b in zip(native, same, strict=True))
