"""The decoder: memory readouts, refined with features of the query, to probabilities.

``B`` clips, ``N`` objects of all clips, ``C`` channels, ``H W`` pixels, ``h w`` the stride-16 grid.
Source: Oh et al. 2019, section 3.3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmtrain.model.encoders import Backbone, Features
from stmtrain.model.objects import per_object
from stmtrain.model.precision import at_least_float32

_WIDTH = 256
_DILATIONS = (1, 2, 4, 8)


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions, without normalisation."""

    def __init__(self, width: int, rectified_skip: bool) -> None:
        """Build the convolutions; ``width`` channels in and out."""
        super().__init__()
        self.rectified_skip = rectified_skip
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, or relu(x), plus its residual; the same shape."""
        rectified = F.relu(x)
        skip = rectified if self.rectified_skip else x
        return skip + self.conv2(F.relu(self.conv1(rectified)))


class Atrous(nn.Module):
    """One branch of :class:`ASPP`; a separate module to match the names of published weights."""

    def __init__(self, channels: int, width: int, dilation: int) -> None:
        """Build the convolution: 1x1 if ``dilation`` is 1, otherwise 3x3."""
        super().__init__()
        size = 1 if dilation == 1 else 3
        padding = dilation * (size // 2)
        self.atrous_conv = nn.Conv2d(
            channels, width, size, padding=padding, dilation=dilation, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N,C,h,w) to (N,width,h,w)."""
        return F.relu(self.atrous_conv(x))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling of the readout: merged convolutions of increasing reach.

    Source: Chen et al. 2017, "Rethinking Atrous Convolution", section 3.3, without normalisation
    and image features, as in the published ResNeSt-101 variant of STM.
    """

    def __init__(self, channels: int) -> None:
        """Build the branches; ``channels`` in, the width of the decoder out."""
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = (
            Atrous(channels, _WIDTH, dilation) for dilation in _DILATIONS
        )
        self.conv1 = nn.Conv2d(len(_DILATIONS) * _WIDTH, _WIDTH, kernel_size=1, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, readout: Tensor) -> Tensor:
        """Map (N,C,h,w) to (N,256,h,w)."""
        branches = (self.aspp1, self.aspp2, self.aspp3, self.aspp4)
        pyramid = torch.cat([branch(readout) for branch in branches], dim=1)  # N 4x256 h w
        return self.dropout(F.relu(self.conv1(pyramid)))


class Refine(nn.Module):
    """Doubles the resolution of object features, using finer features of the query."""

    def __init__(self, skip_channels: int, width: int, rectified_skip: bool) -> None:
        """Build the layers; ``skip_channels`` is the number of channels of the query's features."""
        super().__init__()
        self.convFS = nn.Conv2d(skip_channels, width, kernel_size=3, padding=1)
        self.ResFS = ResidualBlock(width, rectified_skip)
        self.ResMM = ResidualBlock(width, rectified_skip)

    def forward(self, skip: Tensor, coarse: Tensor, owner: Tensor) -> Tensor:
        """Merge ``skip`` (B,C,2y,2x), once per frame, into ``coarse`` (N,C,y,x) per object."""
        fine = per_object(self.ResFS(self.convFS(skip)), owner)  # N C 2y 2x
        return self.ResMM(fine + _enlarge(coarse, 2))


class Decoder(nn.Module):
    """Object readouts and query features to object probabilities."""

    def __init__(self, backbone: Backbone) -> None:
        """Build the layers for a backbone's channels."""
        super().__init__()
        stride4, stride8, _ = backbone.channels
        readout = _WIDTH if backbone.aspp else 2 * backbone.value_channels
        self.convFM = nn.Conv2d(readout, _WIDTH, kernel_size=3, padding=1)
        self.ResMM = ResidualBlock(_WIDTH, backbone.rectified_skip)
        self.RF3 = Refine(stride8, _WIDTH, backbone.rectified_skip)
        self.RF2 = Refine(stride4, _WIDTH, backbone.rectified_skip)
        self.pred2 = nn.Conv2d(_WIDTH, 2, kernel_size=3, padding=1)

    def forward(self, readout: Tensor, features: Features, owner: Tensor) -> Tensor:
        """Decode every object.

        Args:
            readout: (N,2Cv,h,w) memory readout and query value, or the output of ASPP for them.
            features: Of the query frames (B,...).
            owner: (N,) int64, the clip of each object.

        Returns:
            (N,16h,16w) float32 probability of each object, independent of the others.
        """
        x = self.ResMM(self.convFM(readout))  # N C h w
        x = self.RF3(features.r3, x, owner)  # N C 2h 2w
        x = self.RF2(features.r2, x, owner)  # N C 4h 4w
        x = at_least_float32(self.pred2(F.relu(x)))  # N 2 4h 4w
        return _enlarge(x, 4).softmax(dim=1)[:, 1]


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
