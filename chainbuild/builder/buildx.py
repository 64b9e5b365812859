"""The build driver: one resolved step in, one image in a registry out. The only module that imports python_on_whales."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from chainbuild.builder.build_spec import BuildResult, BuildSpec, SolveEvent
from chainbuild.builder.builders import BuilderInfo, inspect_builder
from chainbuild.builder.failures import NO_HISTORY, build_error, is_of_cache, is_transient
from chainbuild.builder.progress import Progress, hidden_flags
from chainbuild.builder.running import copy_of, sent_of, stop_children, time_limit
from chainbuild.context.link import linked_context
from chainbuild.errors import ChainbuildError
from chainbuild.events import Emit
from chainbuild.host.folders import scratch_folder
from chainbuild.references import Digest, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

EPOCH: Final = 1767225600
"""2026-01-01 UTC, in seconds since the epoch: the modification time of files created by a build.

    Only newer times are rewritten. Such a late date keeps the times of files from packages, which Python needs to recognise
    stale compiled files.
"""

# Environment variables that make buildx change the image, by a build argument or labels. An
# arg of that name, in an args file or on the command line, is in the step's key; the environment is not.
_DECIDING_VARIABLES: Final = ("SOURCE_DATE_EPOCH", "BUILDX_GIT_LABELS")

_TRIES: Final = 4
_PAUSE: Final = 0.5


class BuildxDriver:
    """Builds with `docker buildx build`, using a separate builder per platform if configured."""

    def __init__(self, *, builders: Mapping[str, str] | None = None, no_cache: bool = False) -> None:
        """`builders` maps an OCI platform, or "" for all others, to a builder's name."""
        self._builders = dict(builders or {})
        self._no_cache = no_cache
        self._known: dict[str | None, BuilderInfo] = {}

    @cached_property
    def _docker(self) -> Any:
        for name in _DECIDING_VARIABLES:
            os.environ.pop(name, None)
        # Imported on demand: the import takes longer than a run that builds nothing.
        from python_on_whales import DockerClient

        return DockerClient()

    def builder_for(self, platform: Platform) -> str | None:
        """Return the name of the builder for a platform; None for the current one."""
        return self._builders.get(platform.oci) or self._builders.get("") or None

    def arguments(self, spec: BuildSpec, file: Path | None = None) -> dict[str, Any]:
        """Return the build's arguments for python_on_whales. `file` replaces the Dockerfile."""
        compression, level = spec.compression
        if spec.export is not None:
            output = {"type": "local", "dest": str(spec.export)}
        elif spec.load:
            # Layers of steps are compressed with zstd, which the engine's containerd does not know as a docker media type.
            output = {"type": "docker", "name": spec.load, "oci-mediatypes": "true"}
        elif not spec.image:
            output = {"type": "cacheonly"}
        else:
            output = {
                "type": "image",
                "name": spec.image,
                # An empty value means true to BuildKit and nothing to buildx, which otherwise, with the engine's builder,
                # pushes again what BuildKit has pushed.
                "push": "",
                # It also keeps the images of steps out of the engine's store.
                "store": "false",
                "oci-mediatypes": "true",
                "compression": compression,
                "compression-level": str(level),
            }
        args = dict(spec.args)
        builder = self._known.get(self.builder_for(spec.platform))
        if (spec.image or spec.load) and builder is not None and builder.rewrites_times:
            args.setdefault("SOURCE_DATE_EPOCH", str(EPOCH))
            if spec.image:
                output["rewrite-timestamp"] = "true"
        return {
            "context_path": str(spec.context),
            "file": str(file or spec.dockerfile),
            "platforms": [spec.platform.oci],
            "build_args": args,
            "build_contexts": dict(spec.contexts),
            "secrets": [secret.spec for secret in spec.secrets],
            "target": spec.target,
            "builder": self.builder_for(spec.platform),
            "cache": not (self._no_cache or spec.no_cache),
            # Attestations would turn the manifest into an index, which parents and records do not support.
            "provenance": False,
            "output": output,
        }

    def command(self, spec: BuildSpec) -> tuple[str, ...]:
        """Return the exact command line, for `plan -v` and for repeating the build by hand.

        A placeholder stands for the copy of the Dockerfile, which does not exist yet.
        """
        changes = [f"line {pin.place.line}: {pin.word} -> {pin.reference}" for pin in spec.pins]
        changes += [f"line {line}: {' '.join(('RUN', *flags))}" for line, flags in spec.run_flags]
        arguments = self.arguments(spec, Path(f"<{spec.shown} with {', '.join(changes)}>") if changes else None)
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
        argv += ["--platform", spec.platform.oci, "--provenance=false"]
        for secret in spec.secrets:
            argv += ["--secret", secret.spec]
        if spec.target:
            argv += ["--target", spec.target]
        return (*argv, arguments["context_path"])

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        """Build and push (or export) the image, emitting progress events.

        Errors: `BuildFailedError` with the Dockerfile's line and the last output; `NotReadyError` if the machine is at
        fault (no emulation, no space).
        """
        from python_on_whales.exceptions import DockerException

        started = time.monotonic()
        for tries_left in reversed(range(_TRIES)):
            progress = Progress(spec.step, emit, hidden=hidden_flags(spec), phases=bool(spec.image))
            try:
                digest = self._tried(spec, progress)
                break
            except DockerException as error:
                failure = progress.failure()
                if NO_HISTORY.fullmatch(failure.error):
                    if spec.export is not None and progress.exported:
                        digest = None
                        break
                    if spec.image and progress.exported and progress.pushed:
                        digest = Digest(progress.pushed)
                        break
                if tries_left and is_transient(failure):
                    spec = replace(spec, no_cache=spec.no_cache or is_of_cache(failure))
                    time.sleep(_PAUSE)
                    continue
                raise build_error(spec, failure, error.return_code) from None
        return BuildResult(digest=digest, seconds=time.monotonic() - started)

    def _tried(self, spec: BuildSpec, progress: Progress) -> Digest | None:
        with scratch_folder() as scratch, linked_context(spec.context, sent_of(spec)) as context:
            metadata = scratch / "metadata.json"
            file = copy_of(spec, scratch)
            arguments = self.arguments(spec, file) | {"context_path": str(context)}
            lines = self._docker.buildx.build(
                **arguments, progress="rawjson", stream_logs=True, metadata_file=str(metadata)
            )
            with time_limit(spec.seconds, str(metadata)):
                for line in lines:
                    progress.feed(line)
            return _digest(metadata) if spec.image else None

    def links(self, platform: Platform) -> bool:
        """Return whether the builder for a platform can build several steps in one solve with the same results.

        A builder that rewrites file times does so in what it exports, so a step that is linked to its parent would see
        other times than in the parent's image.
        """
        return not self._no_cache and not self.inspect(platform).rewrites_times

    def solve(
        self, specs: Sequence[BuildSpec], emit: Emit, begins: Callable[[int], None]
    ) -> Generator[SolveEvent, None, None]:
        """Build and push each image on top of the one before it, in one solve. Close the generator to stop it.

        An event follows when an image was pushed, in order, and at last if the solve failed. `begins` is called, from
        another thread, with the place of each build when it begins. Errors: as those of `build`, in the last event.
        """
        from chainbuild.builder.solve import solve

        return solve(self, specs, emit, begins)

    def load(self, specs: Sequence[BuildSpec], emit: Emit) -> None:
        """Build an image into the engine's local store; `specs` are its build, last, and those below it in the same solve.

        The builder uses its cache. Errors: as those of `build`.
        """
        from chainbuild.builder.loading import load

        self.inspect(specs[-1].platform)
        load(self, specs, emit)

    def bake(self, file: Path, specs: Sequence[BuildSpec], targets: list[str]) -> Iterator[str]:
        """Run bake for the targets of a file, one for each spec, and return the lines of its progress."""
        # From 0.20 on, bake asks whether it may read the folders that its file names.
        lines: Iterator[str] = self._docker.buildx.bake(
            targets,
            builder=self.builder_for(specs[0].platform),
            files=[file],
            progress="rawjson",
            stream_logs=True,
            variables={"BUILDX_BAKE_ENTITLEMENTS_FS": "0"},
        )
        return lines

    def stop(self) -> None:
        """Ask the running builds to stop."""
        stop_children()

    def inspect(self, platform: Platform) -> BuilderInfo:
        """Return the builder for a platform.

        Errors: `NotReadyError` if it does not exist or is unreachable.
        """
        name = self.builder_for(platform)
        if name not in self._known:
            self._known[name] = inspect_builder(name)
        return self._known[name]


