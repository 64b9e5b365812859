"""Translate build failures of BuildKit, QEMU and registries into errors with a cause and a hint."""

from __future__ import annotations

import re
import signal

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.progress import Failure
from chainbuild.errors import BuildFailedError, ChainbuildError, NotReadyError, RegistryError
from chainbuild.references import Platform

# QEMU's warnings are excluded: they also occur in builds that fail for other reasons. So are signals that programs send to
# each other to end them (HUP, INT, KILL, PIPE, ALRM, TERM). The second line is from TCG, QEMU's code generator.
_QEMU_CRASH = re.compile(
    r"\bqemu: (?:uncaught target signal (?!(?:1|2|9|13|14|15)\b)|fatal|unhandled)"
    r"|\btcg/[^\s:]+:\d+:(?:[^\s:]+:)? ?(?:assertion|tcg fatal error|code should not be reached)"
    r"|\bqemu-[a-z0-9_]+(?:-static)?: (?!warning)[^\n]*(?:: invalid argument|assertion [^\n]*failed)"
    r"|\bqemu internal sig[a-z]+ \{"
    r"|\bqemu[^\n]*segmentation fault \(core dumped\)|segmentation fault \(core dumped\)[^\n]*\bqemu",
    re.IGNORECASE,
)
# runc's message about the process that it starts; from a shell the same message concerns the Dockerfile's program.
_NO_EMULATION = re.compile(r"exec (?:container process|user process caused|/\S*)\b[^\n]*: \"?exec format error")
# Two runs tag the same image in the engine's store at once: the second one retries.
_NAME_RACE = re.compile(r'image "[^"]*": already exists')
# A build cache entry without its snapshot, left by a build whose client was killed. BuildKit offers it to
# every later build of the same step (explained in moby/buildkit pull request 6808).
_LOST_SNAPSHOT = re.compile(r"snapshot \S+ does not exist: not found")
# Reported at the end of a build that shares its parent's layers with a running build of another name: the
# engine (seen in 26.1) finds no history to record, although everything was built and pushed.
NO_HISTORY = re.compile(r"(failed to solve: )?not found")
# What buildx says if the daemon of a builder ends during a build, or before it.
_LOST_BUILDER = re.compile(r"failed to (?:receive status|list workers): (?:rpc error: code = )?Unavailable\b")
_UNREAD_IMAGE = "failed to resolve source metadata"
# Dockerfile flags added after BuildKit 0.13.
_NEW_FLAG = re.compile(r"unknown flag: (?:--)?(?:parents|exclude|unpack|device|security)\b")
# Messages of runc and crun about the shell of RUN's shell form.
_NO_SHELL = re.compile(r'exec: "/bin/(?:ba|da)?sh"|executable `?/bin/(?:ba|da)?sh`? not found')
_NO_APT = re.compile(r"\bapt-get: (?:command )?not found")
# BuildKit's step that gets the image of `# syntax=`.
_FRONTEND = re.compile(r"resolve image config for (?:docker-image://)?(\S+)")
_EXIT_CODE = re.compile(r"exit code: (\d+)")
_EXCERPT_LINES = 15
_NO_SPACE = ("no space left on device", "disk quota exceeded")


def is_transient(failure: Failure) -> bool:
    """Return whether a retry may succeed because the step is not the cause."""
    output = f"{failure.error}\n{failure.text}"
    return bool(NO_HISTORY.fullmatch(failure.error) or _NAME_RACE.search(output) or is_of_cache(failure))


def is_of_cache(failure: Failure) -> bool:
    """Return whether the step's build cache is damaged, so that only a build without cache can succeed."""
    return bool(_LOST_SNAPSHOT.search(f"{failure.error}\n{failure.text}"))


