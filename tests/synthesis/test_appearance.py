"""Appearance: every effect works, nothing is random but the generator, labels move with pixels."""

import dataclasses
import functools
import subprocess
import sys
from itertools import pairwise

import cv2
import imgaug.random
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.synthesis import appearance as module
from stmdata.synthesis.appearance import (
    LIGHT,
    NONE,
    POLICIES,
    STRONG,
    Appearance,
    AppearancePolicy,
    FrameAppearance,
    apply_frame,
    bend_map,
    blur_along,
    deform,
    draw_appearance,
    draw_deformation,
    load_policy,
)
from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, to_mapping, to_toml
from tests.profiles import examples

SIZE = 96
EVERYTHING = dataclasses.replace(
    STRONG, **{f.name: 1.0 for f in dataclasses.fields(STRONG) if f.name.endswith("_p")}
)


def picture(size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Smooth colours with some texture, away from black and white."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 40, 200)


def texture() -> np.ndarray:
    """Coarse noise, as sharp along x as along y."""
    noise = np.random.default_rng(0).integers(40, 200, (SIZE // 2, SIZE // 2, 3), dtype=np.uint8)
    return noise.repeat(2, 0).repeat(2, 1)


def show(
    look: FrameAppearance, frame: np.ndarray, motion: tuple[float, float] | None = None
) -> np.ndarray:
    return apply_frame(Appearance((look,)), frame, 0, motion).astype(float)


def sharpness(image: np.ndarray, axis: int) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=axis)).mean())


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    inside = ((y / (height - 1) - 0.5) ** 2 + (x / (width - 1) - 0.5) ** 2) <= 0.25
    return inside.astype(np.uint8)


# Randomness


