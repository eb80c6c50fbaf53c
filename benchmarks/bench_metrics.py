"""J and F per object and 480p frame: ours against the official algorithm with cv2.dilate.

Both get the same masks on one core, in turns. Masks are drawn, or taken from a DAVIS 2016 tree and
a folder of results:

    python -m benchmarks.bench_metrics [--davis DIR --results DIR] [--repeats 5]
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import report, side_by_side
from stmtrain.datasets.dataset import find_dataset
from stmtrain.images.decode import decode_mask
from stmtrain.scoring.metrics import TOLERANCE, j_and_f

Mask = NDArray[np.bool_]
Pair = tuple[Mask, Mask]


def main() -> None:
    """Measure, compare the values, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, help="DAVIS 2016 tree; needs --results")
    parser.add_argument("--results", type=Path, help="result masks for its val split")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if (arguments.davis is None) != (arguments.results is None):
        parser.error("--davis and --results go together")
    cv2.setNumThreads(1)
    if arguments.davis is None:
        pairs = [drawn_pair(np.random.default_rng([0, i])) for i in range(40)]
    else:
        pairs = real_pairs(arguments.davis, arguments.results)
    worst = max(
        abs(a - b) for pair in pairs for a, b in zip(j_and_f(*pair), official(*pair), strict=True)
    )
    seconds = side_by_side(
        {"ours": over(pairs, j_and_f), "official": over(pairs, official)}, arguments.repeats
    )
    large = frame_filling_pair()
    filling = side_by_side(
        {"ours": over([large], j_and_f), "official": over([large], official)}, 20
    )
    results = {
        "masks": "drawn" if arguments.davis is None else "DAVIS 2016 val",
        "pairs": len(pairs),
        "height_width": list(pairs[0][0].shape),
        "ours_ms": 1e3 * seconds["ours"] / len(pairs),
        "official_ms": 1e3 * seconds["official"] / len(pairs),
        "times_faster": seconds["official"] / seconds["ours"],
        "times_faster_frame_filling": filling["official"] / filling["ours"],
        "largest_difference": worst,
    }
    for name, value in results.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    print(report("metrics", results))


def over(pairs: list[Pair], measure: Callable[[Mask, Mask], object]) -> Callable[[], object]:
    """Return a call that measures every pair."""
    return lambda: [measure(*pair) for pair in pairs]


def official(prediction: Mask, truth: Mask) -> tuple[float, float]:
    """Compute J and F step by step as the DAVIS paper defines them, on complete frames."""
    union = np.sum(prediction | truth)
    j = np.sum(prediction & truth) / union if union else 1.0
    radius = math.ceil(TOLERANCE * np.linalg.norm(truth.shape))
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    predicted, true = contour(prediction), contour(truth)
    near_predicted = cv2.dilate(predicted.astype(np.uint8), disk).astype(bool)
    near_true = cv2.dilate(true.astype(np.uint8), disk).astype(bool)
    num_predicted, num_true = np.sum(predicted), np.sum(true)
    if not num_predicted or not num_true:
        return float(j), float(num_predicted == num_true)
    precision = np.sum(predicted & near_true) / num_predicted
    recall = np.sum(true & near_predicted) / num_true
    total = precision + recall
    return float(j), float(2 * precision * recall / total) if total else 0.0


def contour(mask: Mask) -> Mask:
    """Mark pixels that differ from the right, lower or lower right one; none at the far edges."""
    right, below, diagonal = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    diagonal[:-1, :-1] = mask[1:, 1:]
    diagonal[-1, :-1] = mask[-1, 1:]
    diagonal[:-1, -1] = mask[1:, -1]
    marked: Mask = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    return marked


def drawn_pair(rng: np.random.Generator, height: int = 480, width: int = 854) -> Pair:
    """Draw a wobbly star of a DAVIS object's size, and a prediction a few pixels off."""
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform([150, 200], [height - 150, width - 200])
    size, waves = rng.uniform(50, 170), rng.uniform(0, 0.12, 6)
    phases = rng.uniform(0, 2 * np.pi, 6)

    def star(shift: float) -> Mask:
        dy, dx = y - centre[0] - shift, x - centre[1] - shift
        angle = np.arctan2(dy, dx)
        radius = size * (1 + sum(w * np.sin((k + 2) * angle + phases[k] + shift / 20)
                                 for k, w in enumerate(waves)))  # fmt: skip
        inside: Mask = np.hypot(dy, dx) < radius
        return inside

    return star(float(rng.uniform(-6, 6))), star(0)


def frame_filling_pair(height: int = 480, width: int = 854) -> Pair:
    """Return the slowest case for a method that crops: objects as large as the frame."""
    truth = np.zeros((height, width), bool)
    truth[2:-2, 2:-2] = True
    prediction = truth.copy()
    prediction[2:9] = False
    return prediction, truth


def real_pairs(davis: Path, results: Path, every: int = 5) -> list[Pair]:
    """Read every fifth scored frame of DAVIS 2016 val."""
    pairs = []
    for video in find_dataset("davis2016").videos(davis, "val"):
        for name in list(video.frames)[1:-1:every]:
            path = results / video.name / f"{name}.png"
            prediction = decode_mask(path.read_bytes(), str(path)) > 0
            pairs.append((prediction, video.read_mask(name) > 0))
    return pairs


if __name__ == "__main__":
    main()
