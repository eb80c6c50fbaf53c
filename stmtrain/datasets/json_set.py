"""Data sets whose masks are in JSON files: YouTube-VIS and its relatives, BURST, VISOR."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from stmtrain.datasets.files import natural_key, some
from stmtrain.datasets.ids import ObjectId, keep_or_shift, rank
from stmtrain.datasets.listing import SPLITS, Entry, Listing
from stmtrain.datasets.shapes import Shape, draw_rings, draw_rle, draw_segment
from stmtrain.datasets.video import FilmFrame, Video
from stmtrain.errors import DataError
from stmtrain.files import read_file

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Annotated:
    """What a JSON file states about a video.

    Attributes:
        files: Its frames in time order, relative to the frames of its split.
        masks: Name of an annotated frame to the objects in view.
        id_map: As of :class:`Video`.
        origin: As of :class:`Video`.
        notes: As of :class:`Video`.
        film: Name of its video file without suffix, where frames may be taken from that.
    """

    files: Sequence[str]
    masks: Mapping[str, Mapping[ObjectId, Shape]]
    id_map: Mapping[ObjectId, int]
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    film: str = ""


Parse = Callable[[], Annotated]
Read = Callable[[Path], Iterator[tuple[str, Parse | str]]]
"""Yields the name of each video in a JSON file, and what parses it, or why it is left out."""


@dataclass(frozen=True)
class JsonSet:
    """JSON files of annotations next to folders of frames.

    Attributes:
        annotations: The file of a split below the root, with ``{split}`` and perhaps ``*``; the
            first that is there counts.
        frames: The folder of a split's frames; ``{folder}`` is the split without what follows
            ``_``. The first that has the first frame of a video counts.
        read: Reads a file.
        films: Folder of video files, if frames may be taken from these.
        overlaps: Whether objects can overlap.
    """

    annotations: tuple[str, ...]
    frames: tuple[str, ...]
    read: Read
    films: str = ""
    overlaps: bool = True

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the splits that have a file; see :class:`Form`."""
        found = tuple(split for split in SPLITS if self._files(root, split))
        if not found:
            raise DataError(
                f"{root / self.annotations[0].format(split='train')}: expected the annotations of a"
                " split, found none; restore the file, or name another --layout"
            )
        return found

    def listing(self, root: Path, split: str) -> Listing:
        """List the videos in the files of a split; see :class:`Form`."""
        files = self._files(root, split)
        if not files:
            raise DataError(
                f"{root / self.annotations[0].format(split=split)}: expected the annotations of "
                f"split {split!r}, found none; choose another split, or restore the file"
            )
        folders = [root / t.format(split=split, folder=split.split("_")[0]) for t in self.frames]
        films = root / self.films if self.films else None
        entries: dict[str, Entry] = {}
        left_out: dict[str, str] = {}
        twice: list[Entry] = []
        for path in files:
            for name, parse in self.read(path):
                if isinstance(parse, str):
                    left_out[name] = parse
                elif name in entries:
                    twice.append(Entry(name, split, partial(_refuse_second, name, path)))
                else:
                    open_video = partial(open_annotated, name, parse, folders, films, path)
                    entries[name] = Entry(name, split, open_video)
        return Listing((*entries.values(), *twice), left_out, tuple(files))

    def _files(self, root: Path, split: str) -> list[Path]:
        for template in self.annotations:
            found = sorted(root.glob(template.format(split=split)))
            if found:
                return found
        return []


def _refuse_second(name: str, path: Path) -> Video:
    raise DataError(f"{path}: states video {name!r} a second time; remove one of the two")


def open_annotated(
    name: str, parse: Parse, folders: Sequence[Path], films: Path | None, path: Path
) -> Video:
    """Open a video that a JSON file describes.

    Raises:
        DataError: What the file states is malformed, or a frame is missing.
    """
    where = f"{path}: video {name!r}"
    try:
        stated = parse()
        files = [_inside(file, where) for file in stated.files]
    except MALFORMED as error:
        raise DataError(
            f"{where}: is not described as expected ({error!r}); use the original file"
        ) from None
    if not files:
        raise DataError(f"{where}: expected frames, found an empty list; use the original file")
    folder = next((f for f in folders if (f / files[0]).is_file()), folders[0])
    paths: dict[str, Path | FilmFrame] = {file.stem: folder / file for file in files}
    film = films / f"{stated.film}.mp4" if films is not None else None
    if film is not None and film.is_file() and not (folder / files[0]).is_file():
        paths = {file.stem: FilmFrame(film, t) for t, file in enumerate(files)}
    elif absent := [n for n, place in paths.items() if not place.is_file()]:  # type: ignore[union-attr]
        raise DataError(
            f"{where}: expected {len(files)} frames in {(folder / files[0]).parent}, found none for"
            f" {some(absent)}; add them, or leave the video out"
        )
    unknown = [frame for frame in stated.masks if frame not in paths]
    if unknown or len(paths) != len(files):
        raise DataError(
            f"{where}: expected distinct frames and masks of these, found others: "
            f"{some(unknown) or 'one name twice'}; use the original file"
        )
    masks = {frame: stated.masks[frame] for frame in paths if frame in stated.masks}
    return Video(
        name,
        paths,
        masks,
        id_map=stated.id_map,
        origin=stated.origin,
        notes=stated.notes,
        where=str(path),
    )


