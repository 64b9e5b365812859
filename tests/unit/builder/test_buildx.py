"""Orders as buildx's command lines, and buildx's failures as errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import RESULT_COMPRESSION, BuildSpec, Pin, build_spec_for, shown_path, stage_args
from chainbuild.builder.builders import BuilderInfo
from chainbuild.builder.buildx import EPOCH, BuildxDriver
from chainbuild.builder.failures import build_error, is_transient
from chainbuild.builder.progress import Failure
from chainbuild.builder.running import children_in
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.errors import BuildFailedError, ChainbuildError, NotReadyError, RegistryError
from chainbuild.events import Event
from chainbuild.model import Secret
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, THREE_STEPS, World
from tests.unit.builder.rawjson import ERROR, log, vertex

ORDER = BuildSpec(
    step=StepId.parse("amd64/stock/10-base"),
    dockerfile=Path("/tree/stock/10-Dockerfile-base"),
    shown="stock/10-Dockerfile-base",
    context=Path("/tree"),
    platform=AMD64,
    args=(("CPU", "ZEN 3 $(id)"), ("BASE_IMAGE", "localhost:5000/a@sha256:1")),
    image="localhost:5000/team/atom:k1-staging",
)

REWRITES = BuilderInfo(name="far", driver="remote", platforms=("linux/arm64",), status="running", buildkit=(0, 20))


def test_plain_order_has_minimal_arguments() -> None:
    assert BuildxDriver().command(ORDER) == (
        "docker",
        "buildx",
        "build",
        "--progress",
        "rawjson",
        "--build-arg",
        "CPU=ZEN 3 $(id)",
        "--build-arg",
        "BASE_IMAGE=localhost:5000/a@sha256:1",
        "--file",
        "/tree/stock/10-Dockerfile-base",
        "--output",
        "type=image,name=localhost:5000/team/atom:k1-staging,push=,store=false,oci-mediatypes=true,compression=zstd,compression-level=1",
        "--platform",
        "linux/amd64",
        "--provenance=false",
        "/tree",
    )


def test_order_with_all_fields_has_all_arguments() -> None:
    spec = replace(
        ORDER,
        contexts=(("golang:1.22", "docker-image://docker.io/library/golang@sha256:2"), ("sources", "/elsewhere")),
        secrets=(Secret(id="token", spec="id=token,src=/run/token"), Secret(id="key", spec="id=key,env=KEY")),
        target="slim",
        platform=ARM64,
        compression=RESULT_COMPRESSION,
    )
    driver = BuildxDriver(builders={"linux/arm64": "far", "": "near"}, no_cache=True)
    driver._known["far"] = REWRITES
    assert driver.command(spec) == (
        "docker",
        "buildx",
        "build",
        "--progress",
        "rawjson",
        "--build-arg",
        "CPU=ZEN 3 $(id)",
        "--build-arg",
        "BASE_IMAGE=localhost:5000/a@sha256:1",
        "--build-arg",
        f"SOURCE_DATE_EPOCH={EPOCH}",
        "--build-context",
        "golang:1.22=docker-image://docker.io/library/golang@sha256:2",
        "--build-context",
        "sources=/elsewhere",
        "--builder",
        "far",
        "--file",
        "/tree/stock/10-Dockerfile-base",
        "--no-cache",
        "--output",
        (
            "type=image,name=localhost:5000/team/atom:k1-staging,push=,store=false,oci-mediatypes=true,compression=gzip,compression-level=6,"
            "rewrite-timestamp=true"
        ),
        "--platform",
        "linux/arm64",
        "--provenance=false",
        "--secret",
        "id=token,src=/run/token",
        "--secret",
        "id=key,env=KEY",
        "--target",
        "slim",
        "/tree",
    )


def test_export_pushes_nothing() -> None:
    command = BuildxDriver().command(replace(ORDER, image="", export=Path("/out")))
    assert command[command.index("--output") + 1] == "type=local,dest=/out"
    assert not any("registry" in word for word in command)


def test_loaded_image_is_built_as_pushed_one() -> None:
    driver = BuildxDriver(builders={"": "far"})
    driver._known["far"] = REWRITES
    loaded = driver.arguments(replace(ORDER, image="", load="chainbuild-debug:1"))
    assert loaded["output"] == {"type": "docker", "name": "chainbuild-debug:1", "oci-mediatypes": "true"}
    # The builder has its instructions in the cache under these arguments.
    assert loaded["build_args"] == driver.arguments(ORDER)["build_args"]


def test_user_source_date_epoch_wins() -> None:
    driver = BuildxDriver(builders={"": "far"})
    driver._known["far"] = REWRITES
    spec = replace(ORDER, args=(("SOURCE_DATE_EPOCH", "7"),))
    assert driver.arguments(spec)["build_args"] == {"SOURCE_DATE_EPOCH": "7"}


@pytest.mark.parametrize(
    ("builder", "rewrites"),
    [
        (BuilderInfo(name="b", driver="docker-container", platforms=(), status="running", buildkit=(0, 13)), True),
        (BuilderInfo(name="b", driver="docker-container", platforms=(), status="running", buildkit=(0, 12)), False),
        (BuilderInfo(name="b", driver="docker", platforms=(), status="running", buildkit=(0, 20)), False),
    ],
)
def test_times_are_rewritten_if_the_builder_supports_it(builder: BuilderInfo, rewrites: bool) -> None:
    driver = BuildxDriver()
    driver._known[None] = builder
    arguments = driver.arguments(ORDER)
    assert ("rewrite-timestamp" in arguments["output"]) is rewrites
    assert ("SOURCE_DATE_EPOCH" in arguments["build_args"]) is rewrites
    assert "SOURCE_DATE_EPOCH" not in driver.arguments(replace(ORDER, image="", export=Path("/out")))["build_args"]


def test_builders_by_platform() -> None:
    driver = BuildxDriver(builders={"linux/arm64": "far"})
    assert (driver.builder_for(ARM64), driver.builder_for(AMD64)) == ("far", None)
    assert BuildxDriver(builders={"": "near"}).builder_for(AMD64) == "near"


# Orders of steps ------------------------------------------------------------------------------------------------------


def test_step_becomes_an_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write(THREE_STEPS)
    world.run()
    step = world.graph().by_id[StepId.parse("amd64/stock/20-blas")]
    spec = build_spec_for(
        step, {"BASE_IMAGE": "localhost:5000/a@sha256:1"}, image="x:y", extra={"CPU": "no", "MORE": "1"}
    )
    assert dict(spec.args) == {"CPU": "HASWELL", "MORE": "1", "BASE_IMAGE": "localhost:5000/a@sha256:1"}
    assert (spec.platform, spec.image, spec.target) == (AMD64, "x:y", None)
    assert spec.compression[0] == "zstd"
    production = world.graph().by_id[StepId.parse("amd64/stock/production")]
    pinned = {image.name: f"localhost:5000/{place}@sha256:1" for place, image in enumerate(production.images)}
    assert build_spec_for(production, pinned).compression[0] == "gzip"
    minimize = world.graph().by_id[StepId.parse("amd64/stock/minimize")]
    assert stage_args(minimize, {"LD_LIBRARY_PATH": "/x", "PATH": "", "HOME": "/"}) == {"LIBRARY_PATH": "/x"}
    assert stage_args(minimize, {}, "app") == {"IMAGE_USER": "app"}
    assert stage_args(step, {}, "app") == {}


def test_paths_are_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "stock/x") == "stock/x"
    assert shown_path(tmp_path.parent / "x") == str(tmp_path.parent / "x")


# Failures -------------------------------------------------------------------------------------------------------------


class FakeBuildx:
    """What python_on_whales would give: lines, then an exception or a metadata file."""

    def __init__(self, lines: list[str], *, code: int = 0, digest: str = "", written: bool = True) -> None:
        self.lines, self.code, self.digest, self.written = lines, code, digest, written
        self.buildx = self
        self.given: dict[str, Any] = {}

    def build(self, **given: Any) -> Iterator[str]:
        from python_on_whales.exceptions import DockerException

        self.given = given
        for line in self.lines:
            yield from (text + "\n" for text in line.split("\n"))
        if self.code:
            raise DockerException(["docker", "buildx", "build"], self.code)
        if self.written:
            Path(given["metadata_file"]).write_text(json.dumps({"containerimage.digest": self.digest}))


def driver_with(docker: FakeBuildx) -> BuildxDriver:
    driver = BuildxDriver()
    driver.__dict__["_docker"] = docker
    return driver


def failure(*parts: dict[str, Any] | str, code: int = 1, spec: BuildSpec = ORDER) -> ChainbuildError:
    lines = [part if isinstance(part, str) else json.dumps(part) for part in parts]
    with pytest.raises(ChainbuildError) as caught:
        driver_with(FakeBuildx(lines, code=code)).build(spec, lambda _: None)
    return caught.value


EXCERPT = "10-Dockerfile-base:3\n--------------------\n   3 | >>> RUN make\n--------------------"


def test_build_returns_its_digest() -> None:
    digest = "sha256:" + "a" * 64
    docker = FakeBuildx([json.dumps(vertex()), json.dumps(log("one\n"))], digest=digest)
    events: list[Event] = []
    result = driver_with(docker).build(ORDER, events.append)
    assert str(result.digest) == digest
    assert events
    assert docker.given["provenance"] is False
    assert docker.given["stream_logs"] is True
    assert (
        driver_with(FakeBuildx([])).build(replace(ORDER, image="", export=Path("/out")), lambda _: None).digest is None
    )


def test_context_of_a_build_with_other_pins_is_sent_under_another_name(tmp_path: Path) -> None:
    """Copies of one Dockerfile for two platforms may have one size and one time: a builder would take them for the same."""

    def sent_as(reference: str) -> str:
        docker = FakeBuildx([], digest="sha256:" + "a" * 64)
        pin = Pin(place=ImageWordPosition(1), word="old", reference=reference)
        spec = replace(ORDER, context=tmp_path, sent="1", source=b"FROM old", pins=(pin,))
        driver_with(docker).build(spec, lambda _: None)
        return Path(docker.given["context_path"]).name

    assert sent_as("x@sha256:1") == sent_as("x@sha256:1")
    assert sent_as("x@sha256:1") != sent_as("x@sha256:2")


@pytest.mark.parametrize("docker", [FakeBuildx([], digest="no digest"), FakeBuildx([], written=False)])
def test_buildx_without_a_digest_is_an_error(docker: FakeBuildx) -> None:
    with pytest.raises(ChainbuildError) as caught:
        driver_with(docker).build(ORDER, lambda _: None)
    assert "buildx" in str(caught.value) or "is not a digest" in str(caught.value)


def test_failed_run_has_its_line_and_output() -> None:
    error = failure(vertex(), log("compiling\nno rule\n"), vertex(error=ERROR), EXCERPT)
    assert isinstance(error, BuildFailedError)
    assert error.message == "amd64/stock/10-base: RUN make exited with code 2"
    assert error.where == "stock/10-Dockerfile-base:3"
    assert error.log_tail == ("compiling", "no rule")


def test_failure_before_any_instruction_is_reported() -> None:
    error = failure('ERROR: failed to build: no builder "x" found')
    assert isinstance(error, BuildFailedError)
    assert error.message == 'amd64/stock/10-base: the build failed: failed to build: no builder "x" found'
    assert error.where == "stock/10-Dockerfile-base"
    assert error.log_tail


@pytest.mark.parametrize(
    "said",
    [
        "write /var/lib/x: no space left on device",
        "cc: error: No space left on device",
        "mkdir /x: disk quota exceeded",
    ],
)
def test_full_disk_has_a_hint(said: str) -> None:
    for error in (failure(vertex(), log(said + "\n"), vertex(error=ERROR)), failure(f"ERROR: {said}")):
        assert isinstance(error, NotReadyError)
        assert "no space left" in error.message
        assert "docker buildx prune" in error.hint


@pytest.mark.parametrize(
    "said",
    [
        "exec /bin/sh: exec format error",
        "exec /usr/bin/bash: exec format error",
        "standard_init_linux.go:228: exec user process caused: exec format error",
        'exec user process caused: "exec format error"',
        "exec container process `/bin/sh`: Exec format error",
    ],
)
def test_missing_emulation_has_a_hint(said: str) -> None:
    error = failure(vertex(), log(said + "\n"), vertex(error=ERROR), spec=replace(ORDER, platform=ARM64))
    assert isinstance(error, NotReadyError)
    assert "cannot run linux/arm64 programs" in error.message
    assert "tonistiigi/binfmt --install arm64" in error.hint
    assert "--builder aarch64=NAME" in error.hint


@pytest.mark.parametrize(
    ("said", "transient"),
    [
        ("failed to commit j1wa to kp8t during finalize: snapshot j1wa does not exist: not found", True),
        ("failed to solve: not found", True),
        ('image "localhost:5000/a:1": already exists', True),
        ('process "/bin/sh -c make" did not complete successfully: exit code: 2', False),
        ("docker.io/library/nothing:1: not found", False),
    ],
)
def test_retry_follows_temporary_failures(said: str, transient: bool) -> None:
    assert is_transient(Failure(vertex="exporting to image", error=said, line=0, tail=(), text="")) is transient


def test_damaged_cache_is_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill of the client left an entry without its snapshot: each try that takes it from the cache fails the same way."""
    monkeypatch.setattr("chainbuild.builder.buildx._PAUSE", 0)
    damaged = "ERROR: failed to solve: failed to stat active key during commit: snapshot j1wa does not exist: not found"

    class Damaged(FakeBuildx):
        def build(self, **given: Any) -> Iterator[str]:
            self.lines, self.code = ([damaged], 1) if given["cache"] else ([], 0)
            return super().build(**given)

    digest = "sha256:" + "a" * 64
    assert str(driver_with(Damaged([], digest=digest)).build(ORDER, lambda _: None).digest) == digest


