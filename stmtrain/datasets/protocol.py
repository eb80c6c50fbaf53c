"""How results are scored and exported; what differs between benchmarks.

A :class:`Protocol` is a value, so that a benchmark is a row of :data:`PROTOCOLS` and one's own
rules are a TOML file. A row agrees with the code that the benchmark's authors published, faults
included; :func:`as_meant` returns the rules without these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stmtrain.datasets.video import VideoSource
from stmtrain.errors import UsageError
from stmtrain.images.masks import ids_present
from stmtrain.settings import load_named, setting

_JF = ("J&F", "J", "F")
_DAVIS = ("J&F", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay")
_VOST = ("J", "J_recall", "J_decay", "J_tr", "J_tr_recall", "J_tr_decay")
_MOSE = (
    "J&F_dot", "J", "F_dot", "J&F_dot_d", "J&F_dot_r", "F", "J&F",
    "J_d", "F_dot_d", "J_r", "F_dot_r",
)  # fmt: skip
MEASURES = frozenset({*_DAVIS, *_VOST, *_MOSE, "V"})


@dataclass(frozen=True)
class Protocol:
    """The rules by which results are scored and exported; see :func:`setting` for each field."""

    name: str = setting("own", "In every result; a name stands for one set of rules.")
    title: str = setting("", "The data set in reports; else the name of its folder.")
    version: str = setting("1", "Of the rules; changes with any number that they give.")
    official: str = setting("", "The published code that the numbers agree with.")
    base: str = setting("", "The protocol that these rules derive from.")
    tree: Literal["folders", "davis", "youtube-vos", "mose2", "lvos", "vost", "sav"] = setting(
        "folders", "Where the ground truth is stored; folders: Annotations/VIDEO/FRAME.png."
    )
    split: str = setting("val", "The split that is scored unless another is asked for.")

    objects: Literal["given", "numbered", "listed", "seen", "one", "folders"] = setting(
        "given",
        "given: ids of the first mask, or where the data set says; numbered: 1 to the largest id "
        "of the first mask; listed: by the data set; seen: every id of a scored true mask; one: "
        "any value above 0; folders: one folder per object.",
    )
    frames: Literal["video", "object"] = setting(
        "video", "video: all frames of the video may count; object: those listed for the object."
    )
    late_objects: bool = setting(
        False, "Whether an object counts from its own first frame on, not the video's."
    )
    last_frame: bool = setting(False, "Whether the last of these frames counts; the first never.")
    before_seen: bool = setting(
        True, "Whether frames count before the object is seen in a true mask or a result."
    )
    sparse: bool = setting(
        False, "Whether frames without a true mask, and videos without frames, are left out."
    )
    missing_video: Literal["refuse", "zero", "leave out"] = setting(
        "refuse", "What a video without results counts."
    )

    void: Literal["background", "object", "ignored"] = setting(
        "background", "What 255 is in a true mask; ignored: not compared at all."
    )
    smoothing: int = setting(0, "Pixels added to the intersection and the union in J.")
    tolerance: float = setting(0.008, "Contours match within this fraction of the diagonal.")
    object_tolerance: float = setting(
        0.0, "F_dot: contours match within this fraction of the root of the object's area."
    )
    rounded: bool = setting(True, "Whether the tolerance is rounded up beside that of F_dot.")

    measures: tuple[str, ...] = setting(_JF, "Of each object; the set has their means.")
    names: Literal["plain", "dashed"] = setting("plain", "J_recall, or J-Recall and J-Mean.")
    seen_unseen: bool = setting(
        False, "Whether the set's number is the mean over seen and unseen videos or categories."
    )
    first_frame_shows: bool = setting(
        True, "_d, _r: whether an object was visible before if the video's first frame shows it."
    )
    first_appearance: bool = setting(False, "_r: whether a late object's first frames count.")
    short_decay: bool = setting(False, "Whether frame positions overflow at 256 in the decay.")
    rounded_v: bool = setting(False, "Whether V's variance is rounded to 4 decimals.")

    required_only: bool = setting(
        False, "Whether only frames that are required of an object are exported."
    )
    zip_prefix: str = setting("", "Folder of the videos in the zip that the server takes.")
    zip_folders: bool = setting(False, "Whether each object has a folder of its own in it.")

    def __post_init__(self) -> None:
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown or not self.measures:
            found = f"found {unknown[0]!r}" if unknown else "found none"
            raise ValueError(f"measures: expected some of {', '.join(sorted(MEASURES))}, {found}")
        if not (0 < self.tolerance < 1 and 0 <= self.object_tolerance < 1 and self.smoothing >= 0):
            raise ValueError("expected tolerances from 0 to below 1, and smoothing of 0 or more")
        if not self.object_tolerance and any("F_dot" in name for name in self.measures):
            raise ValueError("measures: F_dot needs object_tolerance, such as 0.1")

    @property
    def exports(self) -> str:
        """What is exported; part of an evaluation's identity, so that it must never change."""
        return "youtube-vos" if self.required_only else "davis"

    @property
    def frames_excluded(self) -> tuple[str, ...]:
        """The frames of a video that are not scored, in words."""
        first = "each object's first" if self.late_objects else "first"
        return (first,) if self.last_frame else (first, "last")

    def exported(self, video: VideoSource) -> tuple[str, ...]:
        """Return the names of the frames whose masks are results, in time order."""
        if not self.required_only or not video.required:
            return tuple(video.frames)
        wanted = {name for names in video.required.values() for name in names}
        return tuple(name for name in video.frames if name in wanted)

    def exporting_as(self, other: "Protocol") -> "Protocol":
        """Return these rules of scoring with what another protocol exports."""
        fields = ("required_only", "zip_prefix", "zip_folders")
        return replace(self, **{name: getattr(other, name) for name in fields})

    def scored_frames(self, video: VideoSource) -> dict[int, tuple[str, ...]]:
        """Return object id to the names of the frames in which it is scored, in time order.

        Objects that are scored in no frame are absent. If objects are those that are ``seen``, the
        one id is 0.
        """
        scored = self.counted(video)
        if self.sparse:
            scored = {i: tuple(n for n in names if n in video.masks) for i, names in scored.items()}
        return {object_id: names for object_id, names in scored.items() if names}

    def counted(self, video: VideoSource) -> dict[int, tuple[str, ...]]:
        """Return object id to the frames that count by the protocol, with a mask or without."""
        end = None if self.last_frame else -1
        if self.frames == "object":
            return {i: names[1:end] for i, names in video.required.items()}
        names = tuple(video.frames)
        if self.late_objects and video.required:
            named = set(video.masks).union(*video.required.values())
            names = tuple(name for name in names if name in named)
        if self.objects == "seen":
            return {0: names[1:end]}
        first = dict.fromkeys(self.object_ids(video), names[0])
        if self.late_objects:
            first |= video.first_seen
        return {i: names[names.index(name) + 1 : end] for i, name in first.items()}

    def object_ids(self, video: VideoSource) -> list[int]:
        """Return the ids of the objects that are scored in any frame; none if they are ``seen``."""
        if self.objects == "seen":
            return []
        ids = given_ids(video)
        if self.objects == "numbered" and not video.binary and not video.first_seen:
            return list(range(1, max(ids, default=0) + 1))
        return ids


