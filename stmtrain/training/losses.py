"""The loss of STM: clips are segmented frame by frame and compared with their masks.

``B`` clips, ``T`` frames, ``N`` objects of all clips, ``K`` the maximum of objects in a clip,
``C = 1+K`` slots, ``H W`` pixels.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from stmtrain.images.masks import VOID
from stmtrain.model import STM, on_device, per_object, read_memory, slots


def segment_clip(
    model: STM, frames: Tensor, masks: Tensor, num_objects: Tensor, *, detach_memory: bool
) -> Iterator[Tensor]:
    """Segment frames 1..T-1 of a batch of clips, given the masks of frame 0.

    The memory contains frame 0 with its true mask and every later frame with its predicted soft
    mask. Source: Oh et al. 2019, section 3.4. If BatchNorm is trained, its statistics are taken
    over the query frames of all times together, and over the memory frames of each time.

    Args:
        model: The network.
        frames: (B, T, 3, H, W) float, RGB in [0, 1].
        masks: (B, T, H, W) uint8, slot ids 0..; only frame 0 is used.
        num_objects: (B,) int64, objects of each clip; on the CPU, so that nothing waits.
        detach_memory: Stop the gradient at the predicted mask (stage 2).

    Yields:
        (B, 1+K, H, W) float32 logits over background and slots, one per frame from 1 on.
    """
    # Computed on the CPU, where reading it does not wait for the device.
    owner = torch.repeat_interleave(torch.arange(len(frames)), num_objects.cpu())  # (N,)
    clip, slot = (on_device(index, masks.device) for index in (owner, slots(owner)))
    soft = (masks[clip, 0] == slot[:, None, None]).to(frames.dtype)  # (N, H, W)
    keys, values = (m.unsqueeze(2) for m in model.memorize(frames[:, 0], soft, owner))
    # Encoding a query frame depends on no prediction: all of them are encoded at once.
    later = frames[:, 1:].transpose(0, 1).flatten(0, 1)  # (T-1)B 3 H W
    queries = model.encode_query(later).split(len(frames))
    last = frames.shape[1] - 1
    for t, query in enumerate(queries, start=1):
        read = read_memory(per_object(query.key, owner), keys, values)
        logits = model.decode(query, read, owner)
        yield logits
        if t == last:
            return
        soft = torch.softmax(logits, dim=1)[clip, slot]
        soft = soft.detach() if detach_memory else soft
        key, value = model.memorize(frames[:, t], soft, owner)
        keys = torch.cat([keys, key.unsqueeze(2)], dim=2)
        values = torch.cat([values, value.unsqueeze(2)], dim=2)


def clip_losses(
    model: STM,
    frames: Tensor,
    masks: Tensor,
    num_objects: Tensor,
    *,
    detach_memory: bool,
    share: float = 1.0,
    dice: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each clip, and the logits of the last frame.

    The loss is the cross-entropy over background and slots, averaged over the pixels of a frame
    and summed over frames 1..T-1 (Oh et al. 2019, section 3.4). Void pixels (255) are ignored. The
    loss of a clip does not depend on the other clips of its batch, so that a batch can be split.

    Args:
        model: The network.
        frames: (B, T, 3, H, W) float, RGB in [0, 1].
        masks: (B, T, H, W) uint8, slot ids, 255 void.
        num_objects: (B,) int64, on the CPU.
        detach_memory: See :func:`segment_clip`.
        share: Share of a frame's pixels that count, those with the largest loss, in (0, 1].
        dice: Weight of the dice loss, which is added to the cross-entropy.

    Returns:
        (B,) float32, and (B, 1+K, H, W) float32 logits of frame T-1.
    """
    total = frames.new_zeros(len(frames), dtype=torch.float32)
    logits = torch.empty(0)
    predictions = segment_clip(model, frames, masks, num_objects, detach_memory=detach_memory)
    for t, logits in enumerate(predictions, start=1):
        target = masks[:, t].long()
        total = total + pixel_loss(logits, target, share)
        if dice:
            total = total + dice * dice_loss(logits, target, num_objects)
    return total, logits


def pixel_loss(logits: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
    """Return each clip's mean cross-entropy over its known pixels, or over the hardest of them.

    Args:
        logits: (B, C, H, W) float32.
        target: (B, H, W) int64 in [0, C), 255 void.
        share: Share of known pixels that count, in (0, 1]; below 1 the cross-entropy is
            bootstrapped (STCN, Cheng et al. 2021).

    Returns:
        (B,) float32; 0 if every pixel is void.
    """
    loss = F.cross_entropy(logits, target, ignore_index=VOID, reduction="none").flatten(1)  # B HW
    known = (target != VOID).flatten(1).sum(dim=1)  # B
    if share == 1:
        return loss.sum(dim=1) / known.clamp(min=1)
    most = math.ceil(share * loss.shape[1])
    hardest = loss.topk(most, dim=1).values
    count = (known * share).ceil().clamp(min=1)
    counts = torch.arange(most, device=loss.device) < count[:, None]  # void pixels come last
    return (hardest * counts).sum(dim=1) / count


def dice_loss(logits: Tensor, target: Tensor, num_objects: Tensor) -> Tensor:
    """Return 1 - dice coefficient, averaged over each clip's objects; smoothed by one pixel.

    Args:
        logits: (B, 1+K, H, W) float32.
        target: (B, H, W) int64 slots, 255 void.
        num_objects: (B,) int64.

    Returns:
        (B,) float32 in [0, 1].
    """
    truth, known, used = _slot_masks(target, logits.shape[1] - 1, num_objects)
    predicted = logits.softmax(dim=1)[:, 1:] * known
    both = (predicted * truth).sum(dim=(2, 3))
    ratio = (2 * both + 1) / (predicted.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + 1)  # B K
    return ((1 - ratio) * used).sum(dim=1) / used.sum(dim=1).clamp(min=1)


@torch.no_grad()
def mean_jaccard(logits: Tensor, target: Tensor, num_objects: Tensor) -> Tensor:
    """Return J, the region overlap, averaged over each clip's objects; 1 if both are empty.

    Args:
        logits: (B, 1+K, H, W).
        target: (B, H, W) int64 slots, 255 void.
        num_objects: (B,) int64.

    Returns:
        (B,) float32 in [0, 1].
    """
    slots_in_use = logits.shape[1] - 1
    truth, known, used = _slot_masks(target, slots_in_use, num_objects)
    ids = torch.arange(1, slots_in_use + 1, device=logits.device)
    predicted = (logits.argmax(dim=1, keepdim=True) == ids[:, None, None]) & known
    both = (predicted & truth).sum(dim=(2, 3))
    either = (predicted | truth).sum(dim=(2, 3))
    ratio = torch.where(either > 0, both / either.clamp(min=1), 1.0)  # B K
    return (ratio * used).sum(dim=1) / used.sum(dim=1).clamp(min=1)


def _slot_masks(target: Tensor, count: int, num_objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return slot masks (B,K,H,W), known pixels (B,1,H,W) and slots in use (B,K), all bool."""
    ids = torch.arange(1, count + 1, device=target.device)
    truth = target[:, None] == ids[:, None, None]
    used = ids <= num_objects.to(target.device, non_blocking=True)[:, None]
    return truth, (target != VOID)[:, None], used