def load_client() -> None:
    """Begin to import the client in the background: that takes about as long as the checks before a build."""
    threading.Thread(target=_import_client, name="import", daemon=True).start()


def _import_client() -> None:
    with suppress(ImportError):
        import python_on_whales  # noqa: F401


def _digest(metadata: Path) -> Digest:
    try:
        return Digest(json.loads(metadata.read_bytes())["containerimage.digest"])
    except (OSError, ValueError, KeyError) as error:
        raise ChainbuildError(
            f"buildx did not report the image's digest ({error})",
            hint="buildx 0.13 or newer is required; check with: docker buildx version.",
        ) from error


def hand_over(local_name: str, platform: Platform, destination: str) -> None:
    """Push one platform of a local image to a registry.

    This uses a build of a single FROM: the engine's builder reads the local store, selects the platform, and writes a plain
    manifest, whereas `docker push` pushes whatever the tag holds.
    """
    with scratch_folder() as scratch:
        dockerfile = scratch / "Dockerfile"
        dockerfile.write_text("ARG IMAGE\nFROM ${IMAGE}\n", encoding="utf-8")
        spec = BuildSpec(
            step=StepId.parse(f"hand over {local_name}"),
            dockerfile=dockerfile,
            shown=local_name,
            context=scratch,
            platform=platform,
            args=(("IMAGE", local_name),),
            image=destination,
        )
        BuildxDriver(builders={"": "default"}).build(spec, lambda _: None)
