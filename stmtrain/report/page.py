"""A comparison as one self-contained HTML file: no network, no fonts, no server.

The page is built with ``html``, which escapes every text. All pictures together stay below
``MAX_PICTURE_BYTES``.
"""

from pathlib import Path

from stmtrain.files import write_whole
from stmtrain.processes import Progress
from stmtrain.report.charts import line_sample
from stmtrain.report.comparison import Comparison
from stmtrain.report.error_pictures import ERROR_COLOURS
from stmtrain.report.html import Markup, document, join, tag
from stmtrain.report.sections import Pictures, video_section
from stmtrain.report.tables import facts_table, objects_table, summary_table, videos_table

MAX_PICTURE_BYTES = 8_000_000
"""Size of all pictures of a report in the file, in base64."""


def write_report(out: Path, comparison: Comparison, progress: Progress | None = None) -> int:
    """Write :func:`html_report` to a file; it appears under its name when it is complete.

    Returns:
        Bytes written.

    Raises:
        DataError: A frame or mask cannot be read.
        StmError: The file cannot be written.
    """
    text = html_report(comparison, progress).encode()
    write_whole(out, text)
    return len(text)


def html_report(comparison: Comparison, progress: Progress | None = None) -> str:
    """Return the page: summary, protocol, videos, objects, and a section for each video.

    Args:
        comparison: What to show.
        progress: Called after each video.
    """
    pictures = Pictures(comparison, MAX_PICTURE_BYTES)
    videos = comparison.worst_first()
    sections = []
    for done, video in enumerate(videos, 1):
        sections.append(video_section(comparison, video, pictures))
        if progress is not None:
            progress(done, len(videos), video.name)
    title = comparison.dataset or "Results"
    return document(
        f"{', '.join(result.name for result in comparison.results)} on {title}",
        tag("header", tag("h1", title), _lead(comparison), _legend(comparison), _notes(comparison)),
        tag(
            "main",
            summary_table(comparison),
            facts_table(comparison),
            videos_table(comparison, videos),
            objects_table(comparison, videos),
            tag("h2", "Where they fail"),
            _picture_legend(pictures),
            *sections,
        ),
        tag("footer", _protocol(comparison)),
    )


def _lead(comparison: Comparison) -> Markup:
    names = [result.name for result in comparison.results]
    frames = len(
        {(s.video, f) for r in comparison.results for s in r.scores.objects for f in s.frames}
    )
    objects = len({(s.video, s.object_id) for r in comparison.results for s in r.scores.objects})
    sentence = (
        f"{_listed(names)} on {_count(len(comparison.videos), 'video')} with "
        f"{_count(objects, 'object')} in {_count(frames, 'scored frame')}. All values in percent."
    )
    return tag("p", sentence, class_="lead")


def _legend(comparison: Comparison) -> Markup | None:
    if len(comparison.results) == 1:
        return None
    entries = [tag("span", line_sample(i), r.name) for i, r in enumerate(comparison.results)]
    return tag("div", *entries, class_="legend")


def _notes(comparison: Comparison) -> Markup | None:
    notes = comparison.notes()
    return tag("ul", *[tag("li", note) for note in notes], class_="notes") if notes else None


def _picture_legend(pictures: Pictures) -> Markup:
    names = {"missed": "missed", "extra": "extra", "mistaken": "wrong object"}
    swatches = [tag("span", _swatch(colour), names[kind]) for kind, colour in ERROR_COLOURS.items()]
    text = (
        "Videos with the lowest J&F first, and of each the frames with the lowest J. The white "
        "line is the ground truth; a factor next to a frame's name is its enlargement. "
        "Dotted lines in a chart mark the frames of the pictures. "
    )
    return join(
        tag("p", text, pictures.sentence(), class_="faint"),
        tag("div", *swatches, class_="legend"),
    )


def _swatch(colour: tuple[int, int, int]) -> Markup:
    square = tag("rect", width=12, height=12, fill=f"rgb{colour}")
    return tag("svg", square, class_="swatch", viewBox="0 0 12 12", aria_hidden="true")


def _protocol(comparison: Comparison) -> str:
    protocol = comparison.results[0].scores.protocol()
    return (
        f"J is the intersection over union of an object's mask, F the agreement of its contour "
        f"within {protocol['boundary_tolerance']:g} of the frame's diagonal; J&F is their mean. "
        f"Recall: the share of frames above {100 * protocol['recall_threshold']:g}. Decay: the "
        f"mean of the first quarter of a video minus that of the last. Not scored: "
        f"{' and '.join(protocol['frames_excluded'])} frame. Objects: {protocol['objects']}. "
        f"Void: {protocol['void']}. "
        f"Means are {protocol['average']}. Made by stm report."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
