"""Other users, containers, RUNs and programs on the machine cannot use or stop the registry."""

from __future__ import annotations

import base64
import grp
import http.client
import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from chainbuild.local_registry import compose, containers
from chainbuild.local_registry.ports import ask

from .conftest import OWN, PATIENCE, Done, Lay, Place, docker, eventually, free_port, push_files, write_tree

TREE = {"one/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo built > /seen\n"}


def status(port: int, path: str, method: str = "GET", *, address: str = "127.0.0.1", **headers: str) -> int:
    """Return the status of a request by a program on this machine, with no login or the given one."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, body=b"{}" if method in {"PUT", "POST"} else None, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def addresses(port: int) -> list[str]:
    """Return the address of the registry's container in its network, and the gateway of that network."""
    container = containers.container_on(port)
    assert container is not None
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"
    return docker("inspect", "--format", form, container.id).stdout.split()


def probe(targets: list[str]) -> str:
    """Return a bash script that requests `/v2/` from each `host:port`; every Debian image has bash."""
    lines = [
        f"exec 3<>/dev/tcp/{host}/{port} && printf 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' >&3 && read -t 5 line <&3 && "
        f"echo reached {host}:{port} $line"
        for host, _, port in (target.rpartition(":") for target in targets)
    ]
    return "\n".join(
        f"(timeout 5 bash -c {shlex.quote(line)} 2>/dev/null || echo nothing at that place)" for line in lines
    )


# ---- access from containers ------------------------------------------------------------------------------------------


@pytest.fixture
def up(lay: Lay) -> Iterator[Place]:
    """A user whose managed registry is up."""
    place = lay(files=TREE, managed=True)
    done = place.run("registry", "up", "--registry-port", str(place.port))
    assert done.code == 0, done.told()
    yield place
    done = place.run("registry", "down", "--registry-port", str(place.port))
    assert done.code == 0, done.told()


@pytest.fixture
def unfenced(registry_host: str) -> str:
    """`IP:5000` of a registry on Docker's default bridge, which a probe must reach to prove that it works."""
    port = registry_host.rpartition(":")[2]
    listed = docker("ps", "--quiet", "--filter", f"publish={port}").stdout.split()
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", listed[0]).stdout.strip()
    assert address
    return f"{address}:5000"


def everywhere(place: Place) -> list[str]:
    """Return the addresses at which a program in a container could look for the registry."""
    hosts = [*addresses(place.port), "172.17.0.1", "127.0.0.1", "localhost", "host.docker.internal"]
    return [f"{host}:{port}" for host in hosts for port in (5000, place.port)]


def test_registry_is_unreachable_from_run_of_default_builder(up: Place, base_images: str, unfenced: str) -> None:
    """Catch a RUN that can replace what other projects reuse; it needs only bash."""
    script = probe([unfenced, *everywhere(up)])
    (up.root / "probe.sh").write_text(script, encoding="utf-8")
    (up.root / "Dockerfile").write_text(
        f"FROM {base_images}\nCOPY probe.sh /\nRUN bash /probe.sh > /found 2>&1\nFROM scratch\nCOPY --from=0 /found /\n",
        encoding="utf-8",
    )
    out = up.root / "out"
    done = docker(
        "buildx", "build", "--builder", "default", "--no-cache", "--output", f"type=local,dest={out}", str(up.root)
    )
    assert done.returncode == 0, done.stderr
    found = (out / "found").read_text(encoding="utf-8").splitlines()
    assert found[0].startswith(f"reached {unfenced} HTTP/1.0 200"), found
    assert set(found[1:]) == {"nothing at that place"}, found


def test_registry_is_unreachable_from_default_bridge_container(up: Place, base_images: str, unfenced: str) -> None:
    script = probe([unfenced, *everywhere(up)])
    done = docker("run", "--rm", "--cap-add", "NET_RAW", base_images, "bash", "-c", script)
    found = done.stdout.splitlines()
    assert found[0].startswith(f"reached {unfenced} HTTP/1.0 200"), done.stdout + done.stderr
    assert set(found[1:]) == {"nothing at that place"}, found


