"""Programs that native ones start (`utilities/native/started.c` and `entry.c`), compiled for this machine, with fake programs.

rig.own("sed", identity=KNOWN)                  # a program of the image, recognized by its build ID
rig.knows("tool /native/sed")                   # what is known about that build ID
rig.call("execvp", "sed", "-n", "p").native     # the words with which the native program was started; None: it was not
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainbuild.host.package_data import shipped
from tests.support.native_front import compiled

KNOWN: Final = "00c0ffee"
OTHER: Final = "0badcafe"
CALLS: Final = (
    "execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "posix_spawn", "posix_spawnp"
)  # fmt: skip
"""Functions that start a program, as the caller names them."""

# caller FUNCTION FILE ARGUMENT...: calls the function, with argv[0] "zero"; prints what it returned.
_CALLER: Final = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv)
{
    const char *call = argv[1], *file = argv[2], *one = argc > 3 ? argv[3] : 0, *two = argc > 4 ? argv[4] : 0;
    char **words = argv + 2;
    int result = -1, status = 0;
    pid_t pid;
    if (!strcmp(call, "getenv")) return puts(getenv(file) ? getenv(file) : "-") < 0;
    if (!strcmp(call, "readlink")) {
        char path[4096] = "";
        if (readlink(file, path, sizeof path - 1) < 0) return 1;
        return puts(path) < 0;
    }
    if (!strcmp(call, "system")) {
        fflush(stdout);
        status = system(file);
        printf("system %d %d\n", WIFEXITED(status), WEXITSTATUS(status));
        return 0;
    }
    words[0] = "zero";
    errno = 0;
    if (!strcmp(call, "execve")) result = execve(file, words, environ);
    if (!strcmp(call, "execv")) result = execv(file, words);
    if (!strcmp(call, "execvp")) result = execvp(file, words);
    if (!strcmp(call, "execvpe")) result = execvpe(file, words, environ);
    if (!strcmp(call, "execl")) result = execl(file, "zero", one, two, (char *)0);
    if (!strcmp(call, "execlp")) result = execlp(file, "zero", one, two, (char *)0);
    if (!strcmp(call, "execle")) result = execle(file, "zero", one, two, (char *)0, environ);
    if (!strncmp(call, "posix_spawn", 11)) {
        errno = call[11] ? posix_spawnp(&pid, file, 0, 0, words, environ) : posix_spawn(&pid, file, 0, 0, words, environ);
        if (!errno) return waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ? 99 : WEXITSTATUS(status);
    }
    printf("returned %d: %s\n", result, strerror(errno));
    return 98;
}
"""
# A program that prints its name and its words; `loader` writes its words into a file instead.
_PROGRAM: Final = r"""
#include <stdio.h>
int main(int argc, char **argv)
{
    printf("%s:", NAME);
    for (int i = 0; i < argc; i++) printf(" %s", argv[i]);
    putchar('\n');
    return 7;
}
"""
_LOADER: Final = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    FILE *log = fopen(LOG, "a");
    for (int i = 0; log && i < argc; i++) fprintf(log, "%s%c", argv[i], 0);
    return 8;
}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Called:
    """What a call came to: the exit code, what was printed, and the words of the native program."""

    code: int
    out: str
    native: list[str] | None


class Rig:
    """The programs, compiled once; `fresh` makes them empty for a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools, self.log = folder / "tools", folder / "log"
        places = [f'-DTOOLS="{self.tools}"', f"-I{shipped('utilities/native')}"]
        self.library, self.entry, self.caller = self.tools / "lib/started.so", self.tools / "entry", folder / "caller"
        compiled(_source("started.c"), self.library, "-shared", "-fPIC", *places)
        compiled(_source("entry.c"), self.entry, *places)
        compiled(_CALLER, self.caller)
        compiled(_LOADER, self.tools / "lib/loader", f'-DLOG="{self.log}"')
        for identity in (KNOWN, OTHER):
            compiled(_PROGRAM, folder / identity, f'-DNAME="{identity}"', f"-Wl,--build-id=0x{identity}")
        self.real_loader = Path(_interpreter(self.caller))

    def fresh(self, work: Path) -> Rig:
        """Forget what an earlier test made; `work` is the folder of the next one."""
        self.work = work
        shutil.rmtree(self.tools / "programs", ignore_errors=True)
        (self.tools / "programs").mkdir()
        return self

    def own(self, name: str, identity: str = KNOWN) -> Path:
        """Install a program of the image below the test's folder, and return its path."""
        return self.file(name, (self.folder / identity).read_bytes())

    def file(self, name: str, content: bytes, mode: int = 0o755) -> Path:
        """Write a file below the test's folder, and return its path."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def knows(self, *lines: str, identity: str = KNOWN) -> None:
        """Say what is known about a build ID."""
        (self.tools / "programs" / identity).write_text("".join(f"{line}\n" for line in lines))

    def call(
        self, call: str, *words: str | Path, environ: Mapping[str, str] | None = None, preloaded: bool = True
    ) -> Called:
        """Let a native program (`preloaded`), or any program, call a function."""
        preload = ["--preload", str(self.library)] if preloaded else []
        return self._run([str(self.real_loader), *preload, str(self.caller), call, *map(str, words)], environ)

    def as_started(self, program: Path, *words: str) -> Called:
        """Start a copy of the caller with the words with which native programs are started, by the real loader."""
        _, *start = self.words(str(program), "zero", *words)
        start[1] = "/nonexistent"
        return self._run([str(self.real_loader), *start], None)

    def enter(self, name: str, *words: str, place: str = "sbin", environ: Mapping[str, str] | None = None) -> Called:
        """Start a program by its name, which is `entry` in the first folder of PATH."""
        path = self.work / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(self.entry, path)
        return self._run([str(path), *words], environ, name)

    def _run(self, argv: list[str], environ: Mapping[str, str] | None, name: str = "") -> Called:
        self.log.unlink(missing_ok=True)
        environment = {"PATH": f"{self.work / 'sbin'}:{self.work / 'bin'}"} | dict(environ or {})
        words = [name, *argv[1:]] if name else argv
        done = subprocess.run(
            words, executable=argv[0], cwd=self.work, env=environment, capture_output=True, check=False, timeout=60
        )
        native = self.log.read_bytes().decode().split("\0")[:-1] if self.log.exists() else None
        return Called(code=done.returncode, out=(done.stdout + done.stderr).decode(), native=native)

    def words(self, program: str, zero: str, *arguments: str | Path) -> list[str]:
        """Return the words with which a native program is started."""
        lib = self.tools / "lib"
        start = [lib / "loader", "--library-path", lib, "--preload", self.library, "--argv0", zero, program]
        return [str(word) for word in (*start, *arguments)]


def _source(name: str) -> str:
    return shipped(f"utilities/native/{name}").read_text()


def _interpreter(program: Path) -> str:
    done = subprocess.run(["readelf", "-lW", str(program)], capture_output=True, text=True, check=True)
    return done.stdout.partition("program interpreter: ")[2].partition("]")[0]
