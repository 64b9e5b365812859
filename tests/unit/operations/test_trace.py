"""`chainbuild minimize trace`: which images it compares, what it prints, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.cli import run
from chainbuild.errors import BuildFailedError, ExitCode, NotFoundInRegistryError, WrongUseError
from chainbuild.execution.backends import use_backends
from chainbuild.images.resolver import ImageResolver
from chainbuild.operations.trace import Subject, subject_of_image, subjects_of_options
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId
from tests.support.traces import missing, row
from tests.support.world import AMD64, CHAIN, REPOSITORY, THREE_STEPS, TRACE, World

PRODUCTION = StepId.parse("amd64/stock/production")
WORDS = ["amd64", REPOSITORY, "v1"]
ARGS = "stock/minimize-amd64-args"
LINE = "ADDITIONAL_FILES=/srv/a /usr/lib/file"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "tree")
    made.write(THREE_STEPS | {"stock/production-test": "#!/bin/sh\ntrue\n"})
    return made


def image(world: World, name: str, *command: str) -> Subject:
    session = world.opened()
    finder: ImageResolver = session.finder()
    return subject_of_image(session, finder.find_result(ImageReference.parse(name), AMD64), AMD64, command)


# Which images ---------------------------------------------------------------------------------------------------------


def test_option_subject_is_last_image_and_result(world: World) -> None:
    results = world.run().results
    (subject,) = subjects_of_options(world.opened(), world.graph(), ())
    assert subject.step == PRODUCTION
    assert subject.chain.digest == results[StepId.parse("amd64/stock/30-venv")].record.image
    assert subject.result.digest == results[PRODUCTION].record.image
    assert subject.target.program == world.root / "stock" / "production-test"
    assert image(world, f"{REPOSITORY}:v1-stock-amd64") == subject


def test_newer_image_that_failed_checks_is_compared(world: World) -> None:
    world.driver.trace = missing()
    assert PRODUCTION in world.run().failures
    (subject,) = subjects_of_options(world.opened(), world.graph(), ("ls",))
    assert subject.target.command == ("ls",)
    assert subject.chain.digest != subject.result.digest


def test_option_without_test_needs_command(world: World) -> None:
    world.write({"stock/production-test": None})
    world.run()
    with pytest.raises(WrongUseError, match="stock: no production-test to trace"):
        subjects_of_options(world.opened(), world.graph(), ())
    (subject,) = subjects_of_options(world.opened(), world.graph(), ("ls", "-l"))
    assert subject.option == world.root / "stock"


def test_missing_images_are_an_error(world: World) -> None:
    with pytest.raises(NotFoundInRegistryError, match="v1-stock-amd64"):
        subjects_of_options(world.opened(), world.graph(), ())


def test_image_of_step_is_not_a_result(world: World) -> None:
    world.run()
    with pytest.raises(WrongUseError, match="not the result of a chain"):
        image(world, f"{REPOSITORY}:v1-stock-30-venv-amd64")


def test_image_without_test_in_tree_needs_command(world: World) -> None:
    world.run()
    world.write({"stock/production-test": None})
    with pytest.raises(WrongUseError, match=r"no such file to trace: .*production-test"):
        image(world, f"{REPOSITORY}:v1-stock-amd64")
    assert image(world, f"{REPOSITORY}:v1-stock-amd64", "ls").target.command == ("ls",)


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world.run()
    world.begin_again()
    monkeypatch.chdir(world.root)
    with use_backends(world.backends):
        yield world


def test_missing_paths_are_listed_by_package_with_line(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.driver.trace = missing() | {"tests": [row(produced="0")]}
    assert run(["minimize", "trace", "stock", *WORDS]) == ExitCode.NOT_PROVEN
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{PRODUCTION}: 2 of 7 paths are missing in {CHAIN}/{REPOSITORY}:")
    assert out[1:] == [
        "  the Debian package libmagic-mgc 5.44",
        "    /usr/lib/file/magic.mgc (opened by /usr/bin/file)",
        "  no package",
        "    /srv/a (opened by /usr/bin/file)",
        f"add to {ARGS}: {LINE}",
    ]
    assert not (command.root / ARGS).exists()


def test_write_adds_line_and_succeeds(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.write({ARGS: "# mine\nADDITIONAL_FILES=/x,/y\n"})
    command.driver.trace = missing()
    assert run(["minimize", "trace", "stock", *WORDS, "--write"]) == 0
    assert (command.root / ARGS).read_text() == "# mine\nADDITIONAL_FILES=/x,/y,/srv/a,/usr/lib/file\n"
    assert capsys.readouterr().out.splitlines()[-1] == f"added to {ARGS}: {LINE}"


def test_existing_line_is_not_written_again(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.write({ARGS: f"{LINE}\n"})
    command.driver.trace = missing()
    assert run(["minimize", "trace", "stock", *WORDS, "--write"]) == ExitCode.NOT_PROVEN
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{ARGS} already has this line; build the option again: {LINE}"
    assert (command.root / ARGS).read_text() == f"{LINE}\n"


def test_trace_without_missing_paths_writes_nothing(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.driver.trace = {"tests": [row(produced="0")]}
    assert run(["minimize", "trace", f"{REPOSITORY}:v1-stock-amd64", "--platform", "amd64", "--write"]) == 0
    assert f"{PRODUCTION}: none of 7 paths is missing" in capsys.readouterr().out
    assert not (command.root / ARGS).exists()


def test_arguments_after_two_dashes_are_the_command(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def look(spec: BuildSpec) -> None:
        if spec.dockerfile.name == TRACE:
            seen.append(spec.dockerfile.read_text())

    command.driver.during = look
    command.driver.trace = {"tests": [row("ls", produced="0")]}
    words = ["minimize", "trace", "stock", *WORDS, "--json", "--", "ls", "--write", "--", "$x"]
    assert run(words) == 0
    assert '"ls", "--write", "--", "$x"]' in seen[0]
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "chainbuild.traced/1"
    (one,) = document["images"]
    assert (one["test"], one["paths"], one["missing"], one["written"]) == ("ls", 7, [], False)


@pytest.mark.parametrize("report", [{"tests": [row(status="1", produced="0")]}, {"tests": [row(produced="126")]}])
def test_failing_command_is_not_a_success(
    command: World, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command.driver.trace = report
    assert run(["minimize", "trace", "stock", *WORDS]) == ExitCode.NOT_PROVEN
    assert "production-test fails (exit code 1" in capsys.readouterr().out


def test_builder_without_tracing_is_an_error(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(spec: BuildSpec) -> None:
        raise BuildFailedError('RUN ["/.chainbuild-tracer/loader"] exited with code 255')

    command.driver.during = refuse
    assert run(["minimize", "trace", "stock", *WORDS]) == ExitCode.NOT_READY
    assert "strace cannot start in containers" in capsys.readouterr().err


def test_broken_strace_is_an_error(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.driver.trace = {"tests": [row(traced=False, said="ptrace: Operation not permitted\n")]}
    assert run(["minimize", "trace", "stock", *WORDS]) == ExitCode.NOT_READY
    err = capsys.readouterr().err
    assert f"error: {PRODUCTION}: production-test was not traced: ptrace: Operation not permitted" in err


def test_unwritable_args_file_is_reported_by_line(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.driver.trace = missing()
    command.write({ARGS: "STRIP=1\nADDITIONAL_FILES\n"})
    assert run(["minimize", "trace", "stock", *WORDS, "--write"]) == ExitCode.WRONG_USE
    assert f"{ARGS}:2" in capsys.readouterr().err


def test_wrong_arguments_are_reported_at_once(command: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["minimize", "trace", "stock", "amd46", REPOSITORY, "no tag"]) == ExitCode.WRONG_USE
    err = capsys.readouterr().err
    assert "amd46" in err
    assert "'no tag' is not a tag" in err
