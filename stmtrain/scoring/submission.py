"""The zip that a benchmark's server takes: written from results, and checked before it is sent.

YouTube-VOS wants ``Annotations/<video>/<frame>.png`` of the frames that ``meta.json`` lists; DAVIS
(test-dev, test-challenge) wants ``<video>/<frame>.png`` of every frame. A server that finds
something else scores zero, or stops hours later without a reason. A zip to check is untrusted: it
is never extracted, and no member is read before its size is known to be that of a mask. Torch-free.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from stmtrain.datasets.files import some
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet, given_objects
from stmtrain.errors import DataError, UsageError
from stmtrain.files import read_file, whole_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.masks import areas
from stmtrain.images.png import png_header
from stmtrain.processes import Progress

__all__ = ["check_export_path", "check_submission", "write_submission"]

MAX_MEMBERS = 500_000
"""More files than any benchmark asks for; a zip's directory alone could fill the memory."""

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
        path: The zip; it is either the old one or the whole new one.
        results: Folder with ``<video>/<frame>.png``.
        videos: What was segmented; decides the layout and which frames are in the zip.

    Raises:
        DataError: A mask is missing.
    """
    # Stored, not deflated: PNGs are compressed already.
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for video in sorted(videos.videos, key=lambda video: video.name):
            for frame in videos.protocol.exported(video):
                info = zipfile.ZipInfo(_member(videos, video.name, frame), _TIME)
                info.external_attr, info.create_system = _MODE, _UNIX
                mask = results / video.name / f"{frame}.png"
                archive.writestr(info, read_file(mask, "evaluate this video again"))


def check_submission(path: Path, videos: VideoSet, progress: Progress | None = None) -> list[str]:
    """Compare a zip with what the server expects; nothing is extracted.

    Args:
        path: The zip.
        videos: The split that it is meant for.
        progress: Told how far it is.

    Returns:
        One line per fault; none means that the zip is right.

    Raises:
        DataError: The file cannot be opened as a zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise DataError(f"{path}: expected at most {MAX_MEMBERS} files, found {len(infos)}")
            return list(_faults(_Archive(archive), infos, videos, progress))
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: expected a zip ({reason}); write it again") from None


@dataclass(frozen=True)
class _Archive:
    """Reads members of an untrusted zip into memory, bounded."""

    file: zipfile.ZipFile

    def read(self, info: zipfile.ZipInfo, most: int) -> bytes:
        """Return a member's bytes; ``ValueError`` says why not."""
        if info.flag_bits & 1:
            raise ValueError("is encrypted")
        if info.file_size > most:
            raise ValueError(f"has {info.file_size} bytes, too many for a mask of this video")
        try:
            with self.file.open(info) as member:
                data = member.read(most + 1)
        except _BAD_ZIP as error:
            raise ValueError(f"cannot be read ({error})") from None
        if len(data) != info.file_size:
            raise ValueError(f"is not of the {info.file_size} bytes that the zip says")
        return data


def _faults(
    archive: _Archive,
    infos: Sequence[zipfile.ZipInfo],
    videos: VideoSet,
    progress: Progress | None,
) -> Iterator[str]:
    members: dict[tuple[str, str], zipfile.ZipInfo] = {}
    yield from _sort(infos, videos, members)
    for number, video in enumerate(videos.videos, start=1):
        yield from _video_faults(archive, members, videos, video)
        if progress is not None:
            progress(number, len(videos.videos), video.name)


