"""What makes a step faster or smaller does not change its numbers.

Gradients that must agree up to rounding are compared in float64. In float32 the rounding of another
kernel can move an input of a ReLU across zero, which changes single gradients by any amount.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from stmtrain.errors import UsageError
from stmtrain.model import STM, set_batchnorm, slots
from stmtrain.model.precision import autocast
from stmtrain.training import acceleration
from stmtrain.training.acceleration import adam, prepare
from stmtrain.training.losses import clip_losses
from stmtrain.training.recipe import PRETRAIN, TrainRecipe

CPU = torch.device("cpu")
BFLOAT16 = replace(PRETRAIN, precision="bfloat16")
Clips = tuple[Tensor, Tensor, Tensor]
Step = tuple[float, dict[str, Tensor]]


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18").train()


@pytest.fixture(scope="module")
def exact(model: STM) -> STM:
    """The same model in float64."""
    return copy.deepcopy(model).double()


def clips_of(counts: list[int], size: int = 32) -> Clips:
    """Noise frames (B,3,3,S,S), masks of as many objects (B,3,S,S), and the counts."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(len(counts), 3, 3, size, size, generator=generator)
    masks = [torch.randint(0, n + 1, (3, size, size), generator=generator) for n in counts]
    return frames, torch.stack(masks).byte(), torch.tensor(counts)


def exact_clips(counts: list[int], size: int = 32) -> Clips:
    frames, masks, number = clips_of(counts, size)
    return frames.double(), masks, number


def step(model: STM, clips: Clips, how: TrainRecipe = PRETRAIN) -> Step:
    """The loss of a batch and its gradients."""
    model.zero_grad()
    with autocast(clips[0].device, how.precision):
        loss = clip_losses(model, *clips, detach_memory=False)[0].mean()
    loss.backward()
    return float(loss.detach()), gradients(model)


def gradients(model: STM) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def prepared(model: STM, **choices: Any) -> tuple[STM, TrainRecipe]:
    how = replace(PRETRAIN, **choices)
    return prepare(copy.deepcopy(model), how), how


def assert_equal(ours: Step, expected: Step, tolerance: float = 1e-9) -> None:
    """Compare loss and gradients in float64, relative to the largest entry of each gradient."""
    assert all(grad.dtype == torch.float64 for grad in expected[1].values())
    assert ours[0] == pytest.approx(expected[0], rel=tolerance)
    assert ours[1].keys() == expected[1].keys()
    # A shift of all keys does not change a softmax: that gradient is nothing but rounding.
    worst = {
        name: float((ours[1][name] - grad).abs().max() / grad.abs().max().clamp(min=1e-12))
        for name, grad in expected[1].items()
        if name != "KV_M_r4.Key.bias"
    }
    assert max(worst.values()) < tolerance, max(worst.items(), key=lambda item: item[1])


def one_frame_at_a_time(model: STM, clips: Clips) -> Step:
    """The step as the paper describes it: query frames are encoded one after the other."""
    frames, masks, counts = clips
    owner = torch.repeat_interleave(torch.arange(len(frames)), counts)
    slot = slots(owner)
    soft, parts = (masks[owner, 0] == slot[:, None, None]).to(frames.dtype), []
    loss = torch.zeros(())
    model.zero_grad()
    for t in (1, 2):
        parts.append(model.memorize(frames[:, t - 1], soft, owner))
        keys, values = (torch.stack(part, dim=2) for part in zip(*parts, strict=True))
        logits = model.segment(frames[:, t], keys, values, owner)
        loss = loss + torch.nn.functional.cross_entropy(logits, masks[:, t].long())
        soft = logits.softmax(dim=1)[owner, slot]
    loss.backward()
    return float(loss.detach()), gradients(model)


def test_encoding_all_query_frames_at_once_is_one_frame_at_a_time(exact: STM) -> None:
    clips = exact_clips([2, 1])
    assert_equal(step(exact, clips), one_frame_at_a_time(exact, clips))


def test_a_batch_is_the_mean_of_its_clips(exact: STM) -> None:
    clips = exact_clips([1, 3, 2])
    singles = [step(exact, tuple(part[b : b + 1] for part in clips)) for b in range(3)]  # type: ignore[arg-type]
    loss = sum(single[0] for single in singles) / 3
    grads = {name: sum(single[1][name] for single in singles) / 3 for name in singles[0][1]}
    # A clip with fewer objects has unused slots in the batch, each with a probability of 1e-7.
    assert_equal(step(exact, clips), (loss, grads), 1e-5)  # type: ignore[arg-type]


