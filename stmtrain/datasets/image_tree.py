"""Trees of images: a folder of frames per video, and one of masks, or one for each object.

Most data sets have this form, and differ in the order of the levels, in lists of splits, and in
what the values of a mask mean.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from stmtrain.datasets.files import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    find_folder,
    list_images,
    list_names,
    natural_key,
    pair_files,
    video_folders,
)
from stmtrain.datasets.ids import ObjectId, keep_or_shift, rank
from stmtrain.datasets.listing import SPLITS, Entry, Listing, in_order
from stmtrain.datasets.shapes import Shape, draw_file
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError

OpenVideo = Callable[[str, Path, Path], Video]
"""Opens a video, given its name, the folder of its frames and that of its masks."""


def open_masks(
    name: str, frames: Path, masks: Path, *, wide: bool = False, void: int | None = None
) -> Video:
    """Open a video with one mask per frame, PNGs of ids; see :class:`Video` for the options."""
    return Video(name, *pair_files(frames, masks, FRAME_SUFFIXES), wide=wide, void=void)


def open_objects(name: str, frames: Path, masks: Path, *, dense: bool = False) -> Video:
    """Open a video with a folder of masks for each object, any pixel above 0 in each.

    A frame in which no object has a file was not annotated; with ``dense``, it is empty if most
    annotated frames are neighbours. An object without a file is out of view.
    """
    paths = list_images(frames, FRAME_SUFFIXES)
    objects: dict[str, dict[ObjectId, Shape]] = defaultdict(dict)
    sources: list[Path] = []
    folders = sorted(video_folders(masks), key=natural_key)
    for folder in folders:
        shown = any(p.suffix.lower() in MASK_SUFFIXES for p in (masks / folder).iterdir())
        for frame, path in list_images(masks / folder, MASK_SUFFIXES).items() if shown else ():
            if frame not in paths:
                raise DataError(
                    f"{path}: expected a frame of this name in {frames}, found none; add the frame,"
                    " or remove the mask"
                )
            objects[frame][folder] = partial(draw_file, path)
            sources.append(path)
    annotated = [i for i, frame in enumerate(paths) if frame in objects]
    gaps = sorted(later - earlier for earlier, later in pairwise(annotated))
    if dense and gaps and gaps[len(gaps) // 2] == 1:
        objects.update((frame, {}) for frame in paths if frame not in objects)
    in_time = {frame: objects[frame] for frame in paths if frame in objects}
    return Video(name, paths, in_time, id_map=label_folders(folders), sources=tuple(sources))


def label_folders(folders: Sequence[str]) -> dict[ObjectId, int]:
    """Map folders of objects to ids: by number if all are called by distinct numbers."""
    numbers = [int(name) for name in folders if name.isascii() and name.isdecimal()]
    if len(set(numbers)) < len(folders):
        return rank(folders)
    labels = keep_or_shift(numbers)
    return {name: labels[int(name)] for name in folders}


@dataclass(frozen=True)
class ImageTree:
    """A tree of images.

    Attributes:
        frames: Folder of a video's frames below the root, with ``{video}`` and perhaps ``{split}``.
        masks: Folder of its masks.
        lists: File that lists the videos of a split, with ``{split}``.
        open_video: Opens a video.
        overlaps: Whether objects can overlap.
    """

    frames: str
    masks: str
    lists: str = ""
    open_video: OpenVideo = open_masks
    overlaps: bool = False

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the splits that have a list or a folder; see :class:`Form`."""
        if self.lists:
            listed = tuple(s for s in SPLITS if (root / self.lists.format(split=s)).is_file())
            if not listed:
                raise DataError(
                    f"{root / self.lists.format(split='train')}: expected the list of a split, "
                    "found none; restore the lists, or name another --layout"
                )
            return listed
        if "{split}" not in self.frames:
            return ("",)
        first, _, rest = self.frames.partition("/")
        pattern = re.compile(re.escape(first).replace(r"\{split\}", "(.+)"))
        below = rest.partition("{video}")[0]
        matches = [pattern.fullmatch(name) for name in video_folders(root)]
        found = {m[1] for m in matches if m and (root / m[0] / below).is_dir()}
        if not found:
            find_folder(root, *self.frames.format(split="train", video="").strip("/").split("/"))
        return in_order(found)

    def listing(self, root: Path, split: str) -> Listing:
        """List the videos of a split, from its list or its folders; see :class:`Form`."""
        names = self._names(root, split)
        entries, left_out = [], {}
        absent = [
            name for name in names if not self._place(root, self.frames, split, name).is_dir()
        ]
        for name in names:
            frames = self._place(root, self.frames, split, name)
            masks = self._place(root, self.masks, split, name)
            if len(absent) == len(names):
                left_out[name] = f"in {self.lists.format(split=split)}, not in the tree"
            elif frames.is_dir() and not (masks.is_dir() and any(masks.iterdir())):
                left_out[name] = "has no masks"
            else:
                entries.append(Entry(name, split, partial(self.open_video, name, frames, masks)))
        if not self.lists:
            bare = _videos(root, self.masks, split) - set(names)
            left_out.update(dict.fromkeys(sorted(bare), "has masks, and no folder of frames"))
        shared = self._place(root, self.frames, split, ".") if self.lists else None
        return Listing(tuple(entries), left_out, folder=shared)

    def _names(self, root: Path, split: str) -> list[str]:
        if self.lists:
            path = root / self.lists.format(split=split)
            names = list_names(path)
            outside = [name for name in names if name in (".", "..") or "\0" in name]
            if outside:
                raise DataError(
                    f"{path}: expected names of videos, found {outside[0]!r}; remove it"
                )
            return names
        above = self.frames.format(split=split, video="\0").partition("\0")[0]
        find_folder(root, *filter(None, above.split("/")))
        return sorted(_videos(root, self.frames, split), key=natural_key)

    def _place(self, root: Path, template: str, split: str, video: str) -> Path:
        return root / template.format(split=split, video=video)


def _videos(root: Path, template: str, split: str) -> set[str]:
    """Return the videos that have a folder."""
    above, _, below = template.format(split=split, video="\0").partition("\0")
    folder = root / above
    there = video_folders(folder) if folder.is_dir() else []
    return {name for name in there if (folder / name / below.strip("/")).is_dir()}