def test_registry_requires_login_from_host_network_container(up: Place, base_images: str) -> None:
    """Require a login also for a RUN of a `docker-container` builder with `network=host`: it reaches localhost."""
    done = docker("run", "--rm", "--network", "host", base_images, "bash", "-c", probe([f"127.0.0.1:{up.port}"]))
    assert done.stdout.startswith(f"reached 127.0.0.1:{up.port} HTTP/1.0 401"), done.stdout + done.stderr


@pytest.mark.parametrize("host", ["localhost", "evil.example", "127.0.0.1"])
def test_registry_rejects_requests_without_login(up: Place, host: str) -> None:
    """Reject other users of the machine, and web pages whose host name was rebound to 127.0.0.1."""
    wrong = "Basic " + base64.b64encode(b"chainbuild:" + b"0" * 64).decode()
    for method, path in (
        ("GET", "/v2/_catalog"),
        ("GET", f"/v2/{up.repo}/tags/list"),
        ("HEAD", f"/v2/{up.repo}/manifests/v1"),
        ("PUT", f"/v2/{up.repo}/manifests/v1"),
        ("DELETE", f"/v2/{up.repo}/manifests/sha256:{'0' * 64}"),
        ("POST", f"/v2/{up.repo}/blobs/uploads/"),
    ):
        assert status(up.port, path, method, Host=host) == 401
        assert status(up.port, path, method, Host=host, Authorization=wrong) == 401
    container = addresses(up.port)[0]
    # The login is required at the container's own address too.
    assert status(5000, "/v2/_catalog", address=container) == 401


def test_registry_listens_on_both_loopbacks(up: Place) -> None:
    """Catch an unused ::1, which most programs try first: its listener would receive requests for `localhost`."""
    if not compose._has_loopback6():
        pytest.skip("this machine has no ::1")
    assert status(up.port, "/v2/", address="::1") == 401


def test_login_is_set_up_for_builds_and_manual_pulls(up: Place) -> None:
    place = up
    done = place.build("one", "--until", "10")
    assert done.built == ["10-a"]
    name = f"{place.host}/{place.repo}:v1-one-10-a-{OWN}"
    pulled = subprocess.run(
        ["docker", "pull", name], capture_output=True, text=True, env=place.environment(), check=False
    )
    assert pulled.returncode == 0, pulled.stderr
    stranger = place.environment() | {"DOCKER_CONFIG": str(place.home / "nothing")}
    refused = subprocess.run(["docker", "pull", name], capture_output=True, text=True, env=stranger, check=False)
    assert refused.returncode != 0


def test_login_works_without_home_and_with_read_only_config(lay: Lay, tmp_path: Path) -> None:
    """Require that docker gets a copy of Docker's config and the user's own config is unchanged."""
    place = lay(files=TREE, managed=True)
    config = place.home / "docker-config"
    config.mkdir(parents=True)
    helper = {"credsStore": "chainbuild-test-nothing", "auths": {"elsewhere.example": {}}}
    (config / "config.json").write_text(json.dumps(helper), encoding="utf-8")
    place.environ = {"DOCKER_CONFIG": str(config), "HOME": ""}
    done = place.build("one", "--until", "10")
    assert done.built == ["10-a"]
    assert json.loads((config / "config.json").read_text(encoding="utf-8")) == helper
    assert any("is not in Docker's config" in event["text"] for event in done.events("message")), done.told()
    assert place.build("one", "--until", "10").reused == ["10-a"]


SPY = """#!/bin/sh
{ printf '%s\\n' "$@"; env; } >> "$SPY_LOG"
exec "$SPY_DOCKER" "$@"
"""


