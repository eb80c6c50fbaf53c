"""A video through STM: late objects, options of memory, size and precision, and the GPU."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmtrain.errors import DataError
from stmtrain.inference import segment as infer
from stmtrain.inference.memory_bank import MemoryBank
from stmtrain.inference.options import Inference
from stmtrain.inference.segment import segment_video, segment_video_soft
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
    small = list(segment_video(model, _video(3), {0: first}, Inference(size=32)))
    assert [label.shape for label in small] == [(40, 56)] * 3
    assert np.mean(small[0] == first) > 0.95
    native = list(segment_video(model, _video(3), {0: first}))
    same = list(segment_video(model, _video(3), {0: first}, Inference(size=40)))
    assert all((a == b).all() for a, b in zip(native, same, strict=True))


def _soft(model: STM, video: NDArray[np.uint8], first: NDArray[np.uint8], **options: Any) -> Tensor:
    """Probabilities (T,1+K,H,W) of a video whose objects are all given in its first frame."""
    soft = segment_video_soft(model, video, {0: first}, Inference(**options))
    return torch.stack([probabilities for _, probabilities in soft])


def test_bounded_memory_changes_nothing_until_it_is_full(model: STM) -> None:
    video, first = _video(7), _mask(left=1, right=2)
    free = _soft(model, video, first, memory_every=2)
    # Memorised for frame 6: 0, 2, 4 and 5.
    assert torch.equal(_soft(model, video, first, memory_every=2, memory_frames=4), free)
    full = _soft(model, video, first, memory_every=2, memory_frames=3)
    assert torch.equal(full[:6], free[:6])
    assert not torch.equal(full[6], free[6])


def test_a_known_length_changes_nothing(model: STM) -> None:
    video, masks = _video(5), {0: _mask(left=1)}
    known = list(segment_video(model, iter(video), masks, length=5))
    wrong = list(segment_video(model, iter(video), masks, length=1))
    unknown = list(segment_video(model, iter(video), masks))
    assert np.array_equal(known, unknown)
    assert np.array_equal(wrong, unknown)


def test_top_k_reaches_the_read(model: STM) -> None:
    video, first = _video(4), _mask(left=1, right=2)
    every_position = 3 * 4 * 3  # of three frames, 3x4 positions each
    everything = _soft(model, video, first)
    assert torch.equal(_soft(model, video, first, top_k=every_position), everything)
    assert not torch.equal(_soft(model, video, first, top_k=1), everything)


def test_flip_averages_the_video_and_its_mirror_image(model: STM) -> None:
    video, first = _video(4), _mask(left=1, right=2)
    plain = _soft(model, video[:2], first)
    mirrored = _soft(model, video[:2, :, ::-1].copy(), first[:, ::-1].copy())
    both = _soft(model, video, first, flip=True)
    torch.testing.assert_close(both[1], (plain[1] + mirrored[1].flip(-1)) / 2, atol=1e-4, rtol=0)
    # What is memorised is the average too: the mirrored video gives the mirrored result throughout.
    back = _soft(model, video[:, :, ::-1].copy(), first[:, ::-1].copy(), flip=True)
    torch.testing.assert_close(back.flip(-1), both, atol=1e-4, rtol=0)


def test_scales_are_averaged_each_with_a_memory_of_its_own(model: STM) -> None:
    video, first = _video(4), _mask(left=1, right=2)
    plain = _soft(model, video, first)
    torch.testing.assert_close(_soft(model, video, first, scales=(1.0, 1.0)), plain)
    large = _soft(model, video, first, scales=(1.5,))
    both = _soft(model, video, first, scales=(1.0, 1.5))
    torch.testing.assert_close(both[1], (plain[1] + large[1]) / 2)
    assert not torch.allclose(both[3], (plain[3] + large[3]) / 2, atol=1e-7)


def test_flip_and_scales_serve_objects_that_come_later(model: STM) -> None:
    masks = {0: _mask(left=1), 2: _mask(right=9)}
    options = Inference(flip=True, scales=(1.0, 0.8), memory_every=1, memory_frames=2)
    soft = list(segment_video_soft(model, _video(5), masks, options))
    assert [ids for ids, _ in soft] == [[1]] * 2 + [[1, 9]] * 3
    assert all(torch.allclose(p.sum(0), torch.ones(40, 56), atol=1e-5) for _, p in soft)


def test_bfloat16_halves_the_memory_and_aggregates_in_float32(
    model: STM, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = []

    class Spy(MemoryBank):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            banks.append(self)

    monkeypatch.setattr(infer, "MemoryBank", Spy)
    video, first = _video(4), _mask(left=1, right=2)
    full = _soft(model, video, first, memory_frames=3)
    half = _soft(model, video, first, memory_frames=3, precision="bfloat16")
    assert banks[1].nbytes * 2 == banks[0].nbytes
    assert half.dtype == torch.float32
    assert float((half - full).abs().max()) < 0.05
    # A sum of numbers in half precision would be off by 2^-9.
    torch.testing.assert_close(half.sum(1), torch.ones(4, 40, 56), atol=1e-5, rtol=0)
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_does_not_leak_to_whoever_takes_the_frames(model: STM) -> None:
    soft = segment_video_soft(model, _video(3), {0: _mask(left=1)}, Inference(precision="bfloat16"))
    for _ in soft:
        assert not torch.is_autocast_enabled("cpu")
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_every": 0}, "memory_every: expected at least 1, found 0"),
        ({"memory_frames": 1}, "memory_frames: expected at least 2, found 1"),
        ({"top_k": 0}, "top_k: expected at least 1, found 0"),
        ({"size": 15}, "size: expected at least 16, found 15"),
        ({"scales": ()}, r"scales: expected one or more numbers above 0, found \(\)"),
        ({"scales": (1.0, 0.0)}, "scales: expected"),
        ({"scales": (float("nan"),)}, "scales: expected"),
        ({"precision": "float16"}, "precision: expected 'float32' or 'bfloat16', found 'float16'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inference(**options)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "near"), [("float32", 5e-3), ("bfloat16", 2e-2)])
def test_on_a_gpu_probabilities_and_labels_are_those_of_the_cpu(
    model: STM, precision: Any, near: float
) -> None:
    video, masks = _video(8), {0: _mask(left=3), 3: _mask(right=7)}
    options = Inference(flip=True, scales=(1.0, 1.25), memory_frames=3, precision=precision)
    on_gpu = deepcopy(model).cuda()
    expected = list(segment_video_soft(model, video, masks, options))
    found = list(segment_video_soft(on_gpu, video, masks, options))
    labels = list(segment_video(on_gpu, video, masks, options))
    for (ids, p), (same_ids, q), label in zip(expected, found, labels, strict=True):
        assert ids == same_ids
        torch.testing.assert_close(q.cpu(), p, atol=near, rtol=0)
        best = np.array([0, *ids])[q.argmax(0).cpu().numpy()]
        assert (label == best).mean() > 0.99  # two runs on a GPU may differ in the last bit


@pytest.mark.gpu
def test_on_a_gpu_memory_is_flat_however_long_the_video(model: STM) -> None:
    on_gpu = deepcopy(model).cuda()
    frames = (_video(1, seed=t % 7)[0] for t in range(600))
    options = Inference(memory_every=1, memory_frames=6)
    allocated = []
    for t, _ in enumerate(segment_video(on_gpu, frames, {0: _mask(left=1)}, options)):
        if t in (20, 590):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        if t in (30, 599):
            allocated.append(torch.cuda.max_memory_allocated())
    assert allocated[1] <= allocated[0] + (1 << 16)


@pytest.mark.parametrize("size", [None, 17, 33])
def test_given_masks_come_back_unchanged_also_as_corrections(model: STM, size: int | None) -> None:
    first, second = _mask(left=7), _mask(right=7, left=3)
    first[::3, ::2] = 0  # finer than the size at which the network works
    labels = list(segment_video(model, _video(4), {0: first, 2: second}, Inference(size=size)))
    assert (labels[0] == first).all()
    assert (labels[2] == second).all()
