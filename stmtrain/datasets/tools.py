"""Plain folders, of a benchmark or of anybody, and what annotation tools write: the table's end."""

from functools import partial

from stmtrain.datasets.annotation_files import AnnotationFiles, open_cvat, open_supervisely
from stmtrain.datasets.definition import Dataset
from stmtrain.datasets.exported import RECORDS, ExportedTree
from stmtrain.datasets.files import FRAME_SUFFIXES
from stmtrain.datasets.image_tree import ImageTree, open_masks, open_objects
from stmtrain.datasets.recognise import signs

_own = partial(Dataset, title="", own=True)
PLAIN = ("JPEGImages/{video}", "Annotations/{video}")
_FRAMES = "|".join(f"JPEGImages/*/*{suffix}" for suffix in FRAME_SUFFIXES)


TOOLS = (
    Dataset(
        "pumavos",
        "PUMaVOS",
        ImageTree(*PLAIN),
        signs(
            f"JPEGImages/*/frame_{'[0-9]' * 6}.jpg", "Annotations/*/frame_*.png", lack=(RECORDS,)
        ),
        own=True,
        licence="CC BY 4.0",
        url="https://github.com/max810/XMem2",
    ),
    Dataset(
        "long-videos",
        "Long Videos",
        ImageTree("long_video/JPEGImages/{video}", "long_video/Annotations/{video}"),
        signs("long_video/JPEGImages/*/*", "long_video/Annotations/*/*.png"),
        url="https://github.com/xmlyqing00/AFB-URR",
    ),
    _own(
        "xmem2-workspace",
        form=ImageTree("{video}/JPEGImages", "{video}/Annotations"),
        signs=signs("*/JPEGImages/*.jpg|*/JPEGImages/*.png", "*/Annotations/*.png"),
    ),
    _own(
        "cvat-mots",
        form=ImageTree(
            "{video}/images", "{video}/instances", "", partial(open_masks, wide=True, void=10000)
        ),
        signs=signs("*/instances/*.png", "*/images/*"),
    ),
    _own(
        "cvat-video-xml",
        form=AnnotationFiles(("annotations.xml",), open_cvat),
        signs=signs("annotations.xml", "images/*"),
    ),
    _own(
        "supervisely",
        form=AnnotationFiles(
            ("{split}/ann/*.json",), open_supervisely, "", r"\.[^.]+\.json", "../video"
        ),
        signs=signs("*/ann/*.json", "*/video/*", "meta.json"),
    ),
    _own("stm-export", form=ExportedTree(), signs=signs(RECORDS, "JPEGImages/*/*.jpg")),
    _own(
        "own-object-folders",
        form=ImageTree(*PLAIN, "", partial(open_objects, dense=True), overlaps=True),
        signs=signs(_FRAMES, "Annotations/*/*/*.png"),
    ),
    _own(
        "own-frames-and-masks",
        form=ImageTree(*PLAIN),
        signs=signs(_FRAMES, "Annotations/*/*.png", lack=(RECORDS,)),
    ),
)
