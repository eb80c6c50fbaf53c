"""The training step of STM on one batch of clips: memorise, segment, memorise the prediction."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from stmtrain.model import STM, slots
from stmtrain.spec import VOID

__all__ = ["clip_loss", "segment_clip"]


def segment_clip(
    model: STM, frames: Tensor, masks: Tensor, num_objects: Tensor, *, detach_memory: bool
) -> Iterator[Tensor]:
    """Segment frames 1..T-1 of a batch of clips, given the masks of frame 0.

    The memory holds frame 0 with its true mask and every later frame with its predicted soft
    mask. Source: Oh et al. 2019, section 3.4.

    Args:
        model: The network.
        frames: (B, T, 3, H, W) float, RGB in [0, 1].
        masks: (B, T, H, W) uint8, slot ids 0..; only frame 0 is used.
        num_objects: (B,) int64, objects of each clip; best kept on the CPU.
        detach_memory: Stop the gradient at the predicted mask (stage 2).

    Yields:
        (B, 1+K, H, W) float32 logits over background and slots, one per frame from 1 on.
    """
    # The index stays on the CPU, where reading it does not wait for the device.
    owner = torch.repeat_interleave(torch.arange(len(frames)), num_objects.cpu())  # (N,)
    slot = slots(owner)
    soft = (masks[owner, 0] == slot.to(masks.device)[:, None, None]).float()  # (N, H, W)
    keys, values = (m.unsqueeze(2) for m in model.memorize(frames[:, 0], soft, owner))
    last = frames.shape[1] - 1
    for t in range(1, last + 1):
        logits = model.segment(frames[:, t], keys, values, owner)
        yield logits
        if t == last:
            return
        soft = torch.softmax(logits, dim=1)[owner, slot]
        soft = soft.detach() if detach_memory else soft
        key, value = model.memorize(frames[:, t], soft, owner)
        keys = torch.cat([keys, key.unsqueeze(2)], dim=2)
        values = torch.cat([values, value.unsqueeze(2)], dim=2)


def clip_loss(
    model: STM, frames: Tensor, masks: Tensor, num_objects: Tensor, *, detach_memory: bool
) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch and the last frame's logits.

    Cross-entropy over background and slots, mean over pixels and clips, summed over the frames
    1..T-1 (Oh et al. 2019, section 3.4); void pixels (255) do not count.

    Args:
        model: The network.
        frames: (B, T, 3, H, W) float, RGB in [0, 1].
        masks: (B, T, H, W) uint8, slot ids, 255 void.
        num_objects: (B,) int64.
        detach_memory: See :func:`segment_clip`.

    Returns:
        Scalar float32 loss, and (B, 1+K, H, W) logits of frame T-1.
    """
    loss = frames.new_zeros((), dtype=torch.float32)
    logits = torch.empty(0)
    predictions = segment_clip(model, frames, masks, num_objects, detach_memory=detach_memory)
    for t, logits in enumerate(predictions, start=1):
        target = masks[:, t].long()
        # The sum over at least one pixel: a frame that is void everywhere adds zero, not NaN.
        known = (target != VOID).sum().clamp(min=1)
        loss = loss + F.cross_entropy(logits, target, ignore_index=VOID, reduction="sum") / known
    return loss, logits
