"""The documentation names only commands and options that exist."""

import re
import shlex

import pytest
from typer.testing import CliRunner

import cli
from tests.pages import PAGES, blocks


def _commands() -> list[list[str]]:
    """Every different ``stm`` command of the pages' code blocks and tables, as words."""
    lines = [line for block in blocks("sh") for line in block.commands]
    lines = [line.replace(".venv/bin/stm", "stm") for line in lines]
    cells = [
        command
        for page in PAGES
        for row in re.findall(r"^\|.*`stm .*", page.read_text(), re.M)
        for command in re.findall(r"`(stm [a-z][^`]*)`", row)
    ]
    texts = dict.fromkeys([line for line in lines if line.startswith("stm ")] + cells)
    return [
        shlex.split(re.sub(r"[\[\]…]|\\\|\S*|\|\S*", " ", text), comments=True) for text in texts
    ]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_commands_and_options_exist(words: list[str]) -> None:
    names = [word for word in words[1:3] if re.fullmatch(r"[a-z][a-z-]+", word)]
    if names[:1] not in (["shards"], ["weights"]):
        names = names[:1]
    result = CliRunner().invoke(cli.app, [*names, "--help"], terminal_width=200)
    assert result.exit_code == 0, result.output
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", result.output), option


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) >= 15
