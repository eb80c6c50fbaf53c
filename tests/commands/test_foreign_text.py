"""Names and texts of others on the console: shown, and unable to control it."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

import cli
from stmtrain.commands.command import safe_text
from stmtrain.commands.console import SafeConsole
from stmtrain.commands.progress import progress_bar
from stmtrain.images.encode import encode_frame, encode_mask
from tests.datasets.trees import box

EVIL = "x[/b]:smile:\x1b]0;PWN\x07\x1b[2J\u202e"
"""Wrong markup, an emoji's name, a title for the terminal's window, and reversed text."""
SHOWN = r"x[/b]:smile:\x1b]0;PWN\x07\x1b[2J\u202e"


def own_videos(root: Path) -> Path:
    """Draw two videos with foreign names; one cannot be scored."""
    name_of_file = EVIL.replace("/b", "red")
    for name, frames in ((name_of_file, 4), (f"{name_of_file}short", 2)):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / name).mkdir(parents=True)
        for t in range(frames):
            mask = box(1, 4 + t)
            jpeg = encode_frame(np.full((*mask.shape, 3), 90, np.uint8), 90)
            (root / "JPEGImages" / name / f"{t}.jpg").write_bytes(jpeg)
            (root / "Annotations" / name / f"{t}.png").write_bytes(encode_mask(mask))
    return root


@pytest.fixture
def commands(tmp_path: Path, clips: Path, davis_tree: Path) -> dict[str, list[object]]:
    """Every command with arguments that make it meet foreign text."""
    root = tmp_path / EVIL
    root.mkdir(parents=True)
    shards = shutil.copytree(clips, root / "shards")
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["skipped"][EVIL] = 1
    (shards / "manifest.json").write_text(json.dumps(manifest))
    damaged = shutil.copytree(shards, root / "damaged")
    next(damaged.glob("*.tar")).write_bytes(b"")
    annotations = root / "instances.json"
    annotations.write_text(
        json.dumps(
            {"images": [{"id": 1, "file_name": f"{EVIL}.jpg", "height": 9, "width": 9}],
             "annotations": [{"id": EVIL, "image_id": 1, "segmentation": EVIL}]}
        )
    )  # fmt: skip
    davis = shutil.copytree(davis_tree, root / "davis")
    (davis / "ImageSets/2017/val.txt").write_text(EVIL)
    torch.save({EVIL: torch.zeros(1)}, root / "weights.pth")
    own = own_videos(root / "own")
    made = ("--out", root / "out", "--workers", "1")
    weights = ("--checkpoint", root / "weights.pth")
    return {
        "prepare-coco": ["--images", root, "--annotations", annotations, *made],
        "prepare-masks": ["--images", root / "none", "--masks", root / "none", *made],
        "pack-davis": ["--root", davis, "--split", "val", *made],
        "pack-youtube-vos": ["--root", root, *made],
        "pack-videos": ["--root", root, "--layout", "davis2017", *made],
        "demo": ["--out", root],
        "audit": [davis, "--layout", "davis2017", "--workers", 1],
        "doctor": ["--tree", davis, "--layout", "davis2017", "--disk", root],
        "stats": [shards, "--workers", 1],
        "preview": [shards, "--limit", 1, "--save", root / "p.png"],
        "train": ["--shards", root / "none", "--out", root / "run"],
        "eval": [*weights, "--videos", own, "--out", root / "results"],
        "score": ["--results", own / "Annotations", "--videos", own, "--workers", 1],
        "report": [own / "Annotations", "--videos", own, "--workers", 1, "--out", root / "r.html"],
        "track": [root / "none", "--mask", root / "none.png", *weights, "--out", root / "track"],
        "shards info": [shards],
        "shards verify": [damaged, "--workers", 1],
        "shards index": [root / "davis"],
        "shards export": [shards, "--out", root / "tree"],
        "shards repair": [damaged, "--forget", "--workers", 1],
        "weights info": [root / "weights.pth"],
        "weights convert": [root / "weights.pth", root / "new.pth"],
    }


def command_names(group: click.Command, prefix: str = "") -> Iterator[str]:
    for name, command in getattr(group, "commands", {}).items():
        inner = list(command_names(command, f"{prefix}{name} "))
        yield from inner or [prefix + name]


def test_no_command_lets_foreign_text_control_the_terminal(
    commands: dict[str, list[object]],
) -> None:
    assert set(commands) == set(command_names(get_command(cli.app)))
    for name, arguments in commands.items():
        done = CliRunner().invoke(cli.app, [*name.split(), *map(str, arguments)])
        assert done.exception is None or isinstance(done.exception, SystemExit), name
        assert "Usage: " not in done.output, (name, done.output)
        assert not set(done.output) & set("\x1b\x07\u202e"), (name, done.output)
        # A table may break a long name; it begins the same.
        assert "x[/b]" in done.output or "x[red]" in done.output, (name, done.output)


ANY = st.text(st.characters(exclude_categories=[]), max_size=20)


@given(text=ANY)
def test_safe_text_can_be_encoded_and_printed(text: str) -> None:
    safe = safe_text(text)
    assert safe.replace("\n", "").replace("\t", "").isprintable()
    assert safe.encode().decode() == safe
    assert safe_text(safe) == safe
    if text.isprintable():
        assert safe == text


@given(text=ANY)
def test_the_console_has_no_control_codes_from_texts(text: str) -> None:
    console = SafeConsole(file=io.StringIO(), width=80, legacy_windows=False)
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    for shown in (text, Text(text), table):
        console.print(shown)
    with progress_bar(console, text, text) as progress:
        progress(1, 2, text)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert output.replace("\n", "").replace("\t", "").isprintable()


def test_a_bar_on_a_terminal_shows_foreign_text() -> None:
    console = SafeConsole(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with progress_bar(console, EVIL, "steps") as progress:
        progress(1, 2, EVIL)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert output.count(SHOWN) >= 2
    assert "PWN\x07" not in output
    assert "\x1b]" not in output


@pytest.mark.parametrize("words", [[], ["prepare-coco"], ["prepare-coco", "--limit"]])
def test_arguments_that_are_refused_control_nothing(words: list[str]) -> None:
    done = CliRunner().invoke(cli.app, [*words, "x\x1b]0;PWN\x07\x9b2J"])
    assert done.exit_code == 2
    assert not set(done.output) & set("\x1b\x07\x9b")
