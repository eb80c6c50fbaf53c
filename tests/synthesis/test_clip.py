"""Clips: whatever the image, objects are real, carry their paint, and a seed decides everything."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.synthesis import clip as clip_module
from stmdata.synthesis.appearance_policy import LIGHT, NONE, STRONG
from stmdata.synthesis.clip import Clip, Skip, _choose_objects, draw_clip, synthesise
from stmdata.synthesis.layers import Scene
from stmdata.synthesis.recipe import CLASSIC, DEFAULT, RECIPES, SynthRecipe
from stmdata.synthesis.render import render
from stmtrain.errors import DataError, UsageError
from tests.profiles import examples
from tests.synthesis_inputs import COLOURS, SEEDS, agrees, disc, made, painted


def apart(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Where a mask is constant within some pixels around, the frame's border left out."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    same = np.asarray(cv2.erode(mask, kernel) == cv2.dilate(mask, kernel))
    inner = np.zeros(mask.shape, np.bool_)
    inner[pixels:-pixels, pixels:-pixels] = True  # an object may end just outside
    return same & inner


@examples(25)
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


@examples(25)
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


@examples(25)
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


@examples(25)
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


def check(clip: Clip, num_frames: int, size: int) -> None:
    assert clip.frames.shape == (num_frames, size, size, 3)
    assert clip.masks.shape == (num_frames, size, size)
    assert clip.frames.dtype == clip.masks.dtype == np.uint8
    ids = np.unique(clip.masks[0][clip.masks[0] > 0]).tolist()
    assert ids == list(range(1, len(ids) + 1))
    assert ids
    assert set(np.unique(clip.masks)) <= {0, *ids}  # nobody joins after frame 0


@examples(25)
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


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("policy", [NONE, STRONG], ids=["none", "strong"])
def test_clips_are_those_of_earlier_revisions(name: str, policy) -> None:
    rng = np.random.default_rng(0)
    labels, pool = painted(200, 260, 3, rng), [disc(30, COLOURS[4]), disc(60, COLOURS[5])]
    recipe = replace(RECIPES[name], paste_probability=1.0, min_object_area=200.0)
    if name == "default":
        recipe = replace(recipe, behind_probability=0.5)
    image = np.clip(COLOURS[labels] + rng.integers(-40, 40, (200, 260, 1)), 0, 255).astype(np.uint8)
    for seed in range(3):
        made_from = np.random.default_rng(seed)
        clip = made(
            draw_clip(image, labels, pool, recipe, made_from, num_frames=4, size=96, policy=policy)
        )
        what = f"{name} {'strong' if policy is STRONG else 'none'} {seed}"
        counts = [[int((mask == i).sum()) for i in range(7)] for mask in clip.masks]
        assert agrees(f"areas {what}", counts, 6)
        quarters = clip.frames.reshape(4, 2, 48, 2, 48, 3).mean(axis=(2, 4))
        assert agrees(f"colours {what}", quarters, 0.4)


def test_an_object_that_covers_too_much_is_drawn_again() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[10:] = 1
    image = COLOURS[labels]
    recipe = replace(CLASSIC, max_object_share=0.2, paste_probability=1.0)
    outcome = draw_clip(image, labels, [], recipe, np.random.default_rng(0), size=64)
    assert outcome is Skip.NO_OBJECT
    recipe = replace(CLASSIC, max_object_share=1.0, paste_probability=1.0)
    made(draw_clip(image, labels, [], recipe, np.random.default_rng(0), size=64))


@pytest.mark.parametrize("draws", [1, 3])
def test_a_clip_is_drawn_at_most_so_often(monkeypatch: pytest.MonkeyPatch, draws: int) -> None:
    labels = painted(100, 100, 1, np.random.default_rng(0))
    image, recipe = COLOURS[labels], replace(DEFAULT, max_draws=draws, max_object_share=0.0)
    rendered = []

    def counted(*arguments: object) -> object:
        rendered.append(arguments)
        return render(*arguments)

    monkeypatch.setattr(clip_module, "render", counted)
    outcome = draw_clip(image, labels, [], recipe, np.random.default_rng(0), size=64)
    assert outcome is Skip.NO_OBJECT
    assert len(rendered) == draws


def test_at_most_so_many_objects_are_kept() -> None:
    labels = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((40, 40))).astype(np.uint8)
    image = np.dstack([labels] * 3)
    seen = set()
    for seed in range(20):
        recipe = replace(DEFAULT, max_objects=2, min_object_area=1.0)
        clip = made(draw_clip(image, labels, [], recipe, np.random.default_rng(seed), size=64))
        assert clip.masks[0].max() == 2
        first = [np.bincount(clip.frames[0][clip.masks[0] == i][:, 0]).argmax() for i in (1, 2)]
        assert first[0] < first[1]  # ids follow those of the label map
        seen |= {int(value) for value in first}
    assert len(seen) > 5


def square(*ids: int, side: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """An image, and a mask with a rectangle of each id."""
    mask = np.zeros((side, side), np.uint8)
    for i, object_id in enumerate(ids):
        mask[10:-10, 10 + 50 * i : 50 + 50 * i] = object_id
    return np.dstack([mask // 2 + 60] * 3), mask


def test_a_clip_is_made_of_one_image_and_its_seed() -> None:
    image, mask = square(7, 254)
    clip = synthesise(image, mask, appearance="none", frames=2, size=64, seed=3)
    labels = np.select([mask == 7, mask == 254], [1, 2]).astype(np.uint8)
    same = made(
        draw_clip(
            image, labels, [], DEFAULT, np.random.default_rng(3), num_frames=2, size=64, policy=NONE
        )
    )
    assert np.array_equal(clip.frames, same.frames)
    assert np.array_equal(clip.masks, same.masks)
    assert set(np.unique(clip.masks)) == {0, 1, 2}


def test_255_is_the_object_only_where_nothing_else_is() -> None:
    image, binary = square(255)
    assert set(np.unique(synthesise(image, binary, size=64).masks)) == {0, 1}
    image, void = square(4, 255)
    _, alone = square(4)
    clip, same = (synthesise(image, mask, size=64) for mask in (void, alone))
    assert np.array_equal(clip.masks, same.masks)


@pytest.mark.parametrize(("frames", "size"), [(2, 32), (3, 33)])
def test_the_smallest_clip(frames: int, size: int) -> None:
    check(synthesise(*square(1), frames=frames, size=size), frames, size)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"frames": 1}, "found 1 of 384"),
        ({"size": 31}, "found 3 of 31"),
        ({"image": np.zeros((9, 8, 3), np.uint8)}, r"found uint8 \(9, 8, 3\)"),
        ({"image": np.zeros((120, 120), np.uint8)}, r"found uint8 \(120, 120\)"),
        ({"mask": np.zeros((120, 120), np.int64)}, "int64"),
        ({"image": np.zeros((120, 120, 3), np.float32)}, "float32"),
        ({"recipe": "none such"}, "none such"),
    ],
)
def test_what_cannot_give_a_clip_is_refused(change: dict[str, object], expected: str) -> None:
    image, mask = square(1)
    with pytest.raises(UsageError, match=expected):
        synthesise(**({"image": image, "mask": mask} | change))


def test_an_image_without_an_object_is_refused_with_its_size() -> None:
    with pytest.raises(DataError, match="120x60"):
        synthesise(np.zeros((60, 120, 3), np.uint8), np.zeros((60, 120), np.uint8))


@pytest.mark.parametrize(("pixels", "kept"), [(90, []), (100, []), (101, [1]), (399, [1])])
def test_the_least_area_scales_with_the_clip(pixels: int, kept: list[int]) -> None:
    scene = Scene(96, np.stack([np.eye(3)] * 2), (1,), (), hard_edges=True, wedges=True)
    mask = np.zeros(96 * 96, np.uint8)
    mask[:pixels] = 1
    recipe = replace(CLASSIC, min_object_area=1600.0)  # px at 384
    assert _choose_objects(mask.reshape(96, 96), scene, recipe, np.random.default_rng(0)) == kept


def test_the_default_seed_is_0() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    first, second = synthesise(COLOURS[mask], mask), synthesise(COLOURS[mask], mask, seed=0)
    assert np.array_equal(first.frames, second.frames)
    assert len(first.frames) == 3
