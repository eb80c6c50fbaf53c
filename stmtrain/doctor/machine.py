"""Versions, extras, accelerators, codecs, cores and memory of this machine."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

import numpy as np

from stmtrain.doctor.finding import Finding
from stmtrain.extras import EXTRAS, PURPOSES, pip_install, version
from stmtrain.processes import resolve_workers

_PACKAGES = (
    *("torch", "torchvision", "numpy", "pillow", "simplejpeg", "safetensors", "webdataset"),
    *("typer", "rich"),
)
_LEAST_MEMORY = 4 * 2**30  # with less, training at 384 pixels does not fit


def machine() -> Iterator[Finding]:
    """Look at everything that does not depend on a folder."""
    yield _versions()
    yield from map(_extra, EXTRAS)
    yield _accelerator()
    yield from _codecs()
    yield _cores()
    yield _memory()


def _versions() -> Finding:
    found = {"stm": version(), "python": platform.python_version()}
    absent = []
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            absent.append(package)
    text = f"{', '.join(f'{name} {value}' for name, value in found.items())}; {platform.platform()}"
    if absent:
        missing = f"{text}; without {', '.join(absent)}"
        return Finding("versions", missing, "bad", f"run: pip install {' '.join(absent)}", found)
    return Finding("versions", text, numbers=found)


def _extra(name: str) -> Finding:
    absent = [module for module in EXTRAS[name] if find_spec(module) is None]
    numbers = {"installed": not absent, "missing": absent}
    if not absent:
        return Finding(f"extra {name}", f"installed ({PURPOSES[name]})", numbers=numbers)
    part = "" if len(absent) == len(EXTRAS[name]) else f", {', '.join(absent)} missing"
    text = f"not installed{part}: no {PURPOSES[name]}"
    return Finding(f"extra {name}", text, "note", f"run: {pip_install(name)}", numbers)


def _accelerator() -> Finding:
    """Look for a GPU that torch can use, and for one that it cannot."""
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        texts = [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices]
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        text = f"{'; '.join(texts)}; CUDA {torch.version.cuda}, {precision}"
        return Finding("GPU", text, numbers={"devices": texts, "bfloat16": precision == "bfloat16"})
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple MPS (--device mps)", numbers={"devices": ["mps"]})
    nothing: dict[str, object] = {"devices": []}
    if shutil.which("nvidia-smi") is None:
        cure = "train with --backbone resnet18 and a small --size, or on a machine with a GPU"
        return Finding("GPU", "none, so the network runs on the CPU", "note", cure, nothing)
    if torch.version.cuda is None:
        cure = "install a build of torch with CUDA (https://pytorch.org/get-started)"
        return Finding("GPU", "there is one, but torch is built without CUDA", "bad", cure, nothing)
    cure = "run nvidia-smi; update the driver, or install a torch for the CUDA that it supports"
    text = f"torch is built for CUDA {torch.version.cuda} and finds no device"
    return Finding("GPU", text, "bad", cure, nothing)


def _codecs() -> Iterator[Finding]:
    """Encode and decode a picture with each codec that frames, masks and films need."""
    import simplejpeg
    from PIL import features

    from stmtrain.images.decode import decode_mask
    from stmtrain.images.encode import encode_mask

    picture = np.full((16, 16, 3), 128, np.uint8)
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    close = np.abs(simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(picture)).astype(int) - 128) < 4
    right = {
        "JPEG": bool(close.all()),
        "PNG": bool((decode_mask(encode_mask(mask), "a test mask") == mask).all()),
    }
    more = {name: bool(features.check(name)) for name in ("webp", "jpg_2000", "avif")}
    wrong = [name for name, works in right.items() if not works]
    if wrong:
        cure = "run: pip install --force-reinstall simplejpeg pillow"
        yield Finding("codecs", f"{' and '.join(wrong)} fail", "bad", cure, right)
    else:
        also = ", ".join(name for name, works in more.items() if works) or "no other"
        yield Finding("codecs", f"JPEG and PNG work; images also as {also}", numbers=right | more)
    if find_spec("av") is None:
        return
    import av

    if {"libx264", "h264"} & av.codecs_available:
        yield Finding("film codecs", "H.264 works", numbers={"h264": True})
    else:
        cure = "run: pip install --force-reinstall --only-binary av av"
        yield Finding("film codecs", "no H.264, so no MP4 overlay", "note", cure, {"h264": False})


def _cores() -> Finding:
    usable, all_cores = resolve_workers("auto"), os.cpu_count() or 1
    load = os.getloadavg()[0]
    numbers = {"usable": usable, "machine": all_cores, "load": load}
    text = f"{usable} of {all_cores} usable, load {load:.1f}"
    if load > 1.5 * all_cores:
        cure = "wait for other work to end, or expect timings to be worse than usual"
        return Finding("cores", f"{text}: busy with other work", "note", cure, numbers)
    return Finding("cores", text, numbers=numbers)


def _memory() -> Finding:
    size = os.sysconf("SC_PAGE_SIZE")
    total = size * os.sysconf("SC_PHYS_PAGES")
    numbers = {"bytes": total}
    if total < _LEAST_MEMORY:
        cure = "use a smaller --size and --batch-size, and fewer --workers"
        return Finding("memory", f"{total / 2**30:.1f} GiB", "note", cure, numbers)
    return Finding("memory", f"{total / 2**30:.1f} GiB", numbers=numbers)
