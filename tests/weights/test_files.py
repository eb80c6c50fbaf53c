"""Files of weights: damaged and hostile ones are refused in one line, written ones are exact."""

import argparse
import json
import os
import pickle
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from torch import Tensor

from stmtrain.errors import CheckpointError, StmError
from stmtrain.weights import files
from stmtrain.weights.files import load_file, read_state, write_state
from tests.profiles import examples
from tests.weights.files import State, refusal, same, save, write_safetensors


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil-was-here"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOFError"),
        (b"not a checkpoint", "UnpicklingError|KeyError"),
        (b"PK\x03\x04 neither", "RuntimeError"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "UnpicklingError"),
        (pickle.dumps(Evil()), "UnpicklingError"),
    ],
    ids=["empty", "text", "zip", "png", "code"],
)
def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    message = refusal(load_file, path)
    assert message.startswith(f"{path}: expected a PyTorch checkpoint of plain tensors")
    assert any(name in message for name in reason.split("|")), message
    assert not Path("evil-was-here").exists()


def test_missing_files_and_other_contents_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(load_file, tmp_path / "none.pth")
    assert "Is a directory" in refusal(load_file, tmp_path)
    assert "found Tensor" in refusal(read_state, save(torch.ones(1), tmp_path / "t.pth"))
    assert "found a dict of nothing" in refusal(read_state, save({}, tmp_path / "e.pth"))
    message = refusal(read_state, save({"lr": 1, "step": 2}, tmp_path / "d.pth"))
    assert "expected a state dict (tensor by name)" in message
    assert "found a dict of lr, step" in message


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3, device="meta"),
        torch.ones(1).expand(10**12),
    ],
    ids=["sparse", "complex", "meta", "four bytes as a terabyte"],
)
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, tensor: Tensor) -> None:
    message = refusal(read_state, save({"odd": tensor}, tmp_path / "w.pth"))
    assert "expected dense tensors of real numbers, found odd (" in message


def test_names_that_would_upset_a_terminal_are_refused(tmp_path: Path) -> None:
    message = refusal(read_state, save({"a\x1b[2J\n": torch.ones(1)}, tmp_path / "w.pth"))
    assert "found a dict of 'a\\x1b[2J\\n'" in message
    refusal(read_state, save({"a" * 10**5: torch.ones(1)}, tmp_path / "w.pth"))


SMALL_STATE = {"a.weight": torch.ones(3, 4), "b": torch.ones((), dtype=torch.int64)}


def test_safetensors_cut_at_any_byte_are_refused(tmp_path: Path) -> None:
    complete = write_safetensors(SMALL_STATE, tmp_path / "w.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(complete)):
        cut.write_bytes(complete[:length])
        message = refusal(read_state, cut)
        assert "expected a safetensors file of plain tensors" in message
    assert "No such file" in refusal(load_file, tmp_path / "none.safetensors")


HEADER_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(max_size=3)
)