@pytest.mark.parametrize("said", ["/bin/sh: 1: ./tool: Exec format error", "bash: ./tool: Exec format error"])
def test_exec_format_error_of_a_program_is_a_build_failure(said: str) -> None:
    assert isinstance(failure(vertex(), log(said + "\n"), vertex(error=ERROR)), BuildFailedError)


def test_qemu_crash_is_reported_as_such() -> None:
    error = failure(
        vertex(),
        log("compiling\nqemu: uncaught target signal 11 (Segmentation fault) - core dumped\n"),
        vertex(error=ERROR),
        EXCERPT,
        spec=replace(ORDER, platform=ARM64),
    )
    assert isinstance(error, BuildFailedError)
    assert "QEMU crashed while running 'RUN make'" in error.message
    assert error.where == "stock/10-Dockerfile-base:3"
    assert "--builder aarch64=NAME" in error.hint
    assert error.log_tail[0] == "compiling"
    assert error.emulator_crash == "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"


@pytest.mark.parametrize(
    ("said", "crashed"),
    [
        ("qemu: uncaught target signal 11 (Segmentation fault) - core dumped", True),
        ("qemu: unhandled CPU exception 0x2 - aborting", True),
        ("qemu: fatal: Trying to execute code outside RAM", True),
        ("qemu-aarch64: QEMU internal SIGSEGV {code=MAPERR, addr=0x20}", True),
        ("qemu-aarch64-static: /build/tcg/tcg.c:3340: tcg_gen: Assertion `x' failed.", True),
        ("qemu: uncaught target signal 4 (Illegal instruction) - core dumped", True),
        ("qemu: uncaught target signal 11 (Segmentation fault)", True),
        # Programs end each other with these signals.
        ("qemu: uncaught target signal 15 (Terminated)", False),
        ("Illegal instruction (core dumped)", False),
        ("QEMU internal SIGSEGV {code=MAPERR, addr=0x20}", True),
        ("ERROR:../tcg/tcg.c:3340:temp_load: code should not be reached", True),
        ("ERROR:../accel/tcg/cpu-exec.c:986:cpu_exec: assertion failed: (cpu == current_cpu)", True),
        ("../tcg/tcg.c:2013: tcg fatal error", True),
        ("cc -c src/tcg/tcg.c:1: note: assertion", False),
        ("qemu-arm: mmap of /lib/x.so: Invalid argument", True),
        ("/bin/sh: line 1:    12 Segmentation fault      (core dumped) make", False),
        ("Segmentation fault (core dumped) /usr/bin/qemu-aarch64 /bin/make", True),
        ("Segmentation fault (core dumped)", False),
        ("qemu-aarch64: warning: TCG doesn't support requested feature: Invalid argument", False),
        ("qemu-aarch64: Could not open '/lib/ld-linux.so': No such file or directory", False),
        ("qemu: Unsupported syscall: 435", False),
        ("gcc: Invalid argument", False),
        ("Setting up qemu-user-static", False),
    ],
)
def test_qemu_warning_is_no_crash(said: str, crashed: bool) -> None:
    error = failure(vertex(), log(said + "\n"), vertex(error=ERROR), spec=replace(ORDER, platform=ARM64))
    assert isinstance(error, BuildFailedError)
    assert ("QEMU crashed" in error.message) is crashed
    assert error.emulator_crash == (said if crashed else "")


