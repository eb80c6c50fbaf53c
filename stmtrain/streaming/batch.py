"""A batch of clips, and the memory that batches are made in. Legend as in ``augment.py``.

``BatchArrays`` gives NumPy views to the decoding threads, and returns the same memory as torch
tensors when it is filled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class ClipOrigin:
    """Where a clip of a batch comes from.

    Attributes:
        shard_set: Number of the shard set in the plan, from 0.
        index: Index of the sample in the set.
        frames: Names of its frames, in the order of the clip.
        object_ids: Ids in the sample of the objects in slots 1, 2, ...
    """

    shard_set: int
    index: int
    frames: tuple[str, ...]
    object_ids: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """The clips of one step, decoded; :func:`stmtrain.streaming.augment.augment` warps them.

    ``B`` clips, ``T`` frames, ``H W`` the size of the largest frame of the batch; smaller frames
    are in the top left corner.

    Attributes:
        step: Step of the plan.
        keys: Sample keys, one per clip.
        num_objects: (B,) int64, number of slots in use, >= 1; always on the CPU.
        frames: (B, T, H, W, 3) uint8 RGB.
        masks: (B, T, H, W) uint8: 0 background, slots 1.., 255 void.
        sizes: (B, 2) int64, each clip's own height and width, pixels.
        matrices: (B, T, 3, 3) float32, output pixel centre to source point.
        colours: (B, T, 3, 4) float32, affine maps of RGB in [0, 1].
        origins: Where each clip comes from.
    """

    step: int
    keys: tuple[str, ...]
    num_objects: Tensor
    frames: Tensor
    masks: Tensor
    sizes: Tensor
    matrices: Tensor
    colours: Tensor
    origins: tuple[ClipOrigin, ...] = ()

    def to(self, device: torch.device | str) -> "Batch":
        """Return a copy on a device; copying pinned memory does not block."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True, copy=True)
            for name in ("frames", "masks", "sizes", "matrices", "colours")
        }
        return replace(self, **moved)


class BatchArrays:
    """The memory of one batch, reallocated only if a batch has larger frames.

    Attributes:
        warps: (B, T, 3, 3) float64, the warps of the frames, to be filled clip by clip.
    """

    def __init__(self, clips: int, length: int, pinned: bool) -> None:
        self._shape, self._pinned = (clips, length), pinned
        self._flat_frames = self._flat_masks = torch.empty(0, dtype=torch.uint8)
        self._frames = self._masks = self._flat_masks
        self._sizes = self._new(clips, 2, dtype=torch.int64)
        self._matrices = self._new(clips, length, 3, 3, dtype=torch.float32)
        self._colours = self._new(clips, length, 3, 4, dtype=torch.float32)
        self._views = self._frames.numpy(), self._masks.numpy()  # views share the tensors' memory
        self.warps = np.zeros((clips, length, 3, 3))
        self._sides: tuple[tuple[int, int], ...] = ()
        self._copied: Any = None  # a CUDA event

    def lay_out(self, sizes: Sequence[tuple[int, int]], colours: NDArray[np.float64]) -> None:
        """Make room for clips with frames of these (height, width), and store their colours."""
        if self._copied is not None:
            self._copied.synchronize()  # the device may still be reading the previous batch
        height, width = (max(side) for side in zip(*sizes, strict=True))
        shape = (*self._shape, height, width)
        if shape != self._masks.shape:
            self._reshape(shape)
        self._sides = tuple(sizes)
        self._sizes.numpy()[:] = sizes
        self._colours.numpy()[:] = colours

    def clip(self, slot: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return views of one clip's frames (T, h, w, 3) and masks (T, h, w), without padding."""
        height, width = self._sides[slot]
        frames, masks = self._views
        return frames[slot, :, :height, :width], masks[slot, :, :height, :width]

    def pad(self, slot: int) -> None:
        """Repeat the last column and row once: rounding may let interpolation read beyond them."""
        height, width = self._sides[slot]
        frames = self._views[0][slot]
        if width < frames.shape[2]:
            frames[:, :height, width] = frames[:, :height, width - 1]
        if height < frames.shape[1]:
            frames[:, height, : width + 1] = frames[:, height - 1, : width + 1]

    def batch(self, step: int, keys: tuple[str, ...], origins: tuple[ClipOrigin, ...]) -> Batch:
        """Return the arrays as a batch, without a copy."""
        self._matrices.numpy()[:] = np.linalg.inv(self.warps)
        numbers = (self._sizes, self._matrices, self._colours)
        counts = torch.tensor([len(origin.object_ids) for origin in origins])
        return Batch(step, keys, counts, self._frames, self._masks, *numbers, origins)

    def copy_to(self, device: torch.device, batch: Batch) -> Batch:
        """Start the copy to the device; for the CPU, return the batch itself."""
        if device.type == "cpu":
            return batch
        moved = batch.to(device)
        if device.type == "cuda":
            with torch.cuda.device(device):
                self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._copied.record()
        return moved

    def _reshape(self, shape: tuple[int, ...]) -> None:
        pixels = math.prod(shape)
        if pixels > len(self._flat_masks):
            self._flat_masks = self._new(pixels, dtype=torch.uint8)
            self._flat_frames = self._new(pixels * 3, dtype=torch.uint8)
        self._frames = self._flat_frames[: pixels * 3].view(*shape, 3)
        self._masks = self._flat_masks[:pixels].view(shape)
        self._views = self._frames.numpy(), self._masks.numpy()

    def _new(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, pin_memory=self._pinned)