def load_json(path: Path) -> Any:
    """Read a JSON file; :class:`DataError` if it is none."""
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON ({error}); use the original file") from None


def _inside(file: str, where: str) -> PurePosixPath:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or "\0" in file or not path.parts:
        raise DataError(f"{where}: expected names of files, found {file!r}; use the original file")
    return path


def _hidden(path: Path) -> str:
    return f"{path.name} has no masks: its ground truth is hidden"


def _table(data: Any, key: str, path: Path) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(
            f'{path}: expected a list "{key}" of objects, found {type(found).__name__}; use the '
            "original file, or another --layout"
        )
    return found


# --- YouTube-VIS, OVIS, UVO -----------------------------------------------------------------------


def read_vis(path: Path) -> Iterator[tuple[str, Parse | str]]:
    """Read ``videos`` and ``annotations``, which lack or are null where they are hidden."""
    data = load_json(path)
    videos = _table(data, "videos", path)
    hidden = data.get("annotations") is None
    tracks: dict[Any, list[Any]] = defaultdict(list)
    for track in [] if hidden else _table(data, "annotations", path):
        tracks[str(track.get("video_id"))].append(track)
    for lost in sorted(tracks.keys() - {str(video.get("id")) for video in videos}):
        text = f"{len(tracks[lost])} annotations of video_id {lost}"
        yield text, f"{path.name} has no such video"
    for video in videos:
        try:
            name = str(PurePosixPath(video["file_names"][0]).parent)
        except MALFORMED:
            name = f"id {video.get('id')}"
        parse = partial(_parse_vis, video, tracks.get(str(video.get("id")), []))
        yield name, _hidden(path) if hidden else parse


def _parse_vis(video: Mapping[str, Any], tracks: Sequence[Mapping[str, Any]]) -> Annotated:
    files = [str(file) for file in video["file_names"]]
    frames = [PurePosixPath(file).stem for file in files]
    masks: dict[str, dict[ObjectId, Shape]] = {frame: {} for frame in frames}
    crowds = [track for track in tracks if track.get("iscrowd")]
    objects = [track for track in tracks if not track.get("iscrowd")]
    for track in objects:
        segments = track["segmentations"]
        if len(segments) != len(files):
            raise ValueError(
                f"annotation {track['id']} has {len(segments)} segmentations for {len(files)} "
                "frames"
            )
        for frame, segment in zip(frames, segments, strict=True):
            if segment:
                masks[frame][int(track["id"])] = partial(draw_segment, segment)
    return Annotated(
        files,
        masks,
        rank(int(track["id"]) for track in objects),
        {"categories": {str(track["id"]): track.get("category_id") for track in objects}},
        (f"{len(crowds)} crowds left out",) if crowds else (),
        str(video.get("ytid") or PurePosixPath(files[0]).parent),
    )


# --- BURST ----------------------------------------------------------------------------------------


def read_burst(path: Path) -> Iterator[tuple[str, Parse | str]]:
    """Read ``sequences``, whose ids start at 1 in each."""
    for row in _table(load_json(path), "sequences", path):
        name = f"{row.get('dataset')}/{row.get('seq_name')}"
        yield name, partial(_parse_burst, name, row) if row.get("segmentations") else _hidden(path)


def _parse_burst(name: str, row: Mapping[str, Any]) -> Annotated:
    names = [PurePosixPath(file).stem for file in row["annotated_image_paths"]]
    masks: dict[str, Mapping[ObjectId, Shape]] = {
        frame: {int(i): partial(draw_rle, found["rle"]) for i, found in objects.items()}
        for frame, objects in zip(names, row["segmentations"], strict=True)
    }
    ids = sorted({i for objects in masks.values() for i in objects})
    return Annotated(
        [f"{name}/{file}" for file in row["all_image_paths"]],
        masks,
        keep_or_shift(ids),
        {"categories": {str(i): c for i, c in row.get("track_category_ids", {}).items()}},
    )


# --- VISOR ----------------------------------------------------------------------------------------


def read_visor(path: Path) -> Iterator[tuple[str, Parse | str]]:
    """Read the sequences of a kitchen video; their images are not in time order."""
    for sequence in _visor_sequences(path):
        yield sequence, partial(_parse_visor, path, sequence)


@lru_cache(maxsize=1)
def _visor_sequences(path: Path) -> dict[str, list[Any]]:
    sequences: dict[str, list[Any]] = defaultdict(list)
    for row in _table(load_json(path), "video_annotations", path):
        try:
            sequences[str(row["image"]["subsequence"])].append(row)
        except MALFORMED as error:
            raise DataError(f"{path}: expected images ({error!r}); use the original file") from None
    return sequences


def _parse_visor(path: Path, sequence: str) -> Annotated:
    rows = sorted(_visor_sequences(path)[sequence], key=lambda r: natural_key(r["image"]["name"]))
    masks = {}
    for row in rows:
        rings: dict[str, list[Any]] = defaultdict(list)
        for found in row["annotations"]:
            rings[str(found["name"])] += filter(None, found["segments"])
        shapes: dict[ObjectId, Shape] = {n: partial(draw_rings, r) for n, r in rings.items() if r}
        masks[PurePosixPath(row["image"]["name"]).stem] = shapes
    video = str(rows[0]["image"]["video"])
    files = [f"{video.split('_')[0]}/{video}/{row['image']['name']}" for row in rows]
    return Annotated(files, masks, rank(name for shapes in masks.values() for name in shapes))
