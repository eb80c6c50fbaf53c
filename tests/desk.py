"""The folder in which the examples of the documentation run: all files they name, drawn small."""

import shutil
from pathlib import Path

import torch

import stmtrain
from stmdata.drawn.trees import draw_coco, draw_davis, draw_youtube_vos
from stmdata.packing.clips import ClipOptions
from tests.sets import pack_coco, pack_davis


def draw_desk(root: Path) -> Path:
    """Draw data sets, a shard set of each kind, a network that has learnt nothing, and its input.

    ======================  ===================================================================
    ``coco``, ``DAVIS``     data sets, as they are distributed; ``YouTube-VOS`` too
    ``photos``              images, and one mask file for each
    ``videos``              a folder of frames and one of masks for each video
    ``shards``              ``coco`` and ``davis``, packed
    ``frames, first.png``   a video and its first mask; ``photo.jpg``, ``photo.png``: an image
    ``results``             the true masks of the validation video of ``DAVIS``
    ``runs/main``           ``checkpoint.pt``: ResNet-18 with random weights
    ======================  ===================================================================
    """
    davis = draw_davis(root / "DAVIS", size=(80, 112))
    coco = draw_coco(root / "coco", images=6)
    draw_youtube_vos(root / "YouTube-VOS", size=(80, 112))
    pack_davis(davis, 2017, "train", root / "shards" / "davis", workers=1)
    pack_coco(coco, root / "shards" / "coco", ClipOptions(size=64))
    (val,) = (davis / "ImageSets" / "2017" / "val.txt").read_text().split()
    masks, frames = (davis / kind / "480p" for kind in ("Annotations", "JPEGImages"))
    shutil.copytree(masks / val, root / "results" / val)
    shutil.copytree(frames / val, root / "frames")
    for kind, source in (("Annotations", masks), ("JPEGImages", frames)):
        shutil.copytree(source, root / "videos" / kind)
    large = draw_davis(root / "large", videos=1, val=0, frames=2, size=(240, 320))
    for kind, source in (("masks", "Annotations"), ("images", "JPEGImages")):
        (folder,) = (large / source / "480p").iterdir()
        shutil.move(folder, root / "photos" / kind)
    shutil.copy(masks / val / "00000.png", root / "first.png")
    shutil.copy(masks / val / "00000.png", root / "photo.png")
    shutil.copy(root / "frames" / "00000.jpg", root / "photo.jpg")
    (root / "runs" / "main").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(stmtrain.STM("resnet18").state_dict(), root / "runs" / "main" / "checkpoint.pt")
    return root
