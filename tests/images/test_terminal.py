"""Preview: which samples and frames are shown, how they look as text, and what is refused."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from stmdata.drawn.scenes import draw_video
from stmdata.packing.pack import Job, pack
from stmtrain.commands.preview import show as preview
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.images.draw import COLOURS, ClipView
from stmtrain.images.encode import encode_mask
from stmtrain.images.terminal import terminal
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.shards.view import choose_frames, choose_samples, read_view


def jpeg(frame):
    out = io.BytesIO()
    Image.fromarray(frame).save(out, format="JPEG", quality=95)
    return out.getvalue()


def sample(key, seed, frames=8, masked=slice(None), ids=(1, 12), size=(48, 64), mask_size=None):
    rng = np.random.default_rng(seed)
    pictures, slots = draw_video(rng, frames=frames, size=size, objects=2)
    masks = np.array([0, *ids], np.uint8)[slots]
    names = tuple(f"{t:05d}" for t in range(frames))
    shown = {name: masks[int(name)] for name in names[masked]}
    areas = tuple(tuple(int((m == i).sum()) for m in shown.values()) for i in ids)
    record = SampleRecord(key, *size, names, tuple(shown), ids, areas, size)
    if mask_size:
        shown = {name: np.zeros(mask_size, np.uint8) for name in shown}
    return Sample(
        record,
        {name: jpeg(pictures[t]) for t, name in enumerate(names)},
        {name: encode_mask(mask) for name, mask in shown.items()},
    )


def write(folder, samples):
    pack(folder, [Job("drawn-000000", ("all",))], lambda _: samples, {"source": "drawn"})
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    samples = [sample(f"clip-{i}", i) for i in range(5)]
    samples.append(sample("sparse", 9, frames=13, masked=slice(None, None, 5)))
    return write(tmp_path_factory.mktemp("preview") / "set", samples)


def colour_console(width=80, **options):
    options = {"force_terminal": True, "color_system": "truecolor"} | options
    return Console(width=width, file=io.StringIO(), **options)


def plain_console(width=80):
    return Console(width=width, file=io.StringIO(), color_system=None)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 9))
def test_chosen_frames_are_ordered_distinct_and_prefer_masks(total, limit, stride):
    names = [f"{i:05d}" for i in range(total)]
    chosen = choose_frames(names, limit)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(limit, total)
    assert chosen[0] == names[0]
    if 1 < limit <= total:
        gaps = np.diff([int(name) for name in chosen])
        assert chosen[-1] == names[-1]
        assert gaps.max() - gaps.min() <= 1
    masked = names[::stride]
    preferred = choose_frames(names, limit, masked)
    assert len(preferred) == len(set(preferred)) == min(limit, total)
    assert preferred == sorted(preferred)
    assert len(set(preferred) & set(masked)) == min(limit, len(masked))


def test_samples_are_chosen_by_seed_or_key(shards):
    shard_set = ShardSet.open(shards)
    first = choose_samples(shard_set, count=3, key=None, seed=0)
    assert first == choose_samples(shard_set, count=3, key=None, seed=0)
    assert len(set(first)) == 3
    assert {tuple(choose_samples(shard_set, count=3, key=None, seed=s)) for s in range(9)} > {
        tuple(first)
    }
    assert choose_samples(shard_set, count=99, key=None, seed=0) == list(range(6))
    assert choose_samples(shard_set, count=1, key="clip-3", seed=0) == [3]
    with pytest.raises(UsageError, match=r"set: no sample 'nope'; keys look like 'clip-0'"):
        choose_samples(shard_set, count=1, key="nope", seed=0)


def test_view_holds_what_the_shard_holds(shards):
    shard_set = ShardSet.open(shards)
    view = read_view(shard_set, 5, 4)
    assert view.caption == "sparse"
    assert [n for n, m in zip(view.names, view.masks, strict=True) if m is not None] == [
        "00000", "00005", "00010",
    ]  # fmt: skip
    assert view.names == sorted(view.names)
    assert len(view.names) == 4
    evenly = read_view(shard_set, 5, 4, evenly=True)
    assert evenly.names == ["00000", "00004", "00008", "00012"]
    whole = shard_set.read(0)
    view = read_view(shard_set, 0, 99)
    for name, mask in zip(view.names, view.masks, strict=True):
        assert encode_mask(mask) == whole.masks[name]


def test_terminal_shows_frame_names_keys_and_ids_in_their_colours(shards):
    console = colour_console(100)
    assert preview(shards, key="clip-0", console=console) == ["clip-0"]
    out = console.file.getvalue()
    for word in ("clip-0", "00000", "00007", "▀", "■"):
        assert word in out
    for number in (1, 12):
        red, green, blue = COLOURS[number]
        assert f"38;2;{red};{green};{blue}m■" in out
        red, green, blue = COLOURS[number] // 2
        for digit in str(number):
            assert f"[1;38;2;255;255;255;48;2;{red};{green};{blue}m{digit}" in out


def test_a_character_shows_the_upper_and_the_lower_of_two_pixels():
    red, blue = (250, 0, 0), (0, 0, 250)
    frame = np.zeros((48, 48, 3), np.uint8)
    frame[::2], frame[1::2] = red, blue
    console = colour_console(48)
    view = ClipView("two", ["0"], [frame], [None], [])
    lines = console.render_lines(terminal(view, console), pad=False)
    pixels = [segment for line in lines for segment in line if "▀" in segment.text]
    assert sum(len(segment.text) for segment in pixels) == 24 * 48
    assert {tuple(segment.style.color.triplet) for segment in pixels} == {red}
    assert {tuple(segment.style.bgcolor.triplet) for segment in pixels} == {blue}


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 133, 400])
@pytest.mark.parametrize("make", [colour_console, plain_console])
def test_every_line_fits_the_terminal(shards, width, make):
    console = make(width)
    view = read_view(ShardSet.open(shards), 0, 6)
    lines = console.render_lines(terminal(view, console), pad=False)
    lengths = [sum(segment.cell_length for segment in line) for line in lines]
    assert max(lengths) <= width
    assert max(lengths) > min(width, 200) // 2
    pictures = [line for line in ("".join(s.text for s in line) for line in lines) if "..." in line]
    assert len({len(part) for line in pictures for part in line.split()}) <= 1


@pytest.mark.parametrize(
    "console",
    [
        plain_console(),
        colour_console(no_color=True),
        colour_console(color_system="standard"),
        Console(width=80, file=io.TextIOWrapper(io.BytesIO(), "ascii"), force_terminal=True),
    ],
    ids=["pipe", "NO_COLOR", "16 colours", "ascii"],
)
def test_without_colours_masks_are_drawn_with_symbols(shards, console):
    preview(shards, key="clip-0", console=console)
    file = console.file
    file.flush()
    out = file.getvalue() if isinstance(file, io.StringIO) else file.buffer.getvalue().decode()
    assert "▀" not in out
    for word in ("[1]", "[c=12]", "11111", "ccccc", ".....", "00007"):
        assert word in out


def test_saved_sheet_and_animation(shards, tmp_path):
    console = plain_console()
    keys = preview(shards, count=2, save=tmp_path / "a.PNG", console=console)
    assert len(keys) == 2
    with Image.open(tmp_path / "a.PNG") as image:
        assert image.format == "PNG"
        assert image.height > 2 * 180
    preview(shards, key="sparse", save=tmp_path / "a.gif", console=console)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 13
    preview(shards, key="sparse", frames=3, save=tmp_path / "b.gif", console=console)
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 3
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": "a.jpg"}, r"a\.jpg: expected a name that ends in \.png or \.gif, found '\.jpg'"),
        ({"save": "a"}, r"a: expected a name that ends in \.png or \.gif, found ''"),
        ({"count": 0}, "expected at least one sample and one frame, found 0"),
        ({"frames": 0}, "expected at least one sample and one frame, found 4 and 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(shards, tmp_path, options, message):
    if "save" in options:
        options = {"save": tmp_path / options["save"]}
    with pytest.raises(UsageError, match=message):
        preview(shards, console=plain_console(), **options)
    assert not list(tmp_path.iterdir())


def test_damaged_samples_are_named(tmp_path):
    whole = sample("clip", 0, frames=2)
    bad = Sample(whole.record, {**whole.frames, "00001": b"not a picture"}, whole.masks)
    with pytest.raises(DataError, match=r"drawn-000000\.tar, sample clip, frame 00001: expected"):
        preview(write(tmp_path / "a", [bad]), console=plain_console())
    odd = sample("clip", 0, frames=2, mask_size=(48, 63))
    with pytest.raises(DataError, match=r"sample clip: mask 00000 is 63x48, its frame 64x48"):
        preview(write(tmp_path / "b", [odd]), console=plain_console())


def test_an_empty_set_is_named(tmp_path):
    with pytest.raises(ShardError, match="the set holds no sample"):
        preview(write(tmp_path / "empty", []), console=plain_console())
