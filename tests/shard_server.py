"""Sets of noise, and servers on the loopback: byte ranges and faults, a hub, S3."""

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.shards.cache import Cache
from stmtrain.shards.client import Retry
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.remote_store import RemoteStore
from stmtrain.shards.sample import Sample, SampleRecord

__all__ = [
    "PER_SHARD",
    "QUICK",
    "SHARDS",
    "Hub",
    "Server",
    "in_bucket",
    "open_set",
    "pack_noise",
    "serving",
    "used",
]

SHARDS, PER_SHARD = 6, 4
QUICK = Retry(attempts=3, first=0.01, longest=0.02, timeout=5.0, piece=4096)


def pack_noise(out: Path) -> Path:
    """Pack videos of two frames that contain noise; nothing decodes them."""
    pack(SetPlan({"a": 1}, [Job(f"s-{i}", (i,)) for i in range(SHARDS)], _noise), out)
    return out


def _noise(job: Job) -> Iterator[Sample]:
    for number in range(PER_SHARD):
        data = np.random.default_rng([job.items[0], number]).bytes(3000)
        key, names = f"k{job.items[0]}-{number}", ("00000", "00001")
        record = SampleRecord(key, 1, 1, names, names, (1,), ((1, 1),), (1, 1))
        yield Sample(record, dict.fromkeys(names, data), dict.fromkeys(names, data[:100]))


def open_set(server: "Server", cache: Cache, retry: Retry = QUICK) -> ShardSet:
    return ShardSet(RemoteStore(server.url, cache, retry))


def used(cache: Cache) -> int:
    """Return the size of all files of a cache, bytes; each counts with its final size."""
    return sum(size for _, size, _ in cache._files())


class Server(ThreadingHTTPServer):
    """Serves byte ranges of a folder's files, with faults where a test asks for them.

    Attributes:
        faults: Per file, the faults of its next requests, in order; ``"ok"`` is none.
        asked: Each request's file and first byte.
        gate: Requests for tars wait until it is set.
    """

    daemon_threads = True

    def __init__(self, folder: Path, kind: type[BaseHTTPRequestHandler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), kind or Handler)
        self.folder = folder
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/sets/a"

    def count(self, name: str) -> int:
        return Counter(asked for asked, _ in self.asked)[name]

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up, as some tests make them do."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        path = self.server.folder / name
        first, last = self._range()
        self.server.asked.append((name, first))
        fault = next(iter(self.server.faults.get(name, [])), "ok")
        self.server.faults[name] = self.server.faults.get(name, [])[1:]
        if name.endswith(".tar"):
            self.server.gate.wait(20)
        if fault.isdecimal() or not path.is_file():
            self.send_error(int(fault) if fault.isdecimal() else 404)
        elif fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "stall":
            self.server.closed.wait(20)
        else:
            data = path.read_bytes()
            if fault == "flip":
                data = bytes([data[0] ^ 1]) + data[1:]
            complete = fault == "no ranges" or "Range" not in self.headers
            if first >= len(data) and not complete:
                self.send_error(416)
            else:
                self._send(data if complete else data[first : last + 1], len(data), first, fault)

    def _range(self) -> tuple[int, int]:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        return int(first), int(last or 1 << 60)

    def _send(self, body: bytes, total: int, first: int, fault: str) -> None:
        self.send_response(200 if len(body) == total else 206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{total}")
        if fault != "cut without length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault.startswith("cut") else body)

    def log_message(self, *_: object) -> None:
        pass


class Hub(Handler):
    """Gives the few answers of the Hugging Face Hub that reading needs."""

    def do_GET(self) -> None:
        if not self.path.startswith("/api/"):
            super().do_GET()
            return
        files = [
            {"type": "file", "path": f"sets/a/{p.name}", "size": p.stat().st_size, "oid": "0" * 40}
            for p in self.server.folder.iterdir()
        ]
        answer = files if "/tree/" in self.path else {"id": "me/set", "sha": "0" * 40}
        self._send(json.dumps(answer).encode(), -1, 0, "ok")


@contextmanager
def serving(folder: Path, kind: type[BaseHTTPRequestHandler] = Handler) -> Iterator[Server]:
    with Server(folder, kind) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
        thread.start()
        yield server
        server.closed.set()
        server.gate.set()
        server.shutdown()
        thread.join(5)


@contextmanager
def in_bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Upload a folder's files to a bucket of a local S3 server; yield their URL."""
    server_module = pytest.importorskip("moto.server")
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "hidden-id",
        "AWS_SECRET_ACCESS_KEY": "hidden-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket="shards")
    for path in folder.iterdir():
        client.upload_file(str(path), "shards", f"sets/a/{path.name}")
    yield "s3://shards/sets/a"
    client.close()
    server.stop()