def build_error(spec: BuildSpec, failure: Failure, return_code: int) -> ChainbuildError:
    """Return the error for a failed build: the cause, the location and a hint."""
    whole = _output(failure)
    output = whole.lower()
    where = spec.where(failure.line or 0)
    instruction = failure.vertex.partition("] ")[2] or failure.vertex
    if any(sign in output for sign in _NO_SPACE):
        return NotReadyError(
            f"{spec.step}: no space left on the builder's disk",
            where=where,
            hint="Free some with: docker buildx prune (build cache), docker image prune (unused images).",
        )
    if _NO_EMULATION.search(output):
        return NotReadyError(
            f"{spec.step}: this machine cannot run {spec.platform.oci} programs",
            where=where,
            hint=emulation_hint(spec.platform),
        )
    if crash := _QEMU_CRASH.search(whole):
        return BuildFailedError(
            f"{spec.step}: QEMU crashed while running {instruction!r}; the emulator is at fault, not the Dockerfile",
            where=where,
            hint="Run it again, use another version of QEMU, or use a native builder for this platform:"
            f" --builder {spec.platform.name}=NAME.",
            log_tail=failure.tail,
            emulator_crash=_line_of(crash),
            line=failure.line,
        )
    if return_code in {-signal.SIGINT, -signal.SIGTERM, 130, 143} or "context canceled" in failure.error:
        return BuildFailedError(f"{spec.step}: the build was cancelled", where=where)
    if _LOST_BUILDER.search(failure.error):
        return NotReadyError(
            f"{spec.step}: the connection to the builder was lost: {_last_cause(failure.error)}",
            where=where,
            hint="Check the builder with docker buildx ls, and run again; finished steps are kept.",
        )
    if of_registry := _registry_error(spec, failure, instruction, where):
        return of_registry
    cause = _last_cause(failure.error)
    ended = _EXIT_CODE.fullmatch(cause)
    return BuildFailedError(
        f"{spec.step}: {instruction or 'the build'} "
        + (f"exited with code {ended[1]}" if ended else f"failed: {cause}"),
        where=where,
        hint=_hint(spec, output),
        log_tail=failure.tail or (tuple(failure.text.splitlines()[-_EXCERPT_LINES:]) if spec.quoted else ()),
        line=failure.line,
    )


def _registry_error(spec: BuildSpec, failure: Failure, instruction: str, where: str) -> RegistryError | None:
    """Return the error if a registry is the cause: the chain registry, or that of the Dockerfile's frontend."""
    cause = _last_cause(failure.error)
    host = spec.image.partition("/")[0]
    if host and ("failed to push" in failure.error or f"//{host}/v2/" in failure.error):
        failed = "read an image of" if _UNREAD_IMAGE in failure.error else "push the image to"
        return RegistryError(
            f"{spec.step}: could not {failed} the registry at {host}: {cause}",
            where=where,
            hint=_hint(spec, _output(failure).lower())
            or "Check that it is running and has free disk space, and run again; finished steps are kept.",
        )
    if frontend := _FRONTEND.fullmatch(instruction):
        return RegistryError(
            f"{spec.step}: the builder cannot get {frontend[1]}, the image of # syntax=: {cause}",
            where=where,
            hint="Give the builder access to its registry, or leave the line out, and its own frontend is used.",
        )
    return None


def _output(failure: Failure) -> str:
    return "\n".join((failure.error, *failure.tail, failure.text))


def _line_of(match: re.Match[str]) -> str:
    """Return the whole line of a match."""
    text = match.string
    return text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0].strip()


def emulation_hint(platform: Platform) -> str:
    """Return the hint how to enable this machine to run another platform's programs."""
    return (
        f"Register QEMU for it: docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}"
        " (or the packages qemu-user-static and binfmt-support), or name a native builder:"
        f" --builder {platform.name}=NAME."
    )


def _last_cause(error: str) -> str:
    """Return the last of BuildKit's chain of causes."""
    text = error.removeprefix("failed to solve: ").strip()
    if "did not complete successfully: " in text:
        return text.rpartition("did not complete successfully: ")[2]
    return text or "buildx reported no reason"


def _hint(spec: BuildSpec, output: str) -> str:
    if dict(spec.args).get("PRODUCTION_PACKAGES") and (_NO_APT.search(output) or _NO_SHELL.search(output)):
        return (
            "PRODUCTION_PACKAGES requires apt, which this PRODUCTION image lacks. List the files in ADDITIONAL_FILES"
            " instead, or use a PRODUCTION image of the distribution."
        )
    if _NO_SHELL.search(output):
        return 'The image has no shell. Use RUN ["program", "argument"], which needs none.'
    if _NEW_FLAG.search(output):
        return (
            "The builder's Dockerfile frontend does not support this flag. Use a newer one: '# syntax=docker/dockerfile:1'"
            " as the first line."
        )
    if "connection refused" in output and "localhost" in output:
        return (
            "The builder cannot reach the chain registry on localhost: the registry was stopped, or the builder is a"
            " docker-container one and needs --driver-opt network=host."
        )
    if "requested access to the resource is denied" in output or "unauthorized" in output:
        return "Log in to the registry with: docker login REGISTRY."
    return ""
