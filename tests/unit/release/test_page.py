"""A plan as a page and in a terminal: all of its values are shown as plain text."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings

from chainbuild.cli import run
from chainbuild.release.model import PlannedImage, ReleasePlan
from chainbuild.release.page import page
from chainbuild.release.planning import undecided
from chainbuild.ui.releases import show_plan
from chainbuild.ui.terminal import Terminal
from tests.unit.release.plans import GOOD, A, parse, planned_images

EVIL = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "h1",
    "h2",
    "h3",
    "p",
    "span",
    "div",
    "table",
    "tr",
    "th",
    "td",
    "code",
    "br",
    "a",
    "section",
    "ul",
    "li",
    "details",
    "summary",
    "em",
}


class Look(HTMLParser):
    """The tags, attributes, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def of(plan: ReleasePlan) -> Look:
    return Look(page(plan, undecided(plan)))


def test_page_escapes_all_text_of_the_plan() -> None:
    """Package names, versions, notes and reasons come from images and from untrusted people."""
    said = json.dumps(EVIL)
    plan = parse(
        GOOD.replace("for the summer school", said).replace("it has none", said).replace('"2026.11"', said)
        + f"    errors: [{said}]\n    tests: {{amd64: [{said}]}}\n    differences:\n      amd64:\n"
        f"        size: {said}\n        packages: [{said}]\n        files: {said}\n        to: {said}\n"
    )
    look = of(plan)
    assert look.text.count(EVIL) >= 9
    assert set(look.tags) <= TAGS
    assert look.attributes <= {
        "lang",
        "charset",
        "name",
        "content",
        "http-equiv",
        "class",
        "href",
        "id",
        "open",
        "scope",
    }


def test_page_is_self_contained_and_reproducible() -> None:
    plan = parse(GOOD)
    text = page(plan, undecided(plan), source="release_plan.yaml")
    assert text == page(parse(GOOD), (), source="release_plan.yaml")
    assert "default-src 'none'" in text
    assert Look(text).links == ["release_plan.yaml", "#image-0"]


@settings(max_examples=40)
@given(planned_images())
def test_arbitrary_plan_gives_well_formed_page_and_safe_output(image: PlannedImage) -> None:
    plan = ReleasePlan(path=Path("plan.yaml"), shown="plan.yaml", release="1", images=(image,))
    look = of(plan)
    assert not look.open
    assert set(look.tags) <= TAGS
    stream = io.StringIO()
    show_plan(plan, undecided(plan), Terminal(stream=stream))
    assert "\x1b" not in stream.getvalue()
    assert all(letter.isprintable() or letter in "\n\t" or ord(letter) > 0x7F for letter in stream.getvalue())


def test_show_and_publish_commands_write_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("release_plan.yaml").write_text(GOOD)
    assert run(["release", "show"]) == 0
    told = capsys.readouterr().out
    assert "release 2026.11" in told
    assert "→ ghcr.io/acme/tools:latest, new" in told
    assert "no open decisions" in told
    assert run(["release", "show", "--html", "page.html"]) == 0
    assert "ghcr.io/acme/tools:latest" in Path("page.html").read_text()
    assert run(["release", "page", "-o", "public"]) == 0
    assert Path("public/release_plan.yaml").read_text() == GOOD
    assert '<a href="release_plan.yaml">' in Path("public/index.html").read_text()
    capsys.readouterr()
    assert run(["release", "show", "-f", "other.yaml", "--json"]) == 2
    assert "other.yaml" in capsys.readouterr().out
    Path("release_plan.yaml").write_text(GOOD.replace(A, "sha256:1"))
    assert run(["release", "page"]) == 2
    assert "release_plan.yaml:10: " in capsys.readouterr().err
