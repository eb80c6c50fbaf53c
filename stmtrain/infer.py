"""Segment one video with STM: given masks in, label maps out, frame by frame.

Memory holds the frames where objects were given, every Nth frame and the previous frame
(Oh et al. 2019, section 3.5). Only objects that exist take memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stmtrain.errors import DataError
from stmtrain.model import STM, read_memory
from stmtrain.spec import VOID

__all__ = ["MEMORY_EVERY", "MemoryBank", "segment_video", "segment_video_soft"]

MEMORY_EVERY = 5
"""Every Nth frame stays in memory: 5 in the paper, 8 in the published re-training's script."""


@dataclass
class _Group:
    """Memory of the objects that appeared in the same frame; buffers grow by doubling.

    ``keys`` (n,Ck,cap,h,w) and ``values`` (n,Cv,cap,h,w) hold ``filled`` frames, of which the
    first ``kept`` stay; the one behind them, the previous frame, is overwritten by the next.
    """

    keys: Tensor
    values: Tensor
    kept: int = 0
    filled: int = 0

    def write(self, key: Tensor, value: Tensor, *, keep: bool) -> None:
        if self.kept == self.keys.shape[2]:
            self.keys = torch.cat([self.keys, torch.empty_like(self.keys)], dim=2)
            self.values = torch.cat([self.values, torch.empty_like(self.values)], dim=2)
        self.keys[:, :, self.kept] = key
        self.values[:, :, self.kept] = value
        self.filled = self.kept + 1
        self.kept += keep


class MemoryBank:
    """The memory of one video's objects, in slot order."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []

    @property
    def objects(self) -> int:
        """Number of objects with a memory."""
        return sum(len(group.keys) for group in self._groups)

    def write(self, keys: Tensor, values: Tensor, *, keep: bool) -> None:
        """Store one frame for every object; objects that are new here start their memory with it.

        Args:
            keys: (N,Ck,h,w), N at least :attr:`objects`.
            values: (N,Cv,h,w).
            keep: Whether the frame stays, or gives way to the next one.
        """
        new = len(keys) - self.objects
        if new:
            room = (new, keys.shape[1], 4, *keys.shape[2:])
            empty = keys.new_empty(room)
            self._groups.append(_Group(empty, values.new_empty(new, values.shape[1], *room[2:])))
        sizes = [len(group.keys) for group in self._groups]
        parts = zip(self._groups, torch.split(keys, sizes), torch.split(values, sizes), strict=True)
        for group, key, value in parts:
            # The frame in which an object was given always stays: it holds its only true mask.
            group.write(key, value, keep=keep or group.filled == 0)

    def read(self, query_key: Tensor) -> Tensor:
        """Read for every object; ``query_key`` (1,Ck,h,w) of one frame gives (N,Cv,h,w)."""
        parts = []
        for group in self._groups:
            query = query_key.expand(len(group.keys), -1, -1, -1)
            keys, values = group.keys[:, :, : group.filled], group.values[:, :, : group.filled]
            parts.append(read_memory(query, keys, values))
        return torch.cat(parts)


def segment_video(
    model: STM,
    frames: Iterable[NDArray[np.uint8]],
    masks: Mapping[int, NDArray[np.uint8]],
    *,
    memory_every: int = MEMORY_EVERY,
    size: int | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Segment a video and yield a label map for each frame.

    Args:
        model: The network, in eval mode, on the device to use.
        frames: (H, W, 3) uint8 RGB, all of one size, in time order.
        masks: Frame index to (H, W) uint8 ids of the objects that are given there. Ids that were
            given before are ignored; a new object overwrites the prediction where it appears.
        memory_every: Every how many frames one stays in memory, >= 1.
        size: Short side at which the network works, pixels; ``None`` is the frames' own. A network
            that was trained at a smaller size than the paper's expects objects of that scale.

    Yields:
        (H, W) uint8 object ids; all background before the first given mask.

    Raises:
        DataError: A given mask has another size than its frame.
    """
    soft = segment_video_soft(model, frames, masks, memory_every=memory_every, size=size)
    for ids, probabilities in soft:
        labels = np.array([0, *ids], np.uint8)
        yield labels[probabilities.argmax(dim=0).cpu().numpy()]


@torch.inference_mode()
def segment_video_soft(
    model: STM,
    frames: Iterable[NDArray[np.uint8]],
    masks: Mapping[int, NDArray[np.uint8]],
    *,
    memory_every: int = MEMORY_EVERY,
    size: int | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Like :func:`segment_video`, yielding ids and (1+K, H, W) float32 probabilities.

    Channel 0 is the background, channel j+1 the j-th id; ids are in order of appearance. Frames
    may also be float32 in [0, 1].
    """
    device = next(model.parameters()).device
    bank = MemoryBank()
    ids: list[int] = []
    previous: tuple[int, Tensor, Tensor] | None = None
    for t, frame in enumerate(frames):
        image = torch.from_numpy(frame).to(device).permute(2, 0, 1).unsqueeze(0)  # 1 3 H W
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        native = (frame.shape[0], frame.shape[1])
        image = _resize(image, _working_size(native, size))
        if previous is not None:
            # Memorised here rather than when it was segmented: the last frame never needs it.
            index, before, soft = previous
            keys, values = model.memorize(before, soft, _owner(len(soft)))
            bank.write(keys, values, keep=index % memory_every == 0)
        probabilities = _predict(model, bank, image)
        if t in masks:
            mask = _fit_mask(masks[t], native, image, t)
            probabilities, ids = _give_objects(probabilities, ids, mask)
        yield list(ids), _resize(probabilities[None], native)[0]
        previous = (t, image, probabilities[1:]) if ids else None


def _owner(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def _predict(model: STM, bank: MemoryBank, image: Tensor) -> Tensor:
    """Return (1+K,H,W) probabilities; certain background while there is no object."""
    if not bank.objects:
        return torch.ones_like(image[0, :1])
    query = model.encode_query(image)
    logits = model.decode(query, bank.read(query.key), _owner(bank.objects))
    return logits[0].softmax(dim=0)


def _working_size(native: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Return (height, width) with the given short side and the frame's proportions."""
    scale = 1.0 if size is None else size / min(native)
    return max(1, round(native[0] * scale)), max(1, round(native[1] * scale))


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample (1,C,H,W) to ``size``; the same tensor where it has it already."""
    if tuple(pixels.shape[2:]) == size:
        return pixels
    return F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)


def _fit_mask(
    mask: NDArray[np.uint8], native: tuple[int, int], image: Tensor, frame: int
) -> NDArray[np.uint8]:
    """Check a given mask (H, W) against its frame and sample it (nearest) at the working size."""
    if mask.shape != native:
        raise DataError(
            f"frame {frame}: expected a mask of {native[1]}x{native[0]} pixels, found "
            f"{mask.shape[1]}x{mask.shape[0]}; masks must have the size of their frames"
        )
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(np.intp)
        for n, m in zip(image.shape[2:], native, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _give_objects(
    probabilities: Tensor, ids: list[int], mask: NDArray[np.uint8]
) -> tuple[Tensor, list[int]]:
    """Add the objects of ``mask`` that are new, certain where the mask shows them."""
    new = [int(i) for i in np.unique(mask) if i not in (0, VOID) and int(i) not in ids]
    if not new:
        return probabilities, ids
    given = torch.from_numpy(np.stack([mask == i for i in new])).to(probabilities)  # n H W
    free = 1 - given.sum(dim=0)
    return torch.cat([probabilities * free, given]), ids + new
