"""Agreement of the model with the published one: outputs, losses, gradients, a video."""

import json
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmtrain.inference.options import Inference
from stmtrain.inference.segment import segment_video_soft
from stmtrain.model import STM, aggregate
from tests.paths import GOLDEN

pytestmark = pytest.mark.golden

TOLERANCE = 1e-4
SLOTS = 11  # background and ten objects, used or not, in the losses of the golden values


class Case(NamedTuple):
    golden: dict[str, np.ndarray]
    model: STM
    objects: int
    owner: Tensor


class Run(NamedTuple):
    key: Tensor
    value: Tensor
    logits: tuple[Tensor, Tensor]
    losses: tuple[Tensor, Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small convolutions lose more by waiting for threads than they gain, on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["resnet18", "resnet50", "resnest101"])
def case(request: pytest.FixtureRequest) -> Case:
    with np.load(GOLDEN / f"stm_{request.param}.npz") as file:
        golden = dict(file)
    model = STM(request.param)
    salt = str(golden["salt"])
    model.load_state_dict({n: weight(n, t, salt) for n, t in model.state_dict().items()})
    objects = int(golden["objects"])
    return Case(golden, training(model), objects, torch.zeros(objects, dtype=torch.int64))


@pytest.fixture(scope="module")
def outputs(case: Case) -> Run:
    with torch.no_grad():
        return run(case, case.model, torch.float32)


def training(model: STM) -> STM:
    """Enter training mode, with BatchNorm frozen as ever, but nothing dropped out."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model


def weight(name: str, tensor: Tensor, salt: str) -> Tensor:
    """The value of one tensor of the state dict, see golden/README.md."""
    g = np.random.default_rng(zlib.crc32((salt + name).encode()))
    shape = tuple(tensor.shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(tensor)
    if name.endswith((".mean", ".std")):
        return tensor
    if name.endswith("running_mean"):
        value = 0.1 * g.standard_normal(shape)
    elif name.endswith("running_var"):
        value = g.uniform(0.5, 1.5, shape)
    elif len(shape) == 1 and name.endswith("weight"):
        value = g.uniform(0.5, 1, shape)
    elif len(shape) == 1:
        value = 0.1 * g.standard_normal(shape)
    else:
        value = g.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(value).to(tensor.dtype)


def clip(seed: int, shape: tuple[int, int, int], objects: int) -> tuple[Tensor, Tensor]:
    """Frames (T,1,3,H,W) and the masks of the objects (T,N,H,W), see golden/README.md."""
    length, height, width = shape
    frames = np.random.default_rng(seed).uniform(0, 1, (length, 3, height, width))
    labels = np.zeros(shape, np.uint8)
    for t in range(length):
        for o in range(1, objects + 1):
            y, x = (7 * o + 3 * t) % (height - 20), (23 * o + 5 * t) % (width - 24)
            labels[t, y : y + 20, x : x + 24] = o
    masks = labels[:, None] == np.arange(1, objects + 1)[:, None, None]
    return torch.from_numpy(frames.astype(np.float32))[:, None], torch.from_numpy(masks)


def run(case: Case, model: STM, dtype: torch.dtype) -> Run:
    """Memorise frame 0, segment 1, memorise its prediction, segment 2."""
    frames, masks = clip(int(case.golden["seed"]), (3, 96, 80), case.objects)
    frames, masks = frames.to(dtype), masks.to(dtype)
    key, value = model.memorize(frames[0], masks[0], case.owner)
    keys, values = key.unsqueeze(2), value.unsqueeze(2)
    second = model.segment(frames[1], keys, values, case.owner)
    soft = second.softmax(1)[0, 1:]
    more = model.memorize(frames[1], soft, case.owner)
    keys, values = (torch.stack(pair, 2) for pair in ((key, more[0]), (value, more[1])))
    third = model.segment(frames[2], keys, values, case.owner)
    losses = tuple(loss(logits, masks[t]) for t, logits in ((1, second), (2, third)))
    return Run(key, value, (second, third), losses)


def loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy over all slots of the published model."""
    unused = aggregate(logits.new_zeros(1, 1, *logits.shape[2:]))[:, 1:]
    dense = torch.cat([logits, *[unused] * (SLOTS - logits.shape[1])], dim=1)
    label = (masks * torch.arange(1, len(masks) + 1)[:, None, None]).sum(0).long()
    return F.cross_entropy(dense, label[None])


def difference(ours: Tensor, golden: np.ndarray) -> float:
    expected = torch.from_numpy(golden).double()
    assert ours.shape == expected.shape
    return float((ours.double() - expected).norm() / expected.norm())


def test_state_dict_has_the_published_names_and_shapes(case: Case) -> None:
    shapes = {name: list(t.shape) for name, t in case.model.state_dict().items()}
    names, texts = case.golden["state_names"], case.golden["state_shapes"]
    assert shapes == {str(n): json.loads(str(s)) for n, s in zip(names, texts, strict=True)}


def test_memory(case: Case, outputs: Run) -> None:
    assert difference(outputs.key, case.golden["key_1"]) < TOLERANCE
    assert difference(outputs.value[:, ::8], case.golden["value_1"]) < TOLERANCE


def test_logits(case: Case, outputs: Run) -> None:
    for name, logits in zip(("logit_2", "logit_3"), outputs.logits, strict=True):
        assert difference(logits[0], case.golden[name]) < TOLERANCE


def test_unused_slot(case: Case) -> None:
    unused = aggregate(torch.zeros(1, 1, 1, 1))[0, 1]
    assert difference(unused, case.golden["logit_2_unused_slot"]) < TOLERANCE


def test_losses(case: Case, outputs: Run) -> None:
    for name, value in zip(("loss_2", "loss_3"), outputs.losses, strict=True):
        assert float(value) == pytest.approx(float(case.golden[name]), rel=TOLERANCE)


@pytest.mark.parametrize(
    "case",
    ["resnet18", "resnet50", pytest.param("resnest101", marks=pytest.mark.slow)],
    indirect=True,
)
def test_gradients(case: Case) -> None:
    model = training(STM(case.model.backbone.name).double())
    model.load_state_dict(case.model.state_dict())
    sum(run(case, model, torch.float64).losses).backward()
    # The golden norms were taken in float32, which costs large tensors up to 3e-4.
    norms = {name: float(p.grad.float().norm()) for name, p in model.named_parameters()}
    assert sorted(norms) == sorted(map(str, case.golden["grad_names"]))
    assert norms.pop("KV_M_r4.Key.bias") < 1e-6  # zero, up to rounding
    golden = zip(case.golden["grad_names"], case.golden["grad_norms"], strict=True)
    worst = max((abs(norms[n] / g - 1), n) for n, g in golden if n in norms)
    assert worst[0] < TOLERANCE, worst


def test_video(case: Case) -> None:
    """Through the inference code, so that its memory policy is held to the golden values too."""
    frames, masks = clip(int(case.golden["seed"]) + 1, (9, 72, 104), case.objects)
    pictures = frames[:, 0].permute(0, 2, 3, 1).numpy()
    ids = torch.arange(1, case.objects + 1)[:, None, None]
    first = (masks[0] * ids).sum(0).to(torch.uint8).numpy()
    video = segment_video_soft(case.model, pictures, {0: first}, Inference(memory_every=3))
    ours = torch.stack([probabilities for _, probabilities in video][1:])[:, :, ::3, ::3]
    assert difference(ours, case.golden["video_probs_mem_every_3"]) < TOLERANCE
