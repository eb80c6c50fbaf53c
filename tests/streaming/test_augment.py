"""Warps on the device: exact where nothing moves, image and mask together, no label invented."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch
from stmtrain.streaming.clips import VIDEO
from tests.profiles import examples
from tests.streaming.test_colour import draw_colours
from tests.streaming.test_warps import draw_matrices

IDENTITY = np.eye(3)


def make_batch(frames, masks, matrices, colours=None, sizes=None):
    """Build a batch from (B, T, H, W, 3) and (B, T, H, W) uint8 and (B, T, 3, 3)."""
    clips, length, height, width = masks.shape
    colours = np.broadcast_to(np.eye(3, 4), (clips, length, 3, 4)) if colours is None else colours
    sizes = [(height, width)] * clips if sizes is None else sizes
    return Batch(
        step=0,
        keys=("clip",) * clips,
        num_objects=torch.ones(clips, dtype=torch.int64),
        frames=torch.from_numpy(np.array(frames)),
        masks=torch.from_numpy(np.array(masks)),
        sizes=torch.tensor(sizes),
        matrices=torch.from_numpy(np.array(matrices, np.float32)),
        colours=torch.from_numpy(np.array(colours, np.float32)),
    )


def noise(clips, length, height, width, seed=0):
    g = np.random.default_rng(seed)
    frames = g.integers(0, 256, (clips, length, height, width, 3), dtype=np.uint8)
    masks = g.choice([0, 1, 2, 255], (clips, length, height, width)).astype(np.uint8)
    return frames, masks


def warp(frames, masks, matrix, size):
    """Warp every frame by one matrix; return (B, T, S, S, 3) uint8 and (B, T, S, S) uint8."""
    matrices = np.broadcast_to(matrix, (*masks.shape[:2], 3, 3))
    image, labels = augment(make_batch(frames, masks, matrices), size)
    assert image.dtype == torch.float32
    assert labels.dtype == torch.uint8
    back = (image * 255).permute(0, 1, 3, 4, 2).numpy()
    assert abs(back - back.round()).max() < 255e-4  # no pixel was mixed with its neighbours
    return back.round().astype(np.uint8), labels.numpy()


@pytest.mark.parametrize("size", [37, 96, 384])
def test_identity_and_flip_give_the_pixels_back(size):
    frames, masks = noise(2, 2, size, size)
    image, labels = warp(frames, masks, IDENTITY, size)
    assert np.array_equal(image, frames)
    assert np.array_equal(labels, masks)
    flip = [[-1, 0, size], [0, 1, 0], [0, 0, 1]]
    image, labels = warp(frames, masks, flip, size)
    assert np.array_equal(image, frames[:, :, :, ::-1])
    assert np.array_equal(labels, masks[:, :, :, ::-1])
    image, labels = warp(image, labels, flip, size)
    assert np.array_equal(image, frames)
    assert np.array_equal(labels, masks)


def test_a_quarter_turn_is_a_transposition():
    frames, masks = noise(1, 2, 40, 40)
    image, labels = warp(frames, masks, [[0, 1, 0], [1, 0, 0], [0, 0, 1]], 40)
    assert np.array_equal(image, frames.swapaxes(2, 3))
    assert np.array_equal(labels, masks.swapaxes(2, 3))


@pytest.mark.parametrize("shift", [(7, -5), (-60, 33), (130, 0)])
def test_outside_the_frame_its_mirror_image_goes_on(shift):
    """Far outside too, as NumPy's symmetric padding has it, in the image and the mask alike."""
    frames, masks = noise(1, 1, 30, 50)
    dx, dy = shift
    image, labels = warp(frames, masks, [[1, 0, dx], [0, 1, dy], [0, 0, 1]], 48)
    far = 200
    padded = np.pad(frames[0, 0], ((far, far), (far, far), (0, 0)), mode="symmetric")
    window = np.s_[far + dy : far + dy + 48, far + dx : far + dx + 48]
    assert np.array_equal(image[0, 0], padded[window])
    assert np.array_equal(labels[0, 0], np.pad(masks[0, 0], far, mode="symmetric")[window])


