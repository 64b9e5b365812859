"""Run tests in the chain's image under strace, with the builder, and compare the accessed paths with another image.

Everything is a single build of `utilities/Dockerfile-trace`, with stages for the tests added. Each test runs in its own
temporary container, one after the other, with the image's ENV, USER and WORKDIR. strace is mounted and runs natively,
on the builder's platform: for an emulated program it sees the system calls of the emulator, which are the program's. So
one tracer works for all platforms, and neither image is changed or needs any files.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.errors import BuildFailedError, ChainbuildError
from chainbuild.events import Emit
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import PROGRAM, minimize_program, shipped
from chainbuild.layouts.test_files import TIME_LIMIT, ImageTest
from chainbuild.minimize.scripts import interpreters_of
from chainbuild.patterns import regex
from chainbuild.proof.trace.report import TraceReport, read_trace_report
from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from chainbuild.step_id import StepId

SLOWER: Final = 2
"""The factor by which a test's time limit grows under strace."""
_PLACE: Final = "# TESTS\n"
_TRACER: Final = "/.chainbuild-tracer"
_RESULTS: Final = "/.chainbuild-trace"
_PROGRAM: Final = "/.chainbuild-test"
_SPARE_SECONDS: Final = 1800.0
"""The time limit for pulling images, installing strace and comparing, in seconds."""
_FIRST_LINE: Final = 256
_KILLED: Final = regex(r"exited with code (?:137|143)\b")


class NotTraceableError(ChainbuildError):
    """The builder does not allow tracing, or strace is unavailable; the message has the reason.

    `passing`: a retry may succeed.
    """

    passing = False


