"""The table of data sets: everything that packing, evaluation and scoring know about each.

To add a data set, add a line to :data:`DATASETS` with its form on disk: one of ``image_tree``,
``json_set`` and ``annotation_files``, or a form of its own. Free of torch.
"""

from collections.abc import Mapping
from functools import partial

from stmtrain.datasets import protocol
from stmtrain.datasets.annotation_files import AnnotationFiles, open_sav
from stmtrain.datasets.davis import DavisTree
from stmtrain.datasets.definition import Dataset
from stmtrain.datasets.image_tree import ImageTree, open_masks, open_objects
from stmtrain.datasets.json_set import JsonSet, read_burst, read_vis, read_visor
from stmtrain.datasets.recognise import signs
from stmtrain.datasets.tools import PLAIN, TOOLS
from stmtrain.datasets.youtube_vos import ALL_FRAMES, YoutubeVosTree
from stmtrain.errors import UsageError

_HEX8, _HEX10, _DIGITS8 = "[0-9a-f]" * 8, "[0-9a-f]" * 10, "[0-9]" * 8
_SPLITS = ("train", "val", "trainval")
_TESTS = ("test-dev", "test-challenge")

_davis = partial(
    Dataset,
    protocol=protocol.DAVIS,
    options={"resolution": "480p"},
    licence="CC BY-NC",
    url="https://davischallenge.org",
)
_davis_2017 = "ImageSets/2017/train.txt|ImageSets/2017/val.txt"
_youtube_vos = partial(
    Dataset,
    form=YoutubeVosTree(),
    protocol=protocol.YOUTUBE_VOS,
    scored_split="valid",
    all_frames=ALL_FRAMES,
    licence="CC BY 4.0, for research",
    url="https://youtube-vos.org",
)
_youtube_tree = (f"*/JPEGImages/{_HEX10}/*.jpg", f"*/Annotations/{_HEX10}/*.png")

_by_split = ImageTree("{split}/JPEGImages/{video}", "{split}/Annotations/{video}")
_mose = partial(
    Dataset,
    form=_by_split,
    server=protocol.MOSE_2,
    scored_split="valid",
    licence="CC BY-NC-SA 4.0",
    url="https://github.com/henghuiding/MOSE-api",
)
_mose_tree = f"train/JPEGImages/{_HEX8}/*.jpg|valid/JPEGImages/{_HEX8}/*.jpg"
_mose_v1 = (("train/JPEGImages", 1507), ("valid/JPEGImages", 311))
_mose_v2 = (("train/JPEGImages", 3666), ("valid/JPEGImages", 433))
_lvos = partial(
    Dataset,
    form=_by_split,
    server=protocol.LVOS,
    licence="annotations CC BY 4.0, data for non-commercial research",
    url="https://lingyihongfd.github.io/lvos.github.io",
)
_lvos_tree = (f"*/JPEGImages/????????/{_DIGITS8}.jpg", f"*/Annotations/????????/{_DIGITS8}.png")
_every_frame = "*/JPEGImages/*/00000002.jpg"

_sav = partial(
    Dataset,
    scored_split="train",
    licence="CC BY 4.0",
    url="https://ai.meta.com/datasets/segment-anything-video",
)
_sav_places = ("*", "*/*", "*/*/*")
_sav_manual = "|".join(f"{place}_manual.json" for place in _sav_places)
_ytvis = partial(Dataset, scored_split="train", url="https://youtube-vos.org/dataset/vis")
_vis_frames = ("{folder}/JPEGImages", "{split}/JPEGImages")
_vis_json = ("{split}/instances.json", "valid/{split}.json", "test/{split}.json")
_vis_2021 = JsonSet(_vis_json[:1], _vis_frames, read_vis)
_vis_2021_tree = ("*/instances.json", "*/JPEGImages/*/*.jpg")
_short_long = "valid/valid_short.json|valid/valid_long.json"
_burst_json = (
    "annotations/{split}/{split}.json",
    "annotations/{split}/all_classes.json",
    "annotations/{split}/first_frame_annotations.json",
)
_visor = partial(Dataset, licence="CC BY-NC 4.0", url="https://epic-kitchens.github.io/VISOR")
_vipseg = partial(
    Dataset,
    licence="for non-commercial research",
    url="https://github.com/VIPSeg-Dataset/VIPSeg-Dataset",
)
_wide = partial(open_masks, wide=True)


