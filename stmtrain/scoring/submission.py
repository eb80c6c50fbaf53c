"""The zip for a benchmark's server: written from results, and checked before it is submitted.

YouTube-VOS expects ``Annotations/<video>/<frame>.png`` of the frames that ``meta.json`` lists, LVOS
of every frame; DAVIS (test-dev, test-challenge) and MOSE expect ``<video>/<frame>.png`` of every
frame; SA-V, whose evaluation runs locally, ``<video>/<object>/<frame>.png`` of those with true
masks. A server that finds something else gives a score of zero, or fails hours later without a
reason. A zip to check is untrusted: it is never extracted, and no member is read unless its size is
that of a mask. Free of torch.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from stmtrain.datasets.files import some
from stmtrain.datasets.protocol import given_ids
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet, given_objects
from stmtrain.errors import DataError, UsageError
from stmtrain.files import open_regular, read_file, whole_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.encode import encode_mask
from stmtrain.images.masks import areas
from stmtrain.images.png import png_header
from stmtrain.processes import Progress

MAX_MEMBERS = 500_000
"""More files than any benchmark asks for; a larger directory could exhaust the memory."""

_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_UNIX = 3
_BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError)
_JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


def check_export_path(path: Path) -> None:
    """Refuse a path that no zip can be written to, before hours of work."""
    if path.suffix.lower() != ".zip":
        raise UsageError(f"--export {path}: expected a file name that ends in .zip")
    if path.is_dir():
        raise UsageError(f"--export {path}: expected a file name, found a folder")


def write_submission(path: Path, results: Path, videos: VideoSet) -> None:
    """Write the zip of a folder of results; equal results give equal bytes.

    Args:
        path: The zip; it is replaced once the new one is complete.
        results: Folder with ``<video>/<frame>.png``.
        videos: What was segmented; its protocol decides the names and which frames are in the zip.

    Raises:
        DataError: A mask is missing.
    """
    # Stored, not deflated: PNGs are compressed already.
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for folder in sorted(_folders(videos), key=lambda folder: folder.name):
            for frame in folder.frames:
                info = zipfile.ZipInfo(_member(videos, folder.name, frame), _TIME)
                info.external_attr, info.create_system = _MODE, _UNIX
                archive.writestr(info, _read_result(results, folder, frame))


@dataclass(frozen=True)
class _Folder:
    """A folder of masks in the zip: of a video, or of one object of it.

    Attributes:
        name: Its name, without the prefix.
        video: The video.
        frames: Names of the masks.
        object_id: The object in the video's label maps, if the folder is of one.
    """

    name: str
    video: VideoSource
    frames: tuple[str, ...]
    object_id: int | None = None


def _folders(videos: VideoSet) -> Iterator[_Folder]:
    """Yield the folders that a zip has."""
    for video in videos.videos:
        if not videos.protocol.zip_folders:
            yield _Folder(video.name, video, videos.protocol.exported(video))
            continue
        # Folders of objects are called as in the data set; those of SA-V are numbered from 000.
        named = getattr(video, "id_map", {}) or {f"{i - 1:03d}": i for i in given_ids(video)}
        for name, object_id in named.items():
            yield _Folder(f"{video.name}/{name}", video, tuple(video.masks), object_id)


def count_masks(videos: VideoSet) -> int:
    """Return how many masks the zip of a set has."""
    return sum(len(folder.frames) for folder in _folders(videos))


def _read_result(results: Path, folder: _Folder, frame: str) -> bytes:
    """Return the PNG of a result; of one object, if the folder is of one."""
    own = results / folder.name / f"{frame}.png"
    if folder.object_id is None or own.exists():
        return read_file(own, "evaluate this video again")
    path = results / folder.video.name / own.name
    mask = decode_mask(read_file(path, "evaluate this video again"), str(path))
    return encode_mask((mask == folder.object_id).view(np.uint8))


def check_submission(path: Path, videos: VideoSet, progress: Progress | None = None) -> list[str]:
    """Compare a zip with what the server expects; nothing is extracted.

    Args:
        path: The zip.
        videos: The split that it is meant for.
        progress: Called after each video.

    Returns:
        One line per fault; none if the zip is correct.

    Raises:
        DataError: The file cannot be opened as a zip.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            count = len(archive.infolist())
            if count > MAX_MEMBERS:
                raise DataError(f"{path}: expected at most {MAX_MEMBERS} files, found {count}")
            return list(_faults(archive, videos, progress))
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: expected a zip ({reason}); write it again") from None


def _faults(archive: zipfile.ZipFile, videos: VideoSet, progress: Progress | None) -> Iterator[str]:
    folders = list(_folders(videos))
    masks, misplaced = _find_masks(archive.infolist(), videos, folders)
    yield from misplaced
    for number, folder in enumerate(folders, start=1):
        yield from _folder_faults(archive, masks[folder.name], folder)
        if progress is not None:
            progress(number, len(folders), folder.name)


