"""Listing the folders of data sets: images paired by name, and clear errors if some are missing."""

import re
from collections.abc import Iterable
from pathlib import Path

from stmtrain.errors import DataError

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def plain_name(name: str, where: str) -> str:
    """Return ``name``, but refuse names that could lead out of the tree."""
    if not _NAME.fullmatch(name):
        raise DataError(f"{where}: expected names of letters, digits, '_' and '-', found {name!r}")
    return name


def pair_files(frames_folder: Path, masks_folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return a video's frames and masks by name; every mask must have its frame."""
    frames = list_images(frames_folder, (".jpg", ".jpeg"))
    masks = list_images(masks_folder, (".png",))
    orphans = [name for name in masks if name not in frames]
    if orphans:
        raise DataError(
            f"{masks_folder}: found masks without a frame in {frames_folder}: {some(orphans)}; "
            "unpack the data set again or remove them"
        )
    return frames, masks


def list_images(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """List a video's images in time order, by stem; hidden files (``._0.jpg``) are ignored."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder of {suffixes[0]} files, found none; unpack the data set "
            "again or remove the video from the split's list"
        )
    images: dict[str, Path] = {}
    # Shorter names first, so that 9 comes before 10 even without leading zeros.
    for path in sorted(folder.iterdir(), key=lambda p: (len(p.stem), p.name)):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in images:
            raise DataError(f"{folder}: {images[path.stem].name} and {path.name} have one name")
        images[path.stem] = path
    if not images:
        kinds = ", ".join(suffixes)
        raise DataError(f"{folder}: expected {kinds} files, found none; check the folder")
    return images


def find_folder(root: Path, *parts: str) -> Path:
    """Return ``root/parts``, which must be a folder; suggest a nested root if that has it."""
    folder = root.joinpath(*parts)
    if folder.is_dir():
        return folder
    nested = sorted(root.glob("/".join(["*", *parts])))
    if nested:
        advice = f"pass {nested[0].parents[len(parts) - 1]}"
    else:
        parent = folder.parent if folder.parent.is_dir() else root
        found = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
        advice = f"{parent} has {some(found) or 'no folders'}; pass the data set's root folder"
    raise DataError(f"{folder}: expected a folder, found none; {advice}")


def some(names: Iterable[str], most: int = 5) -> str:
    """Join the first few names, and state how many more there are."""
    listed = list(names)
    text = ", ".join(listed[:most])
    return f"{text} and {len(listed) - most} more" if len(listed) > most else text
