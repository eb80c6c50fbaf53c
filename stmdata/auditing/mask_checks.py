"""Check the masks of one video: each by itself, against its frame, and against the one before."""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from stmdata.auditing.finding import ERROR, NOTE, WARNING, Severity
from stmdata.auditing.fingerprint import MASK_SHARE, misplaced, shrink
from stmdata.auditing.places import Places
from stmdata.auditing.reading import Size
from stmdata.auditing.runs import Parts, Runs
from stmtrain.datasets.files import some
from stmtrain.datasets.misfit import MISFIT
from stmtrain.images.masks import VOID, counts_binary, ids_counted, is_binary
from stmtrain.images.upright import size_distance

CRUMB = 10
"""Largest area of a part of an object that is a speck, pixels."""

_AWAY = 10
"""A speck is astray if it is farther than this from the box of any larger part, pixels."""

_RENAMED = 0.4
"""Intersection over union of two masks by which an object that is gone is a new one."""

_CROSSED, _RATHER = 0.2, 3
"""Intersection over union of each of two objects with the other in the next mask, and how many
times as large their sum is as that with themselves, by which they have changed places."""

_THIN = 4  # thumbnails of masks are made from every fourth pixel


class MaskChecks:
    """What the masks of a video show, mask by mask."""

    def __init__(self, places: Places, *, binary: bool, own: bool) -> None:
        """Start a video.

        Args:
            places: Receives what is wrong.
            binary: Whether any non-zero pixel belongs to the one object.
            own: Whether this is so if the first mask that shows something holds 0 and 255 only.
        """
        self._places, self._binary, self._own = places, binary, own and not binary
        self._names: list[str] = []
        self._areas: list[NDArray[np.int64]] = []
        self._thumbs: list[NDArray[np.uint8]] = []
        self._before: Runs | None = None
        self._specks: list[tuple[str, int, int]] = []
        self._renamed: list[tuple[str, str]] = []

    def add(self, frame: str, mask: NDArray[np.uint8], size: Size | None) -> None:
        """Check a label map.

        Args:
            frame: Name of its frame.
            mask: (H, W) uint8.
            size: (height, width) of the frame; None if it cannot be read.
        """
        if self._own and mask.any():
            self._own, self._binary = False, is_binary(mask)
        if self._binary:
            mask = (mask > 0).astype(np.uint8)
        if size is not None and mask.shape != size:
            self._misfit(frame, mask, size)
        runs = Runs.of(mask)
        self._specks.append((frame, *count_specks(runs.parts())))
        if self._before is not None and self._before.shape == runs.shape:
            self._compare(frame, self._before, runs)
        self._before = runs
        self._names.append(frame)
        self._areas.append(runs.areas)
        self._thumbs.append(shrink((mask[::_THIN, ::_THIN] > 0).astype(np.uint8) * 255))

    def _misfit(self, frame: str, mask: NDArray[np.uint8], size: Size) -> None:
        found, expected = (f"{shape[1]}x{shape[0]}" for shape in (mask.shape, size))
        outside = mask.copy()
        outside[: size[0], : size[1]] = 0
        outside[outside == VOID] = 0
        if size_distance(mask.shape, size) <= MISFIT:
            text = f"masks of {found} px for frames of {expected}, resampled when they are read"
            self._places.add("size", text, [frame], WARNING)
        elif outside.any() and mask.shape[0] >= size[0] and mask.shape[1] >= size[1]:
            text = f"objects beyond the {expected} px of the frame, in masks of {found}"
            self._places.add("outside", text, [frame])
        else:
            self._places.add("size", f"masks of {found} px for frames of {expected}", [frame])

    def _compare(self, frame: str, before: Runs, after: Runs) -> None:
        """Find objects that take each other's place, or are called otherwise, from mask to mask."""
        earlier, later = ids_counted(before.areas), ids_counted(after.areas)
        if earlier == later and len(earlier) < 2:
            return
        shared = before.overlap(after)

        def iou(first: int, second: int) -> float:
            common = shared.get((first, second), 0)
            both = int(before.areas[first]) + int(after.areas[second]) - common
            return common / max(1, both)

        for i, j in product(set(earlier) - set(later), set(later) - set(earlier)):
            if iou(i, j) >= _RENAMED:
                self._renamed.append((f"object {i} becomes object {j}", frame))
        for i, j in combinations(sorted({*earlier} & {*later}), 2):
            crossed, stayed = (iou(i, j), iou(j, i)), iou(i, i) + iou(j, j)
            if min(crossed) >= _CROSSED and sum(crossed) >= _RATHER * stayed:
                self._places.add("switch", f"objects {i} and {j} change places", [frame])

    def finish(self, listed: Sequence[int], *, late_expected: bool) -> None:
        """Check what shows in all masks together.

        Args:
            listed: Ids of the objects as the data set lists them; empty if it does not.
            late_expected: Whether objects may appear after the first mask in this data set.
        """
        if not self._names:
            return
        self._report_specks()
        table = np.stack(self._areas)
        self._check_ids(table, listed)
        seen = ids_counted(table.sum(axis=0))
        # Where each mask shows only the objects that enter, none of them is in a second mask.
        shown_again = (np.count_nonzero(table[:, seen], axis=0) > 1).any()
        if shown_again or not late_expected:
            for text, frame in self._renamed:
                self._places.add("switch", text, [frame])
        if not ids_counted(table[0]) and seen:
            text = f"no object before frame {self._names[int(np.argmax(table[:, seen].any(1)))]}"
            self._places.add("empty-first", text, self._names[:1])
        elif late := [i for i in seen if not table[0, i]]:
            severity = NOTE if late_expected else WARNING
            first = [self._names[int(np.flatnonzero(table[:, i])[0])] for i in late]
            self._places.add("late", f"objects {some(map(str, late))} appear", first, severity)
        found = misplaced(np.stack(self._thumbs), MASK_SHARE)
        wrong = sorted({*found.swapped, *found.single})
        if wrong:
            text = "mask that fits frames farther away better"
            self._places.add("order", text, [self._names[i] for i in wrong], WARNING)

    def _report_specks(self) -> None:
        away = f"more than {_AWAY} px away from larger parts of the object"
        near = "next to larger parts of the object"
        self._report(away, [(name, astray) for name, astray, _ in self._specks], WARNING)
        self._report(near, [(name, beside) for name, _, beside in self._specks], NOTE)

    def _report(self, what: str, specks: Sequence[tuple[str, int]], severity: Severity) -> None:
        frames = [name for name, count in specks if count]
        if frames:
            text = f"{sum(count for _, count in specks)} specks of at most {CRUMB} px, {what}"
            self._places.add("crumbs", text, frames, severity)

    def _check_ids(self, table: NDArray[np.int64], listed: Sequence[int]) -> None:
        total = table.sum(axis=0)
        seen = ids_counted(total)
        if counts_binary(total):
            text = "masks of 0 and 255 only, which is void; objects have ids from 1, or the "
            self._places.add("ids", f"{text}data set has one object (--layout davis2016)")
            return
        if total[VOID]:
            text = f"{100 * total[VOID] / total.sum():.2g} % of the pixels"
            self._places.add("void", text, self._where(table[:, VOID] > 0))
        if not seen:
            self._places.add("invisible", "no mask shows an object")
        if listed:
            for i in (i for i in seen if i not in listed):
                text = f"object {i}, which the data set does not list"
                self._places.add("ids", text, self._where(table[:, i] > 0), ERROR)
            for i in (i for i in listed if seen and i not in seen):
                self._places.add("invisible", f"object {i} is listed, and in no mask")

    def _where(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [name for name, is_chosen in zip(self._names, chosen, strict=True) if is_chosen]


def count_specks(parts: Parts) -> tuple[int, int]:
    """Count the specks among the parts of objects: those astray, and those next to larger parts."""
    small = (parts.areas <= CRUMB) & (parts.values != VOID)
    astray = 0
    for value, box in zip(parts.values[small], parts.boxes[small], strict=True):
        large = parts.boxes[(parts.values == value) & ~small]
        gaps = np.maximum(large[:, :2] - box[2:], box[:2] - large[:, 2:]).max(axis=1)
        astray += not (gaps <= _AWAY).any()
    return astray, int(np.count_nonzero(small)) - astray
