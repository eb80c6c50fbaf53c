"""One video of the HTML report: pictures of its worst frames, J over time of its objects."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.datasets.protocol import given_ids
from stmtrain.datasets.video import VideoSource
from stmtrain.report.charts import line_chart
from stmtrain.report.comparison import Comparison, Result
from stmtrain.report.error_pictures import data_uri, error_picture, window
from stmtrain.report.html import Markup, tag
from stmtrain.report.tables import DASH, percent
from stmtrain.scoring.results import read_result
from stmtrain.scoring.scores import ObjectScore

PICTURE_WIDTH = 320
"""Pixels; displayed at 240, for screens with a higher resolution."""

_FRAMES = 5
_TYPICAL_BYTES = 11_000

Pixels = NDArray[np.uint8]


class Pictures:
    """Draws pictures of errors within a budget of bytes.

    The number of frames per video follows from the number of videos and results. Videos come worst
    first; when the budget is spent, the remaining ones get no pictures.
    """

    def __init__(self, comparison: Comparison, budget: int) -> None:
        shares = len(comparison.videos) * len(comparison.results) * _TYPICAL_BYTES
        self.frames_each = max(1, min(_FRAMES, budget // max(1, shares)))
        self.left = budget
        self.left_out: list[str] = []

    def draw(
        self, comparison: Comparison, video: VideoSource, frames: Sequence[str]
    ) -> list[Markup]:
        """Return one figure per frame, with the pictures of all results below each other."""
        known = given_ids(video)
        figures = []
        for frame in frames:
            if self.left <= 0:
                self.left_out.append(video.name)
                break
            figure = _figure(comparison, video, frame, known)
            self.left -= len(figure)
            figures.append(figure)
        return figures

    def sentence(self) -> str:
        """Return a sentence about videos without pictures; empty if there are none."""
        if not self.left_out:
            return ""
        return f"To keep the file small, the last {len(self.left_out)} videos have only charts."


def video_section(comparison: Comparison, video: VideoSource, pictures: Pictures) -> Markup:
    """Return the section of a video; its id is the name of the video."""
    frames = comparison.worst_frames(video, pictures.frames_each)
    figures = pictures.draw(comparison, video, frames)
    has = {result.name: _objects(result, video) for result in comparison.results}
    means = " · ".join(
        f"{name} {percent(_mean(objects))}" if objects else f"{name} {DASH}"
        for name, objects in has.items()
    )
    if len(has) == 1:
        means = f"J&F {percent(_mean(next(iter(has.values()))))}"
    return tag(
        "section",
        tag("header", tag("h3", video.name), tag("span", means, class_="faint"), class_="video"),
        tag("div", figures, class_="pictures", tabindex=0) if figures else None,
        tag("div", _charts(has, frames if figures else []), class_="charts"),
        id=video.name,
    )


def _charts(has: Mapping[str, Sequence[ObjectScore]], marks: Sequence[str]) -> list[Markup]:
    styles = {name: i for i, name in enumerate(has)}
    ids = sorted({score.object_id for objects in has.values() for score in objects})
    charts = []
    for object_id in ids:
        own = {
            name: score
            for name, objects in has.items()
            for score in objects
            if score.object_id == object_id
        }
        frames = next(iter(own.values())).frames
        means = ", ".join(f"{name} {percent(score.j.mean)}" for name, score in own.items())
        what = f"object {object_id}: J over {len(frames)} frames"
        series = {name: score.j_values for name, score in own.items()}
        chart = line_chart(series, styles, frames, marks, f"{what}; mean {means}")
        mean = means if len(has) > 1 else f"mean {percent(next(iter(own.values())).j.mean)}"
        charts.append(tag("figure", chart, tag("figcaption", f"{what}, {mean}")))
    return charts


def _figure(comparison: Comparison, video: VideoSource, frame: str, known: Sequence[int]) -> Markup:
    """Return the pictures of one frame, all of the same part of it."""
    truth = video.read_mask(frame)
    pixels = _at_size(video.read_frame(frame), truth.shape)
    masks = {
        number: _read_known(result, video, frame, truth.shape, known)
        for number, result in enumerate(comparison.results)
        if video.name not in result.missing
    }
    part = window(np.any([np.isin(truth, known), *(mask > 0 for mask in masks.values())], axis=0))
    size = (max(1, round(truth.shape[0] * PICTURE_WIDTH / truth.shape[1])), PICTURE_WIDTH)
    cells = []
    for number, result in enumerate(comparison.results):
        if number not in masks:
            cells.append(tag("div", _no_picture(size), _caption(result.name)))
            continue
        values = [s.j_values[s.frames.index(frame)] for s in _objects(result, video)
                  if frame in s.frames]  # fmt: skip
        text = f"J {percent(float(np.mean(values)))}"
        if len(comparison.results) > 1:
            text = f"{result.name}, {text}"
        picture = error_picture(pixels[part], truth[part], masks[number][part], size)
        image = tag(
            "img",
            src=data_uri(picture),
            width=picture.shape[1],
            height=picture.shape[0],
            alt=f"{video.name}, frame {frame}: errors of {text}",
        )
        cells.append(tag("div", image, _caption(text)))
    zoom = truth.shape[0] / pixels[part].shape[0]
    enlarged = f" · {zoom:.1f}\N{MULTIPLICATION SIGN}" if zoom > 1.05 else ""
    return tag("figure", *cells, tag("figcaption", f"frame {frame}{enlarged}"))


def _read_known(
    result: Result, video: VideoSource, frame: str, shape: tuple[int, ...], known: Sequence[int]
) -> Pixels:
    """Read the mask of a result; unknown ids become background, as in scoring."""
    mask = read_result(result.folder, video, frame, shape, known)
    return np.where(np.isin(mask, known), mask, 0).astype(np.uint8)


def _at_size(frame: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Scale a frame to the size of its mask, if the data set stores them at different sizes."""
    if frame.shape[:2] == shape:
        return frame
    return np.asarray(Image.fromarray(frame).resize((shape[1], shape[0])))


def _no_picture(size: tuple[int, int]) -> Markup:
    height, width = size
    text = tag("text", "no result", x=width / 2, y=height / 2, class_="absent")
    return tag("svg", text, viewBox=f"0 0 {width} {height}", class_="empty")


def _caption(text: str) -> Markup:
    return tag("p", text, class_="caption")


def _objects(result: Result, video: VideoSource) -> list[ObjectScore]:
    return [score for score in result.scores.objects if score.video == video.name]


def _mean(objects: Sequence[ObjectScore]) -> float:
    return float(np.mean([(score.j.mean + score.f.mean) / 2 for score in objects]))
