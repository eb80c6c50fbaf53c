"""A folder of result masks that can be stopped at any moment and continued.

``evaluation.json``, written first, says with which settings the folder was begun and which videos
are finished. A video's masks are written into ``.<video>.part`` and the folder is renamed when the
last one is there, so that ``<video>`` is whole or absent. Torch-free.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import DataError, UsageError
from stmtrain.files import locked, remove_temporaries, write_whole
from stmtrain.images.encode import encode_mask
from stmtrain.images.png import png_header
from stmtrain.scoring.scores import RESULTS_NAME

__all__ = ["RECORD_NAME", "ResultsFolder", "VideoRecord", "write_json", "write_mask"]

RECORD_NAME = "evaluation.json"

_FORMAT = "stm-evaluation"
_VERSION = 1
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class VideoRecord:
    """What a finished video took.

    Attributes:
        frames: Frames that were processed.
        network: Seconds in the network.
        seconds: Seconds altogether, reading and writing included.
        peak_memory: Bytes at most, so far in this process.
    """

    frames: int
    network: float
    seconds: float
    peak_memory: int


class ResultsFolder:
    """The results of one evaluation; made by :meth:`begin`."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.done: dict[str, VideoRecord] = {}

    @classmethod
    @contextmanager
    def begin(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        names: Sequence[str],
        *,
        overwrite: bool = False,
    ) -> Iterator["ResultsFolder"]:
        """Open a folder for results, new or begun with the same settings.

        Args:
            path: The folder; made if it is not there.
            settings: Whatever decides the masks, as JSON values.
            names: The videos that will be written.
            overwrite: Remove what an evaluation with other settings left.

        Raises:
            UsageError: It holds results of other settings, or of nobody knows what; or another
                evaluation is writing there.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path}: expected a folder for the results, found a file")
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, json.loads(json.dumps(settings)))
        with locked(path):
            remove_temporaries(path)
            folder._take_over(names, overwrite)
            folder._save()
            yield folder

    def finished(self, name: str, frames: Collection[str]) -> bool:
        """Say whether a video is recorded and every one of its PNGs is there and whole."""
        folder = self.path / name
        return name in self.done and all(_is_whole(folder / f"{frame}.png") for frame in frames)

    @contextmanager
    def video(self, name: str) -> Iterator[Path]:
        """Give a folder to write a video's masks into; it gets its name if nothing is raised."""
        part, whole = self.path / f".{name}.part", self.path / name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._clear(name)
        if whole.exists():
            raise UsageError(f"{whole}: holds other files than masks; choose another folder")
        part.replace(whole)

    def record(self, name: str, record: VideoRecord) -> None:
        """Note that a video is finished."""
        self.done[name] = record
        self._save()

    def _take_over(self, names: Sequence[str], overwrite: bool) -> None:
        record = self.path / RECORD_NAME
        before = _read_record(record) if record.exists() else None
        theirs = [name for name in names if any((self.path / name).glob("*.png"))]
        if before is None and theirs and not overwrite:
            raise UsageError(
                f"{self.path}: holds masks ({theirs[0]}) of unknown settings; choose another "
                "folder, or replace them with --overwrite"
            )
        if before is not None and before["settings"] != self.settings and not overwrite:
            raise UsageError(
                f"{self.path}: holds results of other settings "
                f"({_differences(before['settings'], self.settings)}); choose another folder, or "
                "replace them with --overwrite"
            )
        if before is not None and before["settings"] == self.settings and not overwrite:
            self.done = {name: VideoRecord(**value) for name, value in before["done"].items()}
        else:
            for name in {*names, *(before["done"] if before else ())}:
                self._clear(name)
            (self.path / RESULTS_NAME).unlink(missing_ok=True)
        for left in self.path.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)

    def _clear(self, name: str) -> None:
        """Remove a video's masks, and its folder unless it holds anything else."""
        folder = self.path / name
        if not folder.is_dir() or folder.is_symlink():
            return
        for path in folder.glob("*.png"):
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()

    def _save(self) -> None:
        value = {
            "format": _FORMAT,
            "format_version": _VERSION,
            "settings": self.settings,
            "done": {name: asdict(record) for name, record in self.done.items()},
        }
        write_json(self.path / RECORD_NAME, value)


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a label map as a palette PNG that is whole or absent."""
    write_whole(path, encode_mask(mask))


def write_json(path: Path, value: object) -> None:
    """Write indented JSON so that ``path`` is either the old file or the whole new one."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != _FORMAT or value["format_version"] != _VERSION:
            raise ValueError(f"{value['format']} {value['format_version']}")
        for name, record in value["done"].items():
            if "/" in name or name.startswith("."):
                raise ValueError(f"video {name!r}")
            VideoRecord(**record)
        return {"settings": dict(value["settings"]), "done": value["done"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected the record of an evaluation ({error!r}); choose another folder, or "
            "remove this file and use --overwrite"
        ) from None


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {_short(before.get(key))} -> {_short(now.get(key))}" for key in keys)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:8]}..."


def _is_whole(path: Path) -> bool:
    """Look at both ends of a PNG: a file that the system lost in a power cut is empty or torn."""
    try:
        with path.open("rb") as file:
            header = png_header(file.read(26))
            file.seek(-len(_PNG_END), os.SEEK_END)
            return header is not None and file.read() == _PNG_END
    except OSError:
        return False
