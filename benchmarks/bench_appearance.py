"""What appearance costs: each operation next to imgaug's own, and each policy per clip.

One core, frames of 384x384; operations by wall time, in turns, and clips by CPU time. Frames are
drawn, or taken from a folder of images:

    python -m benchmarks.bench_appearance [--images DIR] [--repeats 15] [--clips 150]
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imgaug.augmenters as iaa
import numpy as np
from imgaug.augmentables import SegmentationMapsOnImage
from numpy.typing import NDArray

from benchmarks.common import report, side_by_side
from stmdata.synthesis.appearance import apply_frame, blur_along, draw_deformation
from stmdata.synthesis.appearance_policy import (
    POLICIES,
    AppearancePolicy,
    FrameAppearance,
    draw_appearance,
)
from stmdata.synthesis.bending import Deformation, bend_map

Array8 = NDArray[np.uint8]
Work = Callable[[], object]
SIZE, FRAMES, OBJECTS = 384, 3, 2  # px; per clip; the default recipe pastes two on average
CUTOUT = 160  # px, side of a cut-out's box
MOTION = (14.0, 6.0)  # px per frame


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of JPEG images")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--clips", type=int, default=150)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # imgaug's JPEG and piecewise affine use deprecated names
    cv2.setNumThreads(1)
    frames = pictures(arguments.images)
    operations = {
        name: side_by_side(works, arguments.repeats) for name, works in groups(frames[0]).items()
    }
    policies = {
        name: per_clip(policy, frames, arguments.clips) for name, policy in POLICIES.items()
    }
    for name, times in operations.items():
        print(f"{name:24}" + "  ".join(f"{k} {1e3 * v:.2f} ms" for k, v in times.items()))
    for name, figures in policies.items():
        print(f"{name:24}" + "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))
    seconds = {name: dict(times) for name, times in operations.items()}
    results = {"seconds_per_call": seconds, "milliseconds_per_clip": policies}
    print(report("appearance", results | {"frames": "real" if arguments.images else "drawn"}))


def pictures(folder: Path | None) -> list[Array8]:
    """Return (384, 384, 3) uint8 RGB frames: the folder's first 20 images, or drawn ones."""
    if folder is None:
        noise = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
        return [cv2.resize(n, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for n in noise]
    paths = sorted(folder.glob("*.jpg"))[:20]
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return [cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for image in images]


def film(look: FrameAppearance, frame: Array8) -> Array8:
    """Apply all effects to a frame, motion blur first."""
    return apply_frame(look, blur_along(look, frame, MOTION))


def deform(bend: Deformation, image: Array8, mask: Array8, t: int) -> None:
    """Bend a cut-out and its mask."""
    height, width = mask.shape
    where = bend_map(bend, t, (width, height), np.eye(3), (width, height))
    cv2.remap(image, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cv2.remap(mask, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


def groups(frame: Array8) -> dict[str, dict[str, Work]]:
    """Return, per effect, ours and imgaug's augmenter with the same effect."""

    def ours(look: FrameAppearance) -> Work:
        return lambda: film(look, frame)

    def theirs(*augmenters: Any) -> Work:
        def run() -> None:
            image = frame
            for augmenter in augmenters:
                image = augmenter(image=image)

        return run

    tone = (iaa.Multiply(1.2, seed=1), iaa.LinearContrast(1.2, seed=1))
    tone += (iaa.GammaContrast(1.2, seed=1),)
    field = np.linspace(0.7, 1.3, SIZE, dtype=np.float32)[:, None, None] + np.zeros_like(
        frame, np.float32
    )
    hue = iaa.AddToHue(10, seed=1), iaa.MultiplySaturation(1.3, seed=1)
    streak = FrameAppearance(shutter=0.6, motion_max=19)
    return {
        "tone": {
            "ours": ours(FrameAppearance(exposure=0.4, contrast=1.2, gamma=1.2, balance=0.1)),
            "imgaug, without balance": theirs(*tone),
        },
        "shade": {
            "ours": ours(FrameAppearance(shade=0.3)),
            "imgaug": lambda: iaa.multiply_elementwise(frame, field),
        },
        "hue and saturation": {
            "ours": ours(FrameAppearance(hue=10, saturation=1.3)),
            "imgaug": theirs(*hue),
        },
        "defocus": {
            "ours (imgaug)": ours(FrameAppearance(defocus=1.2)),
            "OpenCV": lambda: cv2.GaussianBlur(frame, (0, 0), 1.2),
        },
        "motion blur 9 px": {
            "ours (imgaug's convolve)": ours(streak),
            "imgaug": theirs(iaa.MotionBlur(k=9, angle=23, direction=0, seed=1)),
        },
        "motion blur 19 px": {
            "ours (imgaug's convolve)": lambda: blur_along(
                streak, frame, (2.1 * MOTION[0], 2.1 * MOTION[1])
            ),
            "imgaug": theirs(iaa.MotionBlur(k=19, angle=23, direction=0, seed=1)),
        },
        "noise": {
            "ours (imgaug's tile)": ours(FrameAppearance(noise=8.0)),
            "imgaug": theirs(iaa.AdditiveGaussianNoise(scale=8, per_channel=True, seed=1)),
        },
        "JPEG": {
            "ours": ours(FrameAppearance(jpeg=50)),
            "imgaug": theirs(iaa.JpegCompression(50, seed=1)),
        },
        **bending(frame[:CUTOUT, :CUTOUT]),
    }


def bending(image: Array8) -> dict[str, dict[str, Work]]:
    """Return the deformations of one cut-out and its mask, ours and imgaug's."""
    mask = np.ones(image.shape[:2], np.uint8)

    def only(**probabilities: float) -> dict[str, Work]:
        off = {"elastic_p": 0.0, "piecewise_p": 0.0} | probabilities
        policy = AppearancePolicy(**off)  # type: ignore[arg-type]
        drawn = draw_deformation(policy, 1, np.random.default_rng(0))
        assert drawn is not None
        return {
            "ours, drawing": lambda: draw_deformation(policy, 3, np.random.default_rng(0)),
            "ours, a frame": lambda: deform(drawn, image, mask, 0),
        }

    def theirs(augmenter: Any) -> dict[str, Work]:
        labels = SegmentationMapsOnImage(mask, shape=image.shape)
        return {"imgaug, a frame": lambda: augmenter(image=image, segmentation_maps=labels)}

    return {
        "elastic": only(elastic_p=1.0)
        | theirs(iaa.ElasticTransformation(alpha=80, sigma=13, seed=1)),
        "piecewise affine": only(piecewise_p=1.0) | theirs(iaa.PiecewiseAffine(scale=0.03, seed=1)),
    }


def per_clip(policy: AppearancePolicy, frames: list[Array8], clips: int) -> dict[str, float]:
    """Return the mean and percentiles of a clip's CPU milliseconds, and the parts of the mean."""
    cutout, mask = frames[0][:CUTOUT, :CUTOUT], np.ones((CUTOUT, CUTOUT), np.uint8)
    drawing, looking, bent = [], [], []
    for seed in range(-3, clips):
        rng = np.random.default_rng(abs(seed))
        start = time.thread_time()
        looks = draw_appearance(policy, FRAMES, rng)
        objects = [draw_deformation(policy, FRAMES, rng) for _ in range(OBJECTS)]
        drawn = time.thread_time()
        for look in looks:
            film(look, frames[seed % len(frames)])
        looked = time.thread_time()
        for t in range(FRAMES):
            for bend in objects:
                if bend is not None:
                    deform(bend, cutout, mask, t)
        if seed >= 0:  # the first clips import imgaug and make the noise tile
            drawing.append(1e3 * (drawn - start))
            looking.append(1e3 * (looked - drawn))
            bent.append(1e3 * (time.thread_time() - looked))
    total = [sum(parts) for parts in zip(drawing, looking, bent, strict=True)]
    return {
        "mean": statistics.fmean(total),
        "median": statistics.median(total),
        "90 %": float(np.percentile(total, 90)),
        "drawing": statistics.fmean(drawing),
        "frames": statistics.fmean(looking),
        "bending": statistics.fmean(bent),
    }


if __name__ == "__main__":
    main()
