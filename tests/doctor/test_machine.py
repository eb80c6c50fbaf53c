"""The machine: what is missing is named with the command that mends it."""

from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from stmtrain.doctor import machine
from stmtrain.doctor.finding import Finding
from stmtrain.extras import EXTRAS, PURPOSES


def find(check: str) -> Finding:
    return next(finding for finding in machine.machine() if finding.check == check)


def test_everything_that_is_not_good_has_a_cure() -> None:
    findings = list(machine.machine())
    assert {finding.check for finding in findings} >= {
        *("versions", "GPU", "codecs", "cores", "memory"),
        *(f"extra {name}" for name in EXTRAS),
    }
    for finding in findings:
        assert finding.found
        assert finding.state == "good" or finding.cure, finding


def test_every_extra_has_a_purpose() -> None:
    assert EXTRAS.keys() == PURPOSES.keys()


@pytest.mark.parametrize(("absent", "part"), [(("av",), ""), (("cv2",), ", cv2 missing")])
def test_a_missing_extra_is_named_with_its_installation(
    monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], part: str
) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name in absent else name)
    name = next(name for name, modules in EXTRAS.items() if set(absent) & set(modules))
    finding = machine._extra(name)
    assert finding.state == "note"
    assert finding.found == f"not installed{part}: no {PURPOSES[name]}"
    assert finding.cure == f"run: pip install 'stm-vos[{name}]'"


def test_a_missing_package_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def fail(name: str) -> str:
        if name == "simplejpeg":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", fail)
    finding = find("versions")
    assert finding.state == "bad"
    assert finding.cure == "run: pip install simplejpeg"


@pytest.mark.parametrize(
    ("cuda", "driver", "state", "cure"),
    [
        (None, None, "note", "resnet18"),
        (None, "/usr/bin/nvidia-smi", "bad", "build of torch with CUDA"),
        ("12.8", "/usr/bin/nvidia-smi", "bad", "driver"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told_from_none(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, driver: str | None, state: str, cure: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(machine.shutil, "which", lambda _: driver)
    finding = machine._accelerator()
    assert finding.state == state
    assert cure in finding.cure


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    finding = machine._accelerator()
    assert finding.found == "NVIDIA H100, 80 GiB; CUDA 12.8, bfloat16"
    assert finding.state == "good"


def test_a_broken_codec_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    import simplejpeg

    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda data: 255 - decode(data) // 2)
    finding = find("codecs")
    assert finding.state == "bad"
    assert finding.found == "JPEG fail"
