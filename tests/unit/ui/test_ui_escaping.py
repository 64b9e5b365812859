"""Foreign text on a terminal: names from registries, trees and other users neither act on it nor hide."""

from __future__ import annotations

import ast
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainbuild
from chainbuild import text as wording
from chainbuild.cli import run
from chainbuild.comparison.model import Change
from chainbuild.errors import ChainbuildError, Problem, RegistryError, WrongUseError
from chainbuild.events import Message
from chainbuild.execution.backends import use_backends
from chainbuild.local_registry.leases import Holder, Leases
from chainbuild.local_registry.service import RegistryStatus
from chainbuild.ui import Printer
from chainbuild.ui.failures import show_error
from chainbuild.ui.reports import change_line
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Span, Terminal, plain_text
from tests.support.world import CHAIN, THREE_STEPS, World

HOSTILE = "start\x1b[2J\x1b]0;title\x07\rmid\ndle\u202eend\x9b31m\udcff"
SHOWN = r"start\x1b[2J\x1b]0;title\x07\rmid\ndle\u202eend\x9b31m\xff"


def acts(text: str) -> bool:
    """Return True if something in the text could act on a terminal, except line breaks between lines."""
    return any(not letter.isprintable() for letter in text.replace("\n", ""))


# ---- the two functions ------------------------------------------------------------------------------------------------


def test_escaped_text_is_one_complete_line() -> None:
    assert wording.escaped(HOSTILE) == SHOWN
    assert wording.escaped("grüße 日本 🎉") == "grüße 日本 🎉"
    assert wording.escaped("a\tb\u00a0c\u200bd") == r"a\tb\xa0c\u200bd"


@given(st.text())
def test_escaped_text_is_always_printable(text: str) -> None:
    shown = wording.escaped(text)
    assert shown.isprintable()
    assert len(shown) >= len(text)
    shown.encode("utf-8")


@given(st.text())
def test_inert_text_never_acts_on_terminal(text: str) -> None:
    shown = wording.inert(text)
    assert not any(letter < " " and letter != "\t" for letter in shown)
    assert not any("\x7f" <= letter <= "\x9f" for letter in shown)
    shown.encode("utf-8")
    assert wording.inert(shown) == shown


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1e300, 10**30])
def test_hostile_record_numbers_are_shown_without_error(value: float) -> None:
    """Records come from a registry: their times and sizes may be invalid."""
    for show in (wording.duration, wording.size, wording.moment):
        assert show(value)


# ---- the terminal -----------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("colour", [True, False])
def test_terminal_write_escapes_hostile_spans(colour: bool) -> None:
    """The last guard: text that was not escaped earlier does not act on the terminal either."""
    stream = io.StringIO()
    Terminal(stream=stream, colour=colour).write([(Span(HOSTILE, "bold"), Span(HOSTILE))])
    text = stream.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert not acts(text)
    assert text.count("\n") == 1
    assert "start" in text
    assert "end" in text


def test_terminal_write_keeps_lines_of_text() -> None:
    stream = io.StringIO()
    Terminal(stream=stream).write(["one\ntwo\x1b[A", "three"])
    assert stream.getvalue() == "one\ntwo\\x1b[A\nthree\n"


def test_terminal_write_document_is_exact_in_pipe_and_inert_on_screen() -> None:
    document = json.dumps({"a": "\x9b31m\u202e"}, ensure_ascii=False, indent=1) + "\n"
    pipe, screen = io.StringIO(), Screen()
    Terminal(stream=pipe).write_document(document)
    Terminal(stream=screen, is_terminal=True).write_document(document)
    assert pipe.getvalue() == document
    assert not acts(screen.getvalue())
    assert json.loads(screen.getvalue()) == json.loads(document)


def test_table_with_hostile_cells_is_aligned_and_complete() -> None:
    columns = (Column(heading="a"), Column(heading="b"))
    lines = [
        plain_text(line) for line in table(columns, [(Span(HOSTILE), Span("x")), (Span("y"), Span(HOSTILE))], None)
    ]
    assert lines[1:] == [f"{SHOWN}  x", f"y{' ' * (len(SHOWN) + 1)}{SHOWN}"]


# ---- what is shown ----------------------------------------------------------------------------------------------------


def test_change_of_file_name_with_line_break_is_shown_in_full() -> None:
    """Only the last line of such a name used to be shown, so a file could pose as another one."""
    line = plain_text(change_line(Change(name="/etc/shadow\n/tmp/harmless", before=None, after="1 B")))
    assert line == r"  + /etc/shadow\n/tmp/harmless added (1 B)"


