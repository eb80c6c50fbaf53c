"""Apply a clip's drawn numbers to its pixels, on the batch's device: warp, crop and colour.

In comes a batch as the loader made it (uint8 frames and slot masks, one matrix and one colour
matrix per frame), out come float frames and uint8 masks of the training size. Each frame and each
mask is interpolated once. Legend: ``B`` clips, ``T`` frames, ``H W`` padded pixels, ``S`` crop.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stmtrain.streaming.batch import Batch

__all__ = ["augment"]


@torch.no_grad()
def augment(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Warp, crop and colour a batch of clips.

    Outside a frame its mirror image goes on, in the image and in the mask alike, so no border is
    invented; a clip's own frame size counts, not the padded one. Frames are interpolated bilinearly
    and are not smoothed before they shrink: pack them at a short side below twice the crop. Masks
    take the nearest pixel, so no label is invented and void (255) stays void.

    Identity and flips give the source's pixels back (to 1e-4; masks exactly).

    Args:
        batch: Frames (B, T, H, W, 3) uint8 and masks (B, T, H, W) uint8 with sizes, matrices and
            colours (see :class:`stmtrain.streaming.batch.Batch`), all on one device.
        size: Side of the crop that the matrices were drawn for, pixels.

    Returns:
        (B, T, 3, S, S) float32 RGB in [0, 1], and (B, T, S, S) uint8 slot ids.
    """
    clips, length = batch.masks.shape[:2]
    device = batch.frames.device
    frames = torch.empty(clips, length, 3, size, size, device=device)
    masks = torch.empty(clips, length, size, size, dtype=torch.uint8, device=device)
    # Colours would lose their low bits in half precision.
    with torch.autocast(device.type, enabled=False):
        for t in range(length):  # frame by frame, to keep the float copies of the source small
            grid = _grid(batch.matrices[:, t], batch.sizes, batch.masks.shape[2:], size)
            source = batch.frames[:, t].permute(0, 3, 1, 2).float()  # B 3 H W
            image = F.grid_sample(source, grid, mode="bilinear", align_corners=False)
            frames[:, t] = _recolour(image / 255, batch.colours[:, t])
            labels = batch.masks[:, t, None].float()  # B 1 H W; every id is exact in float32
            nearest = F.grid_sample(labels, grid, mode="nearest", align_corners=False)
            masks[:, t] = nearest[:, 0].to(torch.uint8)
    return frames, masks


def _grid(matrices: Tensor, sizes: Tensor, padded: torch.Size, size: int) -> Tensor:
    """Return (B, S, S, 2) sampling points in grid_sample's coordinates, -1..1 over the padding.

    ``matrices`` (B, 3, 3) take an output pixel's centre to a point of the frame; ``sizes`` (B, 2)
    are the frames' own heights and widths.
    """
    centres = torch.arange(size, device=matrices.device, dtype=torch.float32) + 0.5
    m = matrices.float()[:, :, :, None, None]  # B 3 3 1 1
    point = m[:, :, 0] * centres + m[:, :, 1] * centres[:, None] + m[:, :, 2]  # B 3 S S
    point = point[:, :2] / point[:, 2:]  # B 2 S S
    extent = sizes.flip(1).float()[:, :, None, None]  # width, height
    # Mirror at the frame's edges 0 and extent; then the outer half pixel takes the border's value.
    mirrored = extent - (torch.remainder(point, 2 * extent) - extent).abs()
    inside = torch.minimum(mirrored.clamp_min(0.5), extent - 0.5)
    x, y = (2 * inside[:, axis] / padded[1 - axis] - 1 for axis in (0, 1))
    return torch.stack([x, y], dim=-1)


def _recolour(image: Tensor, colours: Tensor) -> Tensor:
    """Apply (B, 3, 4) colour matrices to (B, 3, S, S) RGB in [0, 1].

    Written out instead of a matrix product, which TF32 would round to ten bits.
    """
    c = colours.float()[:, :, :, None, None]  # B 3 4 1 1
    out = c[:, :, 3] + c[:, :, 0] * image[:, 0:1]
    out = out + c[:, :, 1] * image[:, 1:2] + c[:, :, 2] * image[:, 2:3]
    return out.clamp(0, 1)
