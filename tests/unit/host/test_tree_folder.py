"""What chainbuild writes into a tree stays in the tree, whatever links the tree brings along."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from chainbuild import events
from chainbuild.errors import ChainbuildError, Problem
from chainbuild.execution.logs import LogFiles
from chainbuild.host.folders import make_own_folder, open_own_file, read_own_file, write_whole
from chainbuild.project.schema import SCHEMA_PLACE, put_schema
from chainbuild.release.applying import begun_at


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine", encoding="utf-8")
    return tmp_path / "victim"


def untouched(victim: Path) -> bool:
    return [path.name for path in victim.iterdir()] == ["file"] and (victim / "file").read_text() == "mine"


def test_own_folder_is_created_with_its_mode(tree: Path) -> None:
    folder = make_own_folder(tree, "logs", "run", mode=0o700)
    assert folder == tree / ".chainbuild" / "logs" / "run"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert make_own_folder(tree, "logs", "run") == folder


def test_own_folder_is_ignored_by_git_unless_the_user_decides(tree: Path) -> None:
    make_own_folder(tree, "logs")
    ignored = tree / ".chainbuild" / ".gitignore"
    assert ignored.read_text().splitlines()[-1] == "*"
    ignored.write_text("!logs\n")
    make_own_folder(tree, "logs")
    assert ignored.read_text() == "!logs\n"


def test_own_folder_gitignore_link_is_not_followed(tree: Path, victim: Path) -> None:
    (tree / ".chainbuild").mkdir()
    (tree / ".chainbuild" / ".gitignore").symlink_to(victim / "made")
    make_own_folder(tree, "logs")
    assert untouched(victim)


@pytest.mark.parametrize("link", [".chainbuild", ".chainbuild/logs", ".chainbuild/logs/run"])
def test_own_folder_link_is_not_followed(tree: Path, victim: Path, link: str) -> None:
    (tree / link).parent.mkdir(parents=True, exist_ok=True)
    (tree / link).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        make_own_folder(tree, "logs", "run")
    assert untouched(victim)


def test_own_file_link_is_not_followed(tree: Path, victim: Path) -> None:
    (tree / "log").symlink_to(victim / "file")
    (tree / "new").symlink_to(victim / "made")
    for name in ("log", "new"):
        for append in (True, False):
            with pytest.raises(OSError, match="symbolic"):
                open_own_file(tree / name, append=append)
        with pytest.raises(OSError, match="symbolic"):
            read_own_file(tree / name, 100)
    assert untouched(victim)


def test_own_file_fifo_does_not_block(tree: Path) -> None:
    os.mkfifo(tree / "log")
    with pytest.raises(OSError):
        open_own_file(tree / "log", append=True)
    with pytest.raises(OSError, match="regular"):
        read_own_file(tree / "log", 100)
    assert begun_at(tree / "log", "apply") == 0


def test_own_file_too_long_is_not_read(tree: Path) -> None:
    (tree / "log").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="longer than 100"):
        read_own_file(tree / "log", 100)


@pytest.mark.parametrize(
    "link", [".chainbuild", ".chainbuild/logs", ".chainbuild/logs/run", ".chainbuild/logs/run/events.jsonl"]
)
def test_logs_through_a_link_are_not_written(tree: Path, victim: Path, link: str) -> None:
    (tree / link).parent.mkdir(parents=True, exist_ok=True)
    (tree / link).symlink_to(victim / "file" if link.endswith("jsonl") else victim)
    with LogFiles(tree / ".chainbuild" / "logs" / "run") as logs:
        logs.emit(events.Message(text="hello"))
    assert "symbolic link" in logs.trouble or "symbolic links" in logs.trouble
    assert untouched(victim)


def test_logs_are_closed_to_other_users(tree: Path) -> None:
    """Builds print what they like, and reasons hold the values of build args."""
    folder = tree / ".chainbuild" / "logs" / "run"
    with LogFiles(folder) as logs:
        logs.emit(events.Message(text="hello"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "hello" in (folder / "events.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", [".chainbuild", SCHEMA_PLACE])
def test_schema_through_a_link_is_not_written(tree: Path, victim: Path, link: str) -> None:
    (tree / link).parent.mkdir(parents=True, exist_ok=True)
    (tree / link).symlink_to(victim / "file" if link == SCHEMA_PLACE else victim)
    put_schema(tree)
    assert untouched(victim)


def test_whole_file_replaces_a_link(tree: Path, victim: Path) -> None:
    (tree / "out").symlink_to(victim / "file")
    write_whole(tree / "out", b"new")
    assert (tree / "out").read_bytes() == b"new"
    assert not (tree / "out").is_symlink()
    assert untouched(victim)


@pytest.mark.parametrize("target", ["file", "made"])
def test_init_through_a_link_is_refused(
    tree: Path, victim: Path, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from chainbuild.cli import run

    (tree / "one").mkdir()
    (tree / "one" / "10-Dockerfile-a").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n", encoding="utf-8")
    (tree / "chainbuild.yaml").symlink_to(victim / target)
    monkeypatch.chdir(tree)
    assert run(["init"]) == 2
    assert untouched(victim)
    assert run(["init", "--force"]) == 0
    assert untouched(victim)
    assert "one" in (tree / "chainbuild.yaml").read_text(encoding="utf-8")


def test_template_beside_a_dangling_link_is_a_problem_and_writes_nothing(tree: Path, victim: Path) -> None:
    """The rendered template would be written through the link that was copied along: a mere plan made a file elsewhere."""
    from chainbuild.layouts.image_types.contexts import write_context
    from chainbuild.layouts.image_types.templates import Parameters
    from chainbuild.layouts.image_types.tree import Template, _render_templates

    folder = tree / "type"
    folder.mkdir()
    (folder / "evil.template").write_text("text", encoding="utf-8")
    (folder / "evil").symlink_to(victim / "made")
    problems: list[Problem] = []
    _render_templates(folder, Parameters(values={}), problems)
    assert "evil exists, too" in str(problems[0])

    image = Mock(templates=(Template(name="evil", shown="evil", content=b"text"),))
    image.folder.path = folder
    write_context(image, tree / "context")
    assert (tree / "context" / "evil").read_bytes() == b"text"
    assert untouched(victim)


def test_template_never_writes_into_the_tree(tree: Path) -> None:
    """Files of the tree are hard links in the context: what writes to them changes the tree."""
    from chainbuild.layouts.image_types.contexts import write_context
    from chainbuild.layouts.image_types.tree import Template

    folder = tree / "type"
    folder.mkdir()
    (folder / "a").write_text("of the tree", encoding="utf-8")
    (folder / "a.template").write_text("text", encoding="utf-8")

    image = Mock(templates=(Template(name="a", shown="a", content=b"rendered"),))
    image.folder.path = folder
    write_context(image, tree / "context")
    assert (folder / "a").read_text(encoding="utf-8") == "of the tree"


@pytest.mark.parametrize("names", [("reports", "x"), ("releases", "plan-page")])
def test_page_through_a_link_is_refused(tree: Path, victim: Path, names: tuple[str, ...]) -> None:
    from chainbuild.cli.output import own_folder

    (tree / ".chainbuild").mkdir()
    (tree / ".chainbuild" / names[0]).symlink_to(victim)
    with pytest.raises(ChainbuildError, match="symbolic link"):
        own_folder(tree, *names)
    assert untouched(victim)
