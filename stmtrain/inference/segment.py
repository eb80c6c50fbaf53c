"""Segment one video with STM: given masks in, label maps out, frame by frame.

The memory has the frames that give objects, every Nth frame and the previous frame (Oh et al.
2019, section 3.5). It grows with the number of objects that exist, not with empty slots.

Legend: ``K`` objects so far, ``V`` views (the video and perhaps its mirror image), ``H W`` pixels
of a frame, ``h w`` pixels at the size of a view.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stmtrain.errors import DataError
from stmtrain.images.masks import ids_present, resample_mask
from stmtrain.inference.memory_bank import MemoryBank
from stmtrain.inference.options import DEFAULT, Inference
from stmtrain.inference.overlap import begin_ahead, start_fetch, upload_ahead
from stmtrain.model import STM
from stmtrain.model.precision import autocast


def segment_video(
    model: STM,
    frames: Iterable[NDArray[np.uint8]],
    masks: Mapping[int, NDArray[np.uint8]],
    options: Inference = DEFAULT,
    *,
    length: int | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Segment a video and yield a label map for each frame.

    On a GPU two frames are taken before the first label map is yielded: one is uploaded and one
    segmented while the label map is downloaded. On the CPU a frame is taken when its label map is
    due.

    Args:
        model: The network, in eval mode, on the device to use.
        frames: (H, W, 3) uint8 RGB, all of one size, in time order.
        masks: Frame index to (H, W) uint8 ids of the objects that are given there. They come
            back unchanged: they overwrite the prediction, also of objects that were given before.
        options: Options of the memory, sizes and precision.
        length: Number of frames, if it is known and ``frames`` has no ``len``, so that memory is
            allocated once. A wrong number does not change the result.

    Yields:
        (H, W) uint8 object ids; all background before the first given mask.

    Raises:
        DataError: A given mask has another size than its frame.
    """
    depth = 1 if next(model.parameters()).is_cuda else 0
    fetched = (
        (np.array([0, *ids], np.uint8), start_fetch(soft.argmax(dim=0).to(torch.uint8)))
        for ids, soft in segment_video_soft(model, frames, masks, options, length=length)
    )
    for t, (object_ids, fetch) in enumerate(begin_ahead(fetched, depth)):
        labels = object_ids[fetch()]
        if t in masks:  # as it was given, whatever the size at which the network works
            ids = ids_present(masks[t])
            free = np.where(np.isin(labels, ids), 0, labels)
            labels = np.where(np.isin(masks[t], ids), masks[t], free).astype(np.uint8)
        yield labels