def test_channels_last_computes_the_same_and_reaches_the_features(exact: STM) -> None:
    clips = exact_clips([1, 2])
    ours, how = prepared(exact, channels_last=True)
    assert_equal(step(ours, clips, how), step(exact, clips))
    features = ours.Encoder_Q(clips[0][:, 0])
    assert all(f.is_contiguous(memory_format=torch.channels_last) for f in features)


@pytest.mark.parametrize("batchnorm", ["frozen", "train"])
def test_activations_computed_again_give_the_same_step_to_the_bit(
    model: STM, batchnorm: Literal["frozen", "train"]
) -> None:
    plain, (again, _) = copy.deepcopy(model), prepared(model, checkpoint_activations=True)
    for each in (plain, again):
        set_batchnorm(each, batchnorm)
    clips = clips_of([2, 1])
    held, expected = held_bytes(lambda: step(plain, clips))
    held_again, ours = held_bytes(lambda: step(again, clips))
    assert ours[0] == expected[0]
    assert all(torch.equal(ours[1][name], grad) for name, grad in expected[1].items())
    buffers = dict(plain.named_buffers())
    assert all(torch.equal(b, buffers[n]) for n, b in again.named_buffers())
    batches = int(buffers["Encoder_Q.bn1.num_batches_tracked"])
    assert batches == (1 if batchnorm == "train" else 0)
    assert held_again < held / 4


def held_bytes(call: Callable[[], Step]) -> tuple[int, Step]:
    """Bytes that the forward pass keeps for the backward pass, inputs and weights included."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    return sum(seen.values()), result


def test_without_gradients_nothing_is_computed_again(model: STM) -> None:
    again, _ = prepared(model, checkpoint_activations=True)
    with torch.no_grad():
        assert not again.encode_query(torch.rand(1, 3, 32, 32)).key.requires_grad


def test_bfloat16_is_near_float32_and_weights_stay_float32(model: STM) -> None:
    clips = clips_of([2, 1], size=48)
    expected, ours = step(model, clips), step(model, clips, BFLOAT16)
    assert ours[0] == pytest.approx(expected[0], rel=0.02)
    pairs = [(ours[1][n].flatten(), g.flatten()) for n, g in expected[1].items()]
    assert all(grad.dtype == torch.float32 for grad, _ in pairs)
    # Eight bits of mantissa: single gradients differ, but not the direction of all of them.
    mine, theirs = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert float(torch.cosine_similarity(mine, theirs, dim=0)) > 0.98


@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_bfloat16_is_finite_where_the_network_is_certain(model: STM, scale: float) -> None:
    certain = copy.deepcopy(model)
    with torch.no_grad():
        certain.Decoder.pred2.weight.zero_()
        certain.Decoder.pred2.bias.copy_(torch.tensor([0.0, scale]))
    loss, grads = step(certain, clips_of([2, 1]), BFLOAT16)
    assert 0 <= loss < 2 * 2 * 17  # two frames, at most -log(1e-7) each, and one more for others
    assert all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # PyTorch's compiler meets its own warnings
def test_compiled_computes_the_same_and_keeps_its_names(
    exact: STM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts only: on a CPU the compiler takes half a minute for each."""
    parts = ("Encoder_Q.res2", "Decoder.RF2.ResMM")
    monkeypatch.setattr(acceleration, "_compilable", lambda m: map(m.get_submodule, parts))
    ours, how = prepared(exact, compile=True)
    assert ours.state_dict().keys() == exact.state_dict().keys()
    for counts in ([1, 2], [3, 1]):  # another number of objects
        clips = exact_clips(counts)
        assert_equal(step(ours, clips, how), step(exact, clips))
    copied = copy.deepcopy(ours)
    assert copied.Encoder_Q.res2._compiled_call_impl is None


def test_float32_means_float32_unless_tf32_is_asked_for(model: STM) -> None:
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        for tf32 in (True, False):
            prepare(model, replace(PRETRAIN, tf32=tf32))
            assert torch.backends.cudnn.allow_tf32 == tf32
            assert torch.backends.cuda.matmul.allow_tf32 == tf32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept


def small(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))


