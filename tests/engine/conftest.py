"""Fixtures of the engine tests: a user with a tree and a home, the command as a process, and a registry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chainbuild.records.garbage import is_readable
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, Digest, ImageReference, Platform
from chainbuild.registry.contents import absolute, layer_members
from chainbuild.registry.http.auth import Credentials
from chainbuild.registry.images import RemoteImage, copy_image, platforms_of, resolve
from chainbuild.registry.pool import Registries
from chainbuild.trust.keyring import SIGNING_KEY
from tests.support.keys import record_store, signing_key

COMMAND = Path(sys.executable).parent / "chainbuild"
CASES = Path(__file__).resolve().parent.parent / "cases"
OWN = Platform.of_this_machine().name
OTHER = "aarch64" if OWN == "amd64" else "amd64"
BUILDER = os.environ.get("CHAINBUILD_TEST_BUILDER", "")
"""The buildx builder of the real user that the tests use instead of the engine's own."""
LINKS = not BUILDER
"""Whether it builds several steps in one solve: builders that rewrite file times do not."""
PATIENCE = 300.0
"""Seconds after which a test stops waiting; never an assertion about speed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The result of one command: its exit code and its output."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects that the command printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [event for event in self.objects if event.get("event") == kind]

    def steps(self, kind: str) -> list[str]:
        """Return the names of the steps in the events of one kind, without platform and option."""
        return [str(event["step"]).rpartition("/")[2] for event in self.events(kind)]

    @property
    def built(self) -> list[str]:
        """The steps that were built, in order."""
        return self.steps("step_started")

    @property
    def reused(self) -> list[str]:
        """The steps that were reused, in order."""
        return self.steps("step_reused")

    @property
    def error(self) -> dict[str, Any]:
        """The last error object."""
        return [one for one in self.objects if one.get("schema") == "chainbuild.error/1"][-1]

    @property
    def reasons(self) -> dict[str, str]:
        """The reason for each step's action, by step."""
        (started,) = self.events("run_started")
        return {str(step["step"]).rpartition("/")[2]: step["reason"] for step in started["steps"]}

    def told(self) -> str:
        """Return the exit code and the output, for the message of an assertion."""
        return f"exit {self.code}\n--- stdout\n{self.out[-6000:]}\n--- stderr\n{self.err[-6000:]}"


