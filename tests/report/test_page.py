"""The HTML report: complete, safe, self-contained, and with the numbers of ``stm score``."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from stmdata.drawn.trees import draw_davis
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.protocol import DAVIS
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import StmError
from stmtrain.images.encode import encode_mask
from stmtrain.report import page as module
from stmtrain.report.comparison import compare
from stmtrain.report.page import html_report, write_report

EVIL = "<script>alert(1)</script>&\"'"


VOID_TAGS = {"br", "img", "link", "meta"}


class Page(HTMLParser):
    """Checks nesting while parsing; keeps tags, texts, and the rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((name, dict(attrs)))
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1].append("")
        if name not in VOID_TAGS:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def find(self, name):
        return [attrs for tag_name, attrs in self.tags if tag_name == name]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """Two results of three videos with 1, 2 and 3 objects; the second lacks the last video."""
    work = tmp_path_factory.mktemp("report")
    draw_davis(work / "davis", videos=3, val=3, frames=9, size=(80, 112))
    videos = find_dataset("davis2017").videos(work / "davis", "val")
    for video in videos:
        shutil.copytree(video.masks["00000"].parent, work / "good" / video.name)
    for video in videos[:2]:
        (work / "bad" / video.name).mkdir(parents=True)
        for t, name in enumerate(video.frames):
            mask = np.roll(video.read_mask(name), 2 * t, axis=1)
            (work / "bad" / video.name / f"{name}.png").write_bytes(encode_mask(mask))
    facts = {"protocol": {"memory_every": 5, EVIL: EVIL}}
    (work / "bad/results.json").write_text(json.dumps(facts))
    truth = VideoSet("drawn & small", tuple(videos), DAVIS)
    return compare({"good": work / "good", EVIL: work / "bad"}, truth, common=True)


@pytest.fixture(scope="module")
def page(comparison):
    return html_report(comparison)


def test_the_page_is_well_formed_and_complete(comparison, page):
    found = Page(page)
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert ids == [video.name for video in comparison.worst_first()]
    links = {attrs["href"] for attrs in found.find("a")}
    assert links == {f"#{video.name}" for video in comparison.videos}
    charts = [attrs for attrs in found.find("svg") if attrs.get("class") == "chart"]
    assert len(charts) == 6
    assert all("mean" in attrs["aria-label"] for attrs in charts)
    figures = found.find("img")
    assert len(figures) == 5 * (3 + 2)
    assert all(attrs["alt"] for attrs in figures)
    assert "drawn & small" in found.texts
    assert "no result" in found.texts
    missing = next(row for row in found.rows if row[0] == comparison.videos[2].name)
    assert missing[1:4] == ["100.0", "\N{EN DASH}", "\N{EN DASH}"]


