"""A local apt repository with real packages: an update is found by the step that brought it, and gained, on both platforms."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.package_repositories import Files, apt_keyring, apt_suite, deb

from .conftest import Done, Lay, docker

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb"),
]

BOTH = ("amd64", "aarch64")
HEAD = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
SOURCES = """COPY archive.gpg /usr/share/keyrings/archive.gpg
RUN rm -rf /etc/apt/sources.list /etc/apt/sources.list.d \\
 && echo 'deb [signed-by=/usr/share/keyrings/archive.gpg] http://{address}/debian stable main' > /etc/apt/sources.list \\
 && echo 'deb [signed-by=/usr/share/keyrings/archive.gpg] http://{address}/debian stable-security main' >> /etc/apt/sources.list
"""
INSTALL = "RUN apt-get update && apt-get install -y --no-install-recommends {name} && rm -rf /var/lib/apt/lists/*\n"


class Archive:
    """An apt repository on the engine's bridge, for builds and for this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: Files = {}
        gateway = docker(
            "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"
        ).stdout.strip()
        self.server = ThreadingHTTPServer((gateway, 0), self._handler())
        self.address = f"{gateway}:{self.server.server_address[1]}"

    def publish(self, suite: str, *packages: tuple[str, str]) -> None:
        """Publish versions of packages, for all architectures."""
        blocks = []
        for name, version in packages:
            raw = self._package(name, version)
            path = f"pool/{name}_{version}.deb"
            self.files[path] = raw
            size, digest = str(len(raw)), hashlib.sha256(raw).hexdigest()
            blocks.append(deb(name, version, Architecture="all", Filename=path, Size=size, SHA256=digest))
        label = "Label: Debian-Security\n" if suite.endswith("-security") else "Label: Debian\n"
        self.files |= apt_suite({"amd64": blocks, "arm64": blocks}, suite, more=f"{label}Components: main")

    def _package(self, name: str, version: str) -> bytes:
        root = self.folder / f"{name}-{version}"
        (root / "DEBIAN").mkdir(parents=True)
        (root / f"usr/share/{name}").mkdir(parents=True)
        (root / f"usr/share/{name}/version").write_text(f"{version}\n")
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <t@example.org>\n"
        (root / "DEBIAN/control").write_text(f"{control}Description: test\n")
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root], check=True, capture_output=True)
        return root.with_name(f"{root.name}.deb").read_bytes()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        files = self.files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = files.get(self.path.removeprefix("/debian/"))
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "packages")
    thread = threading.Thread(target=archive.server.serve_forever)
    thread.start()
    try:
        yield archive
    finally:
        archive.server.shutdown()
        thread.join()
        archive.server.server_close()


def test_security_update_renews_its_step_on_both_platforms(lay: Lay, archive: Archive) -> None:
    archive.publish("stable", ("cb-lib", "1.0-1"))
    archive.publish("stable-security")
    files = {
        "archive.gpg": apt_keyring(),
        "own/10-Dockerfile-sources": HEAD + SOURCES.format(address=archive.address),
        "own/20-Dockerfile-tool": HEAD + "COPY archive.gpg /usr/share/tool/\n",
        "own/30-Dockerfile-lib": HEAD + INSTALL.format(name="cb-lib"),
    }
    place = lay(files=files)

    def build(*flags: str) -> Done:
        return place.build("own", "--until", "30", *flags, platform=",".join(BOTH))

    def outdated(*flags: str, code: int = 0) -> dict[str, list[dict[str, object]]]:
        done = place.run("outdated", "--json", *flags)
        assert done.code == code, done.told()
        document: dict[str, list[dict[str, object]]] = json.loads(done.out)
        return document

    build()
    assert [row for row in outdated("--fail")["packages"] if row["state"] == "outdated"] == []

    archive.publish("stable-security", ("cb-lib", "1.0-2"))
    document = outdated("--security", "--fail", code=10)
    assert [(row["name"], row["available"], row["step"]) for row in document["packages"]] == [
        ("cb-lib", "1.0-2", f"{platform}/own/30-lib") for platform in BOTH
    ]
    assert [row["step"] for row in document["rebuilt"]] == [f"{platform}/own/30-lib" for platform in BOTH]

    done = build("--refresh-outdated=security")
    assert done.built == ["30-lib"] * 2
    assert set(done.reasons.values()) >= {"cb-lib 1.0-1 → 1.0-2, security"}
    for platform in BOTH:
        shown = place.run("files", f"{platform}/own/30-lib", "/usr/share/cb-lib/version")
        assert shown.out.strip() == "1.0-2", shown.told()
    assert outdated("--fail")["rebuilt"] == []
    assert build("--refresh-outdated").built == []