class TraceTarget(Struct, frozen=True, kw_only=True):
    """A test or a command to trace. If `program` is set, that file is run, otherwise `command`.

    `in_production`: also run it in the production image. `only_if_it_passes`: trace it only if it passes there.
    """

    name: str
    program: Path | None = None
    command: tuple[str, ...] = ()
    network: bool = False
    seconds: float = TIME_LIMIT
    in_production: bool = False
    only_if_it_passes: bool = False

    @classmethod
    def of_trial(
        cls, image_test: ImageTest, *, in_production: bool = False, only_if_it_passes: bool = False
    ) -> TraceTarget:
        """Return the target for a test of a step, as read by `read_image_test`."""
        return cls(
            name=image_test.path.name,
            program=image_test.path,
            network=image_test.network,
            seconds=image_test.seconds,
            in_production=in_production or only_if_it_passes,
            only_if_it_passes=only_if_it_passes,
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Return the command that is executed in the container."""
        return self.command if self.program is None else (f"{_PROGRAM}/test",)

    @property
    def starts(self) -> str:
        """Return the interpreter of the program if it is a script: the kernel opens it, which no call shows."""
        if self.program is None:
            return ""
        with self.program.open("rb") as stream:
            return next(iter(interpreters_of(stream.read(_FIRST_LINE))), "")


def trace(
    builder: BuildDriver,
    emit: Emit,
    tests: Sequence[TraceTarget],
    *,
    step: StepId,
    platform: Platform,
    chain: RemoteImage,
    production: RemoteImage,
    contexts: Mapping[str, str] | None = None,
    ignore: str = "",
) -> TraceReport:
    """Trace the tests in `chain` and report the paths that `production` lacks.

    `contexts` replace the images that the Dockerfile names, pinned; `ignore` is a list of patterns of paths to ignore.
    Errors: `NotTraceableError` if strace is unavailable or does not work there; those of a build.
    """
    env = dict(chain.config.env)
    with scratch_folder() as scratch:
        context = scratch / "context"
        context.mkdir()
        _write_context(context, tests, chain.config.working_dir or "/")
        dockerfile = scratch / "Dockerfile-trace"
        dockerfile.write_text(dockerfile_for(tests), encoding="utf-8")
        out = scratch / "out"
        out.mkdir()
        spec = BuildSpec(
            step=step,
            dockerfile=dockerfile,
            shown="the traced proof",
            context=context,
            platform=platform,
            args=(
                ("CHAIN_IMAGE", chain.reference.pinned),
                ("PRODUCTION_IMAGE", production.reference.pinned),
                ("LIBRARY_PATH", env.get("LD_LIBRARY_PATH", "")),
                ("SEARCH_PATH", env.get("PATH", "")),
                ("IGNORE", ignore),
            ),
            contexts=(*(contexts or {}).items(), (PROGRAM, str(minimize_program()))),
            export=out,
            seconds=_SPARE_SECONDS + sum(test.seconds * (1 + SLOWER) for test in tests),
        )
        try:
            builder.build(spec, emit)
        except BuildFailedError as error:
            raise _explain(error) from error
        return read_trace_report((out / "trace.json").read_bytes())


def _explain(error: BuildFailedError) -> ChainbuildError:
    """Return the error of a build, or the tracer's own error if it caused that: a failing test does not fail the build."""
    if "minimize.trace" in error.message or not any(sign in error.message for sign in ("strace", _TRACER)):
        return error
    lines = [line.strip() for line in error.log_tail if line.strip()]
    if _TRACER in error.message:
        if _KILLED.search(error.message):
            return error
        why, passing = "strace cannot start in containers for this platform", False
    else:
        why, passing = "strace cannot be installed in the tools image", True
    failure = NotTraceableError(f"{why} ({lines[-1]})" if lines else why)
    failure.passing = passing
    return failure


def _write_context(context: Path, tests: Sequence[TraceTarget], folder: str) -> None:
    rows = []
    for number, test in enumerate(tests):
        rows.append(
            {
                "name": test.name,
                "results": f"/results/{number}",
                "produced": f"/results/{number}-produced" if test.in_production else "",
                "starts": test.starts,
                "folder": folder,
            }
        )
        if test.program is not None:
            program = context / str(number) / "test"
            program.parent.mkdir(mode=0o755)
            shutil.copyfile(test.program, program)
            program.chmod(0o755)
    (context / "tests.json").write_text(json.dumps(rows), encoding="utf-8")


def dockerfile_for(tests: Sequence[TraceTarget]) -> str:
    """Return the Dockerfile that runs the tests; only the tools are taken from the builder's cache, never a test's run."""
    text = shipped("utilities/Dockerfile-trace").read_text(encoding="utf-8")
    before, place, after = text.partition(_PLACE)
    if not place:
        raise ValueError("Dockerfile-trace has no place for the tests")
    return f"{before}{''.join(_stages(tests))}{after}"


def _stages(tests: Sequence[TraceTarget]) -> Iterator[str]:
    nonce = uuid.uuid4().hex
    previous, results = "", ["FROM scratch AS results\n"]
    for number, test in enumerate(tests):
        if test.in_production:
            stage = f"produced-{number}"
            yield _stage(test, stage, number, "production", ("plain", _seconds(test.seconds), nonce), _after(previous))
            results.append(f"COPY --from={stage} {_RESULTS}/ /{number}-produced/\n")
            previous = stage
        stage = f"traced-{number}"
        words = ("trace", _seconds(test.seconds * SLOWER), nonce)
        yield _stage(test, stage, number, "chain", words, _after(previous, decides=test.only_if_it_passes))
        results.append(f"COPY --from={stage} {_RESULTS}/ /{number}/\n")
        previous = stage
    yield "".join(results)


def _seconds(seconds: float) -> str:
    return str(max(1, round(seconds)))


def _after(previous: str, *, decides: bool = False) -> str:
    """Return the mount by which a test waits for the previous one, or whose status decides if it is run (see `run.sh`)."""
    target = "/.chainbuild-produced" if decides else "/.chainbuild-before"
    return f" --mount=type=bind,from={previous},source={_RESULTS},target={target}" if previous else ""


def _stage(test: TraceTarget, stage: str, number: int, image: str, words: tuple[str, ...], after: str) -> str:
    program = f" --mount=type=bind,source={number},target={_PROGRAM}" if test.program is not None else ""
    shell = (f"{_TRACER}/loader", "--library-path", f"{_TRACER}/lib", f"{_TRACER}/sh", f"{_TRACER}/run")
    return (
        f"FROM {image} AS {stage}\n"
        "COPY --from=tracer /results/ /\n"
        f"RUN --network={'default' if test.network else 'none'} --mount=type=bind,from=tracer,source=/tracer,target={_TRACER}"
        f"{program}{after} {json.dumps((*shell, *words, *test.words))}\n"
    )