def test_nothing_is_loaded_and_nothing_but_our_script_may_run(page):
    without_pictures = re.sub(r'"data:[^"]+"', "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_pictures)
    found = Page(page)
    for name, attrs in found.tags:
        assert name not in ("link", "iframe", "object", "embed", "base", "form")
        assert not [key for key in attrs if key.startswith("on") or key == "style"]
        assert attrs.get("src", "data:image/webp;base64,").startswith("data:image/webp;base64,")
    policy = next(a["content"] for a in found.find("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for name, kind in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy


def test_names_are_text_wherever_they_stand(page):
    assert EVIL not in page
    assert page.count("<script>") == 1
    found = Page(page)
    assert any(EVIL in row[0] for row in found.rows), "as a result, and as a fact"
    assert any(EVIL in attrs.get("aria-label", "") for attrs in found.find("svg"))
    assert any(EVIL in attrs["alt"] for attrs in found.find("img"))


def test_numbers_are_those_of_stm_score(comparison, page):
    rows = {row[0]: row for row in reversed(Page(page).rows)}  # the summary comes first
    for column, result in enumerate(comparison.results, 1):
        report = result.scores.to_mapping()
        for name, values in report["videos"].items():
            assert rows[name][column] == f"{100 * values['J&F-Mean']:.1f}"
        for values in report["objects"]:
            name = f"{values['video']}_{values['object_id']}"
            assert rows[name][column] == f"{100 * values['J&F-Mean']:.1f}"
        shared = comparison.over_common(result).columns().values()
        shown = [f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}") for value in shared]
        assert rows[result.name][1:8] == shown
        own = 3 - len(result.missing)
        assert rows[result.name][8:10] == [f"{own} of 3", f"{100 * result.scores.j_and_f:.1f}"]
    single = compare(
        {"bad": comparison.results[1].folder}, VideoSet("", comparison.videos[:2], DAVIS)
    )
    rows = {row[0]: row for row in Page(html_report(single)).rows}
    for name, scores in single.results[0].scores.videos().items():
        shown = [f"{100 * v:.1f}".replace("-", "\N{MINUS SIGN}") for v in scores.columns().values()]
        assert rows[name][1:8] == shown


def test_it_is_written_whole_or_not_at_all(comparison, page, tmp_path):
    seen = []
    out = tmp_path / "new" / "report.html"
    size = write_report(out, comparison, lambda *now: seen.append(now))
    assert out.read_text(encoding="utf-8") == page
    assert out.stat().st_size == size
    assert [now[:2] for now in seen] == [(1, 3), (2, 3), (3, 3)]
    assert list(out.parent.iterdir()) == [out]
    with pytest.raises(StmError, match=r"report\.html/below\.html: cannot be written"):
        write_report(out / "below.html", comparison)


def test_a_protocol_opens_frames_only_to_draw_them(comparison, tmp_path):
    tree = comparison.videos[0].masks["00000"].parents[3]
    folder, out = comparison.results[0].folder, tmp_path / "report.html"
    arguments = ["report", str(folder), "--videos", str(tree), "--protocol", "davis2017"]
    arguments += ["--workers", "1", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "data:image/webp" in out.read_text(encoding="utf-8")
    out.unlink()
    shutil.move(tree / "JPEGImages", tmp_path / "elsewhere")
    try:
        assert CliRunner().invoke(app, arguments).exit_code == 1
        assert CliRunner().invoke(app, arguments[:-2]).exit_code == 0
    finally:
        shutil.move(tmp_path / "elsewhere", tree / "JPEGImages")
    assert not out.exists()


def test_the_command_prints_the_table_and_writes_the_file(comparison, page, tmp_path):
    runner = CliRunner()
    folders = [f"{result.name}={result.folder}" for result in comparison.results]
    tree = comparison.videos[0].masks["00000"].parents[3]
    out = tmp_path / "report.html"
    arguments = ["report", *folders, "--davis", str(tree), "--workers", "1", "--out", str(out)]
    assert "pass --common" in runner.invoke(app, arguments).output
    arguments.append("--common")
    done = runner.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "no results for 1 of 3 videos: drawn-02" in done.output
    assert all(video.name in done.output for video in comparison.videos)
    title = "DAVIS 2017 val"
    assert out.read_text(encoding="utf-8") == page.replace("drawn &amp; small", title)
    both = runner.invoke(app, [*arguments, "--videos", str(tree)])
    assert both.exit_code == 2
    assert "found --davis and --videos" in both.output


def test_pictures_stay_within_their_bytes(comparison, page, monkeypatch):
    whole = sum(len(uri) for uri in re.findall(r'src="(data:[^"]+)"', page))
    monkeypatch.setattr(module, "MAX_PICTURE_BYTES", whole // 4)
    small = html_report(comparison)
    kept = [len(uri) for uri in re.findall(r'src="(data:[^"]+)"', small)]
    assert 0 < sum(kept) < whole // 4 + 4 * max(kept)
    monkeypatch.setattr(module, "MAX_PICTURE_BYTES", 0)
    bare = html_report(comparison)
    assert "<img" not in bare
    assert "the last 3 videos" in bare
    assert bare.count('class="chart"') == 6


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_the_script_under_the_policy(comparison, page, tmp_path):
    names = [video.name for video in comparison.videos]
    path = tmp_path / "report.html"
    click = "document.querySelectorAll('th button')[2].click()"
    digest = base64.b64encode(hashlib.sha256(click.encode()).digest()).decode()
    text = page.replace("script-src '", f"script-src 'sha256-{digest}' '")
    path.write_text(text.replace("</body>", f"<script>{click}</script></body>"))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        ["chromium", *options, profile, path.as_uri()], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count('aria-sort="ascending"') == 1
    rows = [row for row in Page(done.stdout).rows if row[0] in names]
    assert [row[2] for row in rows] == [*sorted(row[2] for row in rows[:2]), "\N{EN DASH}"]
    assert [row[0] for row in rows] != [names[2], *names[:2]], "it was worst first on the mean"


def test_fields_of_the_recipe_in_which_results_agree_are_folded_away(comparison):
    told = (
        {"checkpoint recipe size": "96", "checkpoint recipe steps": "300", "size": "80"},
        {"checkpoint recipe size": "96", "checkpoint recipe steps": "100", "size": "80"},
    )
    results = [replace(r, facts=f) for r, f in zip(comparison.results, told, strict=True)]
    page = html_report(replace(comparison, results=tuple(results)))
    shown, folded = page.split("1 more fields of the training recipe")
    assert "recipe steps" in shown.split("How they were made")[1]
    assert ">size<" in shown.split("How they were made")[1]
    assert "recipe size" not in shown
    assert "recipe size" in folded
