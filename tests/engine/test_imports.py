"""Commands that build nothing do not import the modules for building. Each case is a new interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("python_on_whales", "rich", "yaml")

SESSION = """
    from contextlib import contextmanager
    from pathlib import Path
    from chainbuild.cli import frame, runner
    from chainbuild.execution.session import Session
    from chainbuild.builder.buildx import BuildxDriver
    from tests.support.world import FakeStore, THREE_STEPS, World

    world = World(Path.cwd())
    world.write(THREE_STEPS)
    world.run()

    @contextmanager
    def open_session(settings, emit, **_):
        yield Session(
            settings=settings, registries=world.registries, local=FakeStore(), emit=emit, driver=BuildxDriver()
        )

    frame.open_session = runner.open_session = open_session
"""
WORDS = ["amd64", "team/atom", "v1", "fat:1", "stock", "slim:1"]


@pytest.mark.parametrize(
    ("before", "arguments"),
    [
        ("", ["--help"]),
        ("", ["--version"]),
        ("", ["build", "--help"]),
        ("", ["plan", "amd65", *WORDS[1:]]),
        (SESSION, ["plan", *WORDS]),
        (SESSION, ["plan", *WORDS, "--json"]),
        (SESSION, [*WORDS, "--no-load", "--plain"]),
        (SESSION, [*WORDS, "--no-load"]),
    ],
    ids=["help", "version", "help of build", "wrong use", "plan", "plan as JSON", "run, plain", "run"],
)
def test_commands_that_do_not_build_import_no_heavy_module(
    before: str, arguments: list[str], tmp_path: Path, repository_root: Path
) -> None:
    program = f"""
    import sys
    sys.path.insert(0, {str(repository_root)!r})
    {before}
    from chainbuild.cli import run
    run({arguments!r})
    print("HEAVY:", [name for name in {HEAVY!r} if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", _dedented(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY: []"


def _dedented(program: str) -> str:
    """Remove the indentation of four columns from the program."""
    return "\n".join(line.removeprefix("    ") for line in program.splitlines())
