"""Why a build failed, in words that people can act on: what BuildKit, QEMU and registries say, and what it means."""

from __future__ import annotations

import re
import signal

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.progress import Failure
from chainbuild.errors import BuildFailedError, ChainbuildError, NotReadyError, RegistryError
from chainbuild.references import Platform

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
# What is left in the build cache of a build whose client was killed: an entry without its snapshot. BuildKit gives it to
# every later build of the same step (moby/buildkit pull request 6808 says how it comes about).
_LOST_SNAPSHOT = re.compile(r"snapshot \S+ does not exist: not found")
# Said at the end of a build that shares its parent's layers, under another name, with one that is still running: the
# engine (26.1 has it) finds no history to write down, after everything was built and pushed.
NO_HISTORY = re.compile(r"(failed to solve: )?not found")
# Flags of a Dockerfile that came after BuildKit 0.13: an older builder knows nothing of them.
_NEW_FLAG = re.compile(r"unknown flag: (?:--)?(?:parents|exclude|unpack|device|security)\b")
# runc and crun, of the shell that RUN's shell form starts.
_NO_SHELL = re.compile(r'exec: "/bin/(?:ba|da)?sh"|executable `?/bin/(?:ba|da)?sh`? not found')
_NO_APT = re.compile(r"\bapt-get: (?:command )?not found")
_NO_SPACE = ("no space left on device", "disk quota exceeded")


def is_transient(failure: Failure) -> bool:
    """Return whether the failure says nothing of the step: a second try may end well."""
    said = f"{failure.error}\n{failure.text}"
    return bool(NO_HISTORY.fullmatch(failure.error) or _NAME_RACE.search(said) or is_of_cache(failure))


def is_of_cache(failure: Failure) -> bool:
    """Return whether the builder's cache is damaged where this step needs it: only a build without it can end well."""
    return bool(_LOST_SNAPSHOT.search(f"{failure.error}\n{failure.text}"))


def build_error(order: BuildSpec, failure: Failure, return_code: int) -> ChainbuildError:
    """Return what a failed build is told as: whose fault it is, where, and the way out."""
    said = "\n".join((failure.error, *failure.tail, failure.text)).lower()
    where = order.where(failure.line or 0)
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
            hint=_hint(order, said)
            or "Is it up, and is there room on its disk? What was finished stays; run it again then.",
        )
    return BuildFailedError(
        f"{order.step}: {instruction or 'the build'} failed: {_last_cause(failure.error)}",
        where=where,
        hint=_hint(order, said),
        log_tail=failure.tail or tuple(failure.text.splitlines()[-15:]),
    )


def emulation_hint(platform: Platform) -> str:
    """Return the command that lets this machine run another platform's programs."""
    return (
        f"Register QEMU for it: docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}"
        " (or the packages qemu-user-static and binfmt-support), or name a native builder:"
        f" --builder {platform.name}=NAME."
    )


def _last_cause(error: str) -> str:
    """Return the end of BuildKit's chain of causes, which is what people can act on."""
    text = error.removeprefix("failed to solve: ").strip()
    if "did not complete successfully: " in text:
        return text.rpartition("did not complete successfully: ")[2]
    return text or "buildx said nothing more"


def _hint(order: BuildSpec, said: str) -> str:
    if dict(order.args).get("PRODUCTION_PACKAGES") and (_NO_APT.search(said) or _NO_SHELL.search(said)):
        return (
            "PRODUCTION_PACKAGES needs apt, which this PRODUCTION image does not have. Name the files in ADDITIONAL_FILES"
            " instead, or take a PRODUCTION image of the distribution."
        )
    if _NO_SHELL.search(said):
        return 'The image has no shell: RUN ["program", "argument"] starts a program without one.'
    if _NEW_FLAG.search(said):
        return (
            "The builder's own frontend is older than this flag. Take a newer one: write '# syntax=docker/dockerfile:1' as"
            " the first line of the Dockerfile."
        )
    if "connection refused" in said and "localhost" in said:
        return (
            "The builder does not reach the chain registry on localhost: it was stopped, or the builder is a"
            " docker-container one and needs --driver-opt network=host."
        )
    if "requested access to the resource is denied" in said or "unauthorized" in said:
        return "The registry wants a login: docker login REGISTRY."
    return ""
