"""A file is the old one or the whole new one, whatever happens while it is written."""

from pathlib import Path

import pytest

from stmtrain.files import whole_file, write_whole


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_beside_it(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"old")

    def spoil() -> None:
        with whole_file(path) as file:
            file.write(b"ne")
            raise error

    with pytest.raises(error):
        spoil()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_readable_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "älter")
    with whole_file(path, sync=True) as file:
        file.write(b"newer")
        assert path.read_text(encoding="utf-8") == "älter"
    assert path.read_bytes() == b"newer"


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_bytes(b"half of a longer file")
    write_whole(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
