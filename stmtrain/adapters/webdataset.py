"""Shard sets as the input of a ``webdataset`` pipeline.

:func:`open_webdataset` returns a ``webdataset.WebDataset`` over the shards of a set, split by node
and by worker, and :func:`decode_sample` is a stage that decodes its samples. The image decoders of
``webdataset`` would turn palette masks into colours. The loader of this package is faster, reads
only the frames of a clip, checks what it reads and resumes at any step; this module is for
pipelines that are built on ``webdataset`` already.

Example:
    Two worker processes, and a different order in each epoch::

        samples = open_webdataset("shards/coco", shardshuffle=100).shuffle(1000).map(decode_sample)
        arrays = samples.to_tuple("frames", "masks")
        options = {"num_workers": 2, "persistent_workers": True}
        for frames, masks in webdataset.WebLoader(arrays, batch_size=None, **options):
            ...  # (T, H, W, 3) uint8 RGB, (T, H, W) uint8 object ids
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stmtrain.errors import ShardError, UsageError
from stmtrain.shards import arrays
from stmtrain.shards.manifest import Manifest, is_indexed
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.shards.store import open_store
from stmtrain.shards.urls import join_url, parse_location, shown


def open_webdataset(location: str | Path, **options: Any) -> Any:
    """Return a ``webdataset.WebDataset`` over the shards of a set, for further stages.

    Every node reads its share of the shards, and every worker of a node its share of those: no
    sample is read twice in an epoch. Nodes are the ranks of ``torch.distributed``, workers those of
    a ``DataLoader``. A set needs at least as many shards as there are workers on all nodes.

    Args:
        location: Folder of the set, or an ``https://``, ``http://``, ``gs://`` or ``hf://`` URL,
            which ``webdataset`` reads with ``curl`` or ``gsutil``.
        **options: Options of ``webdataset.WebDataset``. With ``shardshuffle=N`` the order of the
            shards differs between epochs, as determined by ``seed`` (0 by default); a
            ``DataLoader`` counts epochs only with ``persistent_workers=True``.

    Returns:
        The pipeline of encoded samples: ``__key__``, ``__url__`` and the bytes of each member, such
        as ``sample["00000.jpg"]``. The record is in ``sample["json"]``, also where the shards were
        indexed by ``stm shards index`` and do not contain it.

    Raises:
        ShardError: The location contains no complete set, or an empty one.
        UsageError: ``webdataset`` cannot read this kind of URL.
    """
    import webdataset

    defaults = {
        "nodesplitter": webdataset.split_by_node,
        "shardshuffle": False,
        "detshuffle": True,  # otherwise a seed gives the same order in every epoch
        "seed": 0,
    }
    shard_set = ShardSet.open(location)
    pipeline = webdataset.WebDataset(_urls(location, shard_set), **defaults | options)
    if is_indexed(shard_set.manifest.config):
        records = _records(location, shard_set.manifest)
        pipeline = pipeline.compose(partial(_indexed_samples, records))
    return pipeline


def decode_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Decode the frames and masks of a sample, as a stage: ``pipeline.map(decode_sample)``.

    Args:
        sample: An encoded sample, before any decoding by ``webdataset``.

    Returns:
        ``__key__``, ``__url__``, ``record`` (:class:`~stmtrain.shards.sample.SampleRecord`),
        ``frames`` (T, H, W, 3) uint8 RGB, and ``masks`` (T, H, W) uint8: 0 background, object ids,
        255 void. The mask of a frame without one is void everywhere.

    Raises:
        DataError: A member is missing, damaged or not of this format.
    """
    key = _key(sample)
    url = str(sample["__url__"])
    where = f"{shown(url) if '://' in url else url}, sample {key}"
    record = SampleRecord.from_json(_member(sample, "json", where), where)
    frames = {name: _member(sample, f"{name}.jpg", where) for name in record.frames}
    masks = {name: _member(sample, f"{name}.png", where) for name in record.mask_frames}
    decoded = arrays.decode_sample(Sample(record, frames, masks), where)
    return {"__key__": key, "__url__": url, **vars(decoded)}


def _indexed_samples(
    records: Mapping[str, bytes | None], samples: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Drop what the index does not list, and add the records that tars lack."""
    for sample in samples:
        key = _key(sample)
        if key in records:
            record = records[key]
            yield sample if record is None else sample | {"json": record}


def _records(location: str | Path, manifest: Manifest) -> dict[str, bytes | None]:
    """Return the records in the sidecars by key; None for those that their tar contains."""
    store = open_store(location)
    rows = [row for shard in manifest.shards for row in store.sidecar(shard, manifest).index]
    return {row.key: row.record.to_json() if row.record else None for row in rows}


def _urls(location: str | Path, shard_set: ShardSet) -> list[str]:
    """Return the absolute paths or the URLs of a set's shards."""
    location = parse_location(location) if isinstance(location, str) else location
    names = [shard.name for shard in shard_set.manifest.shards]
    if not names:
        raise ShardError(f"{shard_set.name}: the set contains no shards; check how it was made")
    if isinstance(location, Path):
        return [str((location / name).resolve()) for name in names]
    if location.startswith("s3://"):
        raise UsageError(f"{shown(location)}: webdataset cannot read s3://; copy the set to a disk")
    return [join_url(location, name) for name in names]


def _key(sample: Mapping[str, Any]) -> str:
    return str(sample["__key__"]).removeprefix("./")  # as tar writes it for "tar -cf x.tar ."


def _member(sample: Mapping[str, Any], suffix: str, where: str) -> bytes:
    try:
        data: bytes = sample[suffix.lower()]  # webdataset changes suffixes to lower case
    except KeyError:
        raise ShardError(
            f'{where}: member {suffix} is missing from the shard; run "stm shards verify"'
        ) from None
    return data
