"""Other tools that collect what programs need, as far as the package registries have them, on the task of minimize.

The task: the packaged folders of the chain's image, with every library that their ELF files need, for an image that has
nothing. So chainbuild is run for an empty production image here. Each tool gets the list of the files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.images import bytes_in
from benchmarks.proven import DOCUMENTED

_EXODUS = "from exodus_bundler.cli import main; main()"
_LDDCOLLECT = """\
import collections, collections.abc, runpy
collections.Iterable = collections.abc.Iterable  # it is of before Python 3.10
runpy.run_module('lddcollect', run_name='__main__')
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The chain's image, its files in a folder, its packaged regular files and links, the ELF files and programs of them."""

    image: str
    root: Path
    library_path: str
    files: tuple[str, ...]
    elf_files: tuple[str, ...]
    programs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a tool gave: bytes and seconds; the proof's errors over it, None where its result is no root file system."""

    name: str
    size: int = 0
    seconds: float = 0.0
    errors: int | None = None
    note: str = ""


def results(task: Task, folder: Path, own: Callable[[Path], None]) -> tuple[Result, ...]:
    """Every tool's result; `own` runs chainbuild into a folder. A tool that cannot be had or fails is told as such."""
    ways: tuple[tuple[str, Callable[[Task, Path], Result]], ...] = (
        ("lddtree (pax-utils)", _lddtree),
        ("exodus-bundler", _exodus),
        ("lddcollect", _lddcollect),
    )
    (folder / "own").mkdir()
    began = time.perf_counter()
    own(folder / "own")
    took = time.perf_counter() - began
    out = folder / "own" / "out"
    found = [Result(name="chainbuild", size=bytes_in(out), seconds=took, errors=_proof(out, task.library_path))]
    for name, way in ways:
        measure.say(f"{name}, on the same files")
        place = folder / way.__name__
        place.mkdir()
        try:
            found.append(way(task, place))
        except (measure.RunFailedError, OSError) as error:
            found.append(Result(name=name, note=f"could not be had or failed: {str(error).splitlines()[-1][:120]}"))
        shutil.rmtree(place, ignore_errors=True)
    return tuple(found)


def _proof(root: Path, library_path: str) -> int:
    argv = [sys.executable, "-m", "chainbuild.minimize", "verify", str(root), "--library-path", library_path]
    done = subprocess.run(argv, cwd=measure.REPOSITORY, capture_output=True, text=True, check=False)
    return sum(line.startswith("error: ") for line in done.stdout.splitlines())


def _from_pypi(name: str, folder: Path) -> None:
    measure.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, name])


def _lddtree(task: Task, folder: Path) -> Result:
    """The distribution's script, natively over the unpacked image: it reads ELF files and runs nothing."""
    _from_pypi("pyelftools", folder / "python")
    measure.run(["apt-get", "download", "pax-utils"], cwd=folder)
    measure.run(["dpkg", "-x", next(folder.glob("pax-utils*.deb")), folder / "pax"])
    argv = [
        "xargs",
        "-d",
        "\\n",
        sys.executable,
        str(folder / "pax/usr/bin/lddtree"),
        "--root",
        str(task.root),
        "--copy-to-tree",
        str(folder / "out"),
        "--copy-non-elfs",
    ]
    began = time.perf_counter()
    done = subprocess.run(
        argv,
        input="\n".join(task.files),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder / "python"), "LD_LIBRARY_PATH": "", "PATH": "/usr/bin:/bin"},
    )
    took = time.perf_counter() - began
    if not (folder / "out").is_dir():
        raise measure.RunFailedError(done.stderr[-300:] or "it wrote nothing")
    out = folder / "out"
    return Result(
        name="lddtree (pax-utils)",
        size=bytes_in(out),
        seconds=took,
        errors=_proof(out, task.library_path),
        note="copies links",
    )


def _exodus(task: Task, folder: Path) -> Result:
    """In a container of the chain's image: it runs each file's loader."""
    _from_pypi("exodus-bundler", folder / "python")
    tops = 'for top in $TOPS; do [ -d "$top" ] && [ ! -L "$top" ] && set -- "$@" -a "$top"; done'
    script = f'{tops}; xargs -d "\\n" python3 -c "$CODE" -q -t -o /out/bundle.tgz "$@"'
    took = _in_container(task, folder, script, _EXODUS, "\n".join(task.programs))
    with tarfile.open(folder / "out" / "bundle.tgz") as archive:
        size = sum(member.size for member in archive if member.isreg())
    return Result(
        name="exodus-bundler", size=size, seconds=took, note="a bundle with its own layout; stores equal files once"
    )


def _lddcollect(task: Task, folder: Path) -> Result:
    """In a container of the chain's image: it only lists, so the packaged files are added to what it lists."""
    _from_pypi("lddcollect", folder / "python")
    script = 'xargs -d "\\n" python3 -c "$CODE" >/out/list; xargs -a /out/list -d "\\n" realpath >/out/real'
    took = _in_container(task, folder, script, _LDDCOLLECT, "\n".join(task.elf_files))
    listed = set((folder / "out" / "real").read_text().splitlines()) | set(task.files)
    kept = {path: (task.root / path[1:]).lstat() for path in listed}
    sizes = {
        (one.st_dev, one.st_ino): one.st_size for path, one in kept.items() if not (task.root / path[1:]).is_symlink()
    }
    return Result(
        name="lddcollect", size=sum(sizes.values()), seconds=took, note="only a list; without the targets of links"
    )


def _in_container(task: Task, folder: Path, script: str, code: str, text: str) -> float:
    (folder / "out").mkdir()
    argv = [
        "docker",
        "run",
        "--rm",
        "--interactive",
        "--network",
        "none",
        "--workdir",
        "/",
        "--tmpfs",
        "/tmp:exec",
        "--volume",
        f"{folder / 'python'}:/rivals:ro",
        "--volume",
        f"{folder / 'out'}:/out",
        "--env",
        "PYTHONPATH=/rivals",
        "--env",
        f"TOPS={' '.join(DOCUMENTED)}",
        "--env",
        f"CODE={code}",
        "--entrypoint",
        "sh",
        task.image,
        "-c",
        script,
    ]
    began = time.perf_counter()
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise measure.RunFailedError(done.stderr[-300:] or f"exit code {done.returncode}")
    return time.perf_counter() - began


def table(found: tuple[Result, ...]) -> str:
    """The table, chainbuild first."""
    rows = ["| | bytes | time | errors of the proof | |", "| --- | ---: | ---: | ---: | --- |"]
    for one in found:
        size = f"{one.size:,}" if one.size else "—"
        took = measure.shown(one.seconds) if one.seconds else "—"
        errors = "—" if one.errors is None else str(one.errors)
        rows.append(f"| {one.name} | {size} | {took} | {errors} | {one.note} |")
    return "\n".join(rows)
