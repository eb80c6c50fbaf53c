"""The trainers of Cutie and XMem with our data set: see ``peers.py``."""

import argparse
import os
import random  # noqa: TID251 - the peers draw from it
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchvision
from torch.utils import model_zoo
from torch.utils.data import DataLoader

from benchmarks.peers import alone, clips_per_second, compare_files
from stmtrain.adapters.cutie import CutieDataset
from stmtrain.adapters.pytorch import ClipDataset

__all__ = ["compare", "train"]

FRAMES, OBJECTS, BATCH, MAX_SKIP = 3, 3, 2, 5


def ours(arguments: argparse.Namespace, shards: Any, **options: Any) -> CutieDataset:
    """Return our data set for the peer."""
    return CutieDataset(
        shards, length=10_000, seq_length=FRAMES, max_num_obj=OBJECTS, size=arguments.size,
        max_skip=MAX_SKIP, normalise=arguments.name == "xmem", **options,
    )  # fmt: skip


def videos(arguments: argparse.Namespace) -> Any:
    """Return the peer's own data set of videos. XMem's always crops to 384."""
    images, masks = (str(arguments.tree / kind) for kind in ("JPEGImages", "Annotations"))
    if arguments.name == "xmem":
        from dataset.vos_dataset import VOSDataset

        return VOSDataset(images, masks, MAX_SKIP, False, None, FRAMES, OBJECTS)
    from cutie.dataset.vos_dataset import VOSMergeTrainDataset

    config = {"im_root": images, "gt_root": masks, "max_skip": MAX_SKIP, "subset": None,
              "empty_masks": None, "multiplier": 1}  # fmt: skip
    return VOSMergeTrainDataset({"tree": config}, FRAMES, OBJECTS, arguments.size)


def stills(arguments: argparse.Namespace) -> Any:
    """Return the peer's own data set of still images. XMem's always crops to 384."""
    folder = [(str(arguments.stills), 1, 1)]
    if arguments.name == "xmem":
        from dataset.static_dataset import StaticTransformDataset

        return StaticTransformDataset(folder, FRAMES, OBJECTS)
    from cutie.dataset.static_dataset import SyntheticVideoDataset

    return SyntheticVideoDataset(
        folder, size=arguments.size, seq_length=FRAMES, max_num_obj=OBJECTS
    )


def prepare() -> str:
    """Make the peer importable; return what stands in for a missing package."""
    alone()
    sys.modules["git"] = None  # type: ignore[assignment] # Cutie asks it where it is itself
    model_zoo.load_url = lambda url, **_: getattr(
        torchvision.models, "resnet50" if "resnet50" in url else "resnet18"
    )().state_dict()
    try:
        import thinplate  # noqa: F401
    except ImportError:
        sys.modules["thinplate"] = ModuleType("thinplate")
        return "thinplate is missing: the peer's still images are not warped by splines"
    return ""


def without_splines() -> None:
    """Let the still-image stage of the peer run without ``thinplate``, which makes it faster."""
    for name in ("dataset.static_dataset", "cutie.dataset.static_dataset"):
        if name in sys.modules:
            vars(sys.modules[name])["random_tps_warp"] = lambda image, mask, **_: (image, mask)


def trainer_of(arguments: argparse.Namespace) -> Any:
    """Return the peer's trainer of a small network."""
    torch.distributed.init_process_group("gloo")
    if arguments.name == "xmem":
        from model.trainer import XMemTrainer

        return XMemTrainer({
            "num_frames": FRAMES, "num_ref_frames": 2, "deep_update_prob": 0.2, "lr": 1e-5,
            "weight_decay": 0.05, "steps": [], "gamma": 0.1, "amp": False, "debug": False,
            "start_warm": 20000, "end_warm": 70000, "hidden_dim": 64, "key_dim": 64,
            "value_dim": 512, "single_object": False, "log_text_interval": 100,
            "log_image_interval": 1000, "save_network_interval": 10**6,
            "save_checkpoint_interval": 10**6,
        }).train()  # fmt: skip
    import logging

    import hydra
    from cutie.model.trainer import Trainer
    from cutie.utils.logger import TensorboardLogger

    folder = str(arguments.peer.resolve() / "cutie" / "config")
    with hydra.initialize_config_dir(folder, version_base="1.3.2"):
        config = hydra.compose("train_config", ["model=small"])
    stage = config.main_training
    stage.update(amp=False, num_ref_frames=2, seq_length=FRAMES, num_objects=OBJECTS,
                 crop_size=[arguments.size] * 2, train_num_points=1024)  # fmt: skip
    os.chdir(tempfile.mkdtemp())
    log = TensorboardLogger(".", logging.getLogger(), enabled_tb=False)
    return Trainer(config, stage, log, ".").train()


def train(arguments: argparse.Namespace, source: str) -> list[float]:
    """Train with the peer's trainer, and return the loss of each step."""
    prepare()
    data = ours(arguments, arguments.shards) if source == "shards" else videos(arguments)
    trainer = trainer_of(arguments)
    losses: list[float] = []
    computer, compute = trainer.loss_computer, trainer.loss_computer.compute

    def recorded(*given: Any) -> Any:
        result = compute(*given)
        losses.append(float(result["total_loss"]))
        return result

    computer.compute = recorded
    for step, batch in enumerate(islice(_batches(data), arguments.steps)):
        every = batch["rgb"].shape[-1] // arguments.size  # XMem's crop of 384 is as slow as large
        for name in ("rgb", "cls_gt", "first_frame_gt"):
            batch[name] = batch[name][..., ::every, ::every].contiguous()
        trainer.do_pass(batch, step)
    return losses


def _batches(data: Any) -> Iterator[Any]:
    while True:
        yield from DataLoader(data, batch_size=BATCH, drop_last=True)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare our samples with the files, resume, and time both data sets."""
    note, count = prepare(), arguments.clips
    size = arguments.size
    if arguments.name == "xmem":
        arguments.size = 384  # as its own data sets
    raw = ClipDataset(arguments.shards, length=count, max_skip=MAX_SKIP - 1, max_objects=OBJECTS)
    folders, shards = videos(arguments), ours(arguments, arguments.shards)
    later = ours(arguments, arguments.shards, start=count // 2)
    found: dict[str, Any] = {
        "note": note,
        "size of the timed crops": arguments.size,
        "samples": count,
        "equal": compare_files(raw, arguments.tree, count),
        "resumed with the next sample": bool(
            torch.equal(later[0]["rgb"], shards[count // 2]["rgb"])
        ),
        "videos, clips per CPU second": _timed(folders, shards, count),
    }
    if arguments.pseudo and arguments.stills:
        pseudo, images = ours(arguments, arguments.pseudo), stills(arguments)
        without_splines()
        found["still images, clips per CPU second"] = _timed(images, pseudo, count)
    arguments.size = size
    return found


def _timed(folders: Any, shards: Any, count: int) -> dict[str, float]:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the peers draw from it
    readers = {
        "folders": lambda index: folders[index * 7 % len(folders)],
        "shards": lambda index: shards[index],
    }
    return clips_per_second(readers, count)
