"""Import modules, each in its own process, and report the results: the program that the proof runs inside an image.

    python3 -B try_imports.py QUESTIONS ANSWERS SECONDS

QUESTIONS has a module name per line. ANSWERS, which may exist already, gets a JSON object per line:

    {"module": "numpy", "outcome": "imported", "code": 0, "seconds": 0.1, "errors": [], "said": ""}

`outcome` is `imported`; `raised` (`errors` has the exception and its causes, each with `type`, `message`, and the
`module` or `file` that it reports as missing); `ended` (the process exited by itself, with the exit code `code`);
`killed` (by the signal `code`); or `late` (it took longer than SECONDS). `said` is the end of its output.

Each process is forked from this one, which has imported only `os` and built-in modules: a crash, exit, hang or flood of
one module does not affect others, no module profits from what another one loaded, and no interpreter is started for
each. Runs on every Python from 3.7 on, because the image's own interpreter runs it.
"""

# Only the interpreter is sure to exist where it runs: no json, no pathlib, no subprocess.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import sys
import time

_MOST_OUTPUT = 2000
_MOST_IN_MESSAGE = 2000
_MOST_ERRORS = 8
_MOST_AT_ONCE = 8
_CHUNK = 65536
_PAUSES = (0.0005, 0.001, 0.002, 0.005, 0.01)


class Attempt:
    """A running import of a module."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.started = time.monotonic()
        self.report = b""
        self.output = b""
        self._report_end, reports = os.pipe()
        self._output_end, outputs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._report_end)
                os.close(self._output_end)
                _import(module, reports, outputs)
            finally:
                os._exit(0)
        os.close(reports)
        os.close(outputs)
        os.set_blocking(self._report_end, False)
        os.set_blocking(self._output_end, False)

    def read(self) -> bool:
        """Read the available output; return whether there was any."""
        report = _available(self._report_end)
        output = _available(self._output_end)
        self.report += report
        self.output = (self.output + output)[-_MOST_OUTPUT:]
        return bool(report or output)

    def outcome(self, limit: float) -> tuple[str, int] | None:
        """Return the outcome and its code, or None if it is still running."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = pid == 0 and time.monotonic() - self.started > limit
        if pid == 0 and not late:
            return None
        # Kill it if it is late, and always the processes that it started.
        for kill in (os.killpg, os.kill) if late else (os.killpg,):
            try:
                kill(self.pid, 9)
            except OSError:
                continue
        if late:
            os.waitpid(self.pid, 0)
        self.read()
        os.close(self._report_end)
        os.close(self._output_end)
        if late:
            return "late", 0
        if self.report.endswith(b"\n"):
            return ("imported" if self.report == b"[]\n" else "raised"), 0
        return ("killed", os.WTERMSIG(status)) if os.WIFSIGNALED(status) else ("ended", os.WEXITSTATUS(status))

    def answer(self, outcome: str, code: int) -> str:
        """Return the line of its answer."""
        errors = self.report.decode("ascii").strip() if outcome == "raised" else "[]"
        fields = (
            f'"module": {quoted(self.module)}',
            f'"outcome": "{outcome}"',
            f'"code": {code}',
            f'"seconds": {time.monotonic() - self.started:.4f}',
            f'"errors": {errors}',
            f'"said": {quoted(self.output.decode("utf-8", "replace"))}',
        )
        return "{" + ", ".join(fields) + "}\n"


def _available(descriptor: int) -> bytes:
    """Return the bytes that can be read without waiting; may be incomplete."""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""


def _import(module: str, reports: int, outputs: int) -> None:
    """Import the module in the forked process and write the result to `reports`."""
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(outputs, 1)
    os.dup2(outputs, 2)
    os.close(nothing)
    os.close(outputs)
    own = os.getpid()
    try:
        __import__(module)
    except BaseException as error:  # noqa: BLE001 - the exception is the answer
        answer = "[" + ", ".join(_describe(cause) for cause in _causes(error)) + "]\n"
    else:
        answer = "[]\n"
    if os.getpid() != own:
        return  # the module has forked, and this is the child
    data = answer.encode("ascii")
    while data:
        data = data[os.write(reports, data) :]


def _causes(error: BaseException) -> list[BaseException]:
    """Return the exception and its causes, the latest first."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and not any(current is earlier for earlier in causes) and len(causes) < _MOST_ERRORS:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes


def _describe(error: BaseException) -> str:
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
    """Format a text as ASCII JSON (RFC 8259)."""
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
    """Import every module of the file `questions` and write the answers."""
    with open(questions, encoding="utf-8") as stream:
        waiting = [line.strip() for line in stream if line.strip()]
    waiting.reverse()
    # Import only what a program of the image could: remove this program's own folder.
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