def _find_masks(
    infos: Sequence[zipfile.ZipInfo], videos: VideoSet, expected: Sequence[_Folder]
) -> tuple[dict[str, dict[str, zipfile.ZipInfo]], list[str]]:
    """Return the masks by folder and frame, and the faults of all other members.

    Masks in a wrong folder are found too, and reported once per folder.
    """
    exported = {folder.name: set(folder.frames) for folder in expected}
    expected_folder = PurePosixPath(videos.protocol.zip_prefix).parts
    depth = 2 if videos.protocol.zip_folders else 1
    masks: dict[str, dict[str, zipfile.ZipInfo]] = {name: {} for name in exported}
    faults: list[str] = []
    folders: Counter[tuple[str, ...]] = Counter()
    other_videos: Counter[str] = Counter()
    for info in infos:
        path = PurePosixPath(info.filename)
        above = path.parts[:-1]
        folder, video = above[:-depth], "/".join(above[-depth:])
        fault = _name_fault(info.filename, path)
        if fault is None and info.is_dir():
            continue
        if fault is None:
            if path.suffix == ".png" and video not in exported and folder == expected_folder:
                other_videos[video] += 1  # one fault for the video, not one for each frame
                continue
            fault = _mask_name_fault(path, video, exported, masks, videos.dataset)
        if fault is not None:
            faults.append(fault)
            continue
        masks[video][path.stem] = info
        folders[folder] += 1
    for name, count in other_videos.items():
        faults.append(
            f"{name}: {count} masks of a video that {videos.dataset} does not have; remove them"
        )
    for folder, count in folders.items():
        if folder != expected_folder:
            faults.append(
                f"{'/'.join((*folder, '...'))}: found {count} masks here, expected "
                f"{_member(videos, '<video>', '<frame>')}; zip the right folder"
            )
    return masks, faults


def _name_fault(name: str, path: PurePosixPath) -> str | None:
    """Return what is wrong with a name, whatever it names."""
    if any(part in _JUNK or part.startswith("._") for part in path.parts):
        return f"{name}: is a file of the operating system, not a result; zip without it"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        return f"{name!r}: is a path that leads outside; expected names separated by /"
    return None


def _mask_name_fault(
    path: PurePosixPath,
    video: str,
    exported: Mapping[str, Collection[str]],
    masks: Mapping[str, Collection[str]],
    dataset: str,
) -> str | None:
    """Return why a file is not an expected mask, by its name."""
    frame = path.stem
    if path.suffix != ".png" or video not in exported:
        return f"{path}: is not a mask of a video of {dataset}; remove it"
    if frame in masks[video]:
        return f"{path}: {video}/{frame}.png is in the zip twice; remove one"
    if frame not in exported[video]:
        return f"{path}: is a frame that the server does not ask for; remove it"
    return None


def _folder_faults(
    archive: zipfile.ZipFile, masks: Mapping[str, zipfile.ZipInfo], folder: _Folder
) -> Iterator[str]:
    missing = [frame for frame in folder.frames if frame not in masks]
    if len(missing) == len(folder.frames):
        yield f"{folder.name}: is missing, with {len(missing)} frames; add it"
        return
    if missing:
        yield f"{folder.name}: {len(missing)} frames are missing: {some(missing)}; add them"
    size = folder.video.original_size()
    ids = None if folder.object_id else {0}.union(*given_objects(folder.video)[0].values())
    for frame in folder.frames:
        if frame in masks:
            fault = _mask_fault(archive, masks[frame], size, ids)
            if fault is not None:
                yield fault


def _mask_fault(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: tuple[int, int], ids: set[int] | None
) -> str | None:
    """Read one mask and return its fault; its header is checked before any pixel is inflated.

    ``ids`` are those that it may have; None for one object, which may have any value.
    """
    name = info.filename
    try:
        data = _read_member(archive, info, most=2 * size[0] * size[1] + (1 << 20))
    except ValueError as error:
        return f"{name}: {error}; write it again"
    header = png_header(data)
    if header is None:
        return f"{name}: is not a PNG; write it again"
    if (header.height, header.width) != size:
        return (
            f"{name}: has {header.width}x{header.height} pixels, expected {size[1]}x{size[0]} like "
            "the video's frames; save it at the original size"
        )
    if not header.palette and ids is not None:
        return f"{name}: is not a palette PNG (mode P); save ids as palette indices"
    try:
        mask = decode_mask(data, name)
    except DataError as error:
        return str(error)
    found = set(np.flatnonzero(areas(mask)).tolist())
    if ids is None:
        if len(found - {0}) > 1:
            return f"{name}: has several values, expected one object; write one file for each"
        return None
    wrong = sorted(found - ids)
    if wrong:
        return (
            f"{name}: has ids {', '.join(map(str, wrong[:8]))}, expected those of the given masks: "
            f"{', '.join(map(str, sorted(ids)))}; map ids back to the data set's own"
        )
    return None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """Read a member of an untrusted zip into bounded memory; ``ValueError`` states why not."""
    if info.flag_bits & 1:
        raise ValueError("is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Python inflates other methods without a limit, and servers may not know them.
        raise ValueError("is compressed by another method than deflate")
    if info.file_size > most:
        raise ValueError(f"has {info.file_size} bytes, too many for a mask of this video")
    try:
        with archive.open(info) as member:
            data = member.read(most + 1)
    except _BAD_ZIP as error:
        raise ValueError(f"cannot be read ({error})") from None
    if len(data) != info.file_size:
        raise ValueError(f"has other than the {info.file_size} bytes that the zip states")
    return data


def _member(videos: VideoSet, video: str, frame: str) -> str:
    return f"{videos.protocol.zip_prefix}{video}/{frame}.png"
