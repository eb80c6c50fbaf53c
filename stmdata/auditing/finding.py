"""What an audit can find: the kinds of faults, what each does to training, and what helps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from stmtrain.datasets.files import some


class Severity(IntEnum):
    """How bad a finding is; ``note`` is what a reader should know, but need not change."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: Short name, which reports and programs use.
        severity: How bad it is, unless a finding states otherwise.
        title: What it is.
        consequence: What it does if nothing is changed.
        cure: What to do.
    """

    name: str
    severity: Severity
    title: str
    consequence: str
    cure: str


NOTE, WARNING, ERROR = Severity

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("incomplete", ERROR, "files of a video that do not fit together",
             "the video cannot be used", "add or remove files until each mask has its frame"),
        Kind("left-out", NOTE, "videos without masks",
             "they are neither trained on nor scored", "restore their masks, if they are public"),
        Kind("damaged", ERROR, "frames or masks that cannot be decoded",
             "packing and training stop there", "restore the files"),
        Kind("size", ERROR, "frames or masks of another size",
             "pixels and masks do not fit", "export all of them at the size of the frames"),
        Kind("outside", ERROR, "annotations outside the image",
             "they belong to another image, or are cut off", "export the masks of these frames"),
        Kind("ids", ERROR, "object ids out of range",
             "objects are taken for void, or are never used",
             "number objects from 1 to 254, as the data set lists them"),
        Kind("switch", ERROR, "objects that change their ids",
             "the model learns to follow the wrong object", "correct the ids in these masks"),
        Kind("order", ERROR, "frames or masks in the wrong order",
             "motion is learned from frames that are no neighbours",
             "rename the files in the order of time"),
        Kind("soft", WARNING, "masks with grey edges",
             "they are thresholded at half", "save masks without smoothing, as PNG"),
        Kind("crumbs", WARNING, "specks of a few pixels",
             "they are learned, and scored, as parts of the object", "remove them from the masks"),
        Kind("invisible", WARNING, "objects that are never visible",
             "they are never trained on, and scored as missed", "paint them, or remove them"),
        Kind("empty-first", WARNING, "first masks without an object",
             "there is nothing to follow from the first frame on",
             "start the video where an object is visible"),
        Kind("late", NOTE, "objects that appear after the first mask",
             "where the first frame gives all objects, they are never scored",
             "paint them from the first mask on"),
        Kind("short", WARNING, "videos that give no training clip",
             "training passes over them", "add frames with masks, or leave the video out"),
        Kind("unmasked", WARNING, "frames without a mask among masked ones",
             "training and scoring pass over them", "add the masks, or remove the frames"),
        Kind("gap", NOTE, "numbers missing in the names of frames",
             "neighbours are farther apart there", "add the frames if they were lost"),
        Kind("void", NOTE, "masks with void (255)",
             "these pixels are neither background nor an object",
             "use another id if it is an object"),
        Kind("duplicate", WARNING, "videos that show the same frames",
             "they count twice in training", "leave one of them out"),
        Kind("leak", ERROR, "videos of a training split in another split",
             "validation measures what was trained on", "leave them out of the training split"),
    )
}  # fmt: skip
"""Every kind of finding, by its name."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: A name in :data:`KINDS`.
        where: Set and video.
        what: What was found.
        severity: How bad it is.
        frames: Names of the frames where it is; empty if it is not in single frames.
    """

    kind: str
    where: str
    what: str
    severity: Severity
    frames: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        kind: str,
        where: str,
        what: str,
        severity: Severity | None = None,
        frames: Iterable[str] = (),
    ) -> "Finding":
        """Return a finding, by default of the severity of its kind."""
        severity = KINDS[kind].severity if severity is None else severity
        return cls(kind, where, what, severity, tuple(frames))

    def description(self) -> str:
        """Return what was found and the first frames where it is."""
        if not self.frames:
            return self.what
        count = "frame" if len(self.frames) == 1 else f"{len(self.frames)} frames:"
        return f"{self.what}, in {count} {some(self.frames)}"

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        advice = "" if self.severity is NOTE else f"; {kind.consequence}; {kind.cure}"
        place = f"{self.severity.name.lower()}: {self.kind}: {self.where}"
        return f"{place}: {self.description()}{advice}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        kind = KINDS[self.kind]
        return {
            "severity": self.severity.name.lower(),
            "kind": self.kind,
            "where": self.where,
            "what": self.what,
            "frames": list(self.frames),
            "consequence": kind.consequence,
            "cure": kind.cure,
        }
