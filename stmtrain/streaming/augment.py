"""Warp, crop and recolour the clips of a batch, on its device.

The input is a batch of the loader: uint8 frames and slot masks with a matrix and a colour matrix
per frame. The output are float frames and uint8 masks of the training size. Each frame and each
mask is interpolated once. Legend: ``B`` clips, ``T`` frames, ``H W`` padded pixels, ``S`` crop.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stmtrain.streaming.batch import Batch


@torch.no_grad()
def augment(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Warp, crop and colour a batch of clips.

    Frames and masks are continued by their mirror image at the edges of the clip's own frame size,
    so that no border appears. Frames are interpolated bilinearly and are not smoothed before they
    are reduced: pack them with a short side below twice the crop. Masks take the nearest pixel, so
    that no new label appears and void (255) remains void.

    The identity and flips reproduce the pixels of the source (frames to 1e-4, masks exactly).

    Args:
        batch: Frames (B, T, H, W, 3) uint8 and masks (B, T, H, W) uint8 with sizes, matrices and
            colours (see :class:`stmtrain.streaming.batch.Batch`), all on one device.
        size: Side of the crop for which the matrices were drawn, pixels.

    Returns:
        (B, T, 3, S, S) float32 RGB in [0, 1], and (B, T, S, S) uint8 slot ids.
    """
    clips, length = batch.masks.shape[:2]
    device = batch.frames.device
    frames = torch.empty(clips, length, 3, size, size, device=device)
    masks = torch.empty(clips, length, size, size, dtype=torch.uint8, device=device)
    # Half precision would round colours.
    with torch.autocast(device.type, enabled=False):
        for t in range(length):  # one frame at a time keeps the float copies of the source small
            grid = _grid(batch.matrices[:, t], batch.sizes, batch.masks.shape[2:], size)
            source = batch.frames[:, t].permute(0, 3, 1, 2).float()  # B 3 H W
            image = F.grid_sample(source, grid, mode="bilinear", align_corners=False)
            frames[:, t] = _recolour(image / 255, batch.colours[:, t])
            labels = batch.masks[:, t, None].float()  # B 1 H W; every id is exact in float32
            nearest = F.grid_sample(labels, grid, mode="nearest", align_corners=False)
            masks[:, t] = nearest[:, 0].to(torch.uint8)
    return frames, masks


def _grid(matrices: Tensor, sizes: Tensor, padded: torch.Size, size: int) -> Tensor:
    """Return (B, S, S, 2) sampling points in the coordinates of grid_sample, -1..1 when padded.

    ``matrices`` (B, 3, 3) map the centre of an output pixel to a point of the frame; ``sizes``
    (B, 2) are the heights and widths of the frames without padding.
    """
    centres = torch.arange(size, device=matrices.device, dtype=torch.float32) + 0.5
    m = matrices.float()[:, :, :, None, None]  # B 3 3 1 1
    point = m[:, :, 0] * centres + m[:, :, 1] * centres[:, None] + m[:, :, 2]  # B 3 S S
    point = point[:, :2] / point[:, 2:]  # B 2 S S
    extent = sizes.flip(1).float()[:, :, None, None]  # width, height
    # Mirror at the edges 0 and extent; the outer half pixel takes the value of the border.
    mirrored = extent - (torch.remainder(point, 2 * extent) - extent).abs()
    inside = torch.minimum(mirrored.clamp_min(0.5), extent - 0.5)
    x, y = (2 * inside[:, axis] / padded[1 - axis] - 1 for axis in (0, 1))
    return torch.stack([x, y], dim=-1)


def _recolour(image: Tensor, colours: Tensor) -> Tensor:
    """Apply (B, 3, 4) colour matrices to (B, 3, S, S) RGB in [0, 1].

    It avoids a matrix product, which TF32 would round to ten bits.
    """
    c = colours.float()[:, :, :, None, None]  # B 3 4 1 1
    out = c[:, :, 3] + c[:, :, 0] * image[:, 0:1]
    out = out + c[:, :, 1] * image[:, 1:2] + c[:, :, 2] * image[:, 2:3]
    return out.clamp(0, 1)