@pytest.mark.parametrize("said", ["401 Unauthorized", "push access denied: requested access to the resource is denied"])
def test_registry_requiring_a_login_has_a_hint(said: str) -> None:
    assert "docker login" in failure(f"ERROR: failed to solve: failed to push x: {said}").hint


@pytest.mark.parametrize("said", ["unknown flag: parents", "unknown flag: --exclude (did you mean --include?)"])
def test_flag_that_is_too_new_for_the_builder_has_a_hint(said: str) -> None:
    error = failure(f"ERROR: failed to solve: dockerfile parse error on line 3: {said}")
    assert "'# syntax=docker/dockerfile:1' as the first line" in error.hint


@pytest.mark.parametrize(
    ("said", "packages", "hint"),
    [
        ("/bin/sh: 1: apt-get: not found", "tini", "PRODUCTION_PACKAGES requires apt"),
        ("sh: apt-get: not found", "tini", "PRODUCTION_PACKAGES requires apt"),
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory', "tini", "PRODUCTION_PACKAGES requires apt"),
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory', "", "The image has no shell"),
        ("/bin/sh: 1: apt-get: not found", "", ""),
        ("E: Unable to locate package tiny", "tiny", ""),
    ],
)
def test_image_without_apt_or_shell_has_a_hint(said: str, packages: str, hint: str) -> None:
    spec = replace(ORDER, args=(("PRODUCTION_PACKAGES", packages),))
    found = failure(vertex(), log(f"{said}\n"), vertex(error=ERROR), spec=spec).hint
    assert found.startswith(hint)
    assert bool(found) == bool(hint)