NUMBERS = replace(PRETRAIN, learning_rate=1e-2)


def descend(network: torch.nn.Module, optimizer: torch.optim.Adam, steps: range) -> None:
    device = next(network.parameters()).device
    for number in steps:
        generator = torch.Generator().manual_seed(number)
        optimizer.zero_grad()
        network(torch.randn(16, 8, generator=generator).to(device)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_resumed_adam_goes_on_to_the_bit(device: str) -> None:
    straight = small().to(device)
    descend(straight, adam(straight, NUMBERS), range(6))
    network = small().to(device)
    first = adam(network, NUMBERS)
    descend(network, first, range(3))
    saved = copy.deepcopy(first.state_dict())
    resumed = adam(network, NUMBERS, saved=saved)
    assert resumed.defaults["fused"]
    descend(network, resumed, range(3, 6))
    assert all(map(torch.equal, network.parameters(), straight.parameters()))


def test_adam_takes_over_what_another_kind_of_adam_saved() -> None:
    plain, ours = small(), small()
    theirs = torch.optim.Adam(plain.parameters(), 1e-2, foreach=False)
    descend(plain, theirs, range(3))
    ours.load_state_dict(plain.state_dict())
    resumed = adam(ours, NUMBERS, saved=copy.deepcopy(theirs.state_dict()))
    assert resumed.param_groups[0]["fused"]
    descend(plain, theirs, range(3, 6))
    descend(ours, resumed, range(3, 6))
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_refused_where_the_gpu_has_none(
    model: STM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs without a GPU: every question to CUDA is answered by the test."""
    monkeypatch.setattr(torch.nn.Parameter, "device", torch.device("cuda", 0), raising=False)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_options: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    with pytest.raises(UsageError, match="Some GPU has no bfloat16 arithmetic; use float32"):
        prepare(model, BFLOAT16)


# On a GPU: `pytest -m gpu`.


def on_gpu(model: STM, **choices: Any) -> tuple[STM, TrainRecipe]:
    how = replace(PRETRAIN, **choices)
    return prepare(copy.deepcopy(model).cuda(), how), how


def gpu_clips(counts: list[int], size: int = 64) -> Clips:
    frames, masks, number = clips_of(counts, size)
    return frames.cuda(), masks.cuda(), number


@pytest.mark.gpu
@pytest.mark.parametrize("choices", [{}, {"channels_last": True}, {"checkpoint_activations": True}])
def test_gpu_step_is_the_step_of_the_cpu(model: STM, exact: STM, choices: dict[str, Any]) -> None:
    ours, how = on_gpu(exact, **choices)
    frames, masks, number = gpu_clips([2, 1])
    loss, grads = step(ours, (frames.double(), masks, number), how)
    grads = {name: grad.cpu() for name, grad in grads.items()}
    expected = step(exact, exact_clips([2, 1], 64))
    assert_equal((loss, grads), expected)
    ours, how = on_gpu(model, **choices)
    assert step(ours, (frames, masks, number), how)[0] == pytest.approx(expected[0], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_step_never_waits_for_the_device(
    model: STM, precision: Literal["float32", "bfloat16"]
) -> None:
    ours, how = on_gpu(model, precision=precision, channels_last=True)
    optimizer = adam(ours, NUMBERS)
    clips = gpu_clips([2, 1])
    step(ours, clips, how)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with autocast(clips[0].device, precision):
            loss = clip_losses(ours, *clips, detach_memory=False)[0].mean()
        loss.backward()
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_gpu_bfloat16_is_near_float32_with_everything_on(model: STM) -> None:
    expected = step(model, clips_of([2, 1], 64))
    ours, how = on_gpu(model, precision="bfloat16", channels_last=True, checkpoint_activations=True)
    assert step(ours, gpu_clips([2, 1]), how)[0] == pytest.approx(expected[0], rel=0.02)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_compiled_step_is_near_the_plain_one(
    model: STM, precision: Literal["float32", "bfloat16"]
) -> None:
    ours, how = on_gpu(model, precision=precision, channels_last=True, compile=True)
    for counts in ([2, 1], [1, 3], [4, 2]):
        expected = step(model, clips_of(counts, 64))
        rel = 0.02 if precision == "bfloat16" else 1e-3
        assert step(ours, gpu_clips(counts), how)[0] == pytest.approx(expected[0], rel=rel)
