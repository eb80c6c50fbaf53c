"""Appearance: every effect works, and nothing is random except the generator."""

import subprocess
import sys

import cv2
import imgaug.random
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.synthesis import appearance as module
from stmdata.synthesis.appearance import apply_frame, blur_along, draw_deformation
from stmdata.synthesis.appearance_policy import NONE, POLICIES, FrameAppearance, draw_appearance
from stmdata.synthesis.bending import bend_map
from stmtrain.errors import UsageError
from tests.profiles import examples
from tests.synthesis_inputs import EVERYTHING, picture

SIZE = 96


def texture() -> np.ndarray:
    """Coarse noise, as sharp along x as along y."""
    noise = np.random.default_rng(0).integers(40, 200, (SIZE // 2, SIZE // 2, 3), dtype=np.uint8)
    return noise.repeat(2, 0).repeat(2, 1)


def show(look: FrameAppearance, frame: np.ndarray) -> np.ndarray:
    return apply_frame(look, frame).astype(float)


def film(look: FrameAppearance, frame: np.ndarray, motion: tuple[float, float]) -> np.ndarray:
    """Blur a frame along its motion, then apply all other effects."""
    return apply_frame(look, blur_along(look, frame, motion))


def sharpness(image: np.ndarray, axis: int) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=axis)).mean())


def test_the_seed_alone_decides() -> None:
    def clip(seed: int, order: list[int]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        looks = draw_appearance(EVERYTHING, 4, rng)
        bend = draw_deformation(EVERYTHING, 4, rng)
        assert bend is not None
        frames = {t: film(looks[t], picture(), (9, 4)) for t in order}
        masks = {t: bend_map(bend, t, (SIZE, SIZE), np.eye(3), (SIZE, SIZE)) for t in order}
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
        frame = film(looks[1], picture(), (9, 4))
        return frame.tobytes() + bend.modes.tobytes()

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
from stmdata.synthesis.appearance_policy import STRONG, draw_appearance
rng = np.random.default_rng(5)
looks = draw_appearance(STRONG, 3, rng)
bends = [draw_deformation(STRONG, 3, rng) for _ in range(3)]
frame = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
made = [apply_frame(look, blur_along(look, frame, (5, 9))).tobytes() for look in looks]
made += [bend.modes.tobytes() for bend in bends if bend]
digest = hashlib.sha256(b"".join(made)).hexdigest()
"""


def test_another_process_gives_the_same_bytes() -> None:
    command = [sys.executable, "-c", DIGEST + "print(digest, len(made))"]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    here: dict[str, object] = {}
    exec(DIGEST, here)
    assert other == [here["digest"], str(len(here["made"]))]


def test_none_is_the_identity() -> None:
    frame = picture()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        looks = draw_appearance(NONE, 3, rng)
        assert all(film(look, frame, (20, 5)) is frame for look in looks)
        assert draw_deformation(NONE, 3, rng) is None


def test_none_does_not_load_imgaug() -> None:
    code = (
        "import sys, numpy as np; from stmdata.synthesis.appearance import *\n"
        "from stmdata.synthesis.appearance_policy import NONE, draw_appearance\n"
        "rng = np.random.default_rng(0); look = draw_appearance(NONE, 3, rng)[0]\n"
        "apply_frame(look, blur_along(look, np.zeros((9, 9, 3), np.uint8), (3, 3)))\n"
        "draw_deformation(NONE, 3, rng)\n"
        "assert 'imgaug' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_imgaug_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imgaug", None)
    monkeypatch.setitem(sys.modules, "imgaug.augmenters", None)
    module._imgaug.cache_clear()
    with pytest.raises(UsageError, match=r"need imgaug.*pip install"):
        show(FrameAppearance(exposure=0.5), picture())


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
    look = FrameAppearance(shutter=0.5, motion_max=19)
    streak = blur_along(look, point, tuple(2 * length * way))[..., 0].astype(float)
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
    look = FrameAppearance(shutter=0.5, motion_max=9)
    assert apply_frame(look, frame) is frame
    assert blur_along(look, frame, (0.0, 0.0)) is frame
    assert blur_along(look, frame, (0.5, 0.5)) is frame
    assert blur_along(FrameAppearance(motion_max=9), frame, (30.0, 0.0)) is frame
    blurred = blur_along(look, frame, (30.0, 0.0))
    assert sharpness(blurred, 1) < 0.9 * sharpness(frame, 1)
    assert sharpness(blurred, 0) > sharpness(blurred, 1)
    layer = np.dstack([frame, frame[..., 0]])
    assert blur_along(look, layer, (30.0, 0.0)).shape == layer.shape


def test_motion_blur_kernels_stay_below_the_slow_path() -> None:
    sizes = []
    points = module._points

    def spy(offsets: np.ndarray) -> np.ndarray:
        sizes.append(len(points(offsets)))
        return points(offsets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_points", spy)
        look = FrameAppearance(shutter=1.0, motion_max=19.0)
        for length in np.arange(1, 24, 0.5):
            blur_along(look, picture(), (length, 0.0))
            blur_along(look, picture(), (length * 0.6, -length * 0.8))
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
    for look in looks:
        out = film(look, frame, (12.5, -7))
        assert (out.dtype, out.shape) == (np.uint8, frame.shape)
    assert np.array_equal(frame, before)


def test_a_wrong_frame_is_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match=r"expected a \(H, W, 3\) uint8 frame"):
            apply_frame(FrameAppearance(), wrong)


def test_an_operator_that_lost_its_effect_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="has no effect"):
        module._displacement(lambda image: image)
