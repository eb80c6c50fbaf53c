"""The decoder: what was read from memory, refined with the query's features, to a probability.

``B`` clips, ``N`` objects of all clips, ``C`` channels, ``H W`` pixels, ``h w`` the stride-16 grid.
Source: Oh et al. 2019, section 3.3.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from stmtrain.model.encoders import Backbone, Features
from stmtrain.model.precision import at_least_float32

__all__ = ["Decoder"]

_WIDTH = 256


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions, without normalisation."""

    def __init__(self, width: int) -> None:
        """Build the convolutions; ``width`` channels in and out."""
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus its residual, the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Refine(nn.Module):
    """Doubles the resolution of object features with the help of the query's finer features."""

    def __init__(self, skip_channels: int, width: int) -> None:
        """Build the layers; ``skip_channels`` of the query's features."""
        super().__init__()
        self.convFS = nn.Conv2d(skip_channels, width, kernel_size=3, padding=1)
        self.ResFS = ResidualBlock(width)
        self.ResMM = ResidualBlock(width)

    def forward(self, skip: Tensor, coarse: Tensor, owner: Tensor) -> Tensor:
        """Merge ``skip`` (B,C,2y,2x), once per frame, into ``coarse`` (N,C,y,x) per object."""
        fine = self.ResFS(self.convFS(skip))[owner]  # N C 2y 2x
        return self.ResMM(fine + _enlarge(coarse, 2))


class Decoder(nn.Module):
    """Object readouts and query features to object probabilities."""

    def __init__(self, backbone: Backbone) -> None:
        """Build the layers for a backbone's channels."""
        super().__init__()
        stride4, stride8, _ = backbone.channels
        self.convFM = nn.Conv2d(2 * backbone.value_channels, _WIDTH, kernel_size=3, padding=1)
        self.ResMM = ResidualBlock(_WIDTH)
        self.RF3 = Refine(stride8, _WIDTH)
        self.RF2 = Refine(stride4, _WIDTH)
        self.pred2 = nn.Conv2d(_WIDTH, 2, kernel_size=3, padding=1)

    def forward(self, readout: Tensor, features: Features, owner: Tensor) -> Tensor:
        """Decode every object.

        Args:
            readout: (N,2Cv,h,w) memory readout and query value.
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
