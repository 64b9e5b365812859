"""SIF files with the real Apptainer: created, inspected, run, published and pulled."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chainbuild.references import Platform
from chainbuild.singularity.helper import LABEL, REPOSITORY, HelperTool, Identity, helper_tag
from chainbuild.singularity.tool import Conversion

from .conftest import OTHER, Done, Lay, Place, docker, eventually, push_files

HELPER = f"{REPOSITORY}:{helper_tag(Platform.of_this_machine())}"
GREETING = b"good day\n"


@pytest.fixture(scope="module")
def place(lay_once: Lay) -> Place:
    """A user, and an image of busybox with everything that is carried over."""
    place = lay_once(files={"empty": ""}, repo="sif-test/tools")
    push_files(f"{place.host}/{place.repo}:seed", {"etc/greeting": GREETING})
    done = sif(place, "create", f"{place.repo}:seed", "--helper")
    assert done.code == 0, done.told()
    busybox = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "cat", HELPER, "/usr/bin/busybox"], capture_output=True, check=True
    ).stdout
    files = {"bin/busybox": busybox, "etc/greeting": GREETING, "etc/passwd": b"", "etc/group": b""}
    push_files(
        f"{place.host}/{place.repo}:whole",
        files,
        entrypoint=["/bin/busybox", "cat"],
        cmd=["/etc/greeting"],
        env=[("PATH", "/bin"), ("GREETING", "good day"), ("HARD", 'say "it\'s $HOME" `twice` \\ and')],
        labels={"org.example.what": 'it\'s a "label"'},
    )
    push_files(f"{place.host}/{place.repo}:bare", files)
    return place


def sif(place: Place, command: str, *words: str, **environ: str) -> Done:
    registry = ["--registry", place.host] if command == "create" else []
    return place.run("singularity", command, *words, *registry, environ=environ)


def created(place: Place, *words: str, **environ: str) -> list[Path]:
    """Return the files that `create` prints."""
    done = sif(place, "create", *words, **environ)
    assert done.code == 0, done.told()
    return [Path(line) for line in done.out.splitlines()]


def apptainer(path: Path, *words: str, network: str = "none", entrypoint: str = "/usr/bin/apptainer") -> str:
    """Return the output of Apptainer, in a container with the privileges of a user on a real machine."""
    done = docker(
        "run",
        "--rm",
        "--privileged",
        "--network",
        network,
        "--volume",
        f"{path.parent}:/sifs",
        "--workdir",
        "/sifs",
        "--entrypoint",
        entrypoint,
        HELPER,
        *words,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def inspected(path: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = json.loads(apptainer(path, "inspect", "--json", "--all", path.name))["data"]
    return attributes["attributes"]  # type: ignore[no-any-return]


def whole(path: Path) -> None:
    """Assert that the checksum is right and the folder has no temporary files."""
    digits, name = path.with_name(path.name + ".sha256").read_text(encoding="utf-8").split()
    assert (digits, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    assert not [one for one in path.parent.iterdir() if one.name.startswith((".", "chainbuild-"))]


def test_sif_has_files_and_configuration_of_the_image(place: Place) -> None:
    (path,) = created(place, f"{place.repo}:whole", "--folder", "carried")
    assert path == place.root / "carried" / "sif-test_tools_whole.sif"
    whole(path)
    assert [one.name for one in place.temporary.iterdir()] == []
    found = inspected(path)
    image = place.image("whole")
    assert found["labels"]["org.example.what"] == 'it\'s a "label"'
    assert found["labels"]["io.github.chainbuild.digest"] == str(image.digest)
    assert found["labels"]["io.github.chainbuild.image"] == f"{place.repo}:whole"
    assert str(place.root) not in json.dumps(found)
    assert "/tmp" not in found["deffile"]
    assert apptainer(path, "exec", "--no-privs", path.name, "/bin/busybox", "cat", "/etc/greeting") == GREETING.decode()
    assert apptainer(path, "run", "--no-privs", path.name) == GREETING.decode()
    assert apptainer(path, "run", "--no-privs", path.name, "/etc/hosts") != ""
    variables = apptainer(path, "exec", "--no-privs", path.name, "/bin/busybox", "env").splitlines()
    assert "GREETING=good day" in variables
    assert 'HARD=say "it\'s $HOME" `twice` \\ and' in variables


def test_image_without_entrypoint_and_command_is_converted(place: Place) -> None:
    (path,) = created(place, f"{place.repo}:bare")
    whole_files = apptainer(path, "exec", "--no-privs", path.name, "/bin/busybox", "cat", "/etc/greeting")
    assert whole_files == GREETING.decode()
    assert apptainer(path, "run", "--no-privs", path.name, "/bin/busybox", "cat", "/etc/greeting") == GREETING.decode()


def test_create_skips_unchanged_images(place: Place) -> None:
    name = f"{place.host}/{place.repo}"
    push_files(f"{name}:moves-1", {"etc/greeting": b"one"})
    push_files(f"{name}:moves-2", {"etc/greeting": b"two"})
    one, two = created(place, f"{place.repo}:moves-*", "--folder", "moves")
    before = [path.stat().st_mtime_ns for path in (one, two)]
    done = sif(place, "create", f"{place.repo}:moves-*", "--folder", "moves", "--json")
    assert len(done.events("step_reused")) == 2, done.told()
    push_files(f"{name}:moves-2", {"etc/greeting": b"three"})
    planned = sif(place, "create", f"{place.repo}:moves-*", "--folder", "moves", "--dry-run", "--json")
    assert [row["action"] for row in planned.objects[-1]["files"]] == ["reuse", "convert"]
    done = sif(place, "create", f"{place.repo}:moves-*", "--folder", "moves", "--json")
    assert [event["step"].rpartition("/")[2] for event in done.events("step_finished")] == ["tools:moves-2"]
    assert one.stat().st_mtime_ns == before[0]
    assert two.stat().st_mtime_ns != before[1]
    assert {event["doing"] for event in done.events("step_progress")} >= {"fetching layers", "Creating SIF file"}
    whole(two)


def test_image_of_other_platform_gives_sif_for_it(place: Place) -> None:
    push_files(f"{place.host}/{place.repo}:far", {"etc/greeting": GREETING}, OTHER)
    (path,) = created(place, f"{place.repo}:far")
    assert f"Primary Architecture: {Platform.parse(OTHER).architecture}" in apptainer(path, "sif", "header", path.name)
    assert Platform.parse(OTHER).architecture in apptainer(path, "sif", "list", path.name)
    read = "apptainer sif dump 4 /sifs/$1 >/tmp/part && unsquashfs -cat /tmp/part etc/greeting"
    assert apptainer(path, "-c", read, "sh", path.name, entrypoint="/bin/sh") == GREETING.decode()


def test_image_found_only_in_local_store_is_converted(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY Dockerfile /etc/recipe\nCMD ["/x"]\n', encoding="utf-8")
    name = f"{place.repo}-local:1"
    assert docker("buildx", "build", "--builder", "default", "--load", "--tag", name, str(tmp_path)).returncode == 0
    try:
        (path,) = created(place, f"{place.repo}-local:*")
        assert path.name == "sif-test_tools-local_1.sif"
        assert "OCI_CMD='\"/x\"'" in inspected(path)["runscript"]
    finally:
        docker("image", "rm", name)


def test_program_on_path_is_used_with_the_configured_folders(place: Place, tmp_path: Path) -> None:
    """Use a script as the program, which calls the real one."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$APPTAINER_TMPDIR $*" >>{tmp_path}/calls\n'
        f"exec docker run --rm --network none --volume {place.home.parent}:{place.home.parent} --volume {tmp_path}:{tmp_path}"
        f' --env APPTAINER_TMPDIR --workdir "$PWD" {HELPER} "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    for name in ("work", "cache"):
        (tmp_path / name).mkdir()
    # Steps of a chain are compressed with zstd, which older versions do not read.
    (place.root / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /etc/recipe\n", encoding="utf-8")
    output = (
        f"type=image,name={place.host}/{place.repo}:zstd,push=,store=false,compression=zstd,force-compression=true,"
        "oci-mediatypes=true"
    )
    docker("buildx", "build", "--builder", "default", "--provenance=false", "--output", output, str(place.root))
    assert place.image("zstd").layers[0].media_type.endswith("+zstd")
    (path,) = created(
        place,
        f"{place.repo}:zstd",
        PATH=f"{program.parent}:{os.environ['PATH']}",
        SINGULARITY_TMPDIR=str(tmp_path / "work"),
        SINGULARITY_CACHEDIR=str(tmp_path / "cache"),
    )
    assert json.loads(path.with_name(path.name + ".json").read_text())["tool"].startswith("apptainer 1.")
    assert f"{tmp_path}/work/" in (tmp_path / "calls").read_text(encoding="utf-8")
    assert list((tmp_path / "work").iterdir()) == []
    blobs = {one.name for one in (tmp_path / "cache" / "chainbuild" / "blobs").iterdir()}
    assert place.image("zstd").layers[0].digest.hex in blobs


def test_helper_container_is_unprivileged_and_files_belong_to_user(place: Place, tmp_path: Path) -> None:
    layout = tmp_path / "layouts" / "x"
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --chown=33:33 Dockerfile /etc/recipe\n", encoding="utf-8")
    output = f"type=oci,tar=false,dest={layout},oci-mediatypes=true,name=x/x:1"
    build = docker("buildx", "build", "--builder", "default", "--provenance=false", "--output", output, str(tmp_path))
    assert build.returncode == 0, build.stderr
    user = os.getuid() or 12345
    folders = [tmp_path / name for name in ("layouts", "work", "out")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        if os.getuid() == 0:
            os.chown(folder, user, user)
    tmp_path.chmod(0o755)
    tool = HelperTool(HELPER, os.environ)
    tool._identity = Identity(user=user, group=user)
    words = tool.argv(
        one := Conversion(
            image="x:1",
            layout="x",
            layouts=folders[0],
            temporary=folders[1],
            output=folders[2] / "x.sif",
            platform=Platform.of_this_machine(),
        ),
        "name",
    )
    assert {"--cap-drop", "--user", "--network"} <= set(words)
    assert not {"--privileged", "--cap-add"} & set(words)
    tool.convert(one, lambda line: None)
    assert (folders[2] / "x.sif").stat().st_uid == user


def test_interrupt_leaves_no_container_and_no_files(place: Place) -> None:
    push_files(f"{place.host}/{place.repo}:big", {f"data/{n}": os.urandom(1 << 20) for n in range(12)})
    process = place.start(
        "singularity", "create", f"{place.repo}:big", "--registry", place.host, "--folder", "stopped", "--helper"
    )

    def containers() -> str:
        return docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}").stdout

    eventually(lambda: bool(containers()) or process.poll() is not None, "a container that converts")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    if process.returncode != 0:
        assert process.returncode == 130, out + err
        eventually(lambda: not containers(), "no container that converts")
        assert list((place.root / "stopped").iterdir()) == []
    assert [one.name for one in place.temporary.iterdir()] == []
    (path,) = created(place, f"{place.repo}:big", "--folder", "stopped")
    whole(path)


# Publishing -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(place: Place) -> Path:
    """A folder with two files, and another folder with the first of them, created again."""
    created(place, f"{place.repo}:whole", f"{place.repo}:seed", "--folder", "shelf")
    created(place, f"{place.repo}:seed", "--folder", "again")
    return place.root / "shelf"


def publish(place: Place, *words: str, **environ: str) -> list[str]:
    """Publish and return the files that were uploaded."""
    done = sif(place, "publish", "--folder", "shelf", "--json", *words, **environ)
    assert done.code == 0, done.told()
    return [str(event["image"]) for event in done.events("step_finished")]


def states(place: Place, *words: str, **environ: str) -> dict[str, str]:
    done = sif(place, "list", "--folder", "shelf", "--json", *words, **environ)
    assert done.code == 0, done.told()
    document = json.loads(done.out)
    return {row["file"]: row["state"] for row in document["files"]} | dict.fromkeys(
        document["only_published"], "only there"
    )


SEED, WHOLE = "sif-test_tools_seed.sif", "sif-test_tools_whole.sif"


def goes_there_and_stays(place: Place, shelf: Path, *words: str, **environ: str) -> None:
    """Assert that only new and changed files are uploaded."""
    assert set(states(place, *words, **environ).values()) == {"not published"}
    assert publish(place, f"{place.repo}:seed", *words, **environ) == [SEED]
    assert states(place, *words, **environ) == {SEED: "published", WHOLE: "not published"}
    assert publish(place, *words, **environ) == [WHOLE]
    assert publish(place, *words, **environ) == []
    kept = {one: one.read_bytes() for one in shelf.glob(f"{SEED}*")}
    try:
        for path in kept:
            path.write_bytes((shelf.with_name("again") / path.name).read_bytes())
        assert states(place, *words, **environ) == {SEED: "differs", WHOLE: "published"}
        assert publish(place, *words, **environ) == [SEED]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_registry_upload_is_pulled_by_apptainer(place: Place, shelf: Path) -> None:
    goes_there_and_stays(place, shelf, "--to", f"oras://{place.host}/sifs")
    publish(place, "--to", f"oras://{place.host}/sifs")
    address = f"oras://{place.host}/sifs/{place.repo}:whole"
    apptainer(shelf / WHOLE, "pull", "--no-https", "--force", "pulled.sif", address, network="host")
    pulled = shelf / "pulled.sif"
    assert pulled.read_bytes() == (shelf / WHOLE).read_bytes()
    pulled.unlink()
    over = sif(place, "publish", "--folder", "shelf", "--to", f"oras://{place.host}")
    assert over.code == 2, over.told()
    assert "was not overwritten" in over.err
    assert place.image("whole")


def test_folder_upload_is_complete(place: Place, shelf: Path, tmp_path: Path) -> None:
    there = tmp_path / "new" / "folder"
    goes_there_and_stays(place, shelf, "--to", str(there))
    done = subprocess.run(
        ["sha256sum", "--check", f"{SEED}.sha256", f"{WHOLE}.sha256"], cwd=there, capture_output=True, check=False
    )
    assert done.returncode == 0
    (there / "other.sif").write_bytes(b"x")
    assert states(place, "--to", str(there))["other.sif"] == "only there"
    assert not [one for one in there.iterdir() if one.name.startswith(".")]


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with an sftp that talks to a real OpenSSH server on this machine without a network."""
    folder = tmp_path_factory.mktemp("sftp")
    for package in ("openssh-sftp-server", "openssh-client"):
        done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(folder / "root")], check=True)
    root, bin_folder = folder / "root", folder / "bin"
    bin_folder.mkdir()
    scripts = {
        # The host name decides whether the login succeeds.
        folder
        / "ssh": f'case "$*" in *forbidden*) echo "me@forbidden: Permission denied (publickey)." >&2; exit 255 ;; esac\n'
        f"exec {root}/usr/lib/openssh/sftp-server",
        bin_folder / "sftp": f'exec {root}/usr/bin/sftp -S {folder}/ssh "$@"',
    }
    for script, text in scripts.items():
        script.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        script.chmod(0o755)
    return f"{bin_folder}:{os.environ['PATH']}"


def test_sftp_upload_is_complete(place: Place, shelf: Path, sftp: str, tmp_path: Path) -> None:
    there = tmp_path / "deep" / 'a "hard" [name]*'
    address = f"sftp://me@host{str(there).replace(' ', '%20').replace('[', '%5B').replace(']', '%5D')}"
    goes_there_and_stays(place, shelf, "--to", address, PATH=sftp)
    assert (there / SEED).read_bytes() != b""
    assert sorted(one.name for one in there.iterdir()) == sorted(
        f"{name}{suffix}" for name in (SEED, WHOLE) for suffix in ("", ".json", ".sha256")
    )
    refused = sif(place, "publish", "--folder", "shelf", "--to", "sftp://me@forbidden/x", PATH=sftp)
    assert refused.code == 4, refused.told()
    assert "Only keys are used" in refused.err


@pytest.fixture
def webdav(tmp_path: Path) -> Iterator[str]:
    """A WebDAV server with the needed methods for a folder, with a login."""
    top = tmp_path / "dav"
    top.mkdir()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            logged_in = self.headers.get("authorization") == "Basic bWU6c2VjcmV0"
            self.answer(*(self.done(top / self.path.strip("/"), body) if logged_in else (401,)))

        def done(self, path: Path, body: bytes) -> tuple[int, bytes]:
            match self.command:
                case "PUT" if path.parent.is_dir():
                    path.write_bytes(body)
                    return 201, b""
                case "MKCOL" if path.parent.is_dir():
                    path.mkdir()
                    return 201, b""
                case "MOVE" if path.is_file():
                    path.replace(top / self.headers["destination"].partition("//")[2].partition("/")[2])
                    return 204, b""
                case "PROPFIND" if path.is_dir():
                    names = "".join(f"<d:href>{self.path}{one.name}</d:href>" for one in path.iterdir())
                    return 207, f"<d:multistatus xmlns:d='DAV:'>{names}</d:multistatus>".encode()
                case "GET" | "HEAD" if path.is_file():
                    return 200, path.read_bytes()
                case "DELETE" if path.is_file():
                    path.unlink()
                    return 204, b""
            return (409 if self.command in {"PUT", "MKCOL"} else 404), b""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.serve
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://localhost:{served.server_address[1]}"
    served.shutdown()
    served.server_close()
    thread.join()


def test_webdav_upload_is_complete(place: Place, shelf: Path, webdav: str, tmp_path: Path) -> None:
    refused = sif(place, "publish", "--folder", "shelf", "--to", f"{webdav}/a/b")
    assert refused.code == 4, refused.told()
    assert "~/.netrc" in refused.err
    (place.home / ".netrc").write_text("machine localhost login me password secret\n", encoding="utf-8")
    (place.home / ".netrc").chmod(0o600)
    goes_there_and_stays(place, shelf, "--to", f"{webdav}/a/b")
    there = tmp_path / "dav" / "a" / "b"
    assert (there / WHOLE).read_bytes() == (shelf / WHOLE).read_bytes()
    assert not [one for one in there.iterdir() if one.name.startswith(".")]
