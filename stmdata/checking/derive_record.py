"""Derive a sample's record from its images alone, for tars of other programs."""

from collections.abc import Callable, Mapping
from typing import Any

from stmtrain.errors import DataError, ShardError
from stmtrain.images.decode import decode_mask, frame_size
from stmtrain.images.masks import VOID, areas
from stmtrain.shards.sample import SampleRecord


def derive_record(
    key: str, images: Mapping[str, Callable[[], bytes]], where: str, origin: Mapping[str, Any]
) -> SampleRecord:
    """Derive a record: sizes from the JPEG headers, ids and areas from the decoded masks.

    Args:
        key: The sample's key.
        images: ``FRAME.jpg`` and ``FRAME.png`` to functions that read them.
        where: Tar and sample; opens every error message.
        origin: Stored in the record.

    Raises:
        DataError: An image cannot be read, sizes differ, a mask has no frame, or the masks contain
            void and no ids.
    """
    frames = [suffix[:-4] for suffix in images if suffix.endswith(".jpg")]
    # In time order: by number if all names are numbers (2 before 10), else as text.
    numbered = all(name.isdigit() for name in frames)
    frames.sort(key=lambda name: (int(name) if numbered else 0, name))
    masks = [name for name in frames if f"{name}.png" in images]
    lonely = {s[:-4] for s in images if s.endswith(".png")}.difference(frames)
    if not frames or lonely:
        what = f"mask {min(lonely)}.png has no frame" if lonely else "it has no frame"
        raise ShardError(f"{where}: {what}; every sample needs KEY.FRAME.jpg members")
    sizes = {}
    for name in frames:
        place = f"{where}, {name}.jpg"
        sizes[f"{name}.jpg"] = frame_size(images[f"{name}.jpg"](), place)
    counts = {}
    for name in masks:
        mask = decode_mask(images[f"{name}.png"](), f"{where}, {name}.png")
        sizes[f"{name}.png"] = (mask.shape[0], mask.shape[1])
        counts[name] = areas(mask)
    first, size = next(iter(sizes.items()))
    for name, other in sizes.items():
        if other != size:
            raise DataError(
                f"{where}: {name} has (height, width) {other}, {first} has {size}; all frames and "
                "masks of a sample must have one size"
            )
    record = SampleRecord.of(key, frames, counts, size=size, original_size=size, origin=origin)
    if not record.object_ids and any(count[VOID] for count in counts.values()):
        raise DataError(
            f"{where}: expected object ids in the masks, found only 0 and {VOID} (void); write "
            "the ids as pixel values"
        )
    return record
