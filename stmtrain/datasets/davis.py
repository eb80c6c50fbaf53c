"""DAVIS 2016 and 2017 as distributed: one tree with ``ImageSets`` lists for every split.

A tree that is incomplete or contradicts itself is refused with the name of the missing file.
"""

import re
from pathlib import Path

from stmtrain.datasets.files import find_folder, list_all, pair_files, plain_name, some
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError
from stmtrain.files import read_file

_MASKED_SPLITS = ("train", "val", "trainval")
"""Splits in which every frame has a mask; in the others only the first frame has one."""


def davis_videos(root: Path, split: str, *, year: int, resolution: str) -> list[Video]:
    """List the videos of a DAVIS tree (``JPEGImages``, ``Annotations``, ``ImageSets``).

    Args:
        root: The folder that holds those three.
        split: Name of a list in ``ImageSets``; ``trainval`` may be missing, it is train and val.
        year: 2016 or 2017, whose lists are used. A tree of 2017 serves both.
        resolution: Subfolder of ``JPEGImages`` and ``Annotations``: ``480p``, ``Full-Resolution``.

    Returns:
        Videos in the order of the split's list. Every frame has a mask, except in the test
        splits, where the first one has.

    Raises:
        DataError: A folder, split list, sequence, frame or mask is missing.
    """
    names = split_names(root, year, split)
    flat = root / "JPEGImages" / names[0]
    if flat.is_dir() and not (flat.parent / resolution).is_dir():
        raise DataError(
            f"{flat.parent / resolution}: expected a folder, found {flat} instead; evaluate and "
            f"score a tree without resolutions with --videos {root}"
        )
    frames_root = find_folder(root, "JPEGImages", resolution)
    masks_root = find_folder(root, "Annotations", resolution)

    def video(name: str) -> Video:
        plain_name(name, f"{root}: list of {split}")
        frames, masks = pair_files(frames_root / name, masks_root / name)
        needed = frames if split in _MASKED_SPLITS else [next(iter(frames))]
        bare = [frame for frame in needed if frame not in masks]
        if bare:
            raise DataError(
                f"{masks_root / name}: expected a mask for each of {len(needed)} frames, found "
                f"none for {some(bare)}; add them, or take {name} out of the list of {split}"
            )
        return Video(name, frames, masks)

    return list_all(names, video)


def split_names(root: Path, year: int, split: str) -> list[str]:
    """Read a split's list; the 2016 release has lists of paths in ``ImageSets/480p``."""
    sets = find_folder(root, "ImageSets")
    for folder in [sets / str(year)] + ([sets / "480p"] if year == 2016 else []):
        if (folder / f"{split}.txt").is_file():
            return list_names(folder / f"{split}.txt")
        halves = [folder / "train.txt", folder / "val.txt"]
        if split == "trainval" and all(half.is_file() for half in halves):
            return [name for half in halves for name in list_names(half)]
    found = sorted(path.relative_to(sets).as_posix() for path in sets.glob("*/*.txt"))
    raise DataError(
        f"{sets}: expected {year}/{split}.txt, found {', '.join(found) or 'no split lists'}; "
        f"choose a year and split that are there, or unpack DAVIS {year}"
    )


def list_names(path: Path) -> list[str]:
    """Read the sequence of each line: its name, or a path to its folder or to one of its frames."""
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text ({error}); replace the file") from None
    names = []
    for line in filter(None, map(str.strip, lines)):
        # A line of DAVIS 2016 has two paths, of a frame and of its mask.
        *folders, name = re.split(r"\s+/", line.replace("\\", "/").strip("/"))[0].split("/")
        if folders and name.lower().endswith((".jpg", ".jpeg", ".png")):
            name = folders[-1]
        names.append(name)
    if not names:
        raise DataError(f"{path}: expected sequence names, found an empty list; replace the file")
    return list(dict.fromkeys(names))
