"""A GPU without enough memory is reported in one line that says what to change."""

import pytest
import torch
import typer
from typer.testing import CliRunner

from stmtrain.commands.command import command

TEXT = (
    "CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 1.06 GiB is free. Process 1 has 78.03 GiB memory in use."
)


def run(name: str, error: Exception):
    app = typer.Typer()

    @command(app, name)
    def fail() -> None:
        raise error

    return CliRunner().invoke(app, [])


@pytest.mark.parametrize(
    ("name", "option"), [("train", "accumulate=2"), ("eval", "--memory-frames")]
)
def test_the_line_says_what_was_asked_for_and_what_to_change(name: str, option: str) -> None:
    result = run(name, torch.OutOfMemoryError(TEXT))
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert "out of memory (Tried to allocate 2.25 GiB)" in line
    assert option in line


def test_other_errors_of_torch_keep_their_traceback() -> None:
    result = run("train", RuntimeError("shapes differ"))
    assert isinstance(result.exception, RuntimeError)
    assert "out of memory" not in result.output