def test_builder_without_access_to_the_chain_registry_has_a_hint() -> None:
    error = failure(
        'ERROR: failed to solve: dial tcp [::1]:5000: connect: connection refused: Head "http://localhost:5000"'
    )
    assert "network=host" in error.hint


@pytest.mark.parametrize("code", [130, 143, -2, -15])
def test_cancelled_build_is_reported(code: int) -> None:
    assert failure("ERROR: canceled", code=code).message == "amd64/stock/10-base: the build was cancelled"


@pytest.mark.parametrize(
    "said",
    [
        "failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF",
        "failed to build: failed to receive status: rpc error: code = Unavailable desc = closing transport",
        "failed to list workers: Unavailable: connection error: connect: connection refused",
    ],
)
def test_lost_builder_is_not_the_fault_of_the_step(said: str) -> None:
    error = failure(vertex(), log("compiling\n"), f"ERROR: {said}")
    assert isinstance(error, NotReadyError)
    assert error.message.startswith("amd64/stock/10-base: the connection to the builder was lost: ")
    assert "docker buildx ls" in error.hint


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            'x: failed to resolve source metadata for x: failed to do request: Head "http://localhost:5000/v2/x/manifests/1"',
            "could not read an image of the registry at localhost:5000: ",
        ),
        (
            'failed to push localhost:5000/x: failed to do request: Head "http://localhost:5000/v2/x/blobs/1"',
            "could not push the image to the registry at localhost:5000: ",
        ),
    ],
)
def test_unreachable_registry_is_named_with_what_was_tried(said: str, message: str) -> None:
    error = failure(f"ERROR: failed to solve: {said}: dial tcp [::1]:5000: connect: connection refused")
    assert isinstance(error, RegistryError)
    assert message in error.message
    assert "needs --driver-opt network=host" in error.hint


