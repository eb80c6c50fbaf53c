"""Our sets in the trainers of Cutie and XMem: the dictionaries that they read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import stmtrain
from stmtrain.adapters.cutie import CutieDataset, to_cutie
from stmtrain.adapters.pytorch import ClipDataset
from stmtrain.errors import UsageError

OPTIONS = {"length": 20, "size": 48, "seq_length": 3, "max_num_obj": 3}


def test_batches_have_the_shapes_and_types_of_the_trainers(packed: Path, clips: Path) -> None:
    data = CutieDataset([packed, clips], max_skip=2, **OPTIONS)
    batch = next(iter(DataLoader(data, batch_size=4)))
    kinds = {name: (tuple(batch[name].shape), batch[name].dtype) for name in list(batch)[:4]}
    assert kinds == {
        "rgb": ((4, 3, 3, 48, 48), torch.float32),
        "cls_gt": ((4, 3, 1, 48, 48), torch.int64),
        "first_frame_gt": ((4, 1, 3, 48, 48), torch.int64),
        "selector": ((4, 3), torch.float32),
    }
    assert batch["rgb"].min() >= 0
    assert batch["rgb"].max() <= 1
    assert torch.equal(batch["selector"].sum(1).long(), batch["info"]["num_objects"])
    assert len(batch["info"]["frames"]) == 3
    assert len(data) == 20


def test_clips_are_those_of_the_plan(packed: Path) -> None:
    data = CutieDataset(packed, max_skip=3, seed=5, **OPTIONS)
    plain = ClipDataset(packed, seed=5, size=48, max_skip=2, max_objects=3, length=20)
    for index in range(6):
        made, item = data[index], plain[index]
        assert torch.equal(made["rgb"], item["frames"])
        assert made["info"]["name"] == item["key"]
        assert made["info"]["frames"] == [f"{name}.jpg" for name in item["frame_names"]]
        names = stmtrain.open_shards(packed).record(item["index"]).mask_frames
        places = [names.index(name) for name in item["frame_names"]]
        assert max(abs(np.diff(places))) <= 3
        for slot in range(1, 4):
            assert torch.equal(made["first_frame_gt"][0, slot - 1], (made["cls_gt"][0, 0] == slot))


def test_invisible_objects_and_void_are_background() -> None:
    masks = torch.tensor([[[0, 2], [255, 4]], [[1, 2], [4, 4]]], dtype=torch.uint8)
    item = {
        "frames": torch.full((2, 3, 2, 2), 0.5), "masks": masks, "key": "a",
        "frame_names": ["00000", "00005"],
    }  # fmt: skip
    made = to_cutie(item, max_num_obj=4, normalise=True)
    assert made["cls_gt"][:, 0].tolist() == [[[0, 1], [0, 2]], [[0, 1], [2, 2]]]
    assert made["first_frame_gt"][0].sum((1, 2)).tolist() == [1, 1, 0, 0]
    assert made["selector"].tolist() == [1, 1, 0, 0]
    assert made["info"] == {"name": "a", "frames": ["00000.jpg", "00005.jpg"], "num_objects": 2}
    assert made["rgb"][0, 2, 0, 0].item() == pytest.approx((0.5 - 0.406) / 0.225)
    nothing = to_cutie(item | {"masks": masks * 0}, max_num_obj=4, normalise=False)
    assert nothing["info"]["num_objects"] == 1
    assert nothing["selector"].tolist() == [1, 0, 0, 0]


def test_start_resumes_with_the_next_clip(clips: Path) -> None:
    whole, later = (CutieDataset(clips, start=start, **OPTIONS) for start in (0, 7))
    assert torch.equal(whole[9]["rgb"], later[2]["rgb"])
    with pytest.raises(UsageError, match="max_skip 0"):
        CutieDataset(clips, max_skip=0, **OPTIONS)
