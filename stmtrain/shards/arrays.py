"""A decoded sample: its frames and masks as arrays. Free of torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import ShardError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.images.masks import VOID
from stmtrain.shards.sample import Sample, SampleRecord


@dataclass(frozen=True, eq=False)
class SampleArrays:
    """The pixels of a clip or video.

    Attributes:
        record: What the shard states about the sample: names, object ids, areas, origin.
        frames: (T, H, W, 3) uint8, RGB.
        masks: (T, H, W) uint8: 0 background, 1..254 object ids, 255 void. The mask of a frame
            without one (see ``record.mask_frames``) is void everywhere.
    """

    record: SampleRecord
    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def decode_sample(sample: Sample, where: str) -> SampleArrays:
    """Decode the frames and masks that were read of a sample.

    Args:
        sample: What was read, at least one frame.
        where: Shard and sample, for error messages.

    Raises:
        DataError: A frame or mask is damaged.
        ShardError: A frame or mask does not have the size in the record.
    """
    size = (sample.record.height, sample.record.width)
    void = np.full((1, 1), VOID, np.uint8)
    frames, masks = [], []
    for name, data in sample.frames.items():
        frame = decode_frame(data, f"{where}, frame {name}")
        mask = np.broadcast_to(void, frame.shape[:2])
        if name in sample.masks:
            mask = decode_mask(sample.masks[name], f"{where}, mask {name}")
        if frame.shape[:2] != size or mask.shape != size:
            raise ShardError(
                f"{where}, frame {name}: expected {size[1]}x{size[0]} px as its record states, "
                f"found a frame of {frame.shape[1]}x{frame.shape[0]} and a mask of "
                f'{mask.shape[1]}x{mask.shape[0]}; run "stm shards verify"'
            )
        frames.append(frame)
        masks.append(mask)
    return SampleArrays(sample.record, np.stack(frames), np.stack(masks))
