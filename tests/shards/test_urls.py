"""Locations: folders and URLs are told apart, weights are split off, other URLs are refused."""

import doctest
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from stmtrain.errors import UsageError
from stmtrain.shards import urls
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.urls import parse_location, split_weight
from stmtrain.training.setup import parse_shards


@pytest.mark.parametrize(
    ("text", "location", "weight"),
    [
        ("shards/a", Path("shards/a"), 1.0),
        ("shards/a=0.5", Path("shards/a"), 0.5),
        ("dir:with/colon", Path("dir:with/colon"), 1.0),
        ("s3://bucket/a/", "s3://bucket/a", 1.0),
        ("s3://bucket/a=2", "s3://bucket/a", 2.0),
        ("gs://bucket/a=0.08", "gs://bucket/a", 0.08),
        ("hf://datasets/me/set@main/a=3", "hf://datasets/me/set@main/a", 3.0),
        ("https://h:8080/a?key=5", "https://h:8080/a?key=5", 1.0),
        ("https://h/a?x=1&key=5=0.5", "https://h/a?x=1&key=5", 0.5),
        ("https://h/a?sig=ab==", "https://h/a?sig=ab==", 1.0),
    ],
)
def test_locations_and_weights(text: str, location: Path | str, weight: float) -> None:
    assert parse_shards([text]) == ((location,), (weight,))


@pytest.mark.parametrize(
    "text",
    [
        "ftp://h/a",
        "file:///a",
        "pipe:curl http://h/a.tar",
        "simplecache::s3://b/a",
        "zip://a::https://h/b.zip",
        "https://h/b::s3://b/a",
        "s3:///a",
        "memory://a",
    ],
)
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a"):
        ShardSet.open(text)
    if "///a" not in text:
        with pytest.raises(UsageError, match="s3://, gs://, hf://, https://, http://"):
            parse_location(text)


@pytest.mark.parametrize("text", ["a=x", "a=", "a=0", "a=-1", "a=nan", "s3://b/a=x"])
def test_wrong_weights_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shards"):
        parse_shards([text])


def test_weights_come_off_once() -> None:
    assert split_weight("a=b=0.5") == ("a=b", "0.5")


def test_a_url_of_another_kind_is_wrong_usage(tmp_path: Path) -> None:
    command = ["train", "--shards", "ftp://me:hidden@h/a", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert result.stderr == (
        "stm: ftp://h/a: expected a folder or a URL that starts with one of s3://, gs://, hf://, "
        "https://, http://\n"
    )


def test_the_examples_are_true() -> None:
    result = doctest.testmod(urls)
    assert result.attempted
    assert not result.failed