@torch.inference_mode()
def segment_video_soft(
    model: STM,
    frames: Iterable[NDArray[np.uint8]],
    masks: Mapping[int, NDArray[np.uint8]],
    options: Inference = DEFAULT,
    *,
    length: int | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Like :func:`segment_video`, yielding ids and (1+K, H, W) float32 probabilities.

    Channel 0 is the background, channel j+1 the j-th id; ids are in order of appearance. Frames
    may also be float32 in [0, 1].
    """
    length = len(frames) if isinstance(frames, Sized) else length
    views = [_View(model, options, scale, length) for scale in options.scales]
    ids: list[int] = []
    soft: Tensor | None = None
    for t, pixels in enumerate(upload_ahead(frames, next(model.parameters()).device)):
        image = pixels.permute(2, 0, 1).unsqueeze(0)  # 1 3 H W
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        native = (image.shape[2], image.shape[3])
        if soft is not None:
            # Memorised only now, because the last frame of a video need not be.
            for view in views:
                view.memorize(t - 1, soft)
        probabilities = torch.stack([view.predict(image) for view in views]).mean(dim=0)
        if t in masks:
            mask = _fit_mask(masks[t], native, probabilities, t)
            probabilities, ids = _give_objects(probabilities, ids, mask)
        yield list(ids), _resize(probabilities[None], native)[0]
        soft = probabilities[1:] if ids else None


class _View:
    """The video at one scale, perhaps with its mirror image, and its memory.

    The mirror image is a second clip of the same batch, with a memory bank of its own.
    """

    def __init__(self, model: STM, options: Inference, scale: float, length: int | None) -> None:
        self._model, self._options, self._scale = model, options, scale
        self._banks = [
            MemoryBank(
                options.memory_every, options.memory_frames, top_k=options.top_k, length=length
            )
            for _ in range(2 if options.flip else 1)
        ]
        self._images = torch.empty(0)  # V 3 h w: the latest frame as this view sees it

    def predict(self, image: Tensor) -> Tensor:
        """Return the probabilities (1+K,H,W) of a frame (1,3,H,W), at the working size of scale 1.

        While there is no object, everything is background.
        """
        native = (image.shape[2], image.shape[3])
        working = _working_size(native, self._options.size)
        self._images = self._mirrored(_resize(image, _working_size(working, scale=self._scale)))
        if not self._banks[0].objects:
            return image.new_ones(1, *working)
        with self._autocast():
            query = self._model.encode_query(self._images)
            reads = [b.read(key[None]) for b, key in zip(self._banks, query.key, strict=True)]
            logits = self._model.decode(query, torch.cat(reads), self._owner())
        probabilities = logits.softmax(dim=1)  # V 1+K h w
        if self._options.flip:
            probabilities = (probabilities[:1] + probabilities[1:].flip(-1)) / 2
        return _resize(probabilities, working)[0]

    def memorize(self, frame: int, soft: Tensor) -> None:
        """Store the latest frame with the probabilities (K,H,W) of its objects, over all views."""
        size = (self._images.shape[2], self._images.shape[3])
        masks = self._mirrored(_resize(soft[None], size))  # V K h w
        with self._autocast():
            keys, values = self._model.memorize(
                self._images, masks.flatten(0, 1), self._owner(len(soft))
            )
        count = len(self._banks)
        for bank, key, value in zip(
            self._banks, keys.chunk(count), values.chunk(count), strict=True
        ):
            bank.write(frame, key, value)

    def _mirrored(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.flip(-1)]) if self._options.flip else x

    def _owner(self, objects: int | None = None) -> Tensor:
        """Return the clip (plain or mirrored) of each object."""
        objects = self._banks[0].objects if objects is None else objects
        return torch.arange(len(self._banks)).repeat_interleave(objects)

    def _autocast(self) -> AbstractContextManager[None]:
        return autocast(self._images.device, self._options.precision)


def _working_size(
    native: tuple[int, int], size: int | None = None, *, scale: float = 1.0
) -> tuple[int, int]:
    """Return (height, width) with the short side ``size``, times ``scale``."""
    scale = scale if size is None else scale * size / min(native)
    return max(1, round(native[0] * scale)), max(1, round(native[1] * scale))


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample (1,C,H,W) to ``size``; the same tensor if it has that size already."""
    if tuple(pixels.shape[2:]) == size:
        return pixels
    return F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)


def _fit_mask(
    mask: NDArray[np.uint8], native: tuple[int, int], working: Tensor, frame: int
) -> NDArray[np.uint8]:
    """Check a given mask (H, W) against its frame and resample it (nearest) like ``working``."""
    if mask.shape != native:
        raise DataError(
            f"frame {frame}: expected a mask of {native[1]}x{native[0]} pixels, found "
            f"{mask.shape[1]}x{mask.shape[0]}; masks must have the size of their frames"
        )
    return resample_mask(mask, (working.shape[-2], working.shape[-1]))


def _give_objects(
    probabilities: Tensor, ids: list[int], mask: NDArray[np.uint8]
) -> tuple[Tensor, list[int]]:
    """Make the objects of ``mask`` certain where it shows them, and add those that are new."""
    present = ids_present(mask)
    if not present:
        return probabilities, ids
    given = torch.from_numpy(np.stack([mask == i for i in present])).to(probabilities)  # n H W
    corrected = probabilities * (1 - given.sum(dim=0))
    known = {i: n for n, i in enumerate(present) if i in ids}
    for i, n in known.items():
        corrected[1 + ids.index(i)] = given[n]
    new = [n for n, i in enumerate(present) if i not in known]
    return torch.cat([corrected, given[new]]), ids + [present[n] for n in new]
