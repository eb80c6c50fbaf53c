"""Listing the folders of data sets: images paired by name, and clear errors if some are missing."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stmtrain.errors import DataError
from stmtrain.files import read_file

T = TypeVar("T")

_MOST = 20
"""Most faulty videos that an error describes; it counts all of them."""

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIXES = (".png",)

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_JUNK = re.compile(r"[.@$].*|__MACOSX|lost\+found|System Volume Information")
"""Folders that operating systems and file servers leave among others."""


def plain_name(name: str, where: str) -> str:
    """Return ``name``, but refuse names that could lead out of the tree."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{where}: expected names of letters, digits, '_' and '-', found {name!r}; rename it "
            "there, and its folders"
        )
    return name


def folder_name(video: str) -> str:
    """Return a video's name as that of one folder: some data sets have ``SOURCE/SEQUENCE``."""
    return video.replace("/", "_")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names by every number in them: ``9_10`` comes before ``10_9``."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def video_folders(root: Path) -> list[str]:
    """List the folders in ``root`` in the order of their names, without hidden ones and junk."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not _JUNK.fullmatch(p.name))


class FaultyVideosError(DataError):
    """Some videos of a data set cannot be used.

    Attributes:
        faults: One line on each of them, by name.
        usable: What was read of the others.
    """

    def __init__(self, faults: Mapping[str, str], usable: Sequence[Any]) -> None:
        super().__init__(describe_faults(faults))
        self.faults, self.usable = faults, usable


def list_all(names: Iterable[str], read: Callable[[str], T]) -> list[T]:
    """Return ``read(name)`` for each name.

    Raises:
        FaultyVideosError: ``read`` raised :class:`DataError` for some.
    """
    found, faults = [], {}
    for name in names:
        try:
            found.append(read(name))
        except DataError as error:
            faults[name] = str(error)
    if faults:
        raise FaultyVideosError(faults, found)
    return found


def describe_faults(faults: Mapping[str, str]) -> str:
    """Return one line on all videos that cannot be used, given their faults by name."""
    if len(faults) == 1:
        return next(iter(faults.values()))
    listed = "; ".join(
        f"({i}) {fault}" for i, fault in enumerate(islice(faults.values(), _MOST), 1)
    )
    more = f"; and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
    return f"{len(faults)} videos cannot be used: {listed}{more}"


def pair_files(
    frames_folder: Path, masks_folder: Path, suffixes: tuple[str, ...] = (".jpg", ".jpeg")
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return a video's frames and masks by name; every mask must have its frame."""
    frames = list_images(frames_folder, suffixes)
    masks = list_images(masks_folder, MASK_SUFFIXES)
    orphans = [name for name in masks if name not in frames]
    if orphans:
        raise DataError(
            f"{masks_folder}: found masks without a frame in {frames_folder}: {some(orphans)}; "
            "add the frames, or remove these masks"
        )
    return frames, masks


def list_images(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """List a video's images in time order, by stem; hidden files (``._0.jpg``) are ignored."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder of {suffixes[0]} files, found none; add it, or leave the "
            "video out"
        )
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda p: natural_key(p.name)):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in images:
            raise DataError(
                f"{folder}: {images[path.stem].name} and {path.name} have one name; remove one"
            )
        images[path.stem] = path
    if not images:
        others = sorted({p.suffix for p in folder.iterdir() if p.suffix and p.name[0] != "."})
        found = f"only {some(others)}; convert them" if others else "none; check the folder"
        raise DataError(f"{folder}: expected {', '.join(suffixes)} files, found {found}")
    return images


def find_folder(root: Path, *parts: str) -> Path:
    """Return ``root/parts``, which must be a folder; suggest another root if that has it."""
    folder = root.joinpath(*parts)
    if folder.is_dir():
        return folder
    nested = sorted(root.glob("/".join(["*", *parts])))
    there = folder.parent
    while not there.is_dir() and there != root:
        there = there.parent
    if nested:
        advice = f"pass {nested[0].parents[len(parts) - 1]}"
    elif root.name == parts[0] and root.joinpath(*parts[1:]).is_dir():
        advice = f"pass {root.parent}"
    elif not root.is_dir():
        advice = f"there is no {root}; check the path"
    else:
        found = some(video_folders(there)) or "no folders"
        advice = f"{there} has {found}; use one of these, or add what is missing"
    raise DataError(f"{folder}: expected a folder, found none; {advice}")


def some(names: Iterable[str], most: int = 5) -> str:
    """Join the first few names, and state how many more there are."""
    listed = list(names)
    text = ", ".join(listed[:most])
    return f"{text} and {len(listed) - most} more" if len(listed) > most else text


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