def test_password_is_in_no_argument_environment_log_or_message(lay: Lay) -> None:
    place = lay(files=TREE, managed=True)
    spy = place.home / "bin"
    spy.mkdir(parents=True)
    (spy / "docker").write_text(SPY, encoding="utf-8")
    (spy / "docker").chmod(0o755)
    log = place.home / "spy.log"
    place.environ = {
        "PATH": f"{spy}:{os.environ['PATH']}",
        "SPY_LOG": str(log),
        "SPY_DOCKER": str(shutil.which("docker")),
    }
    port = ("--registry-port", str(place.port))
    told = [place.run("registry", "up", *port), place.run("registry", "status", *port, "--json")]
    told += [place.build("one", "--until", "10", "-v"), place.run("images", *port), place.run("doctor", *port)]
    container = containers.container_on(place.port)
    assert container is not None
    inspected = docker("inspect", container.id)
    logs = docker("logs", container.id)
    top = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    told.append(place.run("registry", "down", *port))
    # Delete a file to get the messages about a login that no longer works.
    (place.home / "data/chainbuild/registry/chainbuild/htpasswd").unlink()
    told.append(place.run("images", *port))
    login = json.loads((place.home / "data/chainbuild/registry-login.json").read_text(encoding="utf-8"))
    password = login["password"]
    secrets = [password, base64.b64encode(f"chainbuild:{password}".encode()).decode(), login["htpasswd"]]
    texts = {
        "docker's arguments and environment": log.read_text(encoding="utf-8", errors="replace"),
        "docker inspect": inspected.stdout,
        "docker logs": logs.stdout + logs.stderr,
        "ps": top.stdout,
        "chainbuild's own output": "".join(done.out + done.err for done in told),
    }
    for path in (place.root / ".chainbuild").rglob("*"):
        if path.is_file():
            texts[str(path)] = path.read_text(encoding="utf-8", errors="replace")
    assert "--password-stdin" in texts["docker's arguments and environment"]
    assert [(name, secret[:4]) for name, text in texts.items() for secret in secrets if secret in text] == []


