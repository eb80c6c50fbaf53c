"""What is sent to a web server, and how much of its answer is read."""

import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from stmtrain.errors import RemoteError
from stmtrain.shards import client
from stmtrain.shards.client import Remote
from tests.shard_server import QUICK, Server, serving

SIGNED = "X-Credential=AKIA%2F2026%2Fs3&X-Date=2026-01-01T00%3A00%3A00Z&sig=aB%2Bc%2fd+%3D%3D"


class Bomb(BaseHTTPRequestHandler):
    """Answers with 64 MB of zeros, compressed, whatever is asked for."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        body = zlib.compressobj(9, zlib.DEFLATED, 31)
        data = body.compress(bytes(64 << 20)) + body.flush()
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, Bomb) as server:
        yield server


def test_no_more_is_read_than_the_limit(bomb: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_JSON", 1 << 20)
    remote = Remote(bomb.url, QUICK)
    with pytest.raises(RemoteError, match="at most 1048576 bytes, the server sends more"):
        remote.read("manifest.json", bytes)
    assert len(remote._request("a.tar", 0, 100, 5000)) == 5001


def test_a_query_is_sent_byte_for_byte(bomb: Server) -> None:
    Bomb.paths.clear()
    remote = Remote(f"{bomb.url}/my set/%20?{SIGNED}", QUICK)
    remote._request("a.tar", None, None, 10)
    assert Bomb.paths == [f"/sets/a/my%20set/%20/a.tar?{SIGNED}"]
