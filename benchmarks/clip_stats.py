"""Statistics of clips: how many objects, how large, how far they move, how often they vanish."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.images.masks import ids_present
from stmtrain.statistics.motion import object_motion

__all__ = ["clip_statistics"]

_COUNTED = 6  # the histogram of objects per clip has at least this many bins, from 0 on


def clip_statistics(clips: Iterable[NDArray[np.uint8]]) -> dict[str, dict[str, Any]]:
    """Measure the masks of clips, as the golden ``seed_clip_stats.json`` does.

    Args:
        clips: Label maps (T, S, S) uint8 with T >= 2; objects are the ids of frame 0.

    Returns:
        By name: ``objects`` per clip (with a histogram), ``fg_fraction`` of frame 0, and for each
        pair of neighbouring frames ``iou_12``, ``shift_12`` (centroid, px), ``area_ratio_12``
        (later over earlier), ``vanish_2`` (share of the objects present before that are gone), ...,
        each with ``n``, ``mean``, ``p10``, ``p50``, ``p90``.
    """
    values: dict[str, list[float]] = {"objects": [], "fg_fraction": []}
    for masks in clips:
        ids = ids_present(masks[0])
        values["objects"].append(len(ids))
        values["fg_fraction"].append(float((masks[0] > 0).mean()))
        for object_id in ids:
            for name, value in _object_values(masks, object_id).items():
                values.setdefault(name, []).append(value)
    out: dict[str, dict[str, Any]] = {name: _summary(v) for name, v in values.items()}
    counts = np.bincount(np.asarray(values["objects"], np.int64), minlength=_COUNTED)
    out["objects"]["histogram"] = {str(i): int(n) for i, n in enumerate(counts)}
    return out


def _object_values(masks: NDArray[np.uint8], object_id: int) -> Mapping[str, float]:
    """Measure one object, (T, S, S) label maps, over neighbouring frames until it vanishes."""
    values: dict[str, float] = {}
    for t in range(1, len(masks)):
        motion = object_motion(masks[t - 1], masks[t]).get(object_id)
        values[f"vanish_{t + 1}"] = float(motion is None)
        if motion is None:
            break
        for name, value in motion._asdict().items():
            values[f"{name}_{t}{t + 1}"] = value
    return values


def _summary(values: list[float]) -> dict[str, Any]:
    """Return count, mean and the 10th, 50th and 90th percentile."""
    p10, p50, p90 = (float(p) for p in np.percentile(values, [10, 50, 90]))
    return {"n": len(values), "mean": float(np.mean(values)), "p10": p10, "p50": p50, "p90": p90}
