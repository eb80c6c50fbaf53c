"""Shard sets in the trainers of Cutie and XMem: their video stage and their still-image stage.

Both trainers read dictionaries of ``rgb``, ``cls_gt``, ``first_frame_gt``, ``selector`` and
``info``. :class:`CutieDataset` makes them of clips that are chosen, warped and recoloured as by
``stm train``: sets of pseudo-videos replace the still-image stage, sets of videos the video stage.
Clips of two videos are not merged. Void becomes background, because these trainers have no label
for it.

Example:
    In ``setup_main_training_datasets`` of Cutie, in place of ``VOSMergeTrainDataset(...)``, and
    with sets of pseudo-videos likewise in ``setup_pre_training_datasets``::

        stage = cfg.main_training
        dataset = CutieDataset(
            ["shards/davis", "shards/youtube-vos"], weights=[1, 20], max_skip=max_skip,
            seq_length=stage.seq_length, max_num_obj=stage.num_objects, size=stage.crop_size[0],
            length=stage.num_iterations * stage.batch_size * torch.distributed.get_world_size())

    In ``train.py`` of XMem, in place of the data sets of ``renew_vos_loader``::

        train_dataset = CutieDataset(
            ["shards/davis", "shards/youtube-vos"], weights=[1, 20], max_skip=max_skip,
            seq_length=config["num_frames"], size=384, normalise=True,
            length=config["iterations"] * config["batch_size"] * world_size)
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stmtrain.adapters.pytorch import ClipDataset
from stmtrain.errors import UsageError
from stmtrain.images.masks import VOID

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as XMem expects


class CutieDataset(ClipDataset):
    """A map-style data set of the dictionaries that Cutie and XMem train with."""

    def __init__(
        self,
        locations: str | Path | Sequence[str | Path],
        *,
        length: int,
        size: int,
        seq_length: int = 3,
        max_num_obj: int = 3,
        max_skip: int = 1,
        normalise: bool = False,
        **options: Any,
    ) -> None:
        """Open the sets; errors are those of :class:`stmtrain.adapters.clips.ClipSource`.

        Args:
            locations: Folders or URLs of shard sets.
            length: Clips of the complete stage, iterations x batch size x processes: these trainers
                do not tell a data set the epoch, and a shorter one would repeat its clips.
            size: Side of the crop, pixels.
            seq_length: Frames of a clip.
            max_num_obj: Most objects of a clip.
            max_skip: Largest distance between neighbouring frames, >= 1, as these trainers count
                it, in frames of the video: it is not divided by the interval of the masks.
            normalise: Subtract ImageNet's mean and divide by its deviation, as XMem expects; Cutie
                does so in its network.
            **options: ``seed``, ``weights`` and ``start`` of :class:`ClipSource`. With
                ``DistributedSampler(dataset, shuffle=False)``, ``start`` resumes with the next clip
                after so many.
        """
        if max_skip < 1:
            raise UsageError(f"max_skip {max_skip}: expected a distance of at least 1 frame")
        super().__init__(
            locations,
            length=length,
            size=size,
            frames=seq_length,
            max_objects=max_num_obj,
            max_skip=max_skip - 1,
            transform=partial(to_cutie, max_num_obj=max_num_obj, normalise=normalise),
            **options,
        )


def to_cutie(item: dict[str, Any], *, max_num_obj: int, normalise: bool) -> dict[str, Any]:
    """Turn an item of :class:`ClipSource` into a dictionary of Cutie and XMem.

    Objects that the crop of the first frame does not show are background in the complete clip.

    Returns:
        ``rgb`` (T, 3, S, S) float32; ``cls_gt`` (T, 1, S, S) int64: 0 background, objects 1..;
        ``first_frame_gt`` (1, N, S, S) int64, 0 or 1; ``selector`` (N,) float32, 1 for objects in
        use; ``info``: ``name``, ``frames`` and ``num_objects``, at least 1.
    """
    frames, masks = item["frames"], item["masks"]
    visible = [i for i in torch.unique(masks[0]).tolist() if i not in (0, VOID)]
    slots = torch.zeros(VOID + 1, dtype=torch.int64)
    slots[visible] = torch.arange(1, len(visible) + 1)
    labels = slots[masks.long()]
    first = torch.stack([labels[0] == slot for slot in range(1, max_num_obj + 1)])
    if normalise:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        frames = (frames - mean) / std
    used = max(1, len(visible))
    return {
        "rgb": frames,
        "cls_gt": labels[:, None],
        "first_frame_gt": first.long()[None],
        "selector": (torch.arange(max_num_obj) < used).float(),
        "info": {
            "name": item["key"],
            "frames": [f"{name}.jpg" for name in item["frame_names"]],
            "num_objects": used,
        },
    }
