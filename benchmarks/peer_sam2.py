"""SAM 2's training code with our raw data set: see ``peers.py``."""

import argparse
import random  # noqa: TID251 - SAM 2 draws from it
import tempfile
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from benchmarks.peers import alone, clips_per_second
from stmtrain.adapters.sam2 import ShardRawDataset

__all__ = ["compare", "train"]

CONFIG = "sam2/configs/sam2.1_training/sam2.1_hiera_b+_MOSE_finetune.yaml"
TINY = {"embed_dim": 96, "num_heads": 1, "stages": [1, 2, 7, 2], "global_att_blocks": [5, 7, 9],
        "window_pos_embed_bkg_spatial_size": [7, 7], "drop_path_rate": 0.1}  # fmt: skip


def raw_config(arguments: argparse.Namespace, source: str) -> dict[str, str]:
    """Return the lines of the configuration that differ between shards and folders."""
    if source == "shards":
        return {
            "_target_": "stmtrain.adapters.sam2.ShardRawDataset",
            "location": str(arguments.shards),
        }
    return {
        "_target_": "training.dataset.vos_raw_dataset.PNGRawDataset",
        "img_folder": str(arguments.tree / "JPEGImages"),
        "gt_folder": str(arguments.tree / "Annotations"),
    }


def config_of(arguments: argparse.Namespace, source: str) -> Any:
    """Return the peer's published configuration, for a small network on the CPU."""
    config = OmegaConf.load(arguments.peer / CONFIG)
    config.scratch.update(resolution=arguments.size, num_train_workers=0, num_frames=4)
    config.launcher.experiment_log_dir = tempfile.mkdtemp()
    trainer = config.trainer
    trainer.update(accelerator="cpu", max_epochs=1)
    trainer.distributed.backend = "gloo"
    trainer.optim.amp.enabled = False
    trainer.checkpoint.model_weight_initializer = None
    encoder = trainer.model.image_encoder
    encoder.trunk = {"_target_": encoder.trunk._target_, **TINY}
    encoder.neck.backbone_channel_list = [768, 384, 192, 96]
    side = arguments.size // 16
    for attention in ("self_attention", "cross_attention"):
        trainer.model.memory_attention.layer[attention].feat_sizes = [side, side]
    trainer.data.train.pin_memory = False
    data = trainer.data.train.datasets[0].dataset.datasets[0]
    data.video_dataset = raw_config(arguments, source)
    data.multiplier = 1 + arguments.steps // len(ShardRawDataset(arguments.shards))
    return config


def train(arguments: argparse.Namespace, source: str) -> list[float]:
    """Run the peer's trainer for one epoch and return the losses of its first steps."""
    from training.utils.train_utils import register_omegaconf_resolvers

    register_omegaconf_resolvers()
    alone()
    losses: list[float] = []

    class Enough(Exception):
        pass

    class Recorded(get_class("training.trainer.Trainer")):  # type: ignore[misc]
        def _step(self, *given: Any) -> Any:
            if len(losses) == arguments.steps:
                raise Enough
            result = super()._step(*given)
            losses.append(next(iter(result[0].values())).item())
            return result

    options = dict(config_of(arguments, source).trainer)
    del options["_target_"]
    with suppress(Enough):
        Recorded(**options).run()
    return losses


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare the samples of both raw data sets, and time them in the peer's data set class."""
    from training.dataset.vos_dataset import VOSDataset
    from training.dataset.vos_sampler import RandomUniformSampler
    from training.utils.train_utils import register_omegaconf_resolvers

    register_omegaconf_resolvers()
    config = config_of(arguments, "shards")
    transforms = [instantiate(each, _convert_="all") for each in config.vos.train_transforms]
    raw = {name: instantiate(raw_config(arguments, name)) for name in ("folders", "shards")}

    def data_set(name: str, chain: list[Any]) -> Any:
        data = VOSDataset(chain, True, raw[name], RandomUniformSampler(8, 3, 0.5), 1)

        def read(index: int) -> Any:
            random.seed(index)
            torch.manual_seed(index)
            return data[index % len(data)]

        return read

    plain = {name: data_set(name, []) for name in raw}
    complete = {name: data_set(name, transforms) for name in raw}
    count = arguments.clips
    return {
        "samples": count,
        "equal": sum(_same(*(read(i) for read in plain.values())) for i in range(count)),
        "clips per CPU second, read": clips_per_second(plain, count),
        "clips per CPU second, with the peer's transforms": clips_per_second(complete, count),
    }


def _same(first: Any, second: Any) -> bool:
    """Whether two samples have equal frames, objects, masks and numbers."""
    pairs = list(zip(first.frames, second.frames, strict=True))
    return first.video_id == second.video_id and all(
        np.array_equal(a.data, b.data)
        and [(int(o.object_id), o.frame_index) for o in a.objects]
        == [(int(o.object_id), o.frame_index) for o in b.objects]
        and all(
            torch.equal(o.segment, p.segment) for o, p in zip(a.objects, b.objects, strict=True)
        )
        for a, b in pairs
    )