def _sav_files(kind: str) -> AnnotationFiles:
    files = tuple(f"{place}_{kind}.json" for place in _sav_places)
    return AnnotationFiles(files, open_sav, "train", rf"_{kind}\.json", ".")


_BENCHMARKS = (
    _davis(
        "davis2016",
        "DAVIS 2016",
        DavisTree(2016),
        signs(
            "ImageSets/480p/*.txt|ImageSets/2016/*.txt",
            "JPEGImages/480p/*/*.jpg",
            lack=("ImageSets/2017",),
        ),
        protocol=protocol.as_meant(protocol.DAVIS_2016),
        licence="CC BY-NC 4.0",
        splits=_SPLITS,
        binary=True,
    ),
    _davis(
        "davis2017",
        "DAVIS 2017",
        DavisTree(2017),
        signs(_davis_2017, "JPEGImages/*/*/*.jpg", "Annotations/*/*/*.png"),
        splits=(*_SPLITS, *_TESTS),
    ),
    _davis(
        "davis2017-unsupervised",
        "DAVIS 2017 unsupervised",
        DavisTree(2017, "Annotations_unsupervised"),
        signs(_davis_2017, "Annotations_unsupervised/*/*/*.png", lack=("Annotations",)),
        splits=_SPLITS,
    ),
    _davis(
        "davis2017-test-dev",
        "DAVIS 2017",
        DavisTree(2017),
        signs("ImageSets/2017/test-*.txt", "JPEGImages/*/*/*.jpg", lack=(_davis_2017,)),
        splits=_TESTS,
        scored_split="test-dev",
    ),
    _youtube_vos("youtube-vos", "YouTube-VOS"),
    _youtube_vos(
        "youtube-vos-2018",
        "YouTube-VOS 2018",
        signs=signs(*_youtube_tree, counts=(("valid/JPEGImages", 474),)),
    ),
    _youtube_vos(
        "youtube-vos-2019",
        "YouTube-VOS 2019",
        signs=signs(*_youtube_tree, counts=(("valid/JPEGImages", 507),)),
    ),
    _mose(
        "mose-v1",
        "MOSE v1",
        signs=signs(_mose_tree, lack=("meta_valid.json", "*/*meta.json"), counts=_mose_v1),
    ),
    _mose("mose-v2", "MOSE v2", signs=signs(_mose_tree, lack=("*/*meta.json",), counts=_mose_v2)),
    _lvos(
        "lvos-v1",
        "LVOS v1",
        signs=signs(*_lvos_tree, lack=("*/*_meta_attribute.json", _every_frame)),
    ),
    _lvos(
        "lvos-v2",
        "LVOS v2",
        signs=signs(*_lvos_tree, lack=("*/*_expression_meta.json", _every_frame)),
    ),
    _lvos("lvos-all-frames", "LVOS", signs=signs(*_lvos_tree, _every_frame)),
    Dataset(
        "vost",
        "VOST",
        ImageTree(*PLAIN, "ImageSets/{split}.txt"),
        signs("ImageSets/*.txt", "JPEGImages/*/frame*.jpg", "Annotations/*/frame*.png"),
        server=protocol.VOST,
        licence="CC BY-NC-SA 4.0",
        url="https://www.vostdataset.org",
    ),
    _sav(
        "sav-train",
        "SA-V",
        _sav_files("manual"),
        signs(_sav_manual),
    ),
    _sav(
        "sav-train-auto",
        "SA-V automatic",
        _sav_files("auto"),
        signs(_sav_manual.replace("manual", "auto"), lack=(_sav_manual,)),
    ),
    _sav(
        "sav-val",
        "SA-V",
        ImageTree(
            "sav_{split}/JPEGImages_24fps/{video}",
            "sav_{split}/Annotations_6fps/{video}",
            open_video=open_objects,
            overlaps=True,
        ),
        signs("sav_*/JPEGImages_24fps/*/*.jpg", "sav_*/Annotations_6fps/*/*/*.png"),
        server=protocol.SAV,
        scored_split="val",
    ),
    _ytvis(
        "ytvis-2019",
        "YouTube-VIS 2019",
        JsonSet(
            ("{split}.json", "annotations/youtube_vis_2019_{split}.json"), _vis_frames, read_vis
        ),
        signs(
            "train.json|valid.json|test.json|annotations/youtube_vis_2019_*.json",
            "*/JPEGImages/*/*.jpg",
        ),
    ),
    _ytvis(
        "ytvis-2021", "YouTube-VIS 2021", _vis_2021, signs(*_vis_2021_tree, lack=(_short_long,))
    ),
    _ytvis(
        "ytvis-2022",
        "YouTube-VIS 2022",
        JsonSet(_vis_json, _vis_frames, read_vis),
        signs(_short_long, "*/JPEGImages/*/*.jpg"),
    ),
    Dataset(
        "ytvis-polygons",
        "YouTube-VIS with polygons",
        _vis_2021,
        signs(*_vis_2021_tree, lack=(_short_long, "valid/instances.json")),
        scored_split="train",
    ),
    Dataset(
        "ovis",
        "OVIS",
        JsonSet(("annotations_{split}.json",), ("{split}", "Images", "{split}/Images"), read_vis),
        signs("annotations_train.json|annotations_valid.json|annotations_test.json"),
        scored_split="train",
        url="https://songbai.site/ovis",
    ),
    Dataset(
        "uvo",
        "UVO",
        JsonSet(
            ("VideoDenseSet/UVO_video_{split}_dense.json",),
            ("uvo_videos_dense_frames",),
            read_vis,
            films="uvo_videos_dense",
        ),
        signs("VideoDenseSet/UVO_video_*_dense.json"),
        url="https://sites.google.com/view/unidentified-video-object",
    ),
    Dataset(
        "burst",
        "BURST",
        JsonSet(_burst_json, ("frames/{split}",), read_burst),
        signs(
            "annotations/train/train.json|annotations/*/all_classes.json"
            "|annotations/*/first_frame_annotations.json",
            "frames/*/*/*/*.jpg",
        ),
        url="https://github.com/Ali2500/BURST-benchmark",
    ),
    _visor(
        "visor",
        "VISOR",
        JsonSet(("annotations/{split}/*.json",), ("rgb_frames/{split}", "rgb_frames"), read_visor),
        signs("annotations/*/P??_*.json", "rgb_frames/*"),
    ),
    _visor(
        "visor-vos",
        "VISOR-VOS",
        ImageTree(
            "VISOR_2022/JPEGImages/480p/{video}",
            "VISOR_2022/Annotations/480p/{video}",
            "VISOR_2022/ImageSets/2022/{split}.txt",
        ),
        signs("VISOR_2022/ImageSets/2022/*.txt", "VISOR_2022/JPEGImages/480p/*/*.jpg"),
    ),
    _vipseg(
        "vipseg",
        "VIPSeg",
        ImageTree("imgs/{video}", "panomasks/{video}", "{split}.txt", _wide),
        signs("imgs/*/*.jpg", "panomasks/*/*.png"),
    ),
    _vipseg(
        "vipseg-720p",
        "VIPSeg 720p",
        ImageTree(
            "VIPSeg_720P/images/{video}",
            "VIPSeg_720P/panomasks/{video}",
            "VIPSeg_720P/{split}.txt",
            _wide,
        ),
        signs("VIPSeg_720P/images/*/*.jpg"),
    ),
)

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in (*_BENCHMARKS, *TOOLS)}
"""Every data set by its name."""


def find_dataset(name: str) -> Dataset:
    """Return a data set by its name; :class:`UsageError` if there is none of that name."""
    if name not in DATASETS:
        raise UsageError(f"data set: expected one of {', '.join(DATASETS)}, found {name!r}")
    return DATASETS[name]