@dataclass(kw_only=True, slots=True)
class Place:
    """A user on a machine: a tree, a home, and a chain registry (None: the managed registry)."""

    root: Path
    home: Path
    repo: str
    registry: str | None
    base: str
    production: str
    port: int = 0
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The host of the chain registry."""
        return self.registry or f"localhost:{self.port}"

    @property
    def leases(self) -> Path:
        """The folder of the leases on the managed registry."""
        return self.home / "state" / "chainbuild" / "registry" / os.uname().nodename / str(self.port)

    @property
    def data(self) -> Path:
        """The data folder of the managed registry."""
        return self.home / "data" / "chainbuild" / "registry"

    def credentials(self, host: str) -> Credentials | None:
        """Return the login of the managed registry, as this user's chainbuild reads it."""
        path = self.home / "data" / "chainbuild" / "registry-login.json"
        if self.registry is not None or host != self.host or not path.exists():
            return None
        return Credentials(user="chainbuild", password=json.loads(path.read_text(encoding="utf-8"))["password"])

    @property
    def temporary(self) -> Path:
        """The user's folder for temporary files."""
        return self.home / "tmp"

    def environment(self) -> dict[str, str]:
        """Return the environment without the variables of the real user for chainbuild and buildx."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CHAINBUILD_", "BUILDX_", "BUILDKIT_", "XDG_", "PYTEST_"))
        }
        folders = {
            "HOME": self.home,
            "TMPDIR": self.temporary,
            "XDG_CACHE_HOME": self.home / "cache",
            "XDG_CONFIG_HOME": self.home / "config",
            "XDG_DATA_HOME": self.home / "data",
            "XDG_STATE_HOME": self.home / "state",
        }
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        plugins = Path(os.environ.get("HOME", "/")) / ".docker" / "cli-plugins"
        if plugins.is_dir() and not (self.home / ".docker").exists():
            (self.home / ".docker").mkdir()
            (self.home / ".docker" / "cli-plugins").symlink_to(plugins)
        # All users have the same key, as CI jobs that share a registry do; tests of trust set their own keys.
        key = {SIGNING_KEY: signing_key().secret_text}
        return kept | key | _builder() | {name: str(path) for name, path in folders.items()} | dict(self.environ)

    def start(self, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the command with exactly these arguments, in the tree and in a new session."""
        return subprocess.Popen(
            [str(COMMAND), *words],
            cwd=self.root,
            env=self.environment() | dict(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A test run in the background ignores some signals, and its child processes would ignore them too.
            preexec_fn=_heed_signals,  # noqa: PLW1509
        )

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> Done:
        """Run the command with exactly these arguments."""
        process = self.start(*words, environ=environ)
        out, err = process.communicate(timeout=PATIENCE)
        return Done(code=process.returncode, out=out, err=err)

    def words(self, option: str, *flags: str, platform: str = OWN, tag: str = "v1") -> list[str]:
        """Return the arguments PLATFORM REPO TAG BASE OPTION PRODUCTION and the flag for the registry."""
        where = ["--registry", self.registry] if self.registry else ["--registry-port", str(self.port)]
        return [platform, self.repo, tag, self.base, option, self.production, *where, *flags]

    def build(
        self, option: str, *flags: str, platform: str = OWN, tag: str = "v1", code: int | None = 0, load: bool = False
    ) -> Done:
        """Build with `--json`, load results into the local store if asked to, and check the exit code (None: any)."""
        where = () if load else ("--no-load",)
        done = self.run(*self.words(option, "--json", *where, *flags, platform=platform, tag=tag))
        assert code is None or done.code == code, done.told()
        return done

    # Contents of the registry ------------------------------------------------------------------------------------

    def name(self, tag: str) -> ImageReference:
        """Return the name of an image of this user's repository in the chain registry."""
        return ImageReference.parse(f"{self.host}/{self.repo}:{tag}")

    def tags(self, *, machine: bool = False) -> list[str]:
        """Return the tags of this user's repository; `machine` includes those with machine data."""
        with Registries(credentials=self.credentials) as registries:
            name = self.name("any")
            return sorted(tag for tag in registries.client(name).tags(name.repository) if machine or is_readable(tag))

    def records(self, registries: Registries) -> RecordStore:
        """Return the records of the chain registry as this user sees them."""
        return record_store(registries, self.host)

    def image(self, tag: str, platform: str = OWN) -> RemoteImage:
        """Return an image of this user's repository."""
        with Registries(credentials=self.credentials) as registries:
            return resolve(registries, self.name(tag), Platform.parse(platform))

    def identity(self, tag: str, platform: str = OWN) -> str:
        """Return the content identity of an image: layers and runtime configuration, without dates and history."""
        return str(self.image(tag, platform).config.content_identity)

    def record(self, tag: str, platform: str = OWN) -> Record:
        """Return the record of an image, which need not be the newest one of its key."""
        image = self.image(tag, platform)
        with Registries(credentials=self.credentials) as registries:
            found = self.records(registries).of_image(self.name("any"), image.digest).record
        assert found is not None
        return found

    def added(self, tag: str, layers: int, platform: str = OWN) -> dict[str, tuple[Any, ...]]:
        """Return all members of an image's layers but for the lowest ones: content, kind, target, mode, owner, attributes."""
        image, found = self.image(tag, platform), {}
        with Registries(credentials=self.credentials) as registries:
            for number, layer in enumerate(image.layers[layers:]):
                for member in layer_members(registries, image.reference, layer):
                    content = b"".join(member.chunks())
                    facts = (member.kind, member.target, member.mode, member.uid, member.gid, member.xattrs)
                    found[f"{number}:{absolute(member.name)}"] = (content, *facts)
        return found

    # Contents of the engine ---------------------------------------------------------------------------------------

    def output(self, tag: str, *command: str, platform: str = OWN) -> str:
        """Return the output of a container of an image of the chain registry."""
        # Run as this user, whose Docker config has the login.
        name = self.image(tag, platform).reference.pinned
        return container_output(name, *command, platform=platform, environment=self.environment())

    def clean(self) -> None:
        """Remove the images of this user's repository from the engine."""
        listed = docker("image", "ls", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")
        # If REPO includes a registry, the chain registry has it as a part of the path, in another spelling.
        first, _, rest = self.repo.partition("/")
        mine = rest if ":" in first else self.repo
        fields = [line.split() for line in listed.stdout.splitlines() if mine in line]
        names = {f"{name}@{digest}" if tag == "<none>" else f"{name}:{tag}" for name, tag, digest in fields}
        if names:
            docker("image", "rm", "--force", *sorted(names))


def _builder() -> dict[str, str]:
    """Return the variables that make buildx use `BUILDER`."""
    builders = os.environ.get("BUILDX_CONFIG") or str(Path(os.environ.get("HOME", "/")) / ".docker" / "buildx")
    return {"BUILDX_BUILDER": BUILDER, "BUILDX_CONFIG": builders} if BUILDER else {}


def _heed_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def container_output(
    image: str,
    *command: str,
    platform: str = OWN,
    entrypoint: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return the output of a container."""
    how = ["--entrypoint", entrypoint] if entrypoint is not None else []
    argv = ["docker", "run", "--rm", "--pull", "missing", "--platform", Platform.parse(platform).oci, *how, image]
    done = subprocess.run([*argv, *command], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a docker command."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def eventually(what: Callable[[], bool], told: str) -> None:
    """Wait until the condition is true."""
    limit = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < limit, f"never came to be: {told}"
        time.sleep(0.1)


def free_port() -> int:
    """Return a port that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files and create their folders."""
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            target.write_bytes(text)
        else:
            target.write_text(text, encoding="utf-8")
    return root


def gives(case: str) -> dict[str, Any]:
    """Return the expected results of a case."""
    document: dict[str, Any] = json.loads((CASES / case / "gives.json").read_bytes())
    return document


Lay = Callable[..., Place]
"""`lay(case=None, files=None, registry=…, production=…)` creates a user with a tree."""


@contextmanager
def laid(folder: Path, *, registry: str | None, base: str) -> Iterator[Lay]:
    """Return a function that creates users below `folder`; clean up after them."""
    with ExitStack() as stack:

        def lay(
            case: str | None = None,
            files: Mapping[str, str | bytes] | None = None,
            *,
            managed: bool = False,
            at: str | None = None,
            production: str | None = None,
            repo: str | None = None,
        ) -> Place:
            spot = Path(tempfile.mkdtemp(prefix="place-", dir=folder))
            root = spot / "tree"
            if case:
                shutil.copytree(CASES / case / "tree", root)
            root.mkdir(exist_ok=True)
            write_tree(root, files or {})
            place = Place(
                root=root,
                home=spot / "home",
                repo=repo or f"chainbuild-test/{uuid.uuid4().hex[:12]}",
                # A path of its own, so that no step of another test is reused.
                registry=None if managed else f"{at or registry}/{uuid.uuid4().hex[:8]}",
                base=base,
                production=production or base,
                port=free_port() if managed else 0,
            )
            if place.registry:
                _bring_base(place, place.base)
            stack.callback(place.clean)
            if managed:
                stack.callback(docker, "compose", "--project-name", f"chainbuild-registry-{place.port}", "down")
            return place

        yield lay


def _bring_base(place: Place, base: str) -> None:
    """Copy a base to this user's part of the registry, where the stages and the native tools look for it."""
    source = ImageReference.parse(base)
    if not place.host.startswith(f"{source.registry}/"):
        return
    with Registries() as registries:
        target = ChainRegistry.parse(place.host).place(ImageReference.parse("debian")).with_tag(source.tag or "")
        copy_image(registries, source, target)
        for platform in platforms_of(registries, target):
            image = resolve(registries, target, platform)
            place.records(registries).vouch(ImageReference(target.registry, target.repository), image, "test base")


@pytest.fixture
def lay(tmp_path: Path, registry_host: str, base_images: str) -> Iterator[Lay]:
    """A function that creates trees for one test."""
    with laid(tmp_path, registry=registry_host, base=base_images) as laying:
        yield laying


@pytest.fixture(scope="module")
def lay_once(tmp_path_factory: pytest.TempPathFactory, registry_host: str, base_images: str) -> Iterator[Lay]:
    """A function that creates trees for all tests of a module."""
    with laid(tmp_path_factory.mktemp("module"), registry=registry_host, base=base_images) as laying:
        yield laying


@pytest.fixture(scope="module")
def lay_newer(tmp_path_factory: pytest.TempPathFactory, registry_host: str, newer_base_images: str) -> Iterator[Lay]:
    """As `lay_once`, on a base whose compilers have native tools."""
    with laid(tmp_path_factory.mktemp("newer"), registry=registry_host, base=newer_base_images) as laying:
        yield laying


@pytest.fixture(scope="session")
def stocked(
    tmp_path_factory: pytest.TempPathFactory, registry_host: str, base_images: str, repository_root: Path
) -> Iterator[Place]:
    """A tree with the options of this repository; `stock` has only the steps that the other options need."""
    needed = ("toolchain", "hiredis", "python", "numpy", "redis")
    with laid(tmp_path_factory.mktemp("options"), registry=registry_host, base=base_images) as laying:
        place = laying()
        for option in ("graphics", "extras", "atom", "utilities"):
            shutil.copytree(repository_root / option, place.root / option)
        (place.root / "stock").mkdir()
        for path in (repository_root / "stock").iterdir():
            if path.name.removesuffix("-test").rpartition("-")[2] in needed:
                shutil.copy(path, place.root / "stock")
        place.build("stock")
        yield place


@pytest.fixture(scope="session")
def nothing_image(registry_host: str) -> str:
    """A production image with one small file, for both platforms: it takes no time to analyze."""
    name = f"{registry_host}/test/nothing:1"
    for platform in ("amd64", "aarch64"):
        push_files(f"{registry_host}/test/nothing:{platform}", {"nothing": b""}, platform)
    join(name, ("amd64", "aarch64"))
    return name


def pack_files(files: Mapping[str, bytes]) -> tuple[bytes, Digest]:
    """Return a compressed layer of these files, and its diff ID."""
    import gzip
    import io
    import tarfile

    from chainbuild.registry.oci import digest_of

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0), digest_of(tar.getvalue())


def push_files(name: str, files: Mapping[str, bytes], platform: str = OWN, **config: Any) -> RemoteImage:
    """Push an image of these files."""
    from chainbuild.registry.config import ImageConfig
    from chainbuild.registry.images import put_image
    from chainbuild.registry.oci import OCI_LAYER_GZIP, Descriptor

    packed, diff_id = pack_files(files)
    reference = ImageReference.parse(name)
    with Registries() as registries:
        registries.client(reference).put_blob(reference.repository, packed)
        made = ImageConfig.make(Platform.parse(platform), [diff_id]).with_changes(**config)
        return put_image(registries, reference, made, [Descriptor.of(packed, OCI_LAYER_GZIP)])


def join(name: str, platforms: tuple[str, ...]) -> None:
    """Push an index over the tags of the repository that are named after the platforms."""
    from chainbuild.registry.images import put_index

    reference = ImageReference.parse(name)
    with Registries() as registries:
        images = {
            Platform.parse(one): resolve(registries, reference.with_tag(one), Platform.parse(one)).descriptor
            for one in platforms
        }
        put_index(registries, reference, images)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryContainer:
    """A registry that a test can stop, fill or damage."""

    container: str
    port: int

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def stop(self) -> None:
        docker("stop", "--time", "0", self.container)

    def start(self) -> None:
        """Start the registry and wait until it answers."""
        from chainbuild.local_registry.ports import ask

        docker("start", self.container)
        eventually(lambda: ask(self.host) == "registry", f"the registry at {self.host}")

    def shell(self, script: str) -> str:
        """Run a script in the container of the registry."""
        done = docker("exec", self.container, "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def own_registry(registry_image: str) -> Iterator[Callable[..., RegistryContainer]]:
    """A function that starts a separate registry; `size` is the size of its disk in MB."""
    made: list[str] = []

    def start(size: int | None = None) -> RegistryContainer:
        port = free_port()
        disk = ["--tmpfs", f"/var/lib/registry:size={size}m"] if size else []
        done = docker(
            "run",
            "--detach",
            "--publish",
            f"127.0.0.1:{port}:5000",
            "--env",
            "REGISTRY_STORAGE_DELETE_ENABLED=true",
            *disk,
            registry_image,
        )
        assert done.returncode == 0, done.stderr
        made.append(done.stdout.strip())
        registry = RegistryContainer(container=made[-1], port=port)
        registry.start()
        return registry

    yield start
    for container in made:
        docker("rm", "--force", "--volumes", container)


def descendants(pid: int) -> set[int]:
    """Return the descendants of a process."""
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    below: dict[int, list[int]] = {}
    for line in done.stdout.splitlines():
        child, parent = (int(word) for word in line.split())
        below.setdefault(parent, []).append(child)
    found: set[int] = set()
    rest = [pid]
    while rest:
        for child in below.get(rest.pop(), ()):
            found.add(child)
            rest.append(child)
    return found


def session_of(pid: int) -> list[str]:
    """Return the command lines of the running processes of a session, without zombies."""
    done = subprocess.run(["ps", "-A", "-o", "sid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = (line.split(None, 2) for line in done.stdout.splitlines())
    return [fields[2] for fields in lines if fields[0] == str(pid) and not fields[1].startswith("Z")]


def kill(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to the command only."""
    if process.poll() is None:
        os.kill(process.pid, number)
