"""Images as folders: of the local store or of a registry, for any platform; what was fetched for it goes again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import measure


@contextmanager
def unpacked(image: str, platform: str = "") -> Iterator[Path]:
    """The image's files in a folder; the image is in the local store meanwhile. Errors: `RunFailedError`."""
    asked = ["--platform", platform] if platform else []
    fetched = False
    try:
        container = measure.run(["docker", "create", "--pull", "never", *asked, image, "true"]).strip()
    except measure.RunFailedError:
        measure.run(["docker", "pull", "--quiet", *asked, image])
        fetched = True
        container = measure.run(["docker", "create", *asked, image, "true"]).strip()
    try:
        with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder:
            root = Path(folder) / "root"
            root.mkdir()
            _export(container, root)
            yield root
    finally:
        measure.run(["docker", "rm", "--force", container])
        if fetched:
            measure.run(["docker", "rmi", "--force", image])


def _export(container: str, root: Path) -> None:
    argv = ["tar", "--extract", "--directory", str(root), "--exclude", "dev", "--exclude", "./dev"]
    with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as exported:
        done = subprocess.run(argv, stdin=exported.stdout, capture_output=True, text=True, check=False)
    if exported.returncode or done.returncode:
        raise measure.RunFailedError(f"docker export {container}: {done.stderr[-500:]}")


def platform_of(image: str) -> str:
    """The OCI platform of an image of the local store."""
    return measure.run(["docker", "image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", image]).strip()


def bytes_in(folder: Path) -> int:
    """The bytes of the regular files below a folder, hard links once."""
    seen: dict[tuple[int, int], int] = {}
    for above, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(f"{above}/{name}")
            if (status.st_mode & 0o170000) == 0o100000:
                seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())
