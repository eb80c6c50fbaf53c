"""DAVIS 2016 and 2017 as distributed: one tree with ``ImageSets`` lists for every split.

A tree that is incomplete or contradicts itself is refused with the name of the missing file.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stmtrain.datasets.files import find_folder, list_names, pair_files, plain_name, some
from stmtrain.datasets.listing import Entry, Listing
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError

_MASKED_SPLITS = ("train", "val", "trainval")
"""Splits in which every frame has a mask; in the others only the first frame has one."""
_SPLITS = ("train", "val", "test-dev", "test-challenge")


@dataclass(frozen=True)
class DavisTree:
    """A DAVIS tree (``JPEGImages``, ``Annotations``, ``ImageSets``).

    Attributes:
        year: Whose lists are used: 2016, 2017 or 2019. A tree of 2017 serves 2016 too.
        masks: The folder of the masks.
        resolution: Subfolder of frames and masks: ``480p``, ``Full-Resolution``.
    """

    year: int
    masks: str = "Annotations"
    resolution: str = "480p"
    overlaps: bool = False

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the splits that have a list; see :class:`Form`."""
        folders = _lists(root, self.year)
        found = [s for s in _SPLITS if any((f / f"{s}.txt").is_file() for f in folders)]
        return tuple(found) or ("train",)

    def listing(self, root: Path, split: str) -> Listing:
        """List the videos in the order of a split's list.

        Every frame has a mask, except in the test splits, where the first one has.

        Args:
            root: The folder of the tree.
            split: Name of a list in ``ImageSets``; ``trainval`` may be missing, it is train and
                val.

        Raises:
            DataError: A folder or the split list is missing.
        """
        names = split_names(root, self.year, split)
        flat = root / "JPEGImages" / names[0]
        if flat.is_dir() and not (flat.parent / self.resolution).is_dir():
            raise DataError(
                f"{flat.parent / self.resolution}: expected a folder, found {flat} instead; pack, "
                "evaluate and score a tree without resolutions with --layout own-frames-and-masks"
            )
        frames = find_folder(root, "JPEGImages", self.resolution)
        masks = find_folder(root, self.masks, self.resolution)
        entries = (Entry(n, split, partial(_open, n, frames / n, masks / n, split)) for n in names)
        return Listing(tuple(entries), folder=frames)


def split_names(root: Path, year: int, split: str) -> list[str]:
    """Read a split's list; the 2016 release has lists of paths in ``ImageSets/480p``."""
    for folder in _lists(root, year):
        if (folder / f"{split}.txt").is_file():
            return list_names(folder / f"{split}.txt")
        halves = [folder / "train.txt", folder / "val.txt"]
        if split == "trainval" and all(half.is_file() for half in halves):
            return [name for half in halves for name in list_names(half)]
    sets = root / "ImageSets"
    found = sorted(path.relative_to(sets).as_posix() for path in sets.glob("*/*.txt"))
    raise DataError(
        f"{sets}: expected {year}/{split}.txt, found {', '.join(found) or 'no split lists'}; "
        f"choose a year and split that are there, or unpack DAVIS {year}"
    )


def _lists(root: Path, year: int) -> list[Path]:
    names = [str(year)] + (["480p"] if year == 2016 else [])
    sets = root / "ImageSets"
    if not sets.is_dir():  # suggest a folder of this year, not of the other one
        nested = (name for name in names if next(root.glob(f"*/ImageSets/{name}"), None))
        find_folder(root, "ImageSets", next(nested, names[0]))
    return [sets / name for name in names]


def _open(name: str, frames_folder: Path, masks_folder: Path, split: str) -> Video:
    plain_name(name, f"{frames_folder}: list of {split}")
    frames, masks = pair_files(frames_folder, masks_folder)
    needed = frames if split in _MASKED_SPLITS else [next(iter(frames))]
    bare = [frame for frame in needed if frame not in masks]
    if bare:
        raise DataError(
            f"{masks_folder}: expected a mask for each of {len(needed)} frames, found none for "
            f"{some(bare)}; add them, or take {name} out of the list of {split}"
        )
    return Video(name, frames, masks)
