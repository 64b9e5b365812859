"""Run Apptainer or Singularity, either from PATH or in a container (helper.py). Neither ever prompts."""

from __future__ import annotations

import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from chainbuild.errors import BuildFailedError
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import visible

PROGRAMS: Final = ("apptainer", "singularity")
_TAIL: Final = 30
_STOP_SECONDS: Final = 10.0
_LEVEL: Final = regex(r"(INFO|WARNING|FATAL|ERROR|VERBOSE|DEBUG)\s*:\s*")

TellLine = Callable[[str], None]


class Conversion(Struct, frozen=True, kw_only=True):
    """A SIF file to make.

    `layout` is the OCI layout's name in the folder `layouts`, which the SIF records instead of a path of this machine;
    `temporary` is the folder to unpack it in; `output` is the file to write.
    """

    image: str
    layout: str
    layouts: Path
    temporary: Path
    output: Path
    platform: Platform


class Tool(Protocol):
    """A program that makes SIF files."""

    @property
    def name(self) -> str:
        """Name and version, for messages."""

    @property
    def reads_zstd(self) -> bool:
        """True if it supports layers compressed with zstd."""

    def convert(self, conversion: Conversion, tell: TellLine) -> None:
        """Make the file. Errors: `BuildFailedError` with the end of the output."""


class HostTool:
    """The program on PATH, run as the user of chainbuild; it does not need root."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        self._program = program
        self._environ = dict(environ)
        self.name = f"{Path(program).name} {_version(program)}".strip()
        # Apptainer as old as Debian 12 and SingularityCE before 4 do not, and no version reports it.
        self.reads_zstd = False

    def convert(self, conversion: Conversion, tell: TellLine) -> None:
        folders = dict.fromkeys(("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR"), str(conversion.temporary))
        argv = (self._program, *build_words(conversion, str(conversion.output)))
        run_tool(argv, self._environ | folders, conversion, tell, folder=conversion.layouts)


def build_words(conversion: Conversion, output: str) -> tuple[str, ...]:
    """Return the arguments after the program's name. The layout's path is relative to the folder of layouts."""
    foreign = not conversion.platform.same_as(Platform.of_this_machine())
    # Only for the SIF's labels: files of other platforms need no special treatment.
    platform = ("--arch", conversion.platform.architecture) if foreign else ()
    # Every image is converted once from local layers, so a cache would not help.
    return ("build", "--disable-cache", "--force", *platform, output, f"oci:{conversion.layout}")


def find_on_path(environ: Mapping[str, str]) -> HostTool | None:
    """Return the program on PATH; None if there is none."""
    for program in PROGRAMS:
        result = shutil.which(program, path=environ.get("PATH"))
        if result:
            return HostTool(result, environ)
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
    """Run the program and pass each line of output to `tell`. `stop` is called when this process is interrupted.

    Errors: `BuildFailedError` with the end of the output.
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
            f"cannot convert {conversion.image} to a SIF file: {_reason(tail, process.returncode)}",
            hint=_way_out(tail),
            log_tail=tuple(tail),
        )


def words_of(line: str) -> str:
    """Return the activity in a line of output (`INFO: Extracting OCI image...`); empty for any other line."""
    result = _LEVEL.match(line)
    if not result or result[1] != "INFO" or not line.rstrip().endswith("..."):
        return ""
    return line[result.end() :].strip().rstrip(".")


def _reason(tail: Sequence[str], code: int) -> str:
    reasons = [_LEVEL.sub("", line, count=1).strip() for line in tail if line.startswith(("FATAL", "ERROR"))]
    return reasons[-1] if reasons else tail[-1] if tail else f"it exited with code {code}"


def _way_out(tail: Sequence[str]) -> str:
    text = "\n".join(tail).lower()
    if "no space left" in text:
        return "Free some space, or set APPTAINER_TMPDIR or --folder to another folder."
    if "bind source path does not exist" in text or "mounts denied" in text:
        return (
            "The engine cannot access this machine's folders. Use folders that it can access (TMPDIR, --folder),"
            " or install Apptainer on this machine."
        )
    return "Check its output with -v."


def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # `apptainer version 1.4.5`, `singularity-ce version 4.1.0`.
    return done.stdout.strip().rpartition(" ")[2] if done.returncode == 0 else ""
