"""`chainbuild files`: folders, contents of files, and what a step added, from the layers in a registry."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from chainbuild.cli import run
from chainbuild.errors import WrongUseError
from chainbuild.execution.backends import use_backends
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.references import ImageReference
from chainbuild.registry.images import RemoteImage
from chainbuild.step_id import StepId
from chainbuild.ui import Terminal
from chainbuild.ui.files import write_content
from chainbuild.values import replace
from tests.support.world import AMD64, CHAIN, World
from tests.unit.comparison.layers import Content, layer

BASE: Mapping[str, Content] = {
    "/bin": "usr/bin",
    "/etc": None,
    "/etc/motd": b"hello\x1b[2J\n",
    "/etc/old": b"0123456789",
    "/usr": None,
    "/usr/bin": None,
    "/usr/bin/tool": b"\x7fELF\0\0" + b"x" * 94,
    "/usr/bin/same": b"same",
    "/usr/bin/twin": "=/usr/bin/tool",
    "/broken": "nowhere",
}
STEP: Mapping[str, Content] = {
    "/etc": None,
    "/etc/motd": b"good evening\n",
    "/etc/.wh.old": b"",
    "/opt": None,
    "/opt/blas": None,
    "/opt/blas/lib.a": b"a" * 2000,
    "/opt/blas/lib.so": b"s" * 1000,
    "/usr": None,
    "/usr/bin": None,
    "/usr/bin/same": b"same",
}
TOOLS = f"{CHAIN}/acme/tools"


def image(world: World, tag: str, *layers: Mapping[str, Content]) -> RemoteImage:
    return world.fake.add_image(f"{TOOLS}:{tag}", AMD64, layers=[layer(one) for one in layers])


def recorded(world: World, made: RemoteImage, name: str, parent: Record | None, added: int) -> Record:
    """Write the record of an image, as that of a step."""
    components = Components(dockerfile=name, platform="linux/amd64")
    step = StepId("amd64", "stock", name)
    record = Record.of_image(made, components, step=step, family=f"stock-{name}-amd64", built_at=1.0)
    record = replace(record, added=added, parents={"BASE_IMAGE": parent.key} if parent else {})
    world.records.write(ImageReference(made.reference.registry, made.reference.repository), record)
    return record


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Provide a world with a step on another, whose record does not say where its layers begin."""
    made = World(tmp_path)
    base = image(made, "base", BASE)
    recorded(made, image(made, "step", BASE, STEP), "20-blas", recorded(made, base, "10-base", None, base.size), 1)
    monkeypatch.chdir(tmp_path)
    with use_backends(made.backends):
        yield made


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(["files", *arguments]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return dict(json.loads(output(capsys, *arguments, "--json")))


# Folders and files ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("world")
def test_folder_is_listed_with_sizes_of_what_is_below(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, f"{TOOLS}:step").splitlines()
    assert [line.split() for line in lines] == [
        ["mode", "owner", "size", "path"],
        ["lrwxrwxrwx", "0:0", "/bin", "->", "usr/bin"],
        ["lrwxrwxrwx", "0:0", "/broken", "->", "nowhere"],
        ["drwxr-xr-x", "0:0", "13", "B", "/etc/"],
        ["drwxr-xr-x", "0:0", "3", "kB", "/opt/"],
        ["drwxr-xr-x", "0:0", "104", "B", "/usr/"],
        ["5", "files,", "3.12", "kB"],
    ]


@pytest.mark.usefixtures("world")
def test_listing_json_has_every_entry_below(capsys: pytest.CaptureFixture[str]) -> None:
    listed = document(capsys, f"{TOOLS}:step", "bin", "--recursive")
    assert (listed["schema"], listed["path"], listed["files"], listed["size"]) == (
        "chainbuild.files/1",
        "/usr/bin",
        2,
        104,
    )
    assert [(entry["path"], entry["kind"], entry["size"]) for entry in listed["entries"]] == [
        ("/usr/bin/same", "file", 4),
        ("/usr/bin/tool", "file", 100),
        ("/usr/bin/twin", "file", 100),
    ]
    (entry,) = document(capsys, f"{TOOLS}:step", "/etc/motd")["entries"]
    assert entry == {"path": "/etc/motd", "kind": "file", "mode": "0644", "owner": "0:0", "size": 13}


def test_file_is_printed_from_the_layer_that_has_it(world: World, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    world.fake.log.clear()
    assert run(["files", f"{TOOLS}:step", "/etc/motd"]) == 0
    assert capfdbinary.readouterr().out == b"good evening\n"
    top = layer(STEP)
    assert sum(f"sha256:{sha256(top).hexdigest()}" in str(entry) for entry in world.fake.log) == 2
    bottom = layer(BASE)
    assert sum(f"sha256:{sha256(bottom).hexdigest()}" in str(entry) for entry in world.fake.log) == 0
    assert run(["files", f"{TOOLS}:step", "/bin/tool"]) == 0
    assert capfdbinary.readouterr().out == BASE["/usr/bin/tool"]


@pytest.mark.usefixtures("world")
def test_file_is_written_to_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert output(capsys, f"{TOOLS}:base", "/bin/tool", "-o", "tool") == ""
    assert (tmp_path / "tool").read_bytes() == BASE["/usr/bin/tool"]
    assert "cannot write missing/tool" in output(capsys, f"{TOOLS}:base", "/bin/tool", "-o", "missing/tool", code=2)
    assert "a folder" in output(capsys, f"{TOOLS}:base", "/bin", "-o", "tool", code=2)
    assert "--added has no content" in output(capsys, f"{TOOLS}:base", "--added", "-o", "tool", code=2)


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_binary_file_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"\x7fELF\0\0")
    screen = FakeTerminal()
    with pytest.raises(WrongUseError, match=r"/usr/bin/tool is a binary file of 6 B(?s:.*)-o FILE"):
        write_content(tmp_path / "tool", "/usr/bin/tool", Terminal(stream=screen, is_terminal=True))
    assert screen.getvalue() == ""


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "motd").write_bytes(b"hello\x1b[2J\n")
    screen = FakeTerminal()
    write_content(tmp_path / "motd", "/etc/motd", Terminal(stream=screen, is_terminal=True))
    assert screen.getvalue() == "hello\\u001b[2J\n"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/usr/bin/gcc", "has no file /usr/bin/gcc"),
        ("/usr/bin/gcc", f"chainbuild files {TOOLS}:step /usr/bin"),
        ("/nowhere/at/all", f"chainbuild files {TOOLS}:step /"),
        ("/broken", "/broken is a link to nowhere, which does not exist"),
        ("/etc/motd/x", "has no file /etc/motd/x"),
        ("/etc/old", "has no file /etc/old"),
    ],
)
def test_missing_file_is_an_error_with_what_exists(path: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in output(capsys, f"{TOOLS}:step", path, code=4)


# What a step added ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("world")
def test_added_lists_what_the_step_changed(capsys: pytest.CaptureFixture[str]) -> None:
    added = document(capsys, f"{TOOLS}:step", "--added")
    assert (added["schema"], added["step"], added["layers"]) == ("chainbuild.added/1", "amd64/stock/20-blas", 1)
    assert added["totals"] == {
        "added": {"files": 2, "size": 3000},
        "changed": {"files": 1, "size": 13},
        "deleted": {"files": 1, "size": 10},
    }
    assert added["repeated"] == {"files": 1, "size": 4}
    assert [(change["path"], change["change"], change["size"]) for change in added["changes"]] == [
        ("/etc/motd", "changed", 13),
        ("/etc/old", "deleted", 10),
        ("/opt/blas/lib.a", "added", 2000),
        ("/opt/blas/lib.so", "added", 1000),
    ]
    assert added["changes"][0]["words"] == ["10 B → 13 B"]
    folders = {row["path"]: (row["added"], row["changed"], row["deleted"]) for row in added["folders"]}
    assert folders == {
        "/": (3000, 13, 10),
        "/etc": (0, 13, 10),
        "/opt": (3000, 0, 0),
        "/opt/blas": (3000, 0, 0),
    }


@pytest.mark.usefixtures("world")
def test_added_shows_totals_folders_and_largest_files(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, f"{TOOLS}:step", "--added")
    assert text.startswith("amd64/stock/20-blas: 1 layer, ")
    assert "  + added    2 files, 3 kB\n  ~ changed  1 file, 13 B\n  - deleted  1 file, 10 B\n" in text
    assert "1 file in its layers did not change (4 B)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["3", "kB", "/opt/blas"] in lines
    assert ["+", "2", "kB", "/opt/blas/lib.a"] in lines


@pytest.mark.usefixtures("world")
def test_added_below_a_folder_leaves_out_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    added = document(capsys, f"{TOOLS}:step", "/opt", "--added")
    assert [change["path"] for change in added["changes"]] == ["/opt/blas/lib.a", "/opt/blas/lib.so"]
    assert added["repeated"] == {"files": 0, "size": 0}
    assert "neither" in output(capsys, f"{TOOLS}:step", "/srv", "--added", code=4)


@pytest.mark.usefixtures("world")
def test_added_of_the_first_step_is_what_its_record_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, f"{TOOLS}:base", "--added")["layers"] == 1


def test_added_without_record_names_a_way_out(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    image(world, "foreign", BASE, {"/x": b"x"})
    said = output(capsys, f"{TOOLS}:foreign", "--added", code=4)
    assert "no provenance found" in said
    assert "chainbuild diff BASE IMAGE" in said
