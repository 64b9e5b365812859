"""The build driver: one resolved step in, one image in a registry out. The only module that imports python_on_whales."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from chainbuild.errors import BuildFailedError, ChainbuildError, NotReadyError, RegistryError
from chainbuild.events import Emit
from chainbuild.model import Secret, StepId
from chainbuild.progress import Failure, Progress
from chainbuild.references import Digest, Platform
from chainbuild.scratch import scratch_folder

STEP_COMPRESSION: Final = ("zstd", 1)
"""Steps are read back on the same network, by builders that all know zstd: compress them little."""
RESULT_COMPRESSION: Final = ("gzip", 6)
"""Results go to anybody, also to engines and converters that know gzip alone."""

REPRODUCIBLE_DRIVERS: Final = frozenset({"docker-container", "kubernetes", "remote"})
"""Drivers that take `rewrite-timestamp`; the engine's own builder refuses it ("conflicts with unpack")."""
REWRITES_SINCE: Final = (0, 13)
"""The first BuildKit with `rewrite-timestamp`."""
EPOCH: Final = 1767225600
"""2026-01-01 UTC, in seconds since 1970: what the times of files that a build makes become.

Only newer times are rewritten. A date as late as that leaves packages' own files their times, by which compiled Python
files are told from stale ones.
"""

