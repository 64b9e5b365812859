"""The page of a report: rectangles proportional to the bytes, in a self-contained page."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.page import Box, page, split, squarify
from tests.support.elf_builder import GLIBC, library, plant, program

SIZES = st.lists(st.integers(1, 10**11), min_size=1, max_size=60).map(lambda sizes: sorted(sizes, reverse=True))


@given(sizes=SIZES, width=st.floats(1, 2000), height=st.floats(1, 2000))
def test_areas_are_proportional_and_fill_box(sizes, width, height):
    box = Box(x=3, y=5, width=width, height=height)
    boxes = squarify(sizes, box)
    assert len(boxes) == len(sizes)
    scale = width * height / sum(sizes)
    for size, one in zip(sizes, boxes, strict=True):
        assert one.width * one.height == pytest.approx(size * scale, rel=1e-3, abs=width * height * 1e-6)
        assert one.x >= 3 - 1e-6
        assert one.y >= 5 - 1e-6
        assert one.x + one.width <= 3 + width * 1.0001
        assert one.y + one.height <= 5 + height * 1.0001


def test_box_is_split_across_longer_side():
    assert split([1, 3], Box(x=0, y=0, width=8, height=2)) == [
        Box(x=0, y=0, width=2, height=2),
        Box(x=2, y=0, width=6, height=2),
    ]
    assert split([0, 0], Box(x=0, y=0, width=1, height=2))[0].height == 0
    assert squarify([], Box(x=0, y=0, width=1, height=2)) == []


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


def report(tmp_path, chain):
    roots = [plant(tmp_path / "c", chain), plant(tmp_path / "p", GLIBC)]
    out = [str(tmp_path / "o"), "--report", str(tmp_path / "r.json"), "--drop-static", "1"]
    assert main(["pack", roots[0], "--production", roots[1], "--output", *out]) == 0
    return tmp_path / "r.json"


def test_page_is_self_contained_and_shows_both_images(tmp_path, capsys):
    chain = {
        **GLIBC,
        "/usr/local/bin/x": program("liba.so"),
        "/usr/lib/liba.so": library("liba.so"),
        "/usr/local/lib/liba.a": b"!<arch>\n" * 100,
        "/srv/<script>alert(1)</script>/" + os.fsdecode(b"\xff&\n"): b"x" * 500,
        **{f"/opt/p{number}/f": b"f" * (10 + number) for number in range(200)},
    }
    where = report(tmp_path, chain)
    capsys.readouterr()
    assert main(["html", str(where)]) == 0
    text = capsys.readouterr().out
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    names = [tag for tag, _ in tags.tags]
    assert names.count("svg") == 2 + 4
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert not re.search(r"https?:|url\(|@import|<script", text)
    assert {attributes["class"] for tag, attributes in tags.tags if tag == "rect"} == {
        "kept",
        "production",
        "trimmed",
        "left",
        "frame",
    }
    assert "others" in text
    assert "&lt;script&gt;" in text
    assert "/usr/local/lib/liba.so" in text
    assert main(["html", str(where), "--output", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == text


def test_page_of_empty_image(tmp_path):
    document = json.loads(report(tmp_path, {}).read_text())
    assert "chain" in page(document)


def test_page_by_step_has_box_with_packages_per_step(tmp_path):
    document = json.loads(report(tmp_path, {**GLIBC, "/usr/local/bin/x": program("libc.so.6")}).read_text())
    none = dict.fromkeys(("kept", "production", "trimmed", "left"), 0)
    steps = [
        {"step": "base image", "package": "deb:libc6:amd64", "bytes": {**none, "production": 6000}},
        *(
            {"step": "stock/10-<tools>", "package": f"deb:p{number}:amd64", "bytes": {**none, "left": 100 + number}}
            for number in range(120)
        ),
        {"step": "stock/20-app", "package": "dir:/opt", "bytes": {**none, "kept": 4000, "trimmed": 1000}},
        {"step": "stock/30-nothing", "package": "dir:/opt", "bytes": none},
    ]
    text = page(document, "x", steps)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    pictures = [
        dict(attributes)["aria-label"] for tag, attributes in tags.tags if tag == "svg" and "role" in attributes
    ]
    assert pictures[2:] == ["the chain by step", "the result by step"]
    before, after = (text.split(f'aria-label="{label}"')[1].split("</svg>")[0] for label in pictures[2:])
    assert re.findall(r'class="head"[^>]*>([^<]*)<', before) == [
        "stock/10-&lt;tools&gt;, 19.1 kB",
        "base image, 6.0 kB",
        "stock/20-app, 5.0 kB",
    ]
    assert "others of stock/10-&lt;tools&gt;" in before
    assert "production image" in after
    assert "stock/20-app, 4.0 kB" in after
    assert "trimmed" not in after
    assert "stock/30-nothing" in text.split("By step: 4")[1].split("</table>")[0]
    assert "By step" not in page(document)