def _sort(
    infos: Sequence[zipfile.ZipInfo],
    videos: VideoSet,
    members: dict[tuple[str, str], zipfile.ZipInfo],
) -> Iterator[str]:
    """Fill ``members`` with (video, frame) to member; yield faults of names and places."""
    known = {video.name: set(videos.protocol.exported(video)) for video in videos.videos}
    right = PurePosixPath(_member(videos, "x", "y")).parts[:-2]
    places: Counter[tuple[str, ...]] = Counter()
    strange: Counter[str] = Counter()
    for info in infos:
        path = PurePosixPath(info.filename)
        video, frame = path.parent.name, path.stem
        fault = _name_fault(info.filename, path)
        if fault is None and not info.is_dir():
            if path.suffix == ".png" and path.parts[:-2] == right and video not in known:
                strange[video] += 1  # one line for the video, not one per frame
                continue
            fault = _place_fault(path, known, members, videos.dataset)
            if fault is None:
                members[video, frame] = info
                places[path.parts[:-2]] += 1
        if fault is not None:
            yield fault
    for name, count in strange.items():
        yield f"{name}: {count} masks of a video that {videos.dataset} does not have; remove them"
    for place, count in places.items():
        if place != right:
            yield (
                f"{'/'.join((*place, '...'))}: {count} masks lie here, expected "
                f"{_member(videos, '<video>', '<frame>')}; zip it again from the right folder"
            )


def _place_fault(
    path: PurePosixPath,
    known: Mapping[str, Collection[str]],
    members: Collection[tuple[str, str]],
    dataset: str,
) -> str | None:
    video, frame = path.parent.name, path.stem
    if path.suffix != ".png" or video not in known:
        return f"{path}: is no mask of a video of {dataset}; remove it"
    if (video, frame) in members:
        return f"{path}: {video}/{frame}.png is in the zip twice; remove one"
    if frame not in known[video]:
        return f"{path}: is a frame that the server does not ask for; remove it"
    return None


def _name_fault(name: str, path: PurePosixPath) -> str | None:
    if any(part in _JUNK or part.startswith("._") for part in path.parts):
        return f"{name}: is junk of an operating system; zip without it"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        return f"{name!r}: is a path that leads elsewhere; expected names separated by /"
    return None


def _video_faults(
    archive: _Archive,
    members: Mapping[tuple[str, str], zipfile.ZipInfo],
    videos: VideoSet,
    video: VideoSource,
) -> Iterator[str]:
    expected = videos.protocol.exported(video)
    missing = [frame for frame in expected if (video.name, frame) not in members]
    if len(missing) == len(expected):
        yield f"{video.name}: is missing, with {len(missing)} frames; add it"
        return
    if missing:
        yield f"{video.name}: {len(missing)} frames are missing: {some(missing)}; add them"
    size = video.original_size()
    ids = {0}.union(*given_objects(video)[0].values())
    for frame in expected:
        info = members.get((video.name, frame))
        fault = _mask_fault(archive, info, size, ids) if info is not None else None
        if info is not None and fault:
            yield f"{info.filename}: {fault}"


def _mask_fault(
    archive: _Archive, info: zipfile.ZipInfo, size: tuple[int, int], ids: set[int]
) -> str | None:
    """Read one mask; its header is looked at before any pixel is inflated."""
    try:
        data = archive.read(info, most=2 * size[0] * size[1] + (1 << 20))
    except ValueError as error:
        return f"{error}; write it again"
    header = png_header(data)
    if header is None:
        return "is no PNG; write it again"
    if (header.height, header.width) != size:
        return (
            f"has {header.width}x{header.height} pixels, expected {size[1]}x{size[0]} like the "
            "video's frames; save it at the original size"
        )
    if not header.palette:
        return "is not a palette PNG (mode P); save ids as palette indices"
    try:
        mask = decode_mask(data, info.filename)
    except DataError as error:
        return str(error).removeprefix(f"{info.filename}: ")
    strange = sorted(set(np.flatnonzero(areas(mask)).tolist()) - ids)
    if strange:
        return (
            f"has ids {', '.join(map(str, strange[:8]))}, expected those of the given masks: "
            f"{', '.join(map(str, sorted(ids)))}; map ids back to the data set's own"
        )
    return None


def _member(videos: VideoSet, video: str, frame: str) -> str:
    return f"{videos.protocol.zip_prefix}{video}/{frame}.png"
