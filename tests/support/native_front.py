"""The program in front of native tools (`utilities/native/front.c`), compiled for this machine, with tools that tests control.

    rig.own("cc1")                     # an image's own tool, recognized by its build ID
    rig.knows("dir /usr/include")      # what the configuration of that build ID says
    done = rig.front("cc1", "-quiet", "x.c", "-o", "x.s")
    assert done.starts == [Start("native", [...])]

Each fake tool notes how it was started, and then does what the environment says: see `_TOOL`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FRONT: Final = Path(__file__).resolve().parents[2] / "utilities" / "native" / "front.c"
OWN_ID: Final = "00c0ffee"

# FAKE_<ROLE>_SAY to stderr, FAKE_<ROLE>_OUT to the file of -o or to stdout (FAKE_<ROLE>_FILE: the content of that file;
# FAKE_<ROLE>_PID: its process ID as well), FAKE_<ROLE>_EXIT its exit code (negative: a signal), FAKE_STDIN: stdin is copied
# to the output.
_TOOL: Final = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const char *asked(const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "FAKE_" ROLE "_%s", what);
    return getenv(name);
}
static void copy(FILE *from, FILE *to)
{
    for (int byte; from && to && (byte = getc(from)) != EOF;) putc(byte, to);
}
int main(int argc, char **argv)
{
    const char *output = 0, *text;
    FILE *log = fopen(getenv("FAKE_LOG"), "a");
    if (log) {
        fprintf(log, "%s%c%s%c", ROLE, 0, getenv("COMPILER_PATH") ? getenv("COMPILER_PATH") : "", 0);
        fprintf(log, "%s%c%d%c", getenv("LD_PRELOAD") ? "preload" : "", 0, argc, 0);
        for (int i = 0; i < argc; i++) fprintf(log, "%s%c", argv[i], 0);
        fclose(log);
    }
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "-o") && strcmp(argv[i + 1], "-")) output = argv[i + 1];
    FILE *out = output && !asked("NOTHING") ? fopen(output, "w") : stdout;
    if ((text = asked("SAY"))) fputs(text, stderr);
    if ((text = asked("OUT")) && out) fputs(text, out);
    if ((text = asked("FILE"))) copy(fopen(text, "r"), out);
    if (asked("PID") && out) fprintf(out, "%d", (int)getpid());
    if (getenv("FAKE_STDIN")) copy(stdin, out);
    if (out) fclose(out);
    int code = (text = asked("EXIT")) ? atoi(text) : 0;
    if (code < 0) raise(-code);
    return code;
}
"""
_LOADER: Final = r"""
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    if (argc < 4 || strcmp(argv[1], "--library-path") || strcmp(argv[2], TOOLS "/lib")) return 125;
    execv(argv[3], argv + 3);
    return 124;
}
"""


def compiled(source: str, target: Path, *flags: str) -> None:
    """Compile a C program. Errors: `subprocess.CalledProcessError`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = ["gcc", "-x", "c", "-", "-o", str(target), "-O1", "-Wall", "-Wextra", *flags]
    subprocess.run(argv, input=source.encode(), check=True, capture_output=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How a fake tool was started: `own` or `native`, its command line, and what it had in the environment."""

    role: str
    argv: tuple[str, ...]
    compiler_path: str = field(default="", compare=False)
    preload: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a start of the program came to."""

    code: int
    out: bytes
    err: str
    starts: tuple[Start, ...]

    @property
    def roles(self) -> list[str]:
        """The tools that ran, in order."""
        return [start.role for start in self.starts]


class Rig:
    """The program and the fake tools, compiled once; `fresh` makes them empty for a test."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.tools, self.check = folder / "tools", folder / "check"
        self.program = self.tools / "front"
        self.linker = self.tools / "linker" / "real-ld"
        self.assembler = self.tools / "assembler" / "as"
        places = [f'-DTOOLS="{self.tools}"', f'-DCHECK="{self.check}"']
        compiled(FRONT.read_text(), self.program, f"-I{FRONT.parent}", *places, *flags)
        for alias in (self.linker, self.assembler):
            alias.parent.mkdir()
            shutil.copy(self.program, alias)
        compiled(_LOADER, self.tools / "lib" / "loader", *places)
        for role in ("own", "native"):
            identity = OWN_ID if role == "own" else "0badcafe"
            compiled(_TOOL, folder / role, f'-DROLE="{role}"', f"-Wl,--build-id=0x{identity}")

    def fresh(self, work: Path) -> Rig:
        """Forget what an earlier test made; `work` is the folder of the next one."""
        self.work = work
        self.image = work / "image"
        self.image.mkdir(parents=True)
        self.log = work / "log"
        for path in (self.check, self.tools / "ids"):
            shutil.rmtree(path, ignore_errors=True)
        (self.tools / "ids").mkdir()
        return self

    def own(self, name: str, folder: str = "bin", *, source: Path | None = None) -> Path:
        """Install an image's own tool, and return its path."""
        path = self.image / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source or self.folder / "own", path)
        path.chmod(0o755)
        return path

    def knows(self, *lines: str, identity: str = OWN_ID) -> None:
        """Say that the native tool stands in for the tool of a build ID, with these further lines of configuration."""
        text = "".join(f"{line}\n" for line in (f"tool {self.folder / 'native'}", *lines))
        (self.tools / "ids" / identity).write_text(text)

    def checks(self, percent: int = 100) -> None:
        """Ask for a check of this share of the outputs."""
        (self.check / str(percent)).mkdir(parents=True)

    @property
    def verdicts(self) -> list[str]:
        """What the checks found, one for each start."""
        text = "".join(log.read_bytes().decode(errors="replace") for log in self.check.glob("*/log"))
        return [line.partition(" ")[0] for line in text.split("\n") if line]

    def front(
        self,
        *argv: str,
        environ: Mapping[str, str] | None = None,
        stdin: bytes | Path = b"",
        program: Path | None = None,
    ) -> Done:
        """Start the program as a compiler driver does: with the tool's command line behind it."""
        self.log.write_bytes(b"")
        environment = {"PATH": str(self.image / "bin"), "FAKE_LOG": str(self.log), "ASAN_OPTIONS": "detect_leaks=0"}
        environment |= {"UBSAN_OPTIONS": "halt_on_error=1"} | dict(environ or {})
        words = [str(program or self.program), *argv]
        if isinstance(stdin, Path):
            with stdin.open("rb") as file:
                done = subprocess.run(
                    words, cwd=self.work, env=environment, capture_output=True, check=False, timeout=60, stdin=file
                )
        else:
            done = subprocess.run(
                words, cwd=self.work, env=environment, capture_output=True, check=False, timeout=60, input=stdin
            )
        err = done.stderr.decode(errors="replace")
        assert "Sanitizer" not in err, err
        assert "runtime error" not in err, err
        return Done(code=done.returncode, out=done.stdout, err=err, starts=self._starts())

    def _starts(self) -> tuple[Start, ...]:
        starts, words = [], self.log.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
        while words:
            role, path, preload, count, *words = words
            starts.append(Start(role=role, argv=tuple(words[: int(count)]), compiler_path=path, preload=bool(preload)))
            words = words[int(count) :]
        return tuple(starts)
