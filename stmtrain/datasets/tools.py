"""What annotation tools write, and plain folders of anybody's videos: the end of the table."""

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
        signs=signs("*/instances/labels.txt", "*/instances/*.png", "*/images/*"),
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
