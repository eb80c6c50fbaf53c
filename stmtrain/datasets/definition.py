"""What is known of a data set: its form on disk, its splits, and how it is scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from stmtrain.datasets.files import describe_faults, folder_name, some, video_folders
from stmtrain.datasets.learn import learn_objects
from stmtrain.datasets.listing import Entry, Form, Listing
from stmtrain.datasets.protocol import LATE_OBJECTS, OWN_VIDEOS, Protocol
from stmtrain.datasets.recognise import Signs
from stmtrain.datasets.shapes import Overlap
from stmtrain.datasets.video import Video, fit_masks
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError


@dataclass(frozen=True)
class Dataset:
    """A data set as its authors distribute it, or as a tool writes it.

    Attributes:
        name: What it is called in shard sets and options; never changes.
        title: What it is called in reports; the folder's name if it is empty.
        form: How frames and masks lie on disk.
        signs: By what it is recognised; None if only its name chooses it.
        protocol: How its results are exported and scored; None if its masks decide that.
        server: Its benchmark's protocol, whose zip is exported, if there is no ``protocol``.
        licence: Of the masks, as far as its authors state it.
        url: Where it comes from.
        splits: The splits it may have; empty if these are the folders of the root.
        scored_split: The split that is evaluated unless another is asked for.
        options: Fields of ``form`` that a user may choose, with their defaults; they are part of
            the configuration of a packed set.
        binary: Whether any non-zero pixel of a mask belongs to the one object.
        own: Whether it is a form of anybody's videos: masks of 0 and 255 show one object, and
            other data sets are recognised first.
        all_frames: Suffix of a split's name under which the frames are at the videos' own frame
            rate, if they are distributed apart.
    """

    name: str
    title: str
    form: Form
    signs: Signs | None = None
    protocol: Protocol | None = None
    server: Protocol | None = None
    licence: str = ""
    url: str = ""
    splits: tuple[str, ...] = ()
    scored_split: str = "val"
    options: Mapping[str, str] = field(default_factory=dict)
    binary: bool = False
    own: bool = False
    all_frames: str = ""

    def listing(
        self,
        root: Path,
        split: str | None = None,
        *,
        overlap: Overlap = "smaller",
        options: Mapping[str, str] | None = None,
    ) -> Listing:
        """List the videos of a split, or of all splits.

        Args:
            root: The folder of the data set.
            split: Which part of it; ``None`` for all videos, each in its split.
            overlap: What is on top where objects overlap.
            options: Those that differ from the defaults in ``self.options``.

        Raises:
            UsageError: There is no such split.
            DataError: A folder or file that all videos need is missing, or no video has a mask.
        """
        if split is not None and self.splits and split not in self.splits:
            raise UsageError(
                f"split: expected one of {', '.join(self.splits)} of {self.title}, found {split!r}"
            )
        if split is not None and (split in (".", "..") or set(split) & set("/\\*?[")):
            raise UsageError(f"split: expected a name such as train, found {split!r}")
        form: Form = replace(cast(Any, self.form), **options) if options else self.form
        entries: list[Entry] = []
        left_out: dict[str, str] = {}
        sources: list[Path] = []
        shared: set[Path] = set()
        for part in form.splits(root) if split is None else (split,):
            listed = form.listing(root, part)
            left_out.update(listed.left_out)
            sources += listed.sources
            shared |= {listed.folder} if listed.folder and split is None else set()
            entries += [
                replace(e, open=partial(_open, e, self.binary, overlap)) for e in listed.entries
            ]
        known = {entry.name for entry in entries} | left_out.keys()
        for folder in shared:
            lost = [name for name in video_folders(folder) if name not in known]
            left_out.update(dict.fromkeys(lost, "in no list of a split"))
        if split and form.splits(root) == ("",):
            raise UsageError(f"--split: {root} has no splits as {self.name}; omit it")
        if not entries:
            why = next(iter(left_out.values()), "no folder of a video was found")
            asked = f" in split {split}" if split else ""
            raise DataError(
                f"{root}: expected videos with masks{asked}, found none: {why} "
                f"({some(left_out, 3) or 'check the folder'}); "
                f"{'choose another split' if split else 'pass another folder'}, or restore what is "
                "missing"
            )
        return Listing(tuple(entries), left_out, tuple(sources))

    def videos(
        self, root: Path, split: str | None = None, options: Mapping[str, str] | None = None
    ) -> list[Video]:
        """Open the videos of a split, or of all splits; arguments as of :meth:`listing`.

        Raises:
            UsageError: There is no such split.
            DataError: The tree is incomplete; names all faults.
        """
        found, faults = [], {}
        for entry in self.listing(root, split, options=options).entries:
            try:
                found.append(entry.open())
            except DataError as error:
                faults[entry.name] = str(error)
        if faults:
            raise DataError(describe_faults(faults))
        return found

    def open(self, root: Path, split: str | None = None) -> VideoSet:
        """Open a split for evaluation, with masks that fit their frames.

        If the frames at the videos' own frame rate are there too, they are used, as benchmarks ask.

        Args:
            root: The folder of the data set.
            split: Which part of it; ``scored_split`` by default, or the only one that there is.

        Raises:
            UsageError: There is no such split, or none was named where there are several.
            DataError: The tree is incomplete, or a mask is far from its frame's size.
        """
        split = asked = self._one_split(root) if split is None else split
        notes: tuple[str, ...] = ()
        if self.all_frames:
            split, note = self._prefer_all_frames(root, split)
            notes = (note,)
        videos = [
            replace(fit_masks(video), name=folder_name(video.name))
            for video in self.videos(root, split)
        ]
        title = self.title_of(split) if self.title else root.resolve().name
        if self.protocol is not None and not any(video.notes for video in videos):
            return VideoSet(title, tuple(videos), self.protocol, notes, asked)
        learned = {video.name: learn_objects(video, self.own) for video in videos}
        known = tuple(video for video in learned.values() if video is not None)
        if not known:
            raise DataError(
                f"{root}: expected masks of {some(learned)} that show objects, with ids from 1, "
                "found none; paint the objects in the first mask of each video"
            )
        protocol = LATE_OBJECTS if any(video.first_seen for video in known) else OWN_VIDEOS
        if self.server is not None:
            protocol = protocol.exporting_as(self.server)
        left_out = {n: "no mask shows an object" for n, video in learned.items() if video is None}
        return VideoSet(title, known, protocol, notes, asked, left_out=left_out)

    @property
    def about(self) -> dict[str, str]:
        """What users of the data must know: title, licence and source, where they are known."""
        stated = {"title": self.title, "licence": self.licence, "url": self.url}
        return {name: text for name, text in stated.items() if text}

    def title_of(self, split: str) -> str:
        """Return what a split is called in reports: ``DAVIS 2017 val``."""
        return f"{self.title} {split.removesuffix(self.all_frames)}".rstrip()

    def _one_split(self, root: Path) -> str:
        if self.splits:
            return self.scored_split
        there = self.form.splits(root)
        if self.scored_split in there or len(there) == 1:
            return self.scored_split if self.scored_split in there else there[0]
        raise UsageError(f"{root}: has several splits, {some(there)}; choose one with --split")

    def _prefer_all_frames(self, root: Path, split: str) -> tuple[str, str]:
        """Return the folder whose frames are used, and a note on them."""
        if split.endswith(self.all_frames):
            return split, f"frames from {split}"
        whole = split + self.all_frames
        if (root / whole / "JPEGImages").is_dir():
            return whole, f"frames from {whole}"
        return split, f"frames from {split}; there is no {whole}"


def _open(entry: Entry, binary: bool, overlap: Overlap) -> Video:
    return replace(entry.open(), split=entry.split, binary=binary, overlap=overlap)
