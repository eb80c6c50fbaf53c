"""The README names only commands and options that exist."""

import re
import shlex

import pytest
from typer.testing import CliRunner

import cli
from tests.paths import ROOT


def _commands() -> list[list[str]]:
    """Every ``stm`` command of the README's code blocks and tables, as words."""
    text = (ROOT / "README.md").read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ")
    lines = [line for line in blocks.splitlines() if line.startswith("stm ")]
    cells = re.findall(r"^\| `(stm [^`]*)`", text, re.M)
    return [shlex.split(re.sub(r"[\[\]…]|\\\|\S*|\|\S*", " ", line)) for line in lines + cells]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_commands_and_options_exist(words: list[str]) -> None:
    names = [word for word in words[1:3] if re.fullmatch(r"[a-z][a-z-]+", word)]
    if names[:1] != ["shards"]:
        names = names[:1]
    result = CliRunner().invoke(cli.app, [*names, "--help"], terminal_width=200)
    assert result.exit_code == 0, result.output
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", result.output), option


def test_there_are_commands_to_check() -> None:
    assert len(_commands()) >= 15