# In lower case. Warnings of QEMU's are in many logs of builds that fail for reasons of their own.
_QEMU_CRASH = re.compile(
    r"\bqemu: (?:uncaught target signal|fatal|unhandled)"
    r"|\bqemu-[a-z0-9_]+(?:-static)?: (?!warning)[^\n]*(?:: invalid argument|\binternal sig[a-z]+|assertion [^\n]*failed)"
    r"|\bqemu[^\n]*segmentation fault \(core dumped\)|segmentation fault \(core dumped\)[^\n]*\bqemu"
)
# As runc says it of the process that it starts; a shell that says so of a program is the Dockerfile's affair.
_NO_EMULATION = re.compile(r"exec (?:container process|user process caused|/\S*)\b[^\n]*: \"?exec format error")
# Two runs that name the same image in the engine's own store at the same moment: the one that comes second tries again.
_NAME_RACE = re.compile(r'image "[^"]*": already exists')
# Said at the end of a build that shares its parent's layers, under another name, with one that is still running: the
# engine (26.1 has it) finds no history to write down, after everything was built and pushed.
_NO_HISTORY = re.compile(r"(failed to solve: )?not found")
_TRIES: Final = 4
_NO_SPACE = ("no space left on device", "disk quota exceeded")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOrder:
    """Everything that one call of buildx needs, with every image pinned by digest."""

    step: StepId
    dockerfile: Path
    shown: str
    """The Dockerfile's path as people see it in messages."""
    context: Path
    platform: Platform
    args: tuple[tuple[str, str], ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    target: str | None = None
    image: str = ""
    """`registry/repository:tag` that is pushed to."""
    export: Path | None = None
    """A folder that gets the target's files instead. With neither, it is only run."""
    seconds: float | None = None
    """The build is stopped after that time."""
    no_cache: bool = False
    compression: tuple[str, int] = STEP_COMPRESSION


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """What a build gave: the manifest's digest (an export has none), and the wall-clock time in seconds."""

    digest: Digest | None
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """A buildx builder as it is: its driver, the platforms that it runs, and the buildx that speaks to it."""

    name: str
    driver: str
    platforms: tuple[str, ...]
    status: str
    buildkit: tuple[int, int] = (0, 0)

    @property
    def rewrites_times(self) -> bool:
        """Whether it can make layers whose files have no times of their own, so that the same content is the same layer."""
        return self.driver in REPRODUCIBLE_DRIVERS and self.buildkit >= REWRITES_SINCE


class BuildxDriver:
    """Builds through `docker buildx build`, with a builder per platform where the user named one."""

    def __init__(self, *, builders: Mapping[str, str] | None = None, no_cache: bool = False) -> None:
        """`builders` maps an OCI platform, or "" for every other one, to a builder's name."""
        self._builders = dict(builders or {})
        self._no_cache = no_cache
        self._known: dict[str | None, Builder] = {}

    @cached_property
    def _docker(self) -> Any:
        # Late: the import takes longer than a whole run that builds nothing.
        from python_on_whales import DockerClient

        return DockerClient()

    def builder_for(self, platform: Platform) -> str | None:
        """The name of the builder for a platform; None for the one that Docker has in use."""
        return self._builders.get(platform.oci) or self._builders.get("") or None

    def arguments(self, order: BuildOrder) -> dict[str, Any]:
        """The build as python_on_whales takes it."""
        compression, level = order.compression
        if order.export is not None:
            output = {"type": "local", "dest": str(order.export)}
        elif not order.image:
            output = {"type": "cacheonly"}
        else:
            output = {
                "type": "registry",
                "name": order.image,
                "oci-mediatypes": "true",
                "compression": compression,
                "compression-level": str(level),
            }
        args = dict(order.args)
        builder = self._known.get(self.builder_for(order.platform))
        if order.image and builder is not None and builder.rewrites_times:
            output["rewrite-timestamp"] = "true"
            args.setdefault("SOURCE_DATE_EPOCH", str(EPOCH))
        return {
            "context_path": str(order.context),
            "file": str(order.dockerfile),
            "platforms": [order.platform.oci],
            "build_args": args,
            "build_contexts": dict(order.contexts),
            "secrets": [secret.spec for secret in order.secrets],
            "target": order.target,
            "builder": self.builder_for(order.platform),
            "cache": not (self._no_cache or order.no_cache),
            # One image is one manifest: attestations would make it an index, which neither a parent nor a record is.
            "provenance": False,
            "output": output,
        }

    def command(self, order: BuildOrder) -> tuple[str, ...]:
        """The exact invocation, for `plan -v` and for people who want to repeat it."""
        arguments = self.arguments(order)
        argv = ["docker", "buildx", "build", "--progress", "rawjson"]
        for key, value in arguments["build_args"].items():
            argv += ["--build-arg", f"{key}={value}"]
        for key, value in arguments["build_contexts"].items():
            argv += ["--build-context", f"{key}={value}"]
        if arguments["builder"]:
            argv += ["--builder", arguments["builder"]]
        argv += ["--file", arguments["file"]]
        if not arguments["cache"]:
            argv.append("--no-cache")
        argv += ["--output", ",".join(f"{key}={value}" for key, value in arguments["output"].items())]
        argv += ["--platform", order.platform.oci, "--provenance=false"]
        for secret in order.secrets:
            argv += ["--secret", secret.spec]
        if order.target:
            argv += ["--target", order.target]
        return (*argv, arguments["context_path"])

    def build(self, order: BuildOrder, emit: Emit) -> BuildResult:
        """Build it and push it (or export it), telling what happens.

        Errors: `BuildFailedError` with the Dockerfile's line and the last output; `NotReadyError` where the machine is at
        fault (no emulation, no space).
        """
        from python_on_whales.exceptions import DockerException

        started = time.monotonic()
        for tries_left in reversed(range(_TRIES)):
            progress = Progress(order.step, emit)
            try:
                digest = self._tried(order, progress)
                break
            except DockerException as error:
                failure = progress.failure()
                if _NO_HISTORY.fullmatch(failure.error):
                    if order.export is not None and progress.exported:
                        digest = None
                        break
                    if order.image and progress.exported and progress.pushed:
                        digest = Digest(progress.pushed)
                        break
                if tries_left and _transient(failure):
                    continue
                raise self._told(order, failure, error.return_code) from None
        return BuildResult(digest=digest, seconds=time.monotonic() - started)

    def _tried(self, order: BuildOrder, progress: Progress) -> Digest | None:
        with scratch_folder() as scratch:
            metadata = scratch / "metadata.json"
            lines = self._docker.buildx.build(
                **self.arguments(order), progress="rawjson", stream_logs=True, metadata_file=str(metadata)
            )
            with _time_limit(order.seconds, str(metadata)):
                for line in lines:
                    progress.feed(line)
            return _digest(metadata) if order.image else None

    def _told(self, order: BuildOrder, failure: Failure, return_code: int) -> ChainbuildError:
        said = "\n".join((failure.error, *failure.tail, failure.text)).lower()
        where = f"{order.shown}:{failure.line}" if failure.line else order.shown
        instruction = failure.vertex.partition("] ")[2] or failure.vertex
        if any(sign in said for sign in _NO_SPACE):
            return NotReadyError(
                f"{order.step}: no space left on the builder's disk",
                where=where,
                hint="Free some with: docker buildx prune (build cache), docker image prune (unused images).",
            )
        if _NO_EMULATION.search(said):
            return NotReadyError(
                f"{order.step}: this machine does not run {order.platform.oci} programs",
                where=where,
                hint=emulation_hint(order.platform),
            )
        if _QEMU_CRASH.search(said):
            return BuildFailedError(
                f"{order.step}: QEMU crashed while it ran {instruction!r}; that is the emulator, not the Dockerfile",
                where=where,
                hint="Run it again, use another QEMU (script/setup says how), or build this platform on a native builder:"
                f" --builder {order.platform.name}=NAME.",
                log_tail=failure.tail,
            )
        if return_code in {-signal.SIGINT, -signal.SIGTERM, 130, 143} or "context canceled" in failure.error:
            return BuildFailedError(f"{order.step}: the build was cancelled", where=where)
        host = order.image.partition("/")[0]
        if host and ("failed to push" in failure.error or f"//{host}/v2/" in failure.error):
            return RegistryError(
                f"{order.step}: the registry at {host} did not take the image: {_last_cause(failure.error)}",
                where=where,
                hint=_hint(said)
                or "Is it up, and is there room on its disk? What was finished stays; run it again then.",
            )
        return BuildFailedError(
            f"{order.step}: {instruction or 'the build'} failed: {_last_cause(failure.error)}",
            where=where,
            hint=_hint(said),
            log_tail=failure.tail or tuple(failure.text.splitlines()[-15:]),
        )

    def stop(self) -> None:
        """Make the builds that are running end soon."""
        stop_children()

    def inspect(self, platform: Platform) -> Builder:
        """The builder that would build for a platform.

        Errors: `NotReadyError` where it does not exist or does not answer.
        """
        name = self.builder_for(platform)
        if name in self._known:
            return self._known[name]
        argv = ["docker", "buildx", "inspect", "--bootstrap", *([name] if name else [])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)  # the user's docker
        if done.returncode:
            raise NotReadyError(
                f"the builder {name or 'in use'} does not answer: {_last_line(done.stderr)}",
                hint="See what is there with: docker buildx ls.",
            )
        fields = [line.partition(":") for line in done.stdout.splitlines()]
        values = {key.strip(): value.strip() for key, _, value in reversed(fields)}
        platforms = ",".join(value for key, _, value in fields if key.strip() == "Platforms")
        if not platforms and "Error" in values:
            # buildx ends well even where the builder's engine does not answer.
            raise NotReadyError(
                f"the builder {name or 'in use'} does not answer: {values['Error']}",
                hint="See what is there with: docker buildx ls.",
            )
        if name and name != "default" and values.get("Driver") == "docker":
            raise NotReadyError(
                f"{name} is a docker context, not a builder that can be chosen beside others",
                hint=f"Make a builder of it: docker buildx create --name {name}-builder {name}.",
            )
        version = re.search(r"v?(\d+)\.(\d+)", values.get("BuildKit version") or values.get("Buildkit") or "")
        self._known[name] = Builder(
            name=values.get("Name", name or "default"),
            driver=values.get("Driver", ""),
            platforms=tuple(part.strip().rstrip("*") for part in platforms.split(",") if part.strip()),
            status=values.get("Status", ""),
            buildkit=(int(version[1]), int(version[2])) if version else (0, 0),
        )
        return self._known[name]


def _transient(failure: Failure) -> bool:
    """Whether the failure says nothing of the step: a second try may end well."""
    return bool(_NO_HISTORY.fullmatch(failure.error) or _NAME_RACE.search(f"{failure.error}\n{failure.text}"))


def emulation_hint(platform: Platform) -> str:
    """The command that lets this machine run another platform's programs."""
    return (
        f"Register QEMU for it: docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}"
        " (or the packages qemu-user-static and binfmt-support), or name a native builder:"
        f" --builder {platform.name}=NAME."
    )


def stop_children(having: str = "") -> None:
    """Ask the builds that this process started to stop (buildx cancels a build on SIGINT).

    `having`: only the one with that text in its command line.
    """
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=False)
    for child in _children(done.stdout, str(os.getpid()), having):
        try:
            os.kill(child, signal.SIGINT)
        except OSError:
            continue


