"""Save clips: as a contact sheet, an animation, a film, or a recording for the Rerun viewer."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from stmtrain.errors import UsageError
from stmtrain.extras import require
from stmtrain.files import whole_file, writing
from stmtrain.images.draw import COLOURS, ClipView
from stmtrain.images.masks import VOID
from stmtrain.images.mp4 import mp4
from stmtrain.images.sheet import animation, contact_sheet, save_gif, save_png
from stmtrain.preview.clips import Clips, pace, steps_of

_SECONDS = 4.0
"""Least duration of a film; short clips are repeated in it."""


def saver(path: Path) -> Callable[[Path, Clips], None]:
    """Return the function that writes a file of this name, before anything is read.

    Raises:
        UsageError: The name ends in none of the known ways, or an extra is not installed.
    """
    if path.suffix.lower() not in _SAVERS:
        known = ", ".join(_SAVERS)
        raise UsageError(
            f"{path}: expected a name that ends in one of {known}, found {path.suffix!r}"
        )
    for suffix, module in ((".mp4", "av"), (".rrd", "rerun")):
        if path.suffix.lower() == suffix:
            require(module, f"stm preview --save {path.name}")
    return _SAVERS[path.suffix.lower()]


def _save_sheet(path: Path, clips: Clips) -> None:
    save_png(path, contact_sheet([view for clip in clips for view in clip]))


def _save_animation(path: Path, clips: Clips) -> None:
    shown = list(clips)
    length = max(steps_of(clip) for clip in shown)
    save_gif(path, list(animation(shown)), milliseconds=round(1000 / pace(length)))


def _save_film(path: Path, clips: Clips) -> None:
    shown = list(clips)
    length = max(steps_of(clip) for clip in shown)
    rounds = max(1, round(_SECONDS * pace(length) / length))
    with mp4(path, Fraction(pace(length))) as write:
        for _ in range(rounds):
            for number, picture in enumerate(animation(shown, height=360)):
                write(picture, str(number))


def _save_recording(path: Path, clips: Clips) -> None:
    """Write frames and masks for Rerun; frames that are stored keep their JPEG bytes."""
    import rerun

    recording = rerun.RecordingStream("stm preview")
    stream = recording.binary_stream()
    with whole_file(path) as file, writing(path):
        for number, clip in enumerate(clips):
            for view in clip:
                _record(recording, [str(number), view.caption], view)
                file.write(stream.read() or b"")


def _record(recording: Any, place: list[str], view: ClipView) -> None:
    """Log a clip: its frames and masks over the timeline ``frame``, and where it comes from."""
    import rerun

    objects = [(i, str(i), tuple(COLOURS[i].tolist())) for i in (*view.object_ids, VOID)]
    recording.log(place, rerun.AnnotationContext(objects), static=True)
    recording.log([*place, "about"], rerun.TextDocument("\n".join(view.about)), static=True)
    for step, (frame, mask) in enumerate(zip(view.frames, view.masks, strict=True)):
        recording.set_time("frame", sequence=step)
        if view.jpegs:
            picture = rerun.EncodedImage(contents=view.jpegs[step], media_type="image/jpeg")
        else:
            picture = rerun.Image(frame)
        recording.log([*place, "frame"], picture)
        if mask is not None:
            recording.log([*place, "mask"], rerun.SegmentationImage(mask))


_SAVERS = {
    ".png": _save_sheet,
    ".gif": _save_animation,
    ".mp4": _save_film,
    ".rrd": _save_recording,
}