DAVIS_2017 = Protocol(
    name="davis2017",
    title="DAVIS 2017",
    official="davisvideochallenge/davis2017-evaluation @ ac7c43f",
    tree="davis",
    objects="numbered",
    measures=_DAVIS,
    names="dashed",
    short_decay=True,
)
DAVIS_2016 = replace(DAVIS_2017, name="davis2016", title="DAVIS 2016", objects="one")
YOUTUBE_VOS = Protocol(
    name="youtube-vos",
    title="YouTube-VOS",
    official="visionml/pytracking @ 7eb9e74 (the server's code is not public)",
    tree="youtube-vos",
    split="valid",
    objects="listed",
    late_objects=True,
    seen_unseen=True,
    required_only=True,
    zip_prefix="Annotations/",
)
MOSE_2 = Protocol(
    name="mose2",
    title="MOSE v2",
    official="henghuiding/MOSE-api @ 241977a",
    tree="mose2",
    split="valid",
    objects="listed",
    missing_video="zero",
    smoothing=1,
    object_tolerance=0.1,
    rounded=False,
    measures=_MOSE,
    first_frame_shows=False,
    first_appearance=True,
)
LVOS = Protocol(
    name="lvos",
    title="LVOS",
    official="LingyiHongfd/lvos-evaluation @ 25cb02d",
    tree="lvos",
    split="valid",
    objects="listed",
    frames="object",
    late_objects=True,
    measures=("J", "F", "V"),
    names="dashed",
    seen_unseen=True,
    rounded_v=True,
    zip_prefix="Annotations/",
)
VOST = Protocol(
    name="vost",
    title="VOST",
    official="TRI-ML/VOST @ fe27457",
    tree="vost",
    objects="numbered",
    measures=_VOST,
    short_decay=True,
)
SAV = Protocol(
    name="sav",
    title="SA-V",
    official="facebookresearch/sam2 @ 2b90b9f, sav_dataset",
    tree="sav",
    objects="folders",
    before_seen=False,
    missing_video="leave out",
    void="object",
    zip_folders=True,
)
# Of videos without a benchmark, and of those in which objects appear late: all are exported.
OWN_VIDEOS = Protocol(name="own", sparse=True, measures=_DAVIS, names="dashed")
LATE_OBJECTS = replace(OWN_VIDEOS, name="own-late", late_objects=True, last_frame=True)

PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p for p in (DAVIS_2016, DAVIS_2017, YOUTUBE_VOS, MOSE_2, LVOS, VOST, SAV)
}
"""Every benchmark's protocol by its name."""

_REPAIRS: Mapping[str, Mapping[str, Any]] = {
    "davis2016": {"short_decay": False},
    "davis2017": {"objects": "given", "short_decay": False},
    "mose2": {
        "missing_video": "refuse",
        "rounded": True,
        "first_frame_shows": True,
        "first_appearance": False,
    },
    "lvos": {"rounded_v": False},
    "vost": {"objects": "given", "short_decay": False, "void": "ignored"},
    "sav": {"missing_video": "refuse", "before_seen": True, "void": "background"},
}


def as_meant(protocol: Protocol) -> Protocol:
    """Return the rules without the faults of the published code, under another name."""
    repairs = _REPAIRS.get(protocol.base or protocol.name, {})
    return replace(protocol, **repairs, name=f"{protocol.name}-as-meant", official="")


DAVIS = as_meant(DAVIS_2017)  # unless the official rules are asked for; on DAVIS both are equal


def find_protocol(name: str, *, meant: bool = False) -> Protocol:
    """Return a protocol by its name, or one's own from a TOML file.

    Fields that a file leaves out are those of its ``base``, the name of a protocol, or defaults.

    Raises:
        UsageError: There is no such name or file; a field is unknown or has a wrong value.
    """

    def base_of(values: Mapping[str, Any]) -> Protocol:
        base = values.get("base", "")
        if base and base not in PROTOCOLS:
            raise ValueError(f"base: expected one of {', '.join(PROTOCOLS)}, found {base!r}")
        return replace(PROTOCOLS[base], official="", title="") if base else Protocol()

    found = load_named(name, PROTOCOLS, base_of, "--protocol")
    if name not in PROTOCOLS and found.name in ("own", *PROTOCOLS):
        found = replace(found, name=Path(name).stem)
        if found.name in PROTOCOLS:
            raise UsageError(f"{name}: name: expected another than a benchmark's, found that")
    return as_meant(found) if meant else found


def given_ids(video: VideoSource) -> list[int]:
    """Return the object ids that a method is given.

    They are those of ``first_seen``, or those of the first mask where that is empty.
    """
    if video.binary or video.first_seen:
        return [1] if video.binary else list(video.first_seen)
    return ids_present(video.read_mask(next(iter(video.frames))))
