"""How close the classic recipe is to the published generator, in units of the sampling error.

    python -m benchmarks.classic_statistics --images DIR --annotations FILE --golden FILE

Makes sets of 20 clips per image with different seeds, and compares the mean over the sets with the
golden statistics, which describe one such set of the published generator. "z" is the difference
divided by its standard error, estimated from the spread between the sets.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clip_stats import clip_statistics
from benchmarks.common import report
from stmdata.stills.source import CocoSource
from stmdata.synthesis.clip import Clip, draw_clip
from stmdata.synthesis.layers import Cutout
from stmdata.synthesis.recipe import CLASSIC


def clips(source: CocoSource, passes: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the masks of ``passes`` clips per image; every pass draws its own cut-outs."""
    pictures = [
        source.read(i, CLASSIC.min_instance_area, small_in_front=CLASSIC.small_in_front)
        for i in range(len(source))
    ]
    for n in range(passes):
        rng = np.random.default_rng([seed, n])
        drawn = source.cutouts(150, CLASSIC.min_cutout_box, rng)
        pool = [cutout for cutout in drawn if isinstance(cutout, Cutout)]
        for picture in pictures:
            clip = draw_clip(picture.image, picture.labels, pool, CLASSIC, rng)
            if isinstance(clip, Clip):
                yield clip.masks


def compare(sets: list[dict[str, Any]], golden: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return, per statistic: golden value, ours, standard deviation between the sets, and z."""
    out = {}
    for name, values in golden.items():
        for kind in ("mean", "p10", "p50", "p90"):
            ours = np.array([s[name][kind] for s in sets])
            spread, off = float(ours.std(ddof=1)), float(values[kind] - ours.mean())
            error = spread * np.sqrt(1 + 1 / len(sets))
            out[f"{name} {kind}"] = {
                "golden": round(values[kind], 4),
                "ours": round(float(ours.mean()), 4),
                "spread": round(spread, 4),
                "z": round(off / error, 1) if error > 0 else 0.0,
            }
    return out


def main() -> None:
    """Make the sets, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--passes", type=int, default=20)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = CocoSource(options.images, options.annotations)
    golden = json.loads(options.golden.read_text())
    sets = [clip_statistics(clips(source, options.passes, seed)) for seed in range(options.sets)]
    table = compare(sets, golden)
    for name, row in table.items():
        print(f"{name:20} golden {row['golden']:8.4f}  ours {row['ours']:8.4f}  "
              f"spread {row['spread']:.4f}  z {row['z']:+.1f}")  # fmt: skip
    histogram = {
        n: [
            golden["objects"]["histogram"][n],
            np.mean([s["objects"]["histogram"][n] for s in sets]),
        ]
        for n in golden["objects"]["histogram"]
    }
    print("objects per clip, golden and ours:", histogram)
    print(report("classic_statistics", {"table": table, "histogram": histogram}))


if __name__ == "__main__":
    main()