@pytest.mark.parametrize(
    "error",
    [
        RegistryError(HOSTILE, where=HOSTILE, hint=HOSTILE),
        ChainbuildError(f"one\n{HOSTILE}"),
        WrongUseError([Problem(path=HOSTILE, line=3, message=HOSTILE, hint=HOSTILE)]),
        ValueError(HOSTILE),
    ],
)
def test_show_error_escapes_hostile_text(error: Exception, tmp_path: Path) -> None:
    err = io.StringIO()
    show_error(error, out=Terminal(stream=io.StringIO()), err=Terminal(stream=err), log_folder=tmp_path)
    assert not acts(err.getvalue())
    assert r"\x1b[2J" in err.getvalue()
    assert r"\rmid" in err.getvalue()


def test_printed_warning_keeps_level(capsys: pytest.CaptureFixture[str]) -> None:
    Printer().emit(Message(level="warning", text=f"left out {HOSTILE.partition(chr(10))[0]}"))
    err = capsys.readouterr().err
    assert err.startswith("warning: left out start")
    assert not acts(err)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    monkeypatch.chdir(tmp_path)

    with use_backends(made.backends):
        yield made


def hostile_names(world: World) -> None:
    world.fake.add_image(f"{CHAIN}/a:1", "amd64")
    digest = world.host.tags["a", "1"]
    world.host.tags["a", HOSTILE[:-1]] = digest
    world.host.manifests[HOSTILE[:-1], digest] = world.host.manifests["a", digest]


@pytest.mark.parametrize(
    "words", [["registry", "ls"], ["registry", "ls", "--all"], ["registry", "ls", "a"], ["images"], ["registry", "gc"]]
)
def test_command_with_hostile_names_lists_the_others(
    world: World, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Tags and repositories come from anybody who can write to the registry, or who runs it."""
    hostile_names(world)
    assert run([*words, "--registry", f"{CHAIN}"] if "gc" not in words else [*words]) == 0
    streams = capsys.readouterr()
    assert not acts(streams.out + streams.err)
    if "gc" not in words:
        assert "a" in streams.out
    assert r"\x1b[2J" in streams.err


class Managed:
    """The port of the managed registry is in use by a process with a hostile command line."""

    endpoint = "localhost:5000"
    data = Path("/data")

    def __init__(self, status: RegistryStatus) -> None:
        self._status = status

    def status(self) -> RegistryStatus:
        return self._status


def managed(monkeypatch: pytest.MonkeyPatch, status: RegistryStatus) -> None:
    monkeypatch.setattr("chainbuild.execution.session.managed_registry", lambda _: Managed(status))
    monkeypatch.setattr("chainbuild.local_registry.login.find_stored", lambda *_: "")
    monkeypatch.setattr("chainbuild.local_registry.login.ensure_login", lambda: None)


STATUS = RegistryStatus(
    endpoint="localhost:5000",
    kind="other-user",
    holder=HOSTILE,
    data=HOSTILE,
    owner=HOSTILE,
    holders=(Holder(pid=7, command=HOSTILE, started=0.0),),
)


def test_registry_status_escapes_hostile_command_line(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    managed(monkeypatch, STATUS)
    assert run(["registry", "status"]) == 0
    out = capsys.readouterr().out
    assert not acts(out)
    assert out.count(SHOWN) == 4
    assert len(out.splitlines()) == 6


def test_registry_status_json_is_exact(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    managed(monkeypatch, STATUS)
    assert run(["registry", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holder"] == HOSTILE


@pytest.mark.parametrize("started", ["1e300", "-1e300", "NaN", "Infinity", '"nan"', "[]", "null", "[" * 1000])
def test_lease_with_invalid_time_is_listed(tmp_path: Path, started: str) -> None:
    """A lease is another user's file, so its start time may be invalid."""
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        lease = leases.take()
        (path,) = (tmp_path / "5000").glob("lease-*")
        path.write_text(f'{{"pid": 1, "command": "x", "started": {started}}}', encoding="utf-8")
        (holder,) = leases.holders()
        assert str(holder)
        assert abs(holder.started - time.time()) < 1e6
        lease.release()


# ---- the mechanism ----------------------------------------------------------------------------------------------------


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


WRITERS: dict[str, Callable[[str], bool]] = {
    "print": lambda name: name == "print",
    "typer.echo": lambda name: name.endswith(("typer.echo", "click.echo", "typer.secho")),
    "sys.stdout.write": lambda name: name in {"sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write"},
}
# Modules that print only chainbuild's own text: the version, and schemas that `python -m` writes for the documentation.
ALLOWED = {
    "attestations/policy.py",
    "cli/app.py",
    "layouts/image_types/manifest.py",
    "release/rules.py",
    "project/schema.py",
}


def test_modules_write_to_terminal_only_through_ui_terminal() -> None:
    root = Path(chainbuild.__file__).parent
    found = [
        f"{path.relative_to(root)}:{line}: {name}"
        for path in root.rglob("*.py")
        # The minimize package runs inside builds, which have no terminal.
        if "minimize" not in path.relative_to(root).parts and str(path.relative_to(root)) not in ALLOWED
        for name, line in calls(ast.parse(path.read_text(encoding="utf-8")))
        if any(is_writer(name) for is_writer in WRITERS.values())
    ]
    assert found == []
