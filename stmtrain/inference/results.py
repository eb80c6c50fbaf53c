"""A folder of result masks that an interrupted evaluation can resume.

``evaluation.json``, written first, holds the settings of the evaluation and the finished videos. A
video's masks are written into ``.<video>.part``, which is renamed after the last one, so that the
folder ``<video>`` is complete or absent. Free of torch.
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
from stmtrain.files import locked, open_regular, read_regular, remove_temporaries, write_whole
from stmtrain.images.encode import encode_mask
from stmtrain.images.png import png_header
from stmtrain.scoring.scores import RESULTS_NAME

STATE_NAME = "evaluation.json"
OBJECT_IDS_NAME = "object_ids.json"

_FORMAT = "stm-evaluation"
_VERSION = 1
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class VideoCost:
    """What segmenting a video has cost.

    Attributes:
        frames: Frames that were processed.
        network: Seconds in the network.
        seconds: Seconds in total, including reading and writing.
        peak_memory: Peak memory of the process until then, bytes.
    """

    frames: int
    network: float
    seconds: float
    peak_memory: int


class ResultsFolder:
    """The results of one evaluation; opened by :meth:`begin`."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.done: dict[str, VideoCost] = {}

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
        """Open a new folder for results, or one with results of the same settings, and lock it.

        Args:
            path: The folder; created if it does not exist.
            settings: Everything that decides the masks, as JSON values.
            names: The videos that will be written.
            overwrite: Remove the results of other settings.

        Raises:
            UsageError: The folder has results of other or unknown settings, or another evaluation
                is writing to it.
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
        """Return whether a video is finished and all of its PNGs are there and complete."""
        folder = self.path / name
        return name in self.done and all(_is_complete(folder / f"{frame}.png") for frame in frames)

    @contextmanager
    def video(self, name: str) -> Iterator[Path]:
        """Give a folder to write a video's masks into; it gets its final name at the end.

        If the block raises, the folder is removed.
        """
        part, complete = self.path / f".{name}.part", self.path / name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._clear(name)
        if complete.exists():
            raise UsageError(f"{complete}: contains files other than masks; choose another folder")
        part.replace(complete)

    def finish(self, name: str, cost: VideoCost) -> None:
        """Record that a video is finished."""
        self.done[name] = cost
        self._save()

    def _take_over(self, names: Sequence[str], overwrite: bool) -> None:
        """Keep earlier results of the same settings, and refuse or remove all others."""
        path = self.path / STATE_NAME
        settings, done = _read_state(path) if path.exists() else (None, {})
        if settings == self.settings and not overwrite:
            self.done = done
        else:
            if not overwrite:
                self._refuse_results(names, settings)
            for name in {*names, *done}:
                self._clear(name)
            (self.path / RESULTS_NAME).unlink(missing_ok=True)
            (self.path / OBJECT_IDS_NAME).unlink(missing_ok=True)
        for left in self.path.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)

    def _refuse_results(self, names: Sequence[str], settings: Mapping[str, Any] | None) -> None:
        """Raise if there are results of other settings, or of unknown ones (None)."""
        advice = "choose another folder, or replace them with --overwrite"
        if settings is not None:
            raise UsageError(
                f"{self.path}: contains results of other settings "
                f"({_differences(settings, self.settings)}); {advice}"
            )
        masked = [name for name in names if any((self.path / name).glob("*.png"))]
        if masked:
            raise UsageError(
                f"{self.path}: contains masks ({masked[0]}) of unknown settings; {advice}"
            )

    def _clear(self, name: str) -> None:
        """Remove a video's masks, and its folder unless it contains anything else."""
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
            "done": {name: asdict(cost) for name, cost in self.done.items()},
        }
        write_json(self.path / STATE_NAME, value)


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a label map as a palette PNG that is complete or absent."""
    write_whole(path, encode_mask(mask))


def write_json(path: Path, value: object) -> None:
    """Write indented JSON that replaces ``path`` once it is complete."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def finished_videos(folder: Path) -> dict[str, VideoCost]:
    """Return the finished videos of an evaluation by name; none if it has not begun."""
    path = folder / STATE_NAME
    return _read_state(path)[1] if path.exists() else {}


def _read_state(path: Path) -> tuple[dict[str, Any], dict[str, VideoCost]]:
    """Read ``evaluation.json``: the settings, and the finished videos by name."""
    try:
        value = json.loads(read_regular(path))
        if value["format"] != _FORMAT or value["format_version"] != _VERSION:
            raise ValueError(f"{value['format']} {value['format_version']}")
        done = {name: VideoCost(**cost) for name, cost in value["done"].items()}
        unsafe = [name for name in done if "/" in name or name.startswith(".")]
        if unsafe:
            raise ValueError(f"video {unsafe[0]!r}")
        return dict(value["settings"]), done
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected the state of an evaluation ({error!r}); choose another folder, or "
            "remove this file and use --overwrite"
        ) from None


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {_short(before.get(key))} -> {_short(now.get(key))}" for key in keys)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:8]}..."


def _is_complete(path: Path) -> bool:
    """Check both ends of a PNG: a file may be empty or truncated after a power failure."""
    try:
        with open_regular(path) as file:
            header = png_header(file.read(26))
            file.seek(-len(_PNG_END), os.SEEK_END)
            return header is not None and file.read() == _PNG_END
    except OSError:
        return False
