"""Build several steps in one solve: `docker buildx bake` with a target for each step, linked to the one before it.

The builder then builds a step while it exports and pushes the image of the step before it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from chainbuild.builder.build_spec import BuildSpec, ImageStands, SolveEvent, SolveFailed
from chainbuild.builder.failures import build_error, is_transient
from chainbuild.builder.linked_progress import TARGET, LinkedProgress
from chainbuild.builder.running import copy_of, sent_of, stop_children
from chainbuild.context.link import linked_context
from chainbuild.events import Emit
from chainbuild.host.folders import scratch_folder

if TYPE_CHECKING:
    from chainbuild.builder.buildx import BuildxDriver


def solve(
    driver: BuildxDriver, specs: Sequence[BuildSpec], emit: Emit, begins: Callable[[int], None]
) -> Generator[SolveEvent, None, None]:
    """Build the steps; see `BuildxDriver.solve`."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        run = _Solve(driver, specs, emit, begins, bake_file(driver, specs, folder, stack))
        thread = threading.Thread(target=run.follow, name="solve", daemon=True)
        thread.start()
        try:
            while (event := run.events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            run.stop()
            thread.join()


class _Solve:
    """One call of bake. `follow` runs in a thread of its own, so that the progress is shown while images are recorded."""

    def __init__(
        self,
        driver: BuildxDriver,
        specs: Sequence[BuildSpec],
        emit: Emit,
        begins: Callable[[int], None],
        file: Path,
    ) -> None:
        self.events: SimpleQueue[SolveEvent | BaseException | None] = SimpleQueue()
        self._driver = driver
        self._specs = specs
        self._file = file
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._progress = LinkedProgress(
            specs, emit, begins, lambda place, digest: self.events.put(ImageStands(place=place, digest=digest))
        )

    def stop(self) -> None:
        """Stop the solve if it is running."""
        self._stopped.set()
        if not self._ended.is_set():
            stop_children(str(self._file))

    def follow(self) -> None:
        """Run bake to its end."""
        from python_on_whales.exceptions import DockerException

        try:
            self._progress.begin(0)
            names = [name_of(place) for place in range(len(self._specs))]
            for line in self._driver.bake(self._file, self._specs, names):
                if self._stopped.is_set():
                    self.stop()
                    continue
                self._progress.feed(line)
        except DockerException as error:
            if not self._stopped.is_set():
                self.events.put(self._failed(error.return_code))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.events.put(error)
        finally:
            self._ended.set()
            self.events.put(None)

    def _failed(self, return_code: int) -> SolveFailed:
        place, failure = self._progress.failure()
        error = build_error(self._specs[place or 0], failure, return_code)
        return SolveFailed(place=place, error=error, transient=is_transient(failure))


def name_of(place: int) -> str:
    """Return the name of a build in the solve."""
    return f"{TARGET}{place}"


def bake_file(driver: BuildxDriver, specs: Sequence[BuildSpec], folder: Path, stack: ExitStack) -> Path:
    """Write the file for bake, with a target for each build, and return its path. The stack keeps the contexts."""
    targets: dict[str, object] = {}
    for place, spec in enumerate(specs):
        own = folder / str(place)
        own.mkdir()
        context = stack.enter_context(linked_context(spec.context, sent_of(spec)))
        targets[name_of(place)] = target(driver.arguments(spec, copy_of(spec, own)), context, spec, place)
    file = folder / "bake.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"target": targets}), encoding="utf-8")
    return file


def target(arguments: Mapping[str, Any], context: Path, spec: BuildSpec, place: int) -> dict[str, object]:
    """Return a build as a target of bake. Bake expands `${…}` and `%{…}` in every text of its file."""
    contexts = dict(arguments["build_contexts"])
    if spec.parent:
        contexts[spec.parent] = f"target:{name_of(place - 1)}"
    described: dict[str, object] = {
        "context": str(context),
        "dockerfile": arguments["file"],
        "args": arguments["build_args"],
        "contexts": contexts,
        "platforms": arguments["platforms"],
        "secret": arguments["secrets"],
        "output": [",".join(f"{key}={value}" for key, value in arguments["output"].items())],
        "attest": ["type=provenance,disabled=true"],
    }
    if arguments["target"]:
        described["target"] = arguments["target"]
    return {name: _escaped(value) for name, value in described.items()}


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return value.replace("${", "$${").replace("%{", "%%{")
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list | tuple) else value