def test_the_seed_alone_decides() -> None:
    def clip(seed: int, order: list[int]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        looks = draw_appearance(EVERYTHING, 4, rng)
        bend = draw_deformation(EVERYTHING, 4, rng)
        assert bend is not None
        mask = disc(SIZE, SIZE)
        frames = {t: apply_frame(looks, picture(), t, (9, 4)) for t in order}
        masks = {t: deform(bend, picture(), mask, t)[1] for t in order}
        return np.stack([frames[t] for t in range(4)]), np.stack([masks[t] for t in range(4)])

    frames, masks = clip(1, [0, 1, 2, 3])
    again, masks_again = clip(1, [2, 0, 3, 1])
    assert np.array_equal(frames, again)
    assert np.array_equal(masks, masks_again)
    other, _ = clip(2, [0, 1, 2, 3])
    assert not np.array_equal(frames, other)


def test_no_global_random_state_is_read_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def clip() -> bytes:
        module._noise_tile.cache_clear()
        rng = np.random.default_rng(3)
        looks, bend = draw_appearance(EVERYTHING, 2, rng), draw_deformation(EVERYTHING, 2, rng)
        assert bend is not None
        frame = apply_frame(looks, picture(), 1, (9, 4))
        return frame.tobytes() + deform(bend, picture(), disc(SIZE, SIZE), 1)[1].tobytes()

    def touched() -> None:
        raise AssertionError("imgaug asked for its global generator")

    monkeypatch.setattr(imgaug.random, "get_global_rng", touched)
    before = str(np.random.get_state())  # noqa: NPY002 (imgaug could use it)
    first = clip()
    assert str(np.random.get_state()) == before  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert clip() == first


DIGEST = """
import hashlib, numpy as np
from stmdata.synthesis.appearance import *
rng = np.random.default_rng(5)
looks = draw_appearance(STRONG, 3, rng)
bends = [draw_deformation(STRONG, 3, rng) for _ in range(3)]
frame = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
made = [apply_frame(looks, frame, t, (5, 9)).tobytes() for t in range(3)]
made += [deform(bend, frame, frame[..., 0], 2)[0].tobytes() for bend in bends if bend]
digest = hashlib.sha256(b"".join(made)).hexdigest()
"""


def test_another_process_gives_the_same_bytes() -> None:
    command = [sys.executable, "-c", DIGEST + "print(digest, len(made))"]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    here: dict[str, object] = {}
    exec(DIGEST, here)
    assert other == [here["digest"], str(len(here["made"]))]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_uses_one_number_of_the_generator_per_draw(name: str) -> None:
    rng, reference = np.random.default_rng(4), np.random.default_rng(4)
    draw_appearance(POLICIES[name], 7, rng)
    draw_deformation(POLICIES[name], 7, rng)
    reference.integers(2**63, size=2)
    assert rng.integers(2**63) == reference.integers(2**63)


# Policies


def test_none_is_the_identity() -> None:
    frame = picture()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        looks = draw_appearance(NONE, 3, rng)
        assert all(apply_frame(looks, frame, t, (20, 5)) is frame for t in range(3))
        assert draw_deformation(NONE, 3, rng) is None


def test_none_does_not_load_imgaug() -> None:
    code = (
        "import sys, numpy as np; from stmdata.synthesis.appearance import *\n"
        "rng = np.random.default_rng(0); a = draw_appearance(NONE, 3, rng)\n"
        "apply_frame(a, np.zeros((9, 9, 3), np.uint8), 0, (3, 3)); draw_deformation(NONE, 3, rng)\n"
        "assert 'imgaug' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_imgaug_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imgaug", None)
    monkeypatch.setitem(sys.modules, "imgaug.augmenters", None)
    module._imgaug.cache_clear()
    with pytest.raises(UsageError, match=r"need imgaug.*pip install"):
        show(FrameAppearance(exposure=0.5), picture())


def test_policies_are_read_by_name_and_from_toml(tmp_path) -> None:
    assert [load_policy(name) for name in ("none", "light", "strong")] == [NONE, LIGHT, STRONG]
    file = tmp_path / "mine.toml"
    file.write_text(to_toml(STRONG))
    assert load_policy(file) == STRONG
    file.write_text("hue = 3\njpeg = [20, 30]\n")
    assert load_policy(str(file)) == dataclasses.replace(LIGHT, hue=3.0, jpeg=(20, 30))
    assert from_mapping(AppearancePolicy, to_mapping(STRONG), "manifest") == STRONG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr = 1.0", "unknown field 'blurr'"),
        ("noise_p = 1.5", "noise_p: expected 0 to 1"),
        ("jpeg = [0, 50]", "jpeg: expected 1 to 100"),
        ("jpeg = [60, 50]", "jpeg: expected"),
        ("exposure = nan", "exposure: expected"),
        ("period = [10, inf]", "period: expected"),
        ("motion_max = 40", "motion_max: expected 0 to 19"),
        ("hue = 'red'", "hue: expected float"),
        ("hue = ", "expected a readable TOML file"),
    ],
)
def test_bad_policies_are_refused(tmp_path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        load_policy(file)
    assert str(file) in str(error.value)


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="none, light, strong or a TOML file"):
        load_policy("heavy")


# Effects: each changes pixels in its own direction (imgaug may lose one with a new NumPy)


def test_lighting() -> None:
    frame = picture()
    mean = frame.mean()
    assert show(FrameAppearance(exposure=0.6), frame).mean() > 1.1 * mean
    assert show(FrameAppearance(exposure=-0.6), frame).mean() < 0.9 * mean
    # A stop down is a factor of 2^(-1/2.2) on gamma-encoded values, without overflow at white.
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.abs(show(FrameAppearance(exposure=-1), ramp) - ramp * 2 ** (-1 / 2.2)).max() <= 0.51
    assert np.array_equal(show(FrameAppearance(exposure=4), ramp)[0, -1], [255, 255, 255])
    for look in (
        FrameAppearance(exposure=3),
        FrameAppearance(contrast=1.9),
        FrameAppearance(gamma=0.3),
        FrameAppearance(balance=2),
    ):
        assert (np.diff(show(look, ramp), axis=1) >= 0).all()