def _children(table: str, parent: str, having: str) -> Iterator[int]:
    for line in table.splitlines():
        fields = line.split(None, 2)
        if len(fields) == 3 and fields[1] == parent and having in fields[2]:
            yield int(fields[0])


@contextmanager
def _time_limit(seconds: float | None, having: str) -> Iterator[None]:
    """Stop the child with that text in its command line when the time is over."""
    timer = threading.Timer(seconds, stop_children, args=(having,)) if seconds is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()


def _digest(metadata: Path) -> Digest:
    try:
        return Digest(json.loads(metadata.read_bytes())["containerimage.digest"])
    except (OSError, ValueError, KeyError) as error:
        raise ChainbuildError(
            f"buildx did not say which image it made ({error})",
            hint="buildx 0.13 or newer is needed: docker buildx version.",
        ) from error


def _last_cause(error: str) -> str:
    """The end of BuildKit's chain of causes, which is what people can act on."""
    text = error.removeprefix("failed to solve: ").strip()
    if "did not complete successfully: " in text:
        return text.rpartition("did not complete successfully: ")[2]
    return text or "buildx said nothing more"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").strip() if lines else "no answer"


def _hint(said: str) -> str:
    if "connection refused" in said and "localhost" in said:
        return (
            "The builder does not reach the chain registry on localhost: it was stopped, or the builder is a"
            " docker-container one and needs --driver-opt network=host."
        )
    if "requested access to the resource is denied" in said or "unauthorized" in said:
        return "The registry wants a login: docker login REGISTRY."
    return ""


def hand_over(local_name: str, platform: Platform, destination: str) -> None:
    """Push an image of the local store to a registry, one platform of it.

    A build of nothing but FROM does it: the engine's own builder sees the local store, picks the platform, and writes a
    plain manifest, where `docker push` sends whatever the name holds.
    """
    with scratch_folder() as scratch:
        dockerfile = scratch / "Dockerfile"
        dockerfile.write_text("ARG IMAGE\nFROM ${IMAGE}\n", encoding="utf-8")
        order = BuildOrder(
            step=f"hand over {local_name}",
            dockerfile=dockerfile,
            shown=local_name,
            context=scratch,
            platform=platform,
            args=(("IMAGE", local_name),),
            image=destination,
        )
        BuildxDriver(builders={"": "default"}).build(order, lambda _: None)