# ---- two users of one machine ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class User:
    """A user of this machine in the group of the engine, who runs chainbuild from this checkout."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: Path
    python: str
    path: str
    port: int

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": self.path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "CHAINBUILD_REGISTRY_PORT": str(self.port),
        }

    def start(
        self, *argv: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start any program as this user."""
        return subprocess.Popen(
            argv,
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
            umask=0o022,
            cwd=cwd or self.home,
            env=self.environment() | dict(environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *argv: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Done:
        process = self.start(*argv, cwd=cwd, environ=environ)
        out, err = process.communicate(timeout=PATIENCE)
        return Done(code=process.returncode, out=out, err=err)

    def command(self, *words: str) -> tuple[str, ...]:
        program = "import sys; sys.argv[0] = 'chainbuild'; from chainbuild.cli import main; main()"
        return (self.python, "-c", program, *words)

    def chainbuild(self, *words: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Done:
        return self.run(*self.command(*words), cwd=cwd, environ=environ)

    def hold(self) -> subprocess.Popen[str]:
        """Return a run of this user that holds the registry and releases it when its stdin is closed."""
        program = (
            "import sys; from chainbuild.local_registry.service import ManagedRegistry\n"
            "sys.argv[0] = 'chainbuild'\n"
            f"with ManagedRegistry({self.port}).lease(lambda event: print(event, file=sys.stderr)) as endpoint:\n"
            "    print(endpoint, flush=True); sys.stdin.read()\n"
        )
        process = self.start(self.python, "-c", program, "build", "of", self.name)
        assert process.stdout is not None
        if process.stdout.readline().strip() != f"localhost:{self.port}":
            pytest.fail(f"no registry for {self.name}: {process.communicate()[1]}")
        return process

    @property
    def data(self) -> Path:
        return self.home / ".local/share/chainbuild/registry"

    def tree(self, files: dict[str, str]) -> Path:
        """Create a tree that belongs to this user."""
        root = write_tree(self.home / f"tree-{uuid.uuid4().hex[:6]}", files)
        for path in (root, *root.rglob("*")):
            os.chown(path, self.uid, self.gid)
        return root


NEEDED = "import sys, chainbuild.cli.app, bcrypt, yaml, rich, python_on_whales; assert sys.version_info >= (3, 11)"


def python_for_all(shared: Path) -> tuple[str, str]:
    """Return a Python that every user can run, and its path: this Python, or the system's with copied packages."""
    checkout = Path(__file__).parents[2]
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    same = f"python3.{sys.version_info.minor}"
    pythons = [sys.executable, *(str(Path(folder) / same) for folder in ("/usr/bin", "/usr/local/bin"))]

    def works(python: str, path: str) -> bool:
        try:
            done = subprocess.run(
                [python, "-c", NEEDED],
                user=65534,
                group=65534,
                extra_groups=[],
                cwd="/",
                check=False,
                capture_output=True,
                env={"PYTHONPATH": path, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError:
            return False
        return done.returncode == 0

    path = f"{checkout}:{packages}"
    for python in pythons:
        if works(python, path):
            return python, path
    left_out = shutil.ignore_patterns("mypy*", "ruff*", "sphinx*", "pip*", "docutils*", "babel*", "hypothesis*")
    shutil.copytree(packages, shared / "packages", ignore=left_out)
    shutil.copytree(checkout / "chainbuild", shared / "packages" / "chainbuild", dirs_exist_ok=True)
    shutil.copytree(checkout / "utilities", shared / "packages" / "utilities")
    shutil.copy(checkout / "docker-compose-registry.yml", shared / "packages")
    for python in pythons:
        if works(python, str(shared / "packages")):
            return python, str(shared / "packages")
    pytest.fail(f"no {same} that other users of this machine can run")


@pytest.fixture(scope="module")
def make_users(registry_image: str) -> Iterator[Callable[[int], tuple[User, User]]]:
    """A function that creates two users; both are removed afterwards."""
    if os.geteuid() != 0 or not shutil.which("useradd"):
        pytest.skip("only root can make users")
    shared = Path(tempfile.mkdtemp(prefix="chainbuild-users-"))
    shared.chmod(0o755)
    python, path = python_for_all(shared)
    socket = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    group = grp.getgrgid(socket.stat().st_gid).gr_name
    names: list[str] = []

    def make(port: int) -> tuple[User, User]:
        users = []
        for letter in "ab":
            name = f"cbtest{letter}{uuid.uuid4().hex[:6]}"
            home = shared / name
            argv = ["useradd", "--create-home", "--home-dir", str(home), "--groups", group, "--no-log-init", name]
            subprocess.run(argv, check=True, capture_output=True)
            names.append(name)
            home.chmod(0o755)
            entry = pwd.getpwnam(name)
            users.append(
                User(
                    name=name,
                    uid=entry.pw_uid,
                    gid=entry.pw_gid,
                    groups=[grp.getgrnam(group).gr_gid],
                    home=home,
                    python=python,
                    path=path,
                    port=port,
                )
            )
        return users[0], users[1]

    yield make
    for name in names:
        subprocess.run(["userdel", name], check=False, capture_output=True)
    shutil.rmtree(shared, ignore_errors=True)


@pytest.fixture
def users(make_users: Callable[[int], tuple[User, User]]) -> Iterator[tuple[User, User]]:
    """Two users with homes that others can read (mode 0755), who use the same port."""
    port = free_port()
    pair = make_users(port)
    yield pair
    docker("compose", "--project-name", f"chainbuild-registry-{port}", "down")
    assert containers.container_on(port) is None


def build_words(user: User, base: str) -> list[str]:
    return [OWN, f"{user.name}/app", "v1", base, "one", base, "--until", "10", "--no-load", "--plain"]


def forget(user: User) -> None:
    listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    if mine := [name for name in listed if user.name in name]:
        docker("image", "rm", "--force", *mine)


def test_registry_of_killed_run_is_stopped_for_another_user(users: tuple[User, User], base_images: str) -> None:
    alice, bob = users
    tree = alice.tree(TREE)
    done = alice.chainbuild(*build_words(alice, base_images), cwd=tree)
    assert done.code == 0, done.told()
    run = alice.hold()
    run.kill()
    run.communicate()
    assert ask(f"localhost:{alice.port}") == "registry"
    done = bob.chainbuild(*build_words(bob, base_images), cwd=bob.tree(TREE))
    assert done.code == 0, done.told()
    assert f"the run of {alice.name} (uid {alice.uid})" in done.err, done.told()
    assert ask(f"localhost:{alice.port}") == "nothing"
    # Each user still has their own images only.
    for user, other in ((alice, bob), (bob, alice)):
        listed = user.chainbuild("images")
        assert listed.code == 0, listed.told()
        assert user.name in listed.out
        assert other.name not in listed.out
        forget(user)
    assert {alice.data.stat().st_uid, bob.data.stat().st_uid} == {alice.uid, bob.uid}


def test_files_of_a_user_are_inaccessible_to_another_user(users: tuple[User, User], base_images: str) -> None:
    alice, bob = users
    assert alice.chainbuild(*build_words(alice, base_images), cwd=alice.tree(TREE)).code == 0
    forget(alice)
    login = alice.home / ".local/share/chainbuild/registry-login.json"
    for path in (
        login,
        alice.data / "docker",
        alice.home / ".local/state/chainbuild",
        alice.home / ".docker/config.json",
    ):
        assert path.exists()
        read = bob.run("ls", str(path))
        assert read.code != 0, read.told()
        write = bob.run("touch", str(path) + ".new")
        assert write.code != 0, write.told()
    # No file belongs to root, so the user can remove everything.
    owners = {path.lstat().st_uid for path in (alice.data, *alice.data.rglob("*"))}
    assert owners == {alice.uid}


def test_registry_in_use_is_never_stopped_by_another_user(users: tuple[User, User]) -> None:
    alice, bob = users
    run = alice.hold()
    program = (
        "import sys; from chainbuild.local_registry import arrival\n"
        "arrival.NEIGHBOUR_SECONDS = 2.0\n"
        "sys.argv = ['chainbuild', *sys.argv[1:]]; from chainbuild.cli import main; main()"
    )
    refused = bob.run(bob.python, "-c", program, "images")
    assert refused.code == 8, refused.told()
    assert f"in use by the registry of {alice.name} (uid {alice.uid}): chainbuild build of {alice.name}" in refused.err
    assert f"CHAINBUILD_REGISTRY_PORT={alice.port + 50}" in refused.err
    assert "waiting up to" in refused.err
    stopped = bob.chainbuild("registry", "down", "--force")
    assert stopped.code == 3, stopped.told()
    told = bob.chainbuild("registry", "status")
    assert f"owned by the user {alice.name} (uid {alice.uid})" in told.out, told.told()
    # Requests that the other user can send to the port.
    for method, path in (("GET", "/v2/_catalog"), ("PUT", "/v2/x/manifests/1"), ("POST", "/v2/x/blobs/uploads/")):
        curl = bob.run(
            bob.python,
            "-c",
            "import http.client, sys; c = http.client.HTTPConnection('localhost', int(sys.argv[1]));"
            "c.request(sys.argv[2], sys.argv[3], body=b'{}'); print(c.getresponse().status)",
            str(bob.port),
            method,
            path,
        )
        assert curl.out.strip() == "401", curl.told()
    assert ask(f"localhost:{alice.port}") == "registry"
    assert run.poll() is None
    # When the run ends, the waiting command continues.
    waiting = bob.start(*bob.command("images"))
    assert waiting.stderr is not None
    assert "waiting up to" in waiting.stderr.readline()
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    out, err = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, out + err


def test_registry_kept_up_is_reported_busy_to_another_user(users: tuple[User, User], base_images: str) -> None:
    alice, bob = users
    done = alice.chainbuild("registry", "up")
    assert done.code == 0, done.told()
    try:
        assert alice.chainbuild(*build_words(alice, base_images), cwd=alice.tree(TREE)).code == 0
        name = f"localhost:{alice.port}/{alice.name}/app:v1-one-10-a-{OWN}"
        pulled = alice.run("docker", "pull", name)
        assert pulled.code == 0, pulled.told()
        refused = bob.run("docker", "pull", name)
        assert refused.code != 0
        busy = bob.chainbuild("images")
        assert busy.code == 8, busy.told()
        assert "runs until they stop it" in busy.err
        assert "Traceback" not in busy.err
        # Another port is the way out.
        other = bob.chainbuild("images", environ={"CHAINBUILD_REGISTRY_PORT": str(free_port())})
        assert other.code == 0, other.told()
    finally:
        forget(alice)
        assert alice.chainbuild("registry", "down").code == 0


def test_users_starting_together_get_the_port_in_turn(users: tuple[User, User]) -> None:
    for _ in range(3):
        started = [user.start(*user.command("images")) for user in users]
        for process in started:
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, out + err
        assert ask(f"localhost:{users[0].port}") == "nothing"


def test_program_of_another_user_on_the_port_gets_no_request(users: tuple[User, User]) -> None:
    """Catch a login sent to another user's program, which could also choose the images."""
    alice, bob = users
    program = (
        "import socket, sys\n"
        "s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print('ready', flush=True)\n"
        "c, _ = s.accept(); print('got', c.recv(1000), flush=True)\n"
    )
    for_bob = bob.start(bob.python, "-c", program, str(bob.port))
    assert for_bob.stdout is not None
    assert for_bob.stdout.readline() == "ready\n"
    try:
        refused = alice.chainbuild("images")
        assert refused.code == 3, refused.told()
        assert f"a program of user {bob.name} (uid {bob.uid})" in refused.err
        assert alice.chainbuild("registry", "status").out.startswith(
            f"localhost:{alice.port}: not running: the port is in use by"
        )
    finally:
        for_bob.kill()
        out, _ = for_bob.communicate()
    assert out == ""


# ---- unsafe folders --------------------------------------------------------------------------------------------------


def spoil_mode(user: User, folder: Path) -> None:
    folder.chmod(0o777)


def spoil_owner(user: User, folder: Path) -> None:
    os.chown(folder, 0, 0)


def spoil_link(user: User, folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.symlink_to("moved")


def spoil_file(user: User, folder: Path) -> None:
    shutil.rmtree(folder)
    os.mkfifo(folder)
    os.chown(folder, user.uid, user.gid)


@pytest.mark.parametrize("spoil", [spoil_mode, spoil_owner, spoil_link, spoil_file])
@pytest.mark.parametrize(
    "which", [".local/state/chainbuild", ".local/share/chainbuild", ".local/share/chainbuild/registry"]
)
def test_unsafe_folder_is_reported_with_fix(
    users: tuple[User, User], spoil: Callable[[User, Path], None], which: str
) -> None:
    alice, _ = users
    assert alice.chainbuild("images").code == 0
    folder = alice.home / which
    spoil(alice, folder)
    done = alice.chainbuild("images")
    assert done.code == 3, done.told()
    assert str(folder) in done.err
    assert any(word in done.err for word in ("chmod 700", "chmod o-w", "chown", "rm ")), done.told()
    assert "Traceback" not in done.err
    assert ask(f"localhost:{alice.port}") == "nothing"


def test_read_only_home_is_reported_with_fix(users: tuple[User, User]) -> None:
    alice, _ = users
    alice.home.chmod(0o500)
    done = alice.chainbuild("images")
    assert done.code == 3, done.told()
    assert "XDG" in done.err
    assert "Traceback" not in done.err
    folders = {f"XDG_{name}_HOME": str(alice.home.parent / f"{alice.name}-{name}") for name in ("DATA", "STATE")}
    for folder in folders.values():
        Path(folder).mkdir()
        os.chown(folder, alice.uid, alice.gid)
    done = alice.chainbuild("images", environ=folders)
    assert done.code == 0, done.told()


def test_leases_of_earlier_versions_in_tmp_are_ignored(users: tuple[User, User]) -> None:
    """Catch the use of a folder that all users can write to: links, FIFOs, locks that are never released."""
    alice, bob = users
    old = Path("/tmp/chainbuild-leases") / str(alice.port)
    new = not old.parent.exists()
    old.mkdir(parents=True)
    try:
        for name in ("mutex", "mark", "lease-1-1"):
            os.mkfifo(old / name)
        for path in (old, *old.iterdir()):
            os.chown(path, bob.uid, bob.gid)
        done = alice.chainbuild("images")
        assert done.code == 0, done.told()
    finally:
        shutil.rmtree(old.parent if new else old)


def test_compose_registry_is_protected_and_uses_login_of_its_data(users: tuple[User, User], base_images: str) -> None:
    """Set only the port: the data folder is that of the user."""
    alice, _ = users
    argv = ["docker", "compose", "--file", str(Path(alice.path.partition(":")[0]) / "docker-compose-registry.yml")]
    assert alice.chainbuild("images").code == 0
    done = alice.run(*argv, "up", "--detach", "--wait")
    assert done.code == 0, done.told()
    try:
        assert status(alice.port, "/v2/") == 401
        told = alice.chainbuild("registry", "status")
        assert f"data in {alice.data}" in told.out, told.told()
        assert "running until chainbuild registry down" in told.out
        tree = alice.tree(TREE)
        done = alice.chainbuild(*build_words(alice, base_images), cwd=tree)
        assert done.code == 0, done.told()
        assert ask(f"localhost:{alice.port}") == "registry"
    finally:
        done = alice.run(*argv, "down")
    assert done.code == 0, done.told()
    eventually(lambda: ask(f"localhost:{alice.port}") == "nothing", "the registry is down")
    # Files that it wrote as root do not stop the user's own registry.
    assert (alice.data / "docker/registry/v2/repositories" / alice.name).stat().st_uid == 0
    (tree / "one" / "10-Dockerfile-a").write_text(TREE["one/10-Dockerfile-a"] + "RUN echo more\n", encoding="utf-8")
    done = alice.chainbuild(*build_words(alice, base_images), cwd=tree)
    assert done.code == 0, done.told()
    done = alice.run("rm", "-r", str(alice.data))
    assert done.code == 0, done.told()
    forget(alice)


def test_images_of_earlier_version_are_imported_by_a_build(users: tuple[User, User], base_images: str) -> None:
    """Earlier versions ran the registry as root, with its data in the tree: the files there belong to root."""
    alice, _ = users
    tree = alice.tree(TREE)
    old = free_port()
    argv = ["docker", "run", "--detach", "--rm", "--publish", f"127.0.0.1:{old}:5000"]
    started = subprocess.run(
        [*argv, "--volume", f"{tree}/registry:/var/lib/registry", "registry:2"],
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        eventually(lambda: ask(f"localhost:{old}") == "registry", "the registry is up")
        image = push_files(f"localhost:{old}/{alice.name}/old:v1", {"file": b"content" * 1000})
        push_files(f"localhost:{old}/debian:bookworm-slim", {"file": b"prepared"})
    finally:
        docker("stop", "--time", "0", started.stdout.strip())
    assert (tree / "registry" / "docker").stat().st_uid == 0
    before = {path: path.lstat().st_mtime_ns for path in (tree / "registry").rglob("*")}
    words = build_words(alice, base_images)
    # Commands that only read import nothing.
    assert alice.chainbuild("plan", *words[:-2], cwd=tree).code == 0
    assert f"{alice.name}/old" not in alice.chainbuild("registry", "ls", cwd=tree).out
    done = alice.chainbuild(*words, cwd=tree)
    assert done.code == 0, done.told()
    assert "imported 1 tag of 1 repository" in done.err, done.told()
    assert "sudo rm -r" in done.err
    listed = alice.chainbuild("registry", "ls", cwd=tree).out
    assert f"localhost:{alice.port}/{alice.name}/old:v1" in listed
    assert "/debian:" not in listed
    again = alice.chainbuild(*words, cwd=tree)
    assert "imported" not in again.err
    assert {path: path.lstat().st_mtime_ns for path in (tree / "registry").rglob("*")} == before
    # The image is complete: the engine can pull it.
    assert alice.chainbuild("registry", "up").code == 0
    try:
        pulled = alice.run("docker", "pull", f"localhost:{alice.port}/{alice.name}/old@{image.digest}")
        assert pulled.code == 0, pulled.told()
    finally:
        assert alice.chainbuild("registry", "down").code == 0
        forget(alice)
        docker("image", "rm", f"localhost:{alice.port}/{alice.name}/old@{image.digest}")


def test_data_folder_owned_by_root_is_changed_to_the_user(users: tuple[User, User], base_images: str) -> None:
    """A tree that still uses the folder of an earlier version, whose registry ran as root."""
    alice, _ = users
    tree = alice.tree({**TREE, "chainbuild.yaml": "options: one\nregistry-data: registry\n"})
    done = alice.chainbuild(*build_words(alice, base_images), cwd=tree)
    assert done.code == 0, done.told()
    assert (tree / "registry" / "docker").is_dir()
    for path in (tree / "registry" / "docker", *(tree / "registry" / "docker").rglob("*")):
        os.chown(path, 0, 0)
    (tree / "one" / "10-Dockerfile-a").write_text(TREE["one/10-Dockerfile-a"] + "RUN echo more\n", encoding="utf-8")
    done = alice.chainbuild(*build_words(alice, base_images), cwd=tree)
    assert done.code == 0, done.told()
    assert "taking over the files" in done.err
    assert {path.lstat().st_uid for path in (tree / "registry").rglob("*")} == {alice.uid}
    forget(alice)
