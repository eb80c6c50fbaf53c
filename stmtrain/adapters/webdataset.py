"""Read a shard set through plain webdataset, for pipelines that are built on it already."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.manifest import is_indexed
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord

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
        ``{"key": str, "record": SampleRecord, "frames": {name: (H, W, 3) uint8 RGB}, "masks":
        {name: (H, W) uint8 ids}}``.
    """
    import webdataset

    shard_set = ShardSet.open(folder)
    # Tars from elsewhere may have no records of ours in them: their sidecars have.
    records = map(shard_set.record, range(len(shard_set) * is_indexed(shard_set.manifest.config)))
    known = {record.sample_key: record for record in records}
    urls = [str((folder / shard.name).resolve()) for shard in shard_set.manifest.shards]
    for found in webdataset.WebDataset(urls, shardshuffle=len(urls) if shuffle else False):
        yield _decode(found, known)


def _decode(found: dict[str, Any], known: Mapping[str, SampleRecord]) -> dict[str, Any]:
    key = found["__key__"].removeprefix("./")
    record = known.get(key)
    if record is None:
        record = SampleRecord.from_json(found["json"], f"{found['__url__']}, sample {key}")
    where = f"{found['__url__']}, sample {key}, frame"
    return {
        "key": key,
        "record": record,
        "frames": {n: decode_frame(found[f"{n}.jpg"], f"{where} {n}") for n in record.frames},
        "masks": {n: decode_mask(found[f"{n}.png"], f"{where} {n}") for n in record.mask_frames},
    }
