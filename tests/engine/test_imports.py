"""Commands that build nothing do not import the modules for building. Each case is a new interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("bcrypt", "python_on_whales", "rich", "urllib3", "yaml")

WORLD = """
    from pathlib import Path
    from chainbuild.execution.backends import use_backends
    from tests.support.world import THREE_STEPS, World

    world = World(Path.cwd())
    world.write(THREE_STEPS)
    world.run()
    backends = use_backends(world.backends)
    backends.__enter__()
"""
WORDS = ["amd64", "team/atom", "v1", "fat:1", "stock", "slim:1"]


@pytest.mark.parametrize(
    ("before", "arguments", "code"),
    [
        ("", ["--help"], 0),
        ("", ["--version"], 0),
        ("", ["build", "--help"], 0),
        ("", ["plan", "amd65", *WORDS[1:]], 2),
        (WORLD, ["plan", *WORDS], 0),
        (WORLD, ["plan", *WORDS, "--json"], 0),
        (WORLD, [*WORDS, "--no-load", "--plain"], 0),
        (WORLD, [*WORDS, "--no-load"], 0),
    ],
    ids=["help", "version", "help of build", "wrong use", "plan", "plan as JSON", "run, plain", "run"],
)
def test_commands_that_do_not_build_import_no_heavy_module(
    before: str, arguments: list[str], code: int, tmp_path: Path, repository_root: Path
) -> None:
    program = f"""
    import sys
    sys.path.insert(0, {str(repository_root)!r})
    {before}
    from chainbuild.cli import run
    print("EXIT CODE:", run({arguments!r}))
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
    assert done.stdout.splitlines()[-2:] == [f"EXIT CODE: {code}", "HEAVY: []"], done.stderr


def _dedented(program: str) -> str:
    """Remove the indentation of four columns from the program."""
    return "\n".join(line.removeprefix("    ") for line in program.splitlines())