def test_bilinear_halfway_is_the_mean():
    frames, masks = noise(1, 1, 16, 16)
    matrix = [[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]
    image, _ = augment(make_batch(frames, masks, np.broadcast_to(matrix, (1, 1, 3, 3))), 16)
    mean = (frames[0, 0, :, :-1].astype(float) + frames[0, 0, :, 1:]) / 2 / 255
    assert np.allclose(image[0, 0, :, :, :-1].permute(1, 2, 0), mean, atol=1e-4)


@given(st.integers(0, 2**32))
@examples(25)
def test_image_and_mask_move_together_and_no_label_is_invented(seed):
    """The mask is painted into the image: away from edges, both must show the same label."""
    g = np.random.default_rng(seed)
    slots = np.zeros((3, 120, 160), np.uint8)
    for slot in (1, 2, 3):
        y, x = g.integers(0, 60), g.integers(0, 90)
        slots[:, y : y + 55, x : x + 65] = slot
    slots[:, :, 140:] = 255
    present = np.unique(slots)
    paint = np.zeros(256, np.uint8)
    paint[[1, 2, 3, 255]] = 60, 120, 180, 240
    frames = np.repeat(paint[slots][..., None], 3, axis=-1)
    matrices = draw_matrices(slots, 3, VIDEO, 96, g) if set(present) >= {1, 2, 3} else None
    if matrices is None:  # one object hides another
        return
    image, labels = augment(make_batch(frames[None], slots[None], matrices[None]), 96)
    labels = labels[0].numpy()
    assert set(np.unique(labels)) <= set(present)
    grey = (image[0, :, 0] * 255).numpy()
    difference = abs(grey - paint[labels])
    # Nearest and bilinear differ on edges only, by at most half of a step between labels.
    on_edge = np.zeros(labels.shape, bool)
    for axis in (1, 2):
        for shift in (-1, 1):
            on_edge |= np.roll(labels, shift, axis) != labels
    assert difference[~on_edge].max(initial=0) < 121
    assert (difference > 1).mean() < 0.25
    assert (difference[~on_edge] > 1).mean() < 0.05


def test_a_clip_is_the_same_alone_and_padded_among_larger_ones():
    frames, masks = noise(1, 2, 30, 44)
    g = np.random.default_rng(3)
    slots = np.where(masks[0] == 255, 1, masks[0]).astype(np.uint8)
    matrices = draw_matrices(slots, 2, replace(VIDEO, frames=2), 32, g)[None]
    alone = augment(make_batch(frames, masks, matrices), 32)
    big_frames, big_masks = noise(2, 2, 53, 61, seed=9)
    big_frames[0, :, :30, :44], big_masks[0, :, :30, :44] = frames[0], masks[0]
    for axis, edge in ((2, 44), (1, 30)):  # what the loader repeats beside a smaller frame
        place = [slice(None)] * 3
        place[axis], source = edge, list(place)
        source[axis] = edge - 1
        big_frames[0][tuple(place)] = big_frames[0][tuple(source)]
    both = make_batch(
        big_frames, big_masks, np.repeat(matrices, 2, axis=0), sizes=[(30, 44), (53, 61)]
    )
    among = augment(both, 32)
    assert torch.allclose(among[0][0], alone[0][0], atol=1e-4)
    assert (among[1][0] != alone[1][0]).float().mean() < 0.002  # rounding of exact ties


def test_colours_are_applied_and_clamped():
    frames, masks = noise(1, 3, 20, 20)
    recipe = replace(VIDEO, brightness=0.9, contrast=0.5, saturation=0.8, hue=40.0)
    colours = draw_colours(recipe, np.random.default_rng(1))[None]
    eye = np.broadcast_to(IDENTITY, (1, 3, 3, 3))
    image, _ = augment(make_batch(frames, masks, eye, colours), 20)
    rgb = frames[0] / 255.0
    expected = (
        np.einsum("tij,thwj->tihw", colours[0, :, :, :3], rgb) + colours[0, :, :, 3, None, None]
    )
    assert np.allclose(image[0], expected.clip(0, 1), atol=1e-4)
    assert image.min() >= 0
    assert image.max() <= 1
    assert (expected > 1).any()


def test_half_precision_training_changes_nothing():
    frames, masks = noise(1, 1, 24, 24)
    batch = make_batch(frames, masks, np.broadcast_to(IDENTITY, (1, 1, 3, 3)))
    plain = augment(batch, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment(batch, 24)
    assert torch.equal(plain[0], inside[0])
    assert torch.equal(plain[1], inside[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees():
    frames, masks = noise(2, 3, 60, 80)
    slots = np.where(masks[0] == 255, 1, masks[0]).astype(np.uint8)
    matrices = np.stack(
        [draw_matrices(slots, 2, VIDEO, 48, np.random.default_rng(s)) for s in (0, 1)]
    )
    batch = make_batch(frames, masks, matrices)
    ours, theirs = augment(batch, 48), augment(batch.to("cuda"), 48)
    assert torch.allclose(ours[0], theirs[0].cpu(), atol=1e-3)
    assert (ours[1] != theirs[1].cpu()).float().mean() < 0.002
