"""Bending: image and mask bend together, smoothly, and nothing tears or folds."""

import dataclasses
import functools
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest

from stmdata.synthesis.appearance import draw_deformation
from stmdata.synthesis.appearance_policy import STRONG
from stmdata.synthesis.bending import Deformation, bend_map
from tests.synthesis_inputs import EVERYTHING, picture


def bend_both(
    bend: Deformation, image: np.ndarray, mask: np.ndarray, t: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bend image and mask, both padded by the reach, so that nothing is cut off."""
    height, width = mask.shape
    a, b = math.ceil(bend.reach * width), math.ceil(bend.reach * height)
    shift = np.array([[1.0, 0.0, -a], [0.0, 1.0, -b], [0.0, 0.0, 1.0]])
    where = bend_map(bend, t, (width, height), shift, (width + 2 * a, height + 2 * b))
    return (
        cv2.remap(image, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        cv2.remap(mask, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT),
    )


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    inside = ((y / (height - 1) - 0.5) ** 2 + (x / (width - 1) - 0.5) ** 2) <= 0.25
    return inside.astype(np.uint8)


@functools.cache
def bends(**changes: float) -> list[Deformation]:
    policy = dataclasses.replace(EVERYTHING, **changes)
    drawn = [draw_deformation(policy, 16, np.random.default_rng(seed)) for seed in range(6)]
    return [d for d in drawn if d is not None]


KINDS = {"elastic": {"piecewise_p": 0.0}, "piecewise": {"elastic_p": 0.0}, "both": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_image_and_mask_bend_together(kind: str) -> None:
    mask = disc(120, 90) * 7
    mask[40:60, 20:50] = 3
    painted = np.repeat((mask * 30)[..., None], 3, axis=2)
    for bend in bends(**KINDS[kind]):
        for t in (0, 9):
            image, bent = bend_both(bend, painted, mask, t)
            assert image.shape[:2] == bent.shape
            assert set(np.unique(bent)) == {0, 3, 7}
            # One pixel of the map may step over 1.6 of the source: two pixels from any edge
            # both must agree exactly, nearer the image is a blend.
            around = np.ones((5, 5))
            inner = cv2.erode(bent, around) == cv2.dilate(bent, around)
            inner[[0, 1, -2, -1], :] = inner[:, [0, 1, -2, -1]] = False
            away = inner & (bent > 0)
            assert away.sum() > 0.7 * (bent > 0).sum()
            assert np.array_equal(image[away], np.repeat(bent[away, None] * 30, 3, axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_deformation_changes_the_shape_but_tears_and_loses_nothing(kind: str) -> None:
    mask = disc(120, 90)
    for bend in bends(**KINDS[kind]):
        bent = bend_both(bend, np.zeros((120, 90, 3), np.uint8), mask, 3)[1]
        grown = np.pad(
            mask, [((b - m) // 2,) * 2 for b, m in zip(bent.shape, mask.shape, strict=True)]
        )
        assert grown.shape == bent.shape
        assert (grown != bent).mean() > 0.005
        assert 0.7 < bent.sum() / mask.sum() < 1.4
        assert cv2.connectedComponents(bent)[0] == 2
        assert cv2.connectedComponents(1 - bent)[0] == 2  # no holes
        assert not bent[[0, -1]].any()
        assert not bent[:, [0, -1]].any()


def test_displacements_are_shares_of_the_box() -> None:
    width, height = 320, 80
    for bend in bends():
        where = bend_map(bend, 2, (width, height), np.eye(3), (width, height))
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2)
        shares = (where - grid) / [width, height]
        assert np.abs(shares).max() <= bend.reach + 1e-6
        (first, second), (columns, rows) = bend.weights[2], (width // 16, height // 16)
        field = first * bend.modes[0] + second * bend.modes[1]
        middles = shares[rows // 2 :: rows, columns // 2 :: columns]
        assert np.abs(middles - field).max() < 0.1 * bend.reach


def test_bending_composes_with_motion() -> None:
    """Bend and move in one step, or bend first and move the result: the same picture."""
    height, width, size = 60, 90, 160
    image = cv2.GaussianBlur(picture(90)[:height], (0, 0), 2)
    turn = np.vstack([cv2.getRotationMatrix2D((45.0, 30.0), 25, 0.8), [0, 0, 1]])
    matrix = turn @ np.array([[1.0, 0.0, -35.0], [0.0, 1.0, -50.0], [0.0, 0.0, 1.0]])
    for bend in bends():
        bent, inside = bend_both(bend, image, np.ones((height, width), np.uint8), 5)
        a, b = (bent.shape[1] - width) // 2, (bent.shape[0] - height) // 2
        shifted = np.array([[1.0, 0.0, a], [0.0, 1.0, b], [0.0, 0.0, 1.0]]) @ matrix
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        twice = cv2.warpAffine(bent, shifted[:2], (size, size), flags=flags).astype(float)
        inside = cv2.warpAffine(inside, shifted[:2], (size, size), flags=cv2.WARP_INVERSE_MAP)
        where = bend_map(bend, 5, (width, height), matrix, (size, size))
        once = cv2.remap(image, where, None, cv2.INTER_LINEAR).astype(float)
        inner = cv2.erode(inside, np.ones((5, 5))) > 0
        assert inner.sum() > 3000
        assert np.abs(once - twice)[inner].max() <= 6
        assert np.abs(once - twice)[inner].mean() <= 1


def test_deformation_never_folds() -> None:
    for bend in bends(elastic=0.25, piecewise=0.25):
        for first, second in bend.weights:
            field = first * bend.modes[0] + second * bend.modes[1]
            steps = field.shape[0] - 1
            for axis in (0, 1):
                assert np.abs(np.diff(field, axis=axis)).max() * steps < 0.75
            assert np.abs(field).max() <= bend.reach + 1e-6
        assert bend.reach > 0.02


def test_deformation_drifts_smoothly() -> None:
    ramp = np.zeros((128, 128, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(128), np.arange(128)[:, None]
    for bend in bends():
        images = [
            bend_both(bend, ramp, disc(128, 128), t)[0].astype(float)[20:-20, 20:-20]
            for t in range(16)
        ]
        steps = [np.abs(b - a).max() for a, b in pairwise(images)]
        fastest = 2 * np.pi / STRONG.period[0] * bend.reach * np.sqrt(2) * 128
        assert max(steps) <= fastest + 2
        assert max(np.abs(image - images[0]).max() for image in images) > 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (40, 9)])
def test_tiny_cutouts(shape: tuple[int, int]) -> None:
    for bend in bends():
        image, mask = bend_both(
            bend, np.full((*shape, 3), 9, np.uint8), np.ones(shape, np.uint8), 0
        )
        assert image.shape[:2] == mask.shape
        assert (image == 9).all()
        assert mask.any()