def test_contrast_and_gamma() -> None:
    frame = picture()
    assert show(FrameAppearance(contrast=1.3), frame).std() > 1.1 * frame.std()
    assert show(FrameAppearance(contrast=0.6), frame).std() < 0.7 * frame.std()
    grey = np.full((4, 4, 3), 128, np.uint8)
    assert np.abs(show(FrameAppearance(contrast=1.9), grey) - 128).max() <= 1
    assert np.abs(show(FrameAppearance(gamma=2.0), grey) - 255 * (128 / 255) ** 2).max() <= 1
    assert show(FrameAppearance(gamma=0.7), frame).mean() > frame.mean() + 5


def test_balance_turns_grey_warm() -> None:
    red, green, blue = show(FrameAppearance(balance=0.5), np.full((4, 4, 3), 100, np.uint8))[0, 0]
    assert red > 110
    assert green == 100
    assert blue < 90


def test_shade_follows_its_angle() -> None:
    grey = np.full((SIZE, SIZE, 3), 100, np.uint8)
    right, down = (
        show(FrameAppearance(shade=0.5), grey),
        show(FrameAppearance(shade=0.5, shade_angle=np.pi / 2), grey),
    )
    assert (np.diff(right, axis=1) >= 0).all()
    assert np.ptp(right, axis=0).max() == 0
    assert abs(right[0, 0, 0] - 50) <= 1
    assert abs(right[0, -1, 0] - 150) <= 1
    assert np.array_equal(down, right.transpose(1, 0, 2))
    assert abs(right.mean() - 100) < 1


@given(st.floats(-180, 180), st.floats(0, 1.5))
@examples(25)
def test_colour_keeps_greys_and_luma(hue: float, saturation: float) -> None:
    matrix = module._colour_matrix(hue, saturation)
    assert np.allclose(matrix @ [1, 1, 1], 1)
    assert np.allclose(module.LUMA @ matrix, module.LUMA)


def test_hue_and_saturation() -> None:
    frame = picture()

    def colour(look: FrameAppearance) -> np.ndarray:
        return cv2.cvtColor(show(look, frame).astype(np.uint8), cv2.COLOR_RGB2HSV).astype(float)

    plain = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(float)
    assert colour(FrameAppearance(saturation=1.5))[..., 1].mean() > 1.2 * plain[..., 1].mean()
    assert colour(FrameAppearance(saturation=0.5))[..., 1].mean() < 0.7 * plain[..., 1].mean()
    vivid = plain[..., 1] > 90
    turned = (
        colour(FrameAppearance(hue=30))[..., 0] - plain[..., 0] + 90
    ) % 180 - 90  # OpenCV: 2 degrees
    assert 10 < np.median(turned[vivid]) < 20
    assert np.ptp(show(FrameAppearance(saturation=0.0), frame), axis=2).max() <= 1


def test_defocus_blurs_and_keeps_brightness() -> None:
    frame = texture()
    soft, softer = (
        show(FrameAppearance(defocus=0.8), frame),
        show(FrameAppearance(defocus=2.0), frame),
    )
    assert sharpness(softer, 0) < sharpness(soft, 0) < 0.95 * sharpness(frame, 0)
    assert abs(softer.mean() - frame.mean()) < 2


@pytest.mark.parametrize("length", [1, 2.5, 8, 9, 9.1, 14, 19])
@pytest.mark.parametrize("angle", [0, 30, 90, 135, 200])
def test_motion_blur_is_a_centred_streak(length: float, angle: float) -> None:
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255
    way = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    looks = Appearance((FrameAppearance(shutter=0.5, motion_max=19),))
    streak = blur_along(looks, point, 0, tuple(2 * length * way))[..., 0].astype(float)
    y, x = np.nonzero(streak)
    weights = streak[y, x] / streak.sum()
    assert abs(streak.sum() - 255) < 0.25 * 255 + 0.5 * len(y)
    centre = np.array([weights @ (x - 30), weights @ (y - 30)])
    assert np.abs(centre).max() < 0.5
    along = (x - 30) * way[0] + (y - 30) * way[1]
    across = (x - 30) * -way[1] + (y - 30) * way[0]
    assert abs(np.sqrt(weights @ along**2) - length / np.sqrt(12)) < 0.5
    assert np.sqrt(weights @ across**2) < 0.75
    assert np.abs(across).max() < 2


