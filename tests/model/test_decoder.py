"""The decoder's parts."""

import pytest
import torch
from torch.nn import functional as F

from stmtrain.model.decoder import ASPP, Atrous, Decoder, Refine, ResidualBlock
from stmtrain.model.encoders import BACKBONES, Features
from tests.model_inputs import owner_of, random


def test_readout_is_dropped_out_in_training_only() -> None:
    aspp, readout = ASPP(8), random(1, 8, 4, 4)
    torch.manual_seed(0)
    assert not torch.equal(aspp(readout), aspp(readout))
    aspp.eval()
    assert torch.equal(aspp(readout), aspp(readout))


@pytest.mark.parametrize("rectified", [False, True])
def test_a_residual_block_adds_to_its_input_or_to_relu_of_it(rectified: bool) -> None:
    block, x = ResidualBlock(4, rectified), random(2, 4, 5, 6) - 0.5
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    with torch.no_grad():
        assert torch.equal(block(x), x.relu() if rectified else x)
    block = ResidualBlock(4, rectified)
    with torch.no_grad():
        inner = block.conv2(block.conv1(x.relu()).relu())
        torch.testing.assert_close(block(x), (x.relu() if rectified else x) + inner)


def test_branches_of_growing_reach() -> None:
    for dilation, reach in ((1, 0), (2, 2), (4, 4), (8, 8)):
        branch, x = Atrous(1, 1, dilation), torch.zeros(1, 1, 21, 21)
        torch.nn.init.ones_(branch.atrous_conv.weight)
        x[0, 0, 10, 10] = 1
        with torch.no_grad():
            rows = branch(x)[0, 0].any(1).nonzero().flatten()
        assert branch(x).shape == x.shape
        assert (int(rows[0]), int(rows[-1])) == (10 - reach, 10 + reach)
    aspp = ASPP(8)
    dilations = [
        b.atrous_conv.dilation[0] for b in (aspp.aspp1, aspp.aspp2, aspp.aspp3, aspp.aspp4)
    ]
    assert dilations == [1, 2, 4, 8]


def test_refining_doubles_the_resolution_and_adds_the_features_of_the_own_clip() -> None:
    refine = Refine(3, 4, rectified_skip=False).eval()
    skip, coarse, owner = random(2, 3, 8, 10), random(3, 4, 4, 5, seed=1), owner_of([1, 2])
    with torch.no_grad():
        refined = refine(skip, coarse, owner)
        fine = refine.ResFS(refine.convFS(skip))
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(refined, refine.ResMM(fine[owner] + enlarged))


def test_the_decoder_gives_the_probability_of_the_second_of_two_channels() -> None:
    backbone = BACKBONES["resnet18"]
    decoder, owner = Decoder(backbone).eval(), owner_of([1, 1])
    torch.nn.init.zeros_(decoder.pred2.weight)
    decoder.pred2.bias.data = torch.tensor([0.0, 2.0])
    features = Features(random(2, 64, 8, 12), random(2, 128, 4, 6), random(2, 256, 2, 3))
    with torch.no_grad():
        prob = decoder(random(2, 256, 2, 3, seed=2), features, owner)
    assert prob.shape == (2, 32, 48)
    torch.testing.assert_close(prob, torch.full_like(prob, 2.0).sigmoid())
