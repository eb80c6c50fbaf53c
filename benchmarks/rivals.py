"""Ways to make batches of clips: this loader, the bare decoders, and other loaders.

Each function takes a folder in its own format and yields batches without end: frames
(B, 3, H, W, 3) uint8 and masks (B, 3, H, W) uint8 as torch tensors. ``DataLoader`` is configured to
be fast here: no pinning, as little work as possible in the parent process, the JPEG and mask
decoders of this package (except ``webdataset_rgb8``, which uses the decoder of its documentation),
and workers that persist between epochs.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from torch.utils.data import DataLoader, Dataset, IterableDataset

from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord
from stmtrain.streaming.clips import ClipRecipe, choose_clip
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.plan import Plan

__all__ = ["bare_decode", "litdata", "loose_files", "mosaic", "stm", "video_files",
           "video_webdataset", "webdataset_ours", "webdataset_rgb8"]  # fmt: skip

Batches = Iterator[Sequence[torch.Tensor]]
Arrays = tuple[np.ndarray, np.ndarray]

SIZE, SEED = 384, 0


def stm(folder: Path, workers: int, batch: int, recipe: ClipRecipe, max_skip: int = 0) -> Batches:
    """Run the loader of this package, with as many threads as the others have processes."""
    shards = ShardSet.open(folder)
    plan = Plan((shards.shard_sizes,), (1.0,), SEED, batch)
    loader = Loader(
        [shards], plan, recipe, size=SIZE, threads=workers, max_skip=lambda _step: max_skip
    )
    with loader:
        for made in loader:
            yield made.frames, made.masks


def bare_decode(folder: Path, workers: int, batch: int, recipe: ClipRecipe) -> Batches:
    """Decode bytes in memory into reused arrays, which is the upper limit for any loader."""
    shards = ShardSet.open(folder)
    held = [shards.read(i) for i in range(min(len(shards), 256))]
    chosen = [
        choose_clip(s.record, recipe, 0, np.random.default_rng(i)).frames
        for i, s in enumerate(held)
    ]
    shape = (batch, recipe.frames, held[0].record.height, held[0].record.width)
    frames, masks = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)

    def decode(slot: int, number: int) -> None:
        sample, names = held[number], chosen[number]
        for t, name in enumerate(names):
            decode_mask(sample.masks[name], "", masks[slot, t])
            decode_frame(sample.frames[name], "", frames[slot, t])

    with ThreadPoolExecutor(workers) as pool:
        for start in itertools.count(0, batch):
            numbers = [i % len(held) for i in range(start, start + batch)]
            list(pool.map(decode, range(batch), numbers))
            yield torch.from_numpy(frames), torch.from_numpy(masks)


def webdataset_rgb8(folder: Path, workers: int, batch: int) -> Batches:
    """Read with plain webdataset and its ``rgb8`` decoder, masks with Pillow as its users do."""
    return _webdataset(folder, workers, batch, _decode_rgb8)


def webdataset_ours(folder: Path, workers: int, batch: int) -> Batches:
    """Read with plain webdataset, and decode with the decoders of this package."""
    return _webdataset(folder, workers, batch, _decode_members)


def mosaic(folder: Path, workers: int, batch: int) -> Batches:
    """Read with MosaicML Streaming's dataset, shuffled."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    data = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=SEED, batch_size=batch)
    return _endless(DataLoader(_Decoded(data), batch, **_with(workers)))


def litdata(folder: Path, workers: int, batch: int) -> Batches:
    """Read with LitData's dataset and loader, shuffled."""
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(folder), shuffle=True, seed=SEED, transform=_decode_members)
    return _endless(StreamingDataLoader(data, batch_size=batch, **_with(workers)))


def loose_files(folder: Path, workers: int, batch: int) -> Batches:
    """Read a folder of files with ``DataLoader``, shuffled."""
    data = _Files(sorted(folder.iterdir()))
    return _endless(DataLoader(data, batch, shuffle=True, **_with(workers)))