def test_motion_blur_needs_motion_and_an_open_shutter() -> None:
    frame = texture()
    looks = Appearance((FrameAppearance(shutter=0.5, motion_max=9), FrameAppearance(motion_max=9)))
    assert apply_frame(looks, frame, 0) is frame
    assert apply_frame(looks, frame, 0, (0.5, 0.5)) is frame
    assert apply_frame(looks, frame, 1, (30.0, 0.0)) is frame
    blurred = apply_frame(looks, frame, 0, (30.0, 0.0))
    assert sharpness(blurred, 1) < 0.9 * sharpness(frame, 1)
    assert sharpness(blurred, 0) > sharpness(blurred, 1)
    layer = np.dstack([frame, frame[..., 0]])
    assert blur_along(looks, layer, 0, (30.0, 0.0)).shape == layer.shape


def test_motion_blur_kernels_stay_below_the_slow_path() -> None:
    sizes = []
    points = module._points

    def spy(offsets: np.ndarray) -> np.ndarray:
        sizes.append(len(points(offsets)))
        return points(offsets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_points", spy)
        looks = Appearance((FrameAppearance(shutter=1.0, motion_max=19.0),))
        for length in np.arange(1, 24, 0.5):
            blur_along(looks, picture(), 0, (length, 0.0))
            blur_along(looks, picture(), 0, (length * 0.6, -length * 0.8))
    assert max(sizes) == module.KERNEL


@pytest.mark.parametrize("sigma", [2.0, 6.0, 16.0])
def test_noise_has_its_sigma_and_no_bias(sigma: float) -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    noise = show(FrameAppearance(noise=sigma, noise_at=(0.3, 0.8)), grey) - 128
    assert abs(noise.std() / sigma - 1) < 0.05
    assert abs(noise.mean()) < 0.1 * sigma
    other = show(FrameAppearance(noise=sigma, noise_at=(0.31, 0.8)), grey) - 128
    assert abs((noise * other).mean()) < 0.05 * sigma**2
    row = noise[..., 1]
    assert abs((row[:, 1:] * row[:, :-1]).mean()) < 0.05 * sigma**2
    assert 0.4 < (noise[..., 0] * noise[..., 1]).mean() / sigma**2 < 0.9  # mostly luma


def test_noise_of_a_frame_larger_than_the_tile() -> None:
    wide = np.full((700, 1300, 3), 128, np.uint8)
    for at in ((0.0, 0.0), (0.999, 0.999)):
        assert abs(show(FrameAppearance(noise=8.0, noise_at=at), wide).std() - 8) < 0.5


def test_jpeg_loses_detail_not_colour() -> None:
    frame = picture()
    noisy = show(FrameAppearance(noise=12.0), frame).astype(np.uint8)
    coarse, fine = show(FrameAppearance(jpeg=15), noisy), show(FrameAppearance(jpeg=95), noisy)
    assert np.abs(coarse - noisy).mean() > 2 * np.abs(fine - noisy).mean() > 0
    assert np.abs(coarse.mean((0, 1)) - noisy.mean((0, 1))).max() < 3
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert show(FrameAppearance(jpeg=90), red)[..., 0].min() > 240


@given(st.integers(0, 2**32), st.sampled_from(["light", "strong"]), st.integers(1, 80))
@examples(25)
def test_any_frame_stays_a_frame(seed: int, name: str, width: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (31, width, 3), dtype=np.uint8)
    before = frame.copy()
    looks = draw_appearance(POLICIES[name], 3, np.random.default_rng(seed))
    for t in range(3):
        out = apply_frame(looks, frame, t, (12.5, -7))
        assert (out.dtype, out.shape) == (np.uint8, frame.shape)
    assert np.array_equal(frame, before)


def test_a_wrong_frame_is_refused() -> None:
    looks = draw_appearance(NONE, 1, np.random.default_rng(0))
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match=r"expected a \(H, W, 3\) uint8 frame"):
            apply_frame(looks, wrong, 0)


