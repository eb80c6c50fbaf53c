"""Objects of several clips side by side, and how their probabilities become one segmentation.

``B`` clips, ``N`` objects of all clips, ``K`` the most objects of one clip, ``H W`` pixels. Objects
are flattened over clips: ``owner`` (N,) says in which clip each one lives and never decreases, so
nothing is computed for a slot that no object fills. Slot 0 is the background.
"""

import torch
from torch import Tensor

from stmtrain.model.precision import at_least_float32

__all__ = ["aggregate", "on_device", "other_masks", "per_object", "slots", "spread"]

_CLAMP = 1e-7  # Oh et al. 2019, published code: keeps the logit of 0 and 1 finite in float32


def slots(owner: Tensor) -> Tensor:
    """Return each object's position (1..) within its clip.

    Args:
        owner: (N,) int64 clip index per object, non-decreasing; a clip may have no object.

    Returns:
        (N,) int64.

    Example:
        >>> slots(torch.tensor([0, 0, 2])).tolist()
        [1, 2, 1]
    """
    position = torch.arange(1, len(owner) + 1, device=owner.device)
    return position - torch.searchsorted(owner, owner)


def on_device(index: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device without waiting for the device.

    A copy from ordinary memory to a GPU waits until the GPU has done all it was told before, and so
    does an index that PyTorch copies by itself.
    """
    if device.type == "cuda" and index.device.type == "cpu":
        return index.pin_memory().to(device, non_blocking=True)
    return index.to(device)


def per_object(values: Tensor, owner: Tensor) -> Tensor:
    """Give every object what its clip has: ``values[owner]``, at less cost.

    No copy where there is one clip, or one object in each. The gradient is a sum over each clip's
    objects in a fixed order, where that of an index adds row after row to zeros.

    Args:
        values: (B,C,H,W).
        owner: (N,) int64 clip index, non-decreasing; on the CPU it costs no device synchronisation.

    Returns:
        (N,C,H,W); its rows may share memory, so it must not be written to.
    """
    if owner.device.type != "cpu":
        return values[owner]
    if len(values) == 1:
        return values.expand(len(owner), -1, -1, -1)
    counts = torch.bincount(owner, minlength=len(values)).tolist()
    if all(count == 1 for count in counts):
        return values
    last = values.is_contiguous(memory_format=torch.channels_last)
    stored = values.permute(0, 2, 3, 1) if last else values  # the result is laid out the same
    rows = [row.expand(n, -1, -1, -1) for row, n in zip(stored.split(1), counts, strict=True)]
    copied = torch.cat(rows)
    return copied.permute(0, 3, 1, 2) if last else copied


def spread(values: Tensor, owner: Tensor, clips: int) -> Tensor:
    """Place per-object maps into their clips' slots; slots without an object hold zeros.

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
    # A sum over the others, not everyone minus oneself: the difference would lose small masks.
    with torch.autocast(masks.device.type, enabled=False):
        return torch.mm(others, masks.flatten(1)).clamp(0, 1).view_as(masks)


def aggregate(prob: Tensor) -> Tensor:
    """Merge independent object probabilities into logits over background and objects.

    The background is where no object is, the product of 1 - p. A softmax over the result gives
    probabilities that sum to one. Never in half precision: there the clamp rounds to 1 and the
    logit is infinite. Source: Oh et al. 2019, section 3.4.

    Args:
        prob: (B,K,H,W) in [0,1]; K may be 0. An unused slot holds 0.

    Returns:
        (B,1+K,H,W) logits, float32 (or float64, if ``prob`` is); background first. An unused slot
        has the logit of 1e-7.
    """
    prob = at_least_float32(prob)
    background = prob.new_ones(len(prob), 1, *prob.shape[2:])
    # Factor by factor: the gradient of prod() asks the device whether a factor is zero, and waits.
    for absent in (1 - prob).unbind(1):
        background = background * absent.unsqueeze(1)
    return torch.cat([background, prob], dim=1).clamp(_CLAMP, 1 - _CLAMP).logit()
