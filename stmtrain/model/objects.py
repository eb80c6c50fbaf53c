"""Objects of several clips in one dimension, and how probabilities become one segmentation.

``B`` clips, ``N`` objects of all clips, ``K`` the most objects of one clip, ``H W`` pixels. Objects
are flattened over clips: ``owner`` (N,) is the clip of each object and does not decrease, so
nothing is computed for an empty slot. Slot 0 is the background.
"""

import torch
from torch import Tensor

from stmtrain.model.precision import at_least_float32

_CLAMP = 1e-7  # Oh et al. 2019, published code: keeps the logit of 0 and 1 finite in float32


def slots(owner: Tensor) -> Tensor:
    """Return each object's position (1..) within its clip.

    Args:
        owner: (N,) int64 clip index per object, non-decreasing; a clip may have no objects.

    Returns:
        (N,) int64.

    Example:
        >>> slots(torch.tensor([0, 0, 2])).tolist()
        [1, 2, 1]
    """
    position = torch.arange(1, len(owner) + 1, device=owner.device)
    return position - torch.searchsorted(owner, owner)


def on_device(index: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device without synchronisation.

    A copy from pageable memory to a GPU waits for all pending work of the GPU, and so does an index
    on the CPU that PyTorch copies implicitly.
    """
    if device.type == "cuda" and index.device.type == "cpu":
        return index.pin_memory().to(device, non_blocking=True)
    return index.to(device)


def per_object(values: Tensor, owner: Tensor) -> Tensor:
    """Return ``values[owner]``, the values of each object's clip, at a lower cost.

    Nothing is copied for a single clip, or for one object per clip. The gradient sums over the
    objects of a clip in a fixed order, whereas that of an index adds each row to zeros.

    Args:
        values: (B,C,H,W).
        owner: (N,) int64 clip index, non-decreasing; on the CPU it costs no device synchronisation.

    Returns:
        (N,C,H,W); rows may share memory, so the result must not be modified.
    """
    if owner.device.type != "cpu":
        return values[owner]
    if len(values) == 1:
        return values.expand(len(owner), -1, -1, -1)
    counts = torch.bincount(owner, minlength=len(values)).tolist()
    if all(count == 1 for count in counts):
        return values
    last = values.is_contiguous(memory_format=torch.channels_last)
    stored = values.permute(0, 2, 3, 1) if last else values  # keep the memory layout
    rows = [row.expand(n, -1, -1, -1) for row, n in zip(stored.split(1), counts, strict=True)]
    copied = torch.cat(rows)
    return copied.permute(0, 3, 1, 2) if last else copied


def spread(values: Tensor, owner: Tensor, clips: int) -> Tensor:
    """Place per-object maps into the slots of their clips; empty slots are zero.

    Args:
        values: (N,H,W).
        owner: (N,) int64 clip index, non-decreasing; on the CPU it costs no device synchronisation.
        clips: B.

    Returns:
        (B,K,H,W) of the same dtype; object j of a clip is at index j-1.
    """
    slot = slots(owner)
    most = int(slot.max()) if len(slot) else 0
    dense = values.new_zeros(clips, most, *values.shape[1:])
    place = tuple(on_device(index, values.device) for index in (owner, slot - 1))
    return dense.index_put(place, values)


def other_masks(masks: Tensor, owner: Tensor) -> Tensor:
    """Return, per object, the sum of the other objects' masks of its clip, clamped to [0,1].

    Args:
        masks: (N,H,W) in [0,1].
        owner: (N,) int64 clip index.

    Returns:
        (N,H,W).
    """
    together = owner.unsqueeze(1) == owner  # N N
    others = on_device(together.fill_diagonal_(False), masks.device).to(masks.dtype)
    # Sum over the others; subtracting each mask from the total would lose small values.
    with torch.autocast(masks.device.type, enabled=False):
        return torch.mm(others, masks.flatten(1)).clamp(0, 1).view_as(masks)


def aggregate(prob: Tensor) -> Tensor:
    """Merge independent object probabilities into logits over background and objects.

    The probability of the background is the product of all 1 - p. A softmax over the result gives
    probabilities that sum to one. Half precision is widened, because the clamp would round to 1
    and the logit would be infinite. Source: Oh et al. 2019, section 3.4.

    Args:
        prob: (B,K,H,W) in [0,1]; K may be 0. Empty slots are 0.

    Returns:
        (B,1+K,H,W) logits, float32 (or float64, if ``prob`` is); background first. Empty slots
        have the logit of 1e-7.
    """
    prob = at_least_float32(prob)
    background = prob.new_ones(len(prob), 1, *prob.shape[2:])
    # One factor at a time: the gradient of prod() synchronises to look for factors of zero.
    for absent in (1 - prob).unbind(1):
        background = background * absent.unsqueeze(1)
    return torch.cat([background, prob], dim=1).clamp(_CLAMP, 1 - _CLAMP).logit()
