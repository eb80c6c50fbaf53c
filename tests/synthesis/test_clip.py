from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.clip_stats import clip_statistics
from stmdata.stills.source import CocoSource, label_map
from stmdata.synthesis.appearance_policy import LIGHT, NONE, STRONG
from stmdata.synthesis.classic import draw_classic
from stmdata.synthesis.clip import Clip, Skip, draw_clip
from stmdata.synthesis.layers import (
    Cutout,
    Layer,
    Scene,
    cut_out,
    inverse,
    scaling,
    transform,
    translation,
)
from stmdata.synthesis.recipe import CLASSIC, DEFAULT, RECIPES, SynthRecipe
from stmdata.synthesis.render import render
from stmdata.synthesis.smooth import draw_smooth
from tests.paths import REAL, real_data

COLOURS = np.array(
    [[128, 128, 128], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]], np.uint8
)
SEEDS = st.integers(0, 2**32)
quick = settings(max_examples=25, deadline=None)


def disc(radius: int, colour: Sequence[int] = (0, 0, 0)) -> Cutout:
    """A disc whose colour fills its whole box, so that every pixel of it has that colour."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    mask = (x * x + y * y <= radius * radius).astype(np.uint8)
    image = np.empty((*mask.shape, 3), np.uint8)
    image[:] = colour
    return cut_out(image, mask)


def painted(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Label map with rectangles 1..count, large ones, later ones over earlier ones."""
    labels = np.zeros((height, width), np.uint8)
    for object_id in range(1, count + 1):
        top, left = rng.integers(height // 2), rng.integers(width // 2)
        h, w = rng.integers(height // 4, height // 2), rng.integers(width // 4, width // 2)
        labels[top : top + h, left : left + w] = object_id
    return labels


def made(outcome: Clip | Skip) -> Clip:
    assert isinstance(outcome, Clip)
    return outcome


def apart(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Where a mask is constant within some pixels around, the frame's border left out."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    same = np.asarray(cv2.erode(mask, kernel) == cv2.dilate(mask, kernel))
    inner = np.zeros(mask.shape, np.bool_)
    inner[pixels:-pixels, pixels:-pixels] = True  # an object may end just outside
    return same & inner


# --- image and mask move together -----------------------------------------------------------------


@quick
@given(seed=SEEDS, name=st.sampled_from(sorted(RECIPES)), num_frames=st.integers(2, 6))
def test_objects_of_the_image_carry_their_paint_to_the_pixel(
    seed: int, name: str, num_frames: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = painted(*rng.integers(150, 400, 2), 3, rng)
    recipe = replace(RECIPES[name], max_objects=5, min_object_area=300.0, max_object_share=1.0)
    clip = draw_clip(COLOURS[labels], labels, [], recipe, rng, num_frames=num_frames, size=128)
    if isinstance(clip, Skip):
        assert clip is Skip.NO_OBJECT
        return
    paint = {}
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        inner = apart(mask, 4) & (mask > 0)  # beyond the reach of interpolation
        for object_id in np.unique(mask[inner]):
            colours = np.unique(frame[inner & (mask == object_id)], axis=0)
            assert len(colours) == 1
            first = paint.setdefault(object_id, colours[0])
            assert (colours[0] == first).all()  # the same object in every frame
            assert not (frame[apart(mask, 4) & (mask == 0)] == first).all(axis=1).any()
    assert len({tuple(colour) for colour in paint.values()}) == len(paint)


@quick
@given(seed=SEEDS, num_frames=st.integers(2, 6))
def test_hard_pasted_objects_are_their_mask_exactly(seed: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((200, 260, 3), 128, np.uint8)
    pool = [disc(radius, COLOURS[i + 1]) for i, radius in enumerate((25, 40, 60))]
    recipe = replace(CLASSIC, min_object_area=60.0)
    clip = draw_clip(image, image[..., 0] * 0, pool, recipe, rng, num_frames=num_frames, size=160)
    clip = made(clip)
    for object_id in range(1, int(clip.masks[0].max()) + 1):
        colour = clip.frames[clip.masks == object_id][0]
        same = (clip.frames == colour).all(axis=3)
        ids = set(np.unique(clip.masks[same]).tolist()) - {0}
        assert (clip.frames[clip.masks == object_id] == colour).all()
        # What shows the colour is this object, or another paste of the same cut-out.
        if (clip.masks[same] > 0).all():
            assert (same == np.isin(clip.masks, list(ids))).all()
        else:  # a paste too small in frame 0 to be an object
            assert (clip.masks[0][same[0]] == 0).sum() <= 60


@quick
@given(seed=SEEDS, policy=st.sampled_from([NONE, replace(NONE, elastic_p=1.0, elastic=0.1)]))
def test_soft_pasted_objects_are_their_mask_but_for_the_edge(seed: int, policy) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((200, 260, 3), 128, np.uint8)
    recipe = replace(DEFAULT, pastes=(1, 1), max_object_share=1.0, behind_probability=0.0)
    pool = [disc(40, (255, 0, 0))]
    labels = np.zeros(image.shape[:2], np.uint8)
    clip = made(draw_clip(image, labels, pool, recipe, rng, size=160, policy=policy))
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        still = apart(mask, 3)
        assert (frame[still & (mask == 1)] == (255, 0, 0)).all()
        assert (frame[still & (mask == 0)] == 128).all()
        # Half covered is where the mask ends: the edge is neither grown nor eaten.
        edge = (frame[..., 0].astype(int) - 128) * 2 > 127
        assert np.abs(edge.sum() - mask.sum()) <= 0.04 * mask.sum() + 4


def test_an_edge_is_blended_over_about_two_pixels() -> None:
    matrices = np.stack([translation(-10.3, -10.6)] * 2)
    layers = (Layer(disc(20, (200, 0, 0)), matrices, 1),)
    scene = Scene(64, np.stack([np.eye(3)] * 2), (), layers, hard_edges=False, wedges=False)
    image = np.zeros((64, 64, 3), np.uint8)
    frames, masks = render(image, image[..., 0], scene)
    row = frames[0, 32, :, 0].astype(int)
    assert ((row > 0) & (row < 200)).sum() in range(2, 9)
    assert (row[masks[0, 32] == 1] >= 95).all()
    assert (row[masks[0, 32] == 0] <= 105).all()


# --- depth, leaving, edges of the image -----------------------------------------------------------


@quick
@given(seed=SEEDS)
def test_depth_order_is_the_same_in_every_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = painted(200, 260, 2, rng)
    image = COLOURS[labels]
    pool = [disc(50, COLOURS[3]), disc(60, COLOURS[4])]
    recipe = replace(DEFAULT, pastes=(3, 3), paste_probability=1.0, behind_probability=0.5)
    scene = draw_smooth(labels, pool, recipe, 4, 128, rng)
    _, masks = render(image, labels, scene)
    for i, layer in enumerate(scene.layers):
        alone = replace(scene, layers=(replace(layer, behind=0),))
        above = render(image, labels, alone)[1] == layer.object_id
        for later in scene.layers[i + 1 :]:
            over = render(image, labels, replace(scene, layers=(later,)))[1]
            above &= over != later.object_id
        if layer.behind:
            above &= render(image, labels, replace(scene, layers=()))[1] == 0
        assert (above == (masks == layer.object_id)).all()
    hidden = [layer.behind > 0 for layer in scene.layers]
    assert hidden == sorted(hidden, reverse=True)


@quick
@given(seed=SEEDS, num_frames=st.integers(3, 16))
def test_an_object_that_leaves_returns(seed: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.zeros((200, 260, 3), np.uint8)
    recipe = replace(DEFAULT, pastes=(1, 1), leave_probability=1.0, paste_zoom=0.0, view=(1.0, 1.0))
    labels = image[..., 0].copy()
    clip = made(
        draw_clip(image, labels, [disc(30, (9, 9, 9))], recipe, rng, num_frames=num_frames, size=96)
    )
    areas = (clip.masks == 1).sum(axis=(1, 2))
    assert areas[0] > 0
    assert areas[num_frames // 2] == 0
    assert areas[-1] > 0


@quick
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(32, 300), st.integers(32, 300)),
    num_frames=st.integers(2, 16),
    size=st.sampled_from([64, 97, 384]),
)
def test_smooth_frames_lie_inside_the_image(
    seed: int, shape: tuple[int, int], num_frames: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = painted(*shape, 2, rng)
    scene = draw_smooth(labels, [], DEFAULT, num_frames, size, rng)
    side = size - 1.0
    spots = transform(scene.base, np.array([[0, 0], [side, 0], [side, side], [0, side]]))
    assert (spots >= -1e-6).all()
    assert (spots <= np.array([shape[1] - 1, shape[0] - 1]) + 1e-6).all()


@quick
@given(seed=SEEDS, num_frames=st.integers(3, 16))
def test_smooth_motion_has_no_jerks_and_every_direction(seed: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    recipe = replace(DEFAULT, leave_probability=0.0, pastes=(1, 1), paste_probability=1.0)
    scene = draw_smooth(np.zeros((200, 200), np.uint8), [disc(30)], recipe, num_frames, 100, rng)
    layer = scene.layers[0]
    path = transform(inverse(layer.matrices), np.array([layer.cutout.centre]))[:, 0]
    steps = np.diff(path, axis=0)
    change = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    fastest = np.linalg.norm(steps, axis=1).max()
    assert (change <= 100 * recipe.paste_shift * recipe.acceleration).all()
    assert fastest <= 100 * recipe.paste_shift * (1 + recipe.acceleration)
    assert np.linalg.norm(path[-1] - path[0]) <= 105 * recipe.paste_shift * recipe.full_speed_steps


def test_smooth_motion_goes_every_way() -> None:
    rng = np.random.default_rng(0)
    recipe = replace(DEFAULT, leave_probability=0.0, pastes=(1, 1), paste_probability=1.0)
    ends = []
    for _ in range(200):
        scene = draw_smooth(np.zeros((99, 99), np.uint8), [disc(30)], recipe, 3, 100, rng)
        centre = np.array([scene.layers[0].cutout.centre])
        spots = transform(inverse(scene.layers[0].matrices), centre)[:, 0]
        ends.append(spots[-1] - spots[0])
    quadrants = [tuple(sign) for sign in np.sign(ends).astype(int)]
    assert all(quadrants.count((x, y)) > 25 for x in (-1, 1) for y in (-1, 1))


# --- any input ------------------------------------------------------------------------------------


def check(clip: Clip, num_frames: int, size: int) -> None:
    assert clip.frames.shape == (num_frames, size, size, 3)
    assert clip.masks.shape == (num_frames, size, size)
    assert clip.frames.dtype == clip.masks.dtype == np.uint8
    ids = np.unique(clip.masks[0][clip.masks[0] > 0]).tolist()
    assert ids == list(range(1, len(ids) + 1))
    assert ids
    assert set(np.unique(clip.masks)) <= {0, *ids}  # nobody joins after frame 0


@quick
@given(
    seed=SEEDS,
    name=st.sampled_from(sorted(RECIPES)),
    num_frames=st.integers(2, 16),
    size=st.sampled_from([32, 65, 128]),
    shape=st.tuples(st.integers(32, 200), st.integers(32, 200)),
    count=st.integers(0, 5),
)
def test_any_image_gives_a_clip_with_real_objects_or_a_reason(
    seed: int, name: str, num_frames: int, size: int, shape: tuple[int, int], count: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = painted(*shape, count, rng)
    recipe = RECIPES[name]
    pool = [disc(4), disc(300)]  # far smaller and far larger than the clip
    outcome = draw_clip(
        COLOURS[labels], labels, pool, recipe, rng, num_frames=num_frames, size=size
    )
    if isinstance(outcome, Clip):
        check(outcome, num_frames, size)
        areas = [(outcome.masks[0] == i).sum() for i in range(1, outcome.masks[0].max() + 1)]
        assert min(areas) > recipe.min_object_area * (size / 384) ** 2
        assert min(areas) <= recipe.max_object_share * size**2
        assert len(areas) <= recipe.max_objects
    else:
        assert outcome is Skip.NO_OBJECT


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("policy", [NONE, LIGHT, STRONG], ids=["none", "light", "strong"])
def test_the_generator_alone_decides(recipe: SynthRecipe, policy) -> None:
    labels = painted(150, 200, 3, np.random.default_rng(0))
    image = np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8)
    pool = [disc(30, (200, 9, 9)), disc(20, (9, 9, 200))]

    def make(seed: int) -> Clip:
        rng = np.random.default_rng(seed)
        before = (image.copy(), labels.copy(), [c.rgba.copy() for c in pool])
        clip = made(draw_clip(image, labels, pool, recipe, rng, size=96, policy=policy))
        after = (image, labels, [c.rgba for c in pool])
        assert all(np.array_equal(a, b) for a, b in zip(before[:2], after[:2], strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(before[2], after[2], strict=True))
        return clip

    first, other = make(3), make(4)
    np.random.default_rng(99).random(5)  # nothing global is read
    again = make(3)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_two_hundred_instances(recipe: SynthRecipe) -> None:
    grid = np.kron(np.arange(1, 201).reshape(10, 20), np.ones((30, 30))).astype(np.uint8)
    image = np.dstack([grid] * 3)
    recipe = replace(recipe, max_objects=254, min_object_area=20.0)
    clip = made(draw_clip(image, grid, [disc(9)], recipe, np.random.default_rng(0), size=160))
    check(clip, 3, 160)
    if recipe.family == "smooth":
        assert clip.masks[0].max() > 30


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_nothing_to_show_and_too_small_are_reasons(recipe: SynthRecipe) -> None:
    rng = np.random.default_rng(0)
    blank = np.zeros((100, 100), np.uint8)
    image = np.dstack([blank] * 3)
    assert draw_clip(image, blank, [], recipe, rng, size=64) is Skip.NO_OBJECT
    small = np.s_[:31, :100]
    assert draw_clip(image[small], blank[small], [], recipe, rng, size=64) is Skip.TOO_SMALL


@quick
@given(seed=SEEDS, num_frames=st.integers(2, 8))
def test_classic_corners_drift_one_way_by_a_tenth_per_frame(seed: int, num_frames: int) -> None:
    height, width = 240, 320
    recipe = replace(CLASSIC, flip=0.0, full_speed_steps=99)
    labels = np.zeros((height, width), np.uint8)
    scene = draw_classic(labels, [], recipe, num_frames, 384, np.random.default_rng(seed))
    canvas = np.array([[0, 0], [640, 0], [640, 480], [0, 480]])  # short side 480
    spots = transform(inverse(scene.base), (canvas + 0.5) / 2 - 0.5)
    steps = np.diff(spots, axis=0) / (640, 480)  # (T - 1, 4, 2), shares of width and height
    assert np.abs(steps).max() <= 0.1 + 1e-4
    ways = np.sign(np.where(np.abs(steps) < 1e-4, 0, steps))
    assert (np.abs(ways.sum(axis=(0, 2))) == np.abs(ways).sum(axis=(0, 2))).all()


def test_objects_below_the_threshold_are_background() -> None:
    labels = np.zeros((384, 384), np.uint8)
    labels[100:300, 100:300] = 1
    recipe = replace(CLASSIC, paste_probability=1.0)
    image = np.zeros((384, 384, 3), np.uint8)
    pool = [disc(10, (255, 0, 0))]  # 317 px of the 350 that it takes
    for seed in range(20):
        clip = made(draw_clip(image, labels, pool, recipe, np.random.default_rng(seed)))
        assert clip.masks.max() == 1
        assert clip.frames[0].max() in (0, 255)


def test_a_grey_image_stays_grey() -> None:
    rng = np.random.default_rng(0)
    image = np.dstack([rng.integers(0, 256, (150, 200), np.uint8)] * 3)
    labels = painted(150, 200, 2, rng)
    frames = made(draw_clip(image, labels, [], DEFAULT, rng, size=96)).frames
    assert (frames == frames[..., :1]).all()


def test_strong_shrinking_averages_instead_of_skipping_pixels() -> None:
    y, x = np.mgrid[:800, :800]
    image = np.dstack([((x + y) % 2 * 255).astype(np.uint8)] * 3)
    labels = ((x > 200) & (x < 600)).astype(np.uint8)
    base = np.stack([translation(2, 2) @ scaling(7.9)] * 2)
    scene = Scene(100, base, (1,), (), hard_edges=False, wedges=False)
    frames, masks = render(image, labels, scene)
    assert np.abs(frames.astype(int) - 127).max() <= 3
    assert abs((masks[0] == 1).sum() / 100 - 399 / 7.9) < 1


def test_the_earliest_instance_wins_an_overlap() -> None:
    ones = np.ones((4, 4), np.uint8)
    labels = label_map([(ones, (0, 0)), (ones, (2, 2))], 6, 7)
    assert labels.shape == (6, 7)
    assert (labels[:4, :4] == 1).all()
    assert labels[4, 4] == labels[5, 5] == 2
    assert labels[0, 5] == 0


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_of_a_known_clip() -> None:
    masks = np.zeros((3, 40, 40), np.uint8)
    masks[0, 10:20, 10:20] = 1
    masks[1, 10:20, 13:23] = 1  # three to the right
    masks[0, 30:35, 30:35] = 2  # gone after
    got = clip_statistics([masks])
    assert got["objects"]["mean"] == 2
    assert got["objects"]["histogram"]["2"] == 1
    assert got["fg_fraction"]["mean"] == 125 / 1600
    assert got["iou_12"] == {
        "n": 1,
        "mean": 70 / 130,
        "p10": 70 / 130,
        "p50": 70 / 130,
        "p90": 70 / 130,
    }
    assert got["shift_12"]["mean"] == 3
    assert got["area_ratio_12"]["mean"] == 1
    assert (got["vanish_2"]["n"], got["vanish_2"]["mean"]) == (2, 0.5)
    assert (got["vanish_3"]["n"], got["vanish_3"]["mean"]) == (1, 1)


@pytest.mark.golden
@real_data
def test_classic_agrees_with_the_published_generator(tmp_path: Path) -> None:
    """240 clips against the golden 1600; the tolerance is four times the sampling error."""
    annotations = tmp_path / "train.json"
    annotations.write_bytes((REAL / "coco/annotations/instances_train2017.json").read_bytes())
    source = CocoSource(REAL / "coco/train2017", annotations)
    pool = [c for c in source.cutouts(150, 3000, np.random.default_rng(0)) if isinstance(c, Cutout)]
    pictures = [source.read(i, CLASSIC.min_instance_area) for i in range(80)]
    masks = [
        made(draw_clip(p.image, p.labels, pool, CLASSIC, np.random.default_rng([n, i]))).masks
        for n in range(3)
        for i, p in enumerate(pictures)
    ]
    got = clip_statistics(masks)
    for name, want, tolerance in (
        ("objects", 3.493, 0.25),
        ("fg_fraction", 0.3915, 0.035),
        ("iou_12", 0.4306, 0.03),
        ("iou_23", 0.4306, 0.04),
        ("shift_12", 25.80, 2.5),
        ("shift_23", 25.83, 2.5),
        ("vanish_2", 0.0109, 0.015),
        ("vanish_3", 0.0239, 0.02),
    ):
        assert got[name]["mean"] == pytest.approx(want, abs=tolerance), name
