"""The table of data sets: everything that packing, evaluation and scoring know about each.

To add a data set, write a module with a function that lists its videos, and add a line to
:data:`DATASETS`. Free of torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from stmtrain.datasets import protocol
from stmtrain.datasets.davis import davis_videos
from stmtrain.datasets.files import FaultyVideosError, describe_faults
from stmtrain.datasets.protocol import Protocol
from stmtrain.datasets.video import Video, fit_masks
from stmtrain.datasets.video_set import VideoSet
from stmtrain.datasets.youtube_vos import ALL_FRAMES, youtube_vos_videos
from stmtrain.errors import DataError, UsageError


@dataclass(frozen=True)
class Dataset:
    """A data set as its authors distribute it.

    Attributes:
        name: What it is called in shard sets and options; never changes.
        title: What it is called in reports.
        list_videos: Lists the videos of a split, given its root folder, ``split=`` and, by name,
            the ``options``. Raises :class:`DataError` if the tree is incomplete; the kind that
            :func:`~stmtrain.datasets.files.list_all` raises lets packing go on with the others.
        protocol: How its results are exported and scored.
        splits: The splits it has; empty if these are the folders of the root.
        scored_split: The split that is evaluated unless another is asked for.
        options: Further options of ``list_videos`` with their defaults; they are part of the
            configuration of a packed set.
        binary: Whether any non-zero pixel of a mask belongs to the one object.
        all_frames: Suffix of a split's name under which the frames are at the videos' own frame
            rate, if they are distributed apart.
    """

    name: str
    title: str
    list_videos: Callable[..., list[Video]]
    protocol: Protocol
    splits: tuple[str, ...] = ()
    scored_split: str = "val"
    options: Mapping[str, str] = field(default_factory=dict)
    binary: bool = False
    all_frames: str = ""

    def videos(self, root: Path, split: str, **options: str) -> list[Video]:
        """List the videos of a split.

        Args:
            root: The folder of the data set.
            split: Which part of it.
            options: Those that differ from the defaults in ``self.options``.

        Raises:
            UsageError: There is no such split.
            DataError: The tree is incomplete; names all faults.
        """
        videos, faults = self.usable_videos(root, split, **options)
        if faults:
            raise DataError(describe_faults(faults))
        return videos

    def usable_videos(
        self, root: Path, split: str, **options: str
    ) -> tuple[list[Video], dict[str, str]]:
        """Return what :meth:`videos` does, without videos that have faults, and these by name."""
        if self.splits and split not in self.splits:
            raise UsageError(
                f"split: expected one of {', '.join(self.splits)} of {self.title}, found {split!r}"
            )
        faults: dict[str, str] = {}
        try:
            videos = self.list_videos(root, split=split, **{**self.options, **options})
        except FaultyVideosError as error:
            videos, faults = list(error.usable), dict(error.faults)
        return [replace(video, binary=self.binary) for video in videos], faults

    def open(self, root: Path, split: str | None = None) -> VideoSet:
        """Open a split for evaluation, with masks that fit their frames.

        If the frames at the videos' own frame rate are there too, they are used, as benchmarks ask.

        Args:
            root: The folder of the data set.
            split: Which part of it; ``scored_split`` by default.

        Raises:
            UsageError: There is no such split.
            DataError: The tree is incomplete, or a mask is far from its frame's size.
        """
        split = asked = split or self.scored_split
        notes: tuple[str, ...] = ()
        if self.all_frames:
            split, note = self._prefer_all_frames(root, split)
            notes = (note,)
        videos = tuple(fit_masks(video) for video in self.videos(root, split))
        if any(video.notes for video in videos):
            raise DataError(
                f"{root / split}: has no meta.json, which lists the objects; give this folder to "
                "--videos, which finds them in the masks"
            )
        return VideoSet(self.title_of(split), videos, self.protocol, notes, asked)

    def title_of(self, split: str) -> str:
        """Return what a split is called in reports: ``DAVIS 2017 val``."""
        return f"{self.title} {split.removesuffix(self.all_frames)}"

    def _prefer_all_frames(self, root: Path, split: str) -> tuple[str, str]:
        """Return the folder whose frames are used, and a note on them."""
        if split.endswith(self.all_frames):
            return split, f"frames from {split}"
        whole = split + self.all_frames
        if (root / whole / "JPEGImages").is_dir():
            return whole, f"frames from {whole}"
        return split, f"frames from {split}; there is no {whole}"


_DAVIS_2016_SPLITS = ("train", "val", "trainval")
_DAVIS_2017_SPLITS = (*_DAVIS_2016_SPLITS, "test-dev", "test-challenge")
_480P = {"resolution": "480p"}

DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="davis2016",
            title="DAVIS 2016",
            list_videos=partial(davis_videos, year=2016),
            protocol=protocol.as_meant(protocol.DAVIS_2016),
            splits=_DAVIS_2016_SPLITS,
            options=_480P,
            binary=True,
        ),
        Dataset(
            name="davis2017",
            title="DAVIS 2017",
            list_videos=partial(davis_videos, year=2017),
            protocol=protocol.DAVIS,
            splits=_DAVIS_2017_SPLITS,
            options=_480P,
        ),
        Dataset(
            name="youtube-vos",
            title="YouTube-VOS",
            list_videos=youtube_vos_videos,
            protocol=protocol.YOUTUBE_VOS,
            scored_split="valid",
            all_frames=ALL_FRAMES,
        ),
    )
}
"""Every data set by its name."""


def find_dataset(name: str) -> Dataset:
    """Return a data set by its name; :class:`UsageError` if there is none of that name."""
    if name not in DATASETS:
        raise UsageError(f"data set: expected one of {', '.join(DATASETS)}, found {name!r}")
    return DATASETS[name]
