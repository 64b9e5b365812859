"""Imports modules, each in a process of its own, and says how each of them ended: what the proof runs inside an image.

    python3 -B try_imports.py QUESTIONS ANSWERS SECONDS

QUESTIONS has the name of a module a line. ANSWERS, which may be there already, gets a JSON object a line:

    {"module": "numpy", "outcome": "imported", "code": 0, "seconds": 0.1, "errors": [], "said": ""}

`outcome` is `imported`; `raised` (`errors` has the exception and what led to it, each with `type`, `message`, and the
`module` or `file` that it says is missing); `ended` (the process went away by itself, with the exit code `code`);
`killed` (by the signal `code`); or `late` (it took longer than SECONDS). `said` is the end of what it printed.

A process is forked from this one, which has imported nothing but `os` and what is built into the interpreter: one
module's crash, exit, hang or flood hides no other's, none profits from what another one loaded, and no interpreter is
started for each. For every Python from 3.7 on: it is the image's own that runs it.
"""

# It runs where nothing but the interpreter may be taken for granted: no json, no pathlib, no subprocess.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import sys
import time

_MOST_SAID = 2000
_MOST_IN_MESSAGE = 2000
_MOST_ERRORS = 8
_MOST_AT_ONCE = 8
_CHUNK = 65536
_PAUSES = (0.0005, 0.001, 0.002, 0.005, 0.01)


class Attempt:
    """The import of one module, going on."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.started = time.monotonic()
        self.told = b""
        self.said = b""
        self._told_end, telling = os.pipe()
        self._said_end, saying = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._told_end)
                os.close(self._said_end)
                _import(module, telling, saying)
            finally:
                os._exit(0)
        os.close(telling)
        os.close(saying)
        os.set_blocking(self._told_end, False)
        os.set_blocking(self._said_end, False)

    def read(self) -> bool:
        """Take what is there; whether anything was."""
        told = _available(self._told_end)
        said = _available(self._said_end)
        self.told += told
        self.said = (self.said + said)[-_MOST_SAID:]
        return bool(told or said)

    def outcome(self, limit: float) -> tuple[str, int] | None:
        """How it ended and the number that belongs to that; None while it goes on."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = pid == 0 and time.monotonic() - self.started > limit
        if pid == 0 and not late:
            return None
        # It, where it is late, and in any case what it left behind.
        for kill in (os.killpg, os.kill) if late else (os.killpg,):
            try:
                kill(self.pid, 9)
            except OSError:
                continue
        if late:
            os.waitpid(self.pid, 0)
        self.read()
        os.close(self._told_end)
        os.close(self._said_end)
        if late:
            return "late", 0
        if self.told.endswith(b"\n"):
            return ("imported" if self.told == b"[]\n" else "raised"), 0
        return ("killed", os.WTERMSIG(status)) if os.WIFSIGNALED(status) else ("ended", os.WEXITSTATUS(status))

    def answer(self, outcome: str, code: int) -> str:
        """The line of it."""
        errors = self.told.decode("ascii").strip() if outcome == "raised" else "[]"
        fields = (
            f'"module": {quoted(self.module)}',
            f'"outcome": "{outcome}"',
            f'"code": {code}',
            f'"seconds": {time.monotonic() - self.started:.4f}',
            f'"errors": {errors}',
            f'"said": {quoted(self.said.decode("utf-8", "replace"))}',
        )
        return "{" + ", ".join(fields) + "}\n"


def _available(descriptor: int) -> bytes:
    """What can be read without waiting, in part: the rest is there the next time."""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""


def _import(module: str, telling: int, saying: int) -> None:
    """Import it and tell how that went; in the forked process."""
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(saying, 1)
    os.dup2(saying, 2)
    os.close(nothing)
    os.close(saying)
    own = os.getpid()
    try:
        __import__(module)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the answer
        answer = "[" + ", ".join(_described(one) for one in _causes(error)) + "]\n"
    else:
        answer = "[]\n"
    if os.getpid() != own:
        return  # the module has forked, and this is the other one
    data = answer.encode("ascii")
    while data:
        data = data[os.write(telling, data) :]


def _causes(error: BaseException) -> list[BaseException]:
    """The exception, and those that it came of, the last one first."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and not any(one is other for other in found) and len(found) < _MOST_ERRORS:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _described(error: BaseException) -> str:
    try:
        message = str(error)[:_MOST_IN_MESSAGE]
    except Exception:  # noqa: BLE001 - an exception of the module's own making
        message = ""
    module = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    file = getattr(error, "filename", None) if isinstance(error, FileNotFoundError) else None
    if isinstance(file, bytes):
        file = os.fsdecode(file)
    fields = (
        f'"type": {quoted(type(error).__name__)}',
        f'"message": {quoted(message)}',
        f'"module": {quoted(module if isinstance(module, str) else "")}',
        f'"file": {quoted(file if isinstance(file, str) else "")}',
    )
    return "{" + ", ".join(fields) + "}"


def quoted(text: str) -> str:
    """A text as JSON (RFC 8259) in ASCII."""
    parts = []
    for letter in text:
        number = ord(letter)
        if 32 <= number < 127 and letter not in '"\\':
            parts.append(letter)
        elif number < 0x10000:
            parts.append(f"\\u{number:04x}")
        else:
            number -= 0x10000
            parts.append(f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}")
    return '"' + "".join(parts) + '"'


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def main(questions: str, answers: str, limit: float) -> None:
    """Ask every question."""
    with open(questions, encoding="utf-8") as stream:
        waiting = [line.strip() for line in stream if line.strip()]
    waiting.reverse()
    # An import finds what a program of the image's would: this program's own folder is none of it.
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120
        del sys.path[0]
    running: list[Attempt] = []
    idle = 0
    with open(answers, "w", encoding="ascii") as stream:
        while waiting or running:
            while waiting and len(running) < min(_cores(), _MOST_AT_ONCE):
                running.append(Attempt(waiting.pop()))
            busy = False
            for attempt in list(running):
                busy = attempt.read() or busy
                outcome = attempt.outcome(limit)
                if outcome is not None:
                    running.remove(attempt)
                    stream.write(attempt.answer(*outcome))
                    stream.flush()
                    busy = True
            idle = 0 if busy else min(idle + 1, len(_PAUSES) - 1)
            if not busy:
                time.sleep(_PAUSES[idle])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