def test_children_are_found_in_a_process_table() -> None:
    table = "  1 0 init\n 20 7 docker buildx build /a\n 21 8 docker buildx\n\n 22 7 docker buildx build /b\nnonsense\n"
    assert list(children_in(table, "7", "")) == [20, 22]
    assert list(children_in(table, "7", "/b")) == [22]


@pytest.mark.parametrize(("quoted", "tail"), [(True, ("Dockerfile:3", "----", "   3 | RUN /test")), (False, ())])
def test_silent_failure_quotes_only_dockerfile_of_the_user(quoted: bool, tail: tuple[str, ...]) -> None:
    step = StepId("amd64", "stock", "20-blas")
    spec = BuildSpec(
        step=step, dockerfile=Path("x/Dockerfile"), shown="x", context=Path("x"), platform=AMD64, quoted=quoted
    )
    text = "Dockerfile:3\n----\n   3 | RUN /test"
    failure = Failure(
        vertex="[2/2] RUN /test", error="process did not complete: exit code: 1", line=3, tail=(), text=text
    )
    error = build_error(spec, failure, 1)
    assert isinstance(error, BuildFailedError)
    assert error.log_tail == tail


def test_missing_frontend_image_is_an_error_of_its_registry() -> None:
    vertex_name = "resolve image config for docker-image://docker.io/docker/dockerfile:1.6"
    failure = Failure(vertex=vertex_name, error="failed to solve: dial tcp: no such host", line=1, tail=(), text="")
    error = build_error(ORDER, failure, 1)
    assert isinstance(error, RegistryError)
    assert "the builder cannot get docker.io/docker/dockerfile:1.6, the image of # syntax=" in error.message
    assert error.where.endswith("10-Dockerfile-base:1")