def video_files(
    folder: Path, workers: int, batch: int, records: Sequence[SampleRecord], recipe: ClipRecipe
) -> Batches:
    """Read three frames of a random video from a folder per video, with ``DataLoader``."""
    data = _VideoFiles(folder, tuple(records), recipe)
    return _endless(DataLoader(data, batch, **_with(workers)))


def video_webdataset(
    folder: Path, workers: int, batch: int, records: Sequence[SampleRecord], recipe: ClipRecipe
) -> Batches:
    """Read complete videos with plain webdataset, and decode three frames of each."""
    by_key = {record.sample_key: record for record in records}
    rng = np.random.default_rng(SEED)

    def decode(sample: dict[str, Any]) -> Arrays:
        names = choose_clip(by_key[sample["__key__"]], recipe, MAX_SKIP, rng).frames
        return _stack([sample[f"{n}.jpg"] for n in names], [sample[f"{n}.png"] for n in names])

    return _webdataset(folder, workers, batch, decode)


MAX_SKIP = 5


def _webdataset(folder: Path, workers: int, batch: int, decode: Any) -> Batches:
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    if len(urls) < workers:  # every worker needs a shard of its own
        urls *= workers
    stream = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=SEED, empty_check=False)
    stream = stream.shuffle(32).map(decode).repeat().batched(batch)
    return iter(webdataset.WebLoader(stream, batch_size=None, **_with(workers)))


def _with(workers: int) -> dict[str, Any]:
    # The start method is set because importing LitData changes the default to "spawn".
    return {"num_workers": workers, "persistent_workers": True, "multiprocessing_context": "fork"}


def _endless(loader: Any) -> Batches:
    while True:
        yield from loader


class _Decoded(IterableDataset[Arrays]):
    """A stream of encoded samples, decoded."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Arrays]:
        return map(_decode_members, self.data)


class _Files(Dataset[Arrays]):
    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Arrays:
        paths = sorted(self.folders[index].iterdir())
        data = {path.name: path.read_bytes() for path in paths}
        return _decode_members(data)


class _VideoFiles(Dataset[Arrays]):
    def __init__(self, folder: Path, records: tuple[SampleRecord, ...], recipe: ClipRecipe) -> None:
        self.folder, self.records, self.recipe = folder, records, recipe

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> Arrays:
        record = self.records[index % len(self.records)]
        names = choose_clip(record, self.recipe, MAX_SKIP, np.random.default_rng(index)).frames
        video = self.folder / record.sample_key
        frames, masks = (
            [(video / f"{name}.{kind}").read_bytes() for name in names] for kind in ("jpg", "png")
        )
        return _stack(frames, masks)


def _decode_members(members: dict[str, Any]) -> Arrays:
    """Decode a sample by its member names: ``*.jpg`` or ``jpg0``, in time order."""
    names = sorted(members)
    frames, masks = ([bytes(members[n]) for n in names if k in n] for k in ("jpg", "png"))
    return _stack(frames, masks)


def _decode_rgb8(members: dict[str, Any]) -> Arrays:
    from PIL import Image

    rgb = webdataset.autodecode.imagehandler("rgb8")
    names = sorted(members)
    frames = [rgb("jpg", members[n]) for n in names if n.endswith("jpg")]
    masks = [np.array(Image.open(io.BytesIO(members[n]))) for n in names if n.endswith("png")]
    return np.stack(frames), np.stack(masks)


def _stack(frames: Sequence[bytes], masks: Sequence[bytes]) -> Arrays:
    first = decode_mask(masks[0], "")
    out = np.empty((len(masks), *first.shape), np.uint8)
    images = np.empty((*out.shape, 3), np.uint8)
    for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        decode_frame(frame, "", images[t])
        decode_mask(mask, "", out[t])
    return images, out