@given(data=st.data())
@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_safetensors_with_any_header_load_or_are_refused_in_one_line(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Flipped bytes seldom leave valid JSON, so that its values are changed one by one too."""
    path = write_safetensors(SMALL_STATE, tmp_path / "w.safetensors")
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
            content[position] = data.draw(st.integers(0, 255))
    else:
        header = json.loads(content[8 : 8 + size])
        entry = header[data.draw(st.sampled_from(sorted(SMALL_STATE)))]
        dtypes = st.sampled_from(["F8_E8M0", "F4", "U64", "BOOL", "C64", "F64", "I8"])
        lists = st.lists(HEADER_VALUES, max_size=3)
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(HEADER_VALUES | lists | dtypes)
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    path.write_bytes(content)
    message = ""
    try:
        read_state(path)
    except CheckpointError as error:
        message = str(error)
    assert "\n" not in message


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    value = {"a.weight": torch.ones(3, 4)}
    complete = save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=False).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(len(complete)):
        cut.write_bytes(complete[:length])
        refusal(read_state, cut)


@given(data=st.data())
@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_load_or_are_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    zipped = data.draw(st.booleans())
    value = {"model": {"a.weight": torch.ones(3, 4), "b": torch.ones(())}, "step": 3}
    path = save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        where = data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4))
        for position in where:
            content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        read_state(path)
    except CheckpointError as error:
        message = str(error)
    assert "\n" not in message


def test_safetensors_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    contents = set()
    for _ in range(16):  # the library's own order of metadata changes from call to call
        write_state(
            tmp_path / "w.safetensors", {"b": torch.ones(2)}, {"model": "STM", "backbone": "x"}
        )
        contents.add((tmp_path / "w.safetensors").read_bytes())
    (content,) = contents
    size = int.from_bytes(content[:8], "little")
    assert size % 8 == 0  # tensors are aligned
    header = json.loads(content[8 : 8 + size])
    assert list(header["__metadata__"].items()) == [
        ("backbone", "x"),
        ("format", "pt"),
        ("model", "STM"),
    ]


def test_views_are_written_without_the_storage_behind_them(tmp_path: Path) -> None:
    storage = torch.arange(10**6, dtype=torch.float32).reshape(1000, 1000)
    row = storage[0, :3]
    views = {"a": row, "b": storage[:2, :3].t(), "c": row}
    for name in ("w.pth", "w.safetensors"):
        write_state(tmp_path / name, views, {})
        assert same(read_state(tmp_path / name), views)
        assert (tmp_path / name).stat().st_size < 10_000


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_write_that_fails_leaves_the_old_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    write_state(path, {"a": torch.ones(2)}, {})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StmError, match=rf"{name}: cannot be written .*No space left"):
        write_state(path, {"a": torch.zeros(2)}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
        lambda s: {"it": 7, "network": s, "optimizer": {"state": {0: {"step": s["a.b"]}}}},
        lambda s: {"checkpoint": {"model_ema": s}},
        lambda s: {"model": s, "ema": {k: v + 1 for k, v in s.items()}},
        lambda s: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in s.items()}},
        lambda s: {k.replace(".", "._orig_mod."): v for k, v in s.items()},
        lambda s: {f"net.student.{k}": v for k, v in s.items()},
    ],
)
def test_prefixes_and_places_of_frameworks_do_not_matter(
    tmp_path: Path, wrap: Callable[[State], Any]
) -> None:
    state = {"a.b": torch.arange(3.0), "KV_M_r4.Key.weight": torch.ones(2, 2)}
    assert same(read_state(save(wrap(state), tmp_path / "x.pth")), state)


def test_of_several_state_dicts_none_is_chosen(tmp_path: Path) -> None:
    state = {"a.b": torch.zeros(1)}
    path = save({"generator": state, "discriminator": state}, tmp_path / "x.pth")
    assert "found a dict of generator, discriminator" in refusal(read_state, path)
    path = save({"a.b": torch.zeros(1), "_orig_mod.a.b": torch.zeros(1)}, tmp_path / "y.pth")
    assert "each tensor once" in refusal(read_state, path)


@pytest.mark.parametrize("old", [False, True])
def test_objects_next_to_the_weights_are_named(tmp_path: Path, old: bool) -> None:
    state = {"a": torch.zeros(1)}
    options = {"_use_new_zipfile_serialization": not old}
    for value, name in ((np.float64(0.7), "numpy"), (argparse.Namespace(lr=1), "argparse")):
        path = save({"state_dict": state, "best": value}, tmp_path / "x.pth", **options)
        message = refusal(read_state, path)
        assert name in message
        assert "torch.save(model.state_dict()" in message
        assert "download" not in message


def test_records_may_not_unpack_to_more_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 1 << 20)
    path, packed = save({"a": torch.zeros(1 << 20)}, tmp_path / "x.pth"), tmp_path / "y.pth"
    assert read_state(path)["a"].numel() == 1 << 20  # as large as its file
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert "unpack to 4" in refusal(read_state, packed)
    monkeypatch.setattr(files, "MAX_HEADER", 50)
    assert "pickle of" in refusal(read_state, path)


def test_safetensors_headers_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    entry = {"dtype": "F32", "shape": [0] * 100_000, "data_offsets": [0, 0]}
    header = json.dumps({"a": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "a with 100000 dimensions" in refusal(read_state, path)
    monkeypatch.setattr(files, "MAX_HEADER", 1000)
    assert "a header of" in refusal(read_state, path)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("x.pth", "x.safetensors"):
        os.mkfifo(tmp_path / name)
        assert "not a regular file" in refusal(read_state, tmp_path / name)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        with (
            pytest.raises(StmError, match=r"cannot be written .*[Nn]o space.*free disk space"),
            open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123 - a device
        ):
            files.save_tensors({"a": torch.zeros(1 << 20)}, full, tmp_path / f"x{suffix}")


def nested(levels: int) -> tuple[object, ...]:
    part: tuple[object, ...] = (1, 2)
    for _ in range(levels):
        part = (part, part)
    return part


class _Key:
    """Pickled as a dict whose key is a nested tuple, which was never hashed."""

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def __reduce__(self) -> tuple[object, ...]:
        return (OrderedDict, (), None, None, iter([(nested(self.levels), 1)]))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("levels", [9, 60])
def test_a_key_that_takes_for_ever_to_hash_is_refused_at_once(
    tmp_path: Path, old: bool, levels: int
) -> None:
    torch.save(
        {"a": torch.ones(2), "b": _Key(levels)},
        tmp_path / "w.pt",
        _use_new_zipfile_serialization=not old,
    )
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"w.pt: .*tuple of \d+ elements, .* 1000"):
        load_file(tmp_path / "w.pt")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("old", [False, True])
def test_plain_tuples_and_those_of_optimisers_are_read(tmp_path: Path, old: bool) -> None:
    parameter, other = (torch.nn.Parameter(torch.ones(n)) for n in (3, 2))
    optimiser = torch.optim.AdamW([{"params": [parameter]}, {"params": [other]}])
    content = {"model": {"a": torch.ones(2, 3)}, "optim": optimiser.state_dict(), "t": nested(3)}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    assert load_file(tmp_path / "w.pt")["t"] == nested(3)
