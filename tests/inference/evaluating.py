"""What tests of evaluation share."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.video_set import VideoSet
from stmtrain.inference.evaluate import evaluate
from stmtrain.inference.summary import Evaluation

CPU = torch.device("cpu")
DAVIS_2016, DAVIS_2017, YOUTUBE = map(find_dataset, ("davis2016", "davis2017", "youtube-vos"))


def run(checkpoint: Path, videos: VideoSet, out: Path, **more: object) -> Evaluation:
    return evaluate(checkpoint, videos, out, device=CPU, **more)  # type: ignore[arg-type]


def pngs(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.png"))}


def ids_in(path: Path) -> set[int]:
    with Image.open(path) as image:
        assert image.mode == "P"
        return set(np.unique(np.asarray(image)).tolist())