# Time


def test_lighting_drifts_smoothly() -> None:
    policy = dataclasses.replace(EVERYTHING, noise_p=0.0, jpeg_p=0.0)
    fastest = 2 * np.pi / policy.period[0] * policy.drift
    moved = 0.0
    for seed in range(20):
        looks = draw_appearance(policy, 16, np.random.default_rng(seed)).looks
        for name, reach in (("exposure", policy.exposure), ("hue", policy.hue)):
            track = np.array([getattr(look, name) for look in looks])
            assert np.abs(track).max() <= reach
            assert np.abs(np.diff(track)).max() <= fastest * reach
            assert np.abs(np.diff(track, 2)).max() <= fastest * 2 * np.pi / 8 * reach
            moved = max(moved, np.ptp(track) / reach)
        bright = np.array(
            [apply_frame(Appearance(looks), picture(24), t).mean() for t in range(16)]
        )
        assert np.abs(np.diff(bright)).max() < 0.25 * bright.mean()
    assert moved > policy.drift  # it does drift


def test_ranges_are_used_and_kept() -> None:
    looks = [draw_appearance(EVERYTHING, 1, np.random.default_rng(i)).looks[0] for i in range(300)]
    for name, low, high in (
        ("exposure", -STRONG.exposure, STRONG.exposure),
        ("saturation", 1 - STRONG.saturation, 1 + STRONG.saturation),
        ("shutter", *STRONG.shutter),
        ("jpeg", *STRONG.jpeg),
        ("defocus", STRONG.defocus * 0.2, STRONG.defocus),
        ("shade", STRONG.shade * 0.5, STRONG.shade),
    ):
        values = np.array([getattr(look, name) for look in looks])
        assert low <= values.min() < low + 0.25 * (high - low)
        assert high - 0.25 * (high - low) < values.max() <= high


def test_probabilities_are_per_clip() -> None:
    policy = dataclasses.replace(LIGHT, tone_p=0.0, noise_p=0.25, elastic_p=0.5, piecewise_p=0.0)
    clips = [draw_appearance(policy, 3, np.random.default_rng(i)).looks for i in range(400)]
    assert all(look.exposure == 0 for looks in clips for look in looks)
    noisy = [[look.noise != 0 for look in looks] for looks in clips]
    assert all(any(clip) == all(clip) for clip in noisy)
    assert 0.18 < np.mean([clip[0] for clip in noisy]) < 0.32
    bent = [draw_deformation(policy, 3, np.random.default_rng(i)) for i in range(400)]
    assert 0.4 < np.mean([d is not None for d in bent]) < 0.6


# Deformation


@functools.cache
def bends(**changes: float) -> list[module.Deformation]:
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
            image, bent = deform(bend, painted, mask, t)
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
        bent = deform(bend, np.zeros((120, 90, 3), np.uint8), mask, 3)[1]
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
        bent, inside = deform(bend, image, np.ones((height, width), np.uint8), 5)
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
            deform(bend, ramp, disc(128, 128), t)[0].astype(float)[20:-20, 20:-20]
            for t in range(16)
        ]
        steps = [np.abs(b - a).max() for a, b in pairwise(images)]
        fastest = 2 * np.pi / STRONG.period[0] * bend.reach * np.sqrt(2) * 128
        assert max(steps) <= fastest + 2
        assert max(np.abs(image - images[0]).max() for image in images) > 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (40, 9)])
def test_tiny_cutouts(shape: tuple[int, int]) -> None:
    for bend in bends():
        image, mask = deform(bend, np.full((*shape, 3), 9, np.uint8), np.ones(shape, np.uint8), 0)
        assert image.shape[:2] == mask.shape
        assert (image == 9).all()
        assert mask.any()


def test_image_and_mask_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        deform(bends()[0], np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5), np.uint8), 0)


def test_an_operator_that_lost_its_effect_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="has no effect"):
        module._displacement(lambda image: image)
