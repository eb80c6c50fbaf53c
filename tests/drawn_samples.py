"""Samples of drawn videos, and sets of them, for tests of what reads sets."""

import io

import numpy as np
from PIL import Image

from stmdata.drawn.scenes import draw_video
from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.images.encode import encode_mask
from stmtrain.shards.sample import Sample, SampleRecord


def jpeg(frame):
    out = io.BytesIO()
    Image.fromarray(frame).save(out, format="JPEG", quality=95)
    return out.getvalue()


def sample(key, seed, frames=8, masked=slice(None), ids=(1, 12), size=(48, 64), mask_size=None):
    rng = np.random.default_rng(seed)
    pictures, slots = draw_video(rng, frames=frames, size=size, objects=2)
    masks = np.array([0, *ids], np.uint8)[slots]
    names = tuple(f"{t:05d}" for t in range(frames))
    shown = {name: masks[int(name)] for name in names[masked]}
    areas = tuple(tuple(int((m == i).sum()) for m in shown.values()) for i in ids)
    record = SampleRecord(key, *size, names, tuple(shown), ids, areas, size)
    if mask_size:
        shown = {name: np.zeros(mask_size, np.uint8) for name in shown}
    return Sample(
        record,
        {name: jpeg(pictures[t]) for t, name in enumerate(names)},
        {name: encode_mask(mask) for name, mask in shown.items()},
    )


def write(folder, samples):
    pack(SetPlan({"source": "drawn"}, [Job("drawn-000000", ("all",))], lambda _: samples), folder)
    return folder
