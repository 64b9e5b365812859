"""Run tests of built images: `<descriptor>-test` next to a Dockerfile in the step's image, `production-test` in the result.

A test is any executable file: a script with a `#!` line, or a program for the image's platform. It is run by the
builder that built the image, on its platform, in a temporary container, with the image's ENV, USER and WORKDIR, without
network. Scripts for `sh` also run in images without a shell: chainbuild mounts one (see `borrowed_shell`). Comments in
the first lines of a test can change its network and time limit:

    # chainbuild: network
    # chainbuild: timeout 10m
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Final

from chainbuild.builder.build_spec import BuildDriver, BuildSpec, shown_path
from chainbuild.errors import BuildFailedError, NotProvenError
from chainbuild.events import Emit, Verdict
from chainbuild.host.folders import scratch_folder
from chainbuild.images.tools_image import Contexts
from chainbuild.layouts.test_files import VERDICT, ImageTest, read_image_test, verdict_of
from chainbuild.model import Step
from chainbuild.proof.borrowed_shell import (
    BUSYBOX,
    bring_shell,
    can_stand_in,
    interpreter,
    shell_dockerfile,
    was_not_started,
)
from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage

_SHOWN: Final = 20
_MOUNT: Final = "/.chainbuild-test"


def run_image_test(
    builder: BuildDriver,
    emit: Emit,
    step: Step,
    image: RemoteImage,
    *,
    contexts: Contexts | None = None,
    again: bool = False,
) -> str:
    """Run a step's test in its image; return the verdict for the record. `again`: run it even if it passed before.

    `contexts` returns the images from which a shell is mounted, if the image has none (see `tools_image`). Errors:
    `NotProvenError` with the test's last lines if it fails or times out.
    """
    if step.test is None:
        raise ValueError(f"{step.id} has no test")
    image_test, _ = read_image_test(step.test)
    started = time.monotonic()
    with scratch_folder() as scratch:
        run = _Run(builder, emit, step, image, image_test, scratch, again=again)
        try:
            shell = run.test(contexts)
        except BuildFailedError as error:
            raise _failed(emit, step, image_test, error, time.monotonic() - run.started, run.hint) from error
    took = time.monotonic() - started
    summary = f"{step.test.name} passed in {took:.1f} s{', with a shell from outside the image' if shell else ''}"
    emit(Verdict(step=step.id, proof=VERDICT, passed=True, summary=summary))
    return verdict_of(image_test)


def _failed(
    emit: Emit, step: Step, image_test: ImageTest, error: BuildFailedError, took: float, hint: str
) -> NotProvenError:
    """Emit the verdict on a failed test; return the error."""
    late = took >= image_test.seconds
    why = f"took longer than {image_test.seconds:.0f} s" if late else "failed"
    if late:
        hint = "To allow more time, add a line such as '# chainbuild: timeout 10m' at the top of the test."
    findings = error.log_tail[-_SHOWN:]
    if not findings and not late:
        ending = error.message.rpartition(" exited ")[2] if " exited " in error.message else ""
        findings = (f"{image_test.path.name} {f'exited {ending} and ' if ending else ''}printed nothing",)
        if can_stand_in(image_test.path.read_bytes()):
            hint = hint or "To see the command that fails, add set -x at the top of the test."
    emit(Verdict(step=step.id, proof=VERDICT, passed=False, summary=f"{image_test.path.name} {why}", findings=findings))
    return NotProvenError(
        f"{step.reference}: the test {image_test.path.name} {why}",
        where=shown_path(image_test.path),
        hint=hint,
        findings=findings,
    )


class _Run:
    """A test in an image; its container's files are in `scratch`."""

    def __init__(
        self,
        builder: BuildDriver,
        emit: Emit,
        step: Step,
        image: RemoteImage,
        image_test: ImageTest,
        scratch: Path,
        *,
        again: bool,
    ) -> None:
        self._builder = builder
        self._emit = emit
        self._step = step
        self._image = image
        self._image_test = image_test
        self._again = again
        self._scratch = scratch
        self._context = scratch / "context"
        self._context.mkdir()
        self._program = self._context / "test"
        shutil.copyfile(image_test.path, self._program)
        self._program.chmod(0o755)
        self.started = 0.0
        """The start of the test itself, by the monotonic clock."""
        self.hint = ""
        """How to fix the failure, if known."""

    def test(self, contexts: Contexts | None) -> bool:
        """Run the test; return whether a shell was mounted. Errors: `BuildFailedError`."""
        try:
            self._start(f"{_MOUNT}/test")
        except BuildFailedError as error:
            if not was_not_started(error.log_tail, f"{_MOUNT}/test"):
                raise
            script = self._program.read_bytes()
            if contexts is None or not can_stand_in(script):
                self.hint = _missing_hint(script)
                raise
            own = Platform.of_this_machine()
            bring_shell(
                self._builder,
                self._emit,
                self._step.id,
                self._step.platform,
                contexts(shell_dockerfile(), own),
                self._context,
            )
            (self._context / BUSYBOX).chmod(0o755)
            self._start(f"{_MOUNT}/{BUSYBOX}", "sh", f"{_MOUNT}/test")
            return True
        return False

    def _start(self, *command: str) -> None:
        dockerfile = self._scratch / "Dockerfile"
        network = "default" if self._image_test.network else "none"
        dockerfile.write_text(
            "ARG IMAGE\n"
            "FROM ${IMAGE}\n"
            f"RUN --network={network} --mount=type=bind,target={_MOUNT} {json.dumps(command)}\n",
            encoding="utf-8",
        )
        spec = BuildSpec(
            step=self._step.id,
            dockerfile=dockerfile,
            shown=self._image_test.path.name,
            context=self._context,
            platform=self._step.platform,
            args=(("IMAGE", self._image.reference.pinned),),
            seconds=self._image_test.seconds,
            no_cache=self._again,
            quoted=False,
        )
        self.started = time.monotonic()
        self._builder.build(spec, self._emit)


def _missing_hint(script: bytes) -> str:
    name = interpreter(script)
    if not name:
        return "The image lacks the program's loader. Link the test statically, or write it for #!/bin/sh."
    return f"The image lacks the test's interpreter {name}. Write it for #!/bin/sh, which chainbuild provides in any image."
