"""Apptainer or Singularity: the one on PATH, or the project's own in a container (helper.py). Neither ever asks anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from chainbuild.errors import BuildFailedError
from chainbuild.references import Platform
from chainbuild.text import visible

PROGRAMS: Final = ("apptainer", "singularity")
_TAIL: Final = 30
_STOP_SECONDS: Final = 10.0
_LEVEL: Final = re.compile(r"(INFO|WARNING|FATAL|ERROR|VERBOSE|DEBUG)\s*:\s*")

TellLine = Callable[[str], None]


class Conversion(Struct, frozen=True, kw_only=True):
    """One SIF file that is to be made.

    `layout` is the OCI layout's name in the folder `layouts` (the SIF tells of it: it is no path of this machine);
    `temporary` is where to unpack it; `output` the file that is made.
    """

    image: str
    layout: str
    layouts: Path
    temporary: Path
    output: Path
    platform: Platform


class Tool(Protocol):
    """What makes SIF files."""

    @property
    def name(self) -> str:
        """Name and version, for people."""

    @property
    def reads_zstd(self) -> bool:
        """Whether it takes layers that are compressed with zstd."""

    def convert(self, conversion: Conversion, tell: TellLine) -> None:
        """Make the file. Errors: `BuildFailedError` with its last words."""


class HostTool:
    """The program on PATH, as the user who runs chainbuild: without root it makes SIF files all the same."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        self._program = program
        self._environ = dict(environ)
        self.name = f"{Path(program).name} {_version(program)}".strip()
        # Apptainer of Debian 12's time and SingularityCE before 4 do not, and none of them says so.
        self.reads_zstd = False

    def convert(self, conversion: Conversion, tell: TellLine) -> None:
        folders = dict.fromkeys(("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR"), str(conversion.temporary))
        argv = (self._program, *build_words(conversion, str(conversion.output)))
        run_tool(argv, self._environ | folders, conversion, tell, folder=conversion.layouts)


def build_words(conversion: Conversion, output: str) -> tuple[str, ...]:
    """The words behind the program's name. The layout is named as it is from the folder of layouts."""
    foreign = not conversion.platform.same_as(Platform.of_this_machine())
    # For the labels of the SIF: the files of another platform are unpacked and packed as any.
    platform = ("--arch", conversion.platform.architecture) if foreign else ()
    # The layers come from here, and each image once: nothing that a cache would be for.
    return ("build", "--disable-cache", "--force", *platform, output, f"oci:{conversion.layout}")


def find_on_path(environ: Mapping[str, str]) -> HostTool | None:
    """The program on PATH; None where there is none."""
    for program in PROGRAMS:
        found = shutil.which(program, path=environ.get("PATH"))
        if found:
            return HostTool(found, environ)
    return None


def run_tool(
    argv: Sequence[str],
    environ: Mapping[str, str],
    conversion: Conversion,
    tell: TellLine,
    *,
    folder: Path | None = None,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Run it to its end; every line that it prints is told. `stop` is what else ends it when this process is to end.

    Errors: `BuildFailedError` with its last words.
    """
    tail: deque[str] = deque(maxlen=_TAIL)
    with subprocess.Popen(
        argv,
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                text = visible(line.rstrip("\n"))
                if text.strip():
                    tail.append(text)
                    tell(text)
            process.wait()
        except BaseException:
            stop()
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if process.returncode != 0:
        raise BuildFailedError(
            f"{conversion.image} did not become a SIF file: {_reason(tail, process.returncode)}",
            hint=_way_out(tail),
            log_tail=tuple(tail),
        )


def words_of(line: str) -> str:
    """What a line of the program says it is doing (`INFO: Extracting OCI image...`); empty for anything else."""
    found = _LEVEL.match(line)
    if not found or found[1] != "INFO" or not line.rstrip().endswith("..."):
        return ""
    return line[found.end() :].strip().rstrip(".")


def _reason(tail: Sequence[str], code: int) -> str:
    said = [_LEVEL.sub("", line, count=1).strip() for line in tail if line.startswith(("FATAL", "ERROR"))]
    return said[-1] if said else tail[-1] if tail else f"exit code {code}"


def _way_out(tail: Sequence[str]) -> str:
    text = "\n".join(tail).lower()
    if "no space left" in text:
        return "Make room, or name another folder in APPTAINER_TMPDIR or --folder."
    if "bind source path does not exist" in text or "mounts denied" in text:
        return (
            "The engine does not see this machine's folders: take one that it does see (TMPDIR, --folder),"
            " or install Apptainer on this machine."
        )
    return "See what it printed with -v."


def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # `apptainer version 1.4.5`, `singularity-ce version 4.1.0`.
    return done.stdout.strip().rpartition(" ")[2] if done.returncode == 0 else ""
