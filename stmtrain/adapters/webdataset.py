"""Read a shard set through plain webdataset, for pipelines that are built on it already."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stmdata.packing.config import is_indexed
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleMeta

__all__ = ["webdataset_samples"]


def webdataset_samples(folder: Path, *, shuffle: bool = False) -> Iterator[dict[str, Any]]:
    """Yield decoded samples in tar order through ``webdataset.WebDataset``.

    Our own loader is faster, checks counts and resumes to the sample; this is for mixing our
    shards into an existing webdataset pipeline. ``webdataset``'s image decoder would turn palette
    masks into colours, so decoding is ours.

    Args:
        folder: Shard set.
        shuffle: Let webdataset shuffle the shards.

    Yields:
        ``{"key": str, "meta": SampleMeta, "frames": {name: (H, W, 3) uint8 RGB}, "masks":
        {name: (H, W) uint8 ids}}``.
    """
    import webdataset

    shard_set = ShardSet.open(folder)
    # Tars from elsewhere may have no records of ours in them: their sidecars have.
    metas = map(shard_set.meta, range(len(shard_set) * is_indexed(shard_set.manifest.config)))
    known = {meta.sample_key: meta for meta in metas}
    urls = [str((folder / shard.name).resolve()) for shard in shard_set.manifest.shards]
    for record in webdataset.WebDataset(urls, shardshuffle=len(urls) if shuffle else False):
        yield _decode(record, known)


def _decode(record: dict[str, Any], known: Mapping[str, SampleMeta]) -> dict[str, Any]:
    key = record["__key__"].removeprefix("./")
    meta = known.get(key)
    if meta is None:
        meta = SampleMeta.from_json(record["json"], f"{record['__url__']}, sample {key}")
    where = f"{record['__url__']}, sample {key}, frame"
    return {
        "key": key,
        "meta": meta,
        "frames": {n: decode_frame(record[f"{n}.jpg"], f"{where} {n}") for n in meta.frames},
        "masks": {n: decode_mask(record[f"{n}.png"], f"{where} {n}") for n in meta.mask_frames},
    }
