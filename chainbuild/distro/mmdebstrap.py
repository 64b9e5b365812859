"""The root of a base image, made by mmdebstrap, packed as a layer with its config. The same inputs give the same bytes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Self

from chainbuild.distro.debian import CERTIFICATES_LABEL, INPUTS_LABEL, PackageRequest
from chainbuild.distro.layer_tar import PackedLayer, pack_layer
from chainbuild.errors import ChainbuildError, NotReadyError, WrongUseError
from chainbuild.events import Emit, Message
from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A minimal root of Debian 12 takes 130 MB, its tar as much again, and mmdebstrap both at once.
_SPACE_PER_PLATFORM: Final = 700 << 20

_DEBIAN_NAMES: Final = {
    ("arm", "v7"): "armhf",
    ("arm", "v6"): "armel",
    ("386", ""): "i386",
    ("ppc64le", ""): "ppc64el",
    ("mips64le", ""): "mips64el",
}

# Roots are thrown away when something fails, and so are layers: no need to wait for the disk after every file.
_DPKG: Final = ("force-unsafe-io",)
# dpkg's words for what Debian's slim images leave out; copyright files stay, as licences ask.
_SLIM: Final = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
)
# The essential packages are unpacked before dpkg's words are there (mmdebstrap would filter each one through a program
# of its own, which takes longer than all the rest): what they brought is swept away. Runs on the machine, for $1.
_SWEEP: Final = (
    'cd "$1/usr/share" && mkdir -p doc locale && rm -rf info man groff lintian linda '
    "&& find doc -mindepth 2 ! -type d ! -name copyright -delete && find doc -mindepth 1 -type d -empty -delete "
    "&& find locale -mindepth 1 ! -name locale.alias -delete && mkdir -p info man"
)
# For layers on top, which should hold no downloads; mmdebstrap itself could not work with this.
_APT_IN_IMAGE: Final = """\
APT::Keep-Downloaded-Packages "false";
APT::AutoRemove::SuggestsImportant "false";
"""
# An image has no init: packages must not try to start services (Debian policy, 9.3.3).
_POLICY: Final = "#!/bin/sh\nexit 101\n"


def _mounts_below(folder: Path, table: str | None = None) -> list[str]:
    """The mount points below a folder, in the order in which they were mounted (proc(5), mountinfo)."""
    if table is None:
        with suppress(OSError):
            table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    top = f"{folder.resolve()}/"
    places = (line.split()[4] for line in (table or "").splitlines())
    unescaped = (re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place) for place in places)
    return [place for place in unescaped if place.startswith(top)]


class Workshop:
    """A temporary folder and the mmdebstraps that run in it; both are gone at the end of the `with`."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        # No TemporaryDirectory: that removes what it finds, also through mounts.
        self._folder = Path(tempfile.mkdtemp(prefix="chainbuild-bootstrap-"))
        # Without root, mmdebstrap works as other users (of a user namespace), who must get in.
        self._folder.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        # An mmdebstrap that was killed leaves binds of the machine's own /dev/shm, /proc and /sys below its root: what is
        # removed there is removed on the machine.
        for place in reversed(_mounts_below(self._folder)):
            subprocess.run(["umount", place], capture_output=True, check=False)
        left = _mounts_below(self._folder)
        if left:
            text = f"{self._folder} is not removed, because these are still mounted: {', '.join(left)}"
            self._emit(Message(level="warning", text=text))
            return
        shutil.rmtree(self._folder, ignore_errors=True)

    def make(
        self, request: PackageRequest, platforms: Sequence[Platform]
    ) -> dict[str, tuple[PackedLayer, ImageConfig, float]]:
        """A layer and a config per platform, made side by side. Errors: `NotReadyError`."""
        from concurrent.futures import ThreadPoolExecutor

        for platform in platforms:
            _need_platform(platform)
        free = shutil.disk_usage(self._folder).free
        if free < _SPACE_PER_PLATFORM * len(platforms):
            raise NotReadyError(
                f"no space left: {free >> 20} MB free, {(_SPACE_PER_PLATFORM * len(platforms)) >> 20} MB needed",
                where=str(self._folder),
                hint="Make room, or name another folder in TMPDIR.",
            )
        epoch = self._mirror_date(request)
        with ThreadPoolExecutor(max_workers=len(platforms)) as threads:
            jobs = {item.oci: threads.submit(self._make_one, request, item, epoch) for item in platforms}
            try:
                return {key: job.result() for key, job in jobs.items()}
            except BaseException:
                # Also for Ctrl-C: the threads end when their mmdebstraps do, which unmount and tidy up after SIGTERM.
                for process in self._running:
                    process.terminate()
                raise

    def _mirror_date(self, request: PackageRequest) -> int:
        """The newest date of the suite's releases, in seconds since the epoch: files get no newer time than that.

        Errors: `NotReadyError` where the mirror does not have the suite, or does not answer.
        """
        newest = 0
        for line in request.sources:
            _, uri, suite, _ = line.split(" ")
            target = self._folder / f"InRelease-{suite}"
            argv = ["/usr/lib/apt/apt-helper", "download-file", f"{uri}/dists/{suite}/InRelease", str(target)]
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode != 0:
                said = (done.stdout + done.stderr).strip()
                if "404" in said:
                    raise NotReadyError(
                        f"the machine's mirror has no {request.distribution} {suite}", hint="Is the suite's name right?"
                    )
                raise NotReadyError(f"the machine's package mirror does not answer: {_tail(said, 2)}")
            dates = re.findall(r"^Date: (.+)$", target.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            newest = max([newest, *(int(parsedate_to_datetime(date).timestamp()) for date in dates)])
        return newest

    def _make_one(
        self, request: PackageRequest, platform: Platform, epoch: int
    ) -> tuple[PackedLayer, ImageConfig, float]:
        began = time.monotonic()
        folder = self._folder / debian_architecture(platform)
        (folder / "tmp").mkdir(parents=True)
        for place in (folder, folder / "tmp"):
            place.chmod(0o1777)
        tar = folder / "root.tar"
        self._say(platform, f"making {request.distribution} {request.suite} from packages")
        self._run(platform, mmdebstrap_argv(request, platform, tar, _stage(request, folder)), folder / "tmp", epoch)
        self._say(platform, "packing the layer")
        add_folder(tar, "./dev", epoch)
        layer = pack_layer(tar, folder / "layer.tar.gz")
        tar.unlink()
        return layer, _config(request, platform, layer, epoch), time.monotonic() - began

    def _run(self, platform: Platform, argv: Sequence[str], temporary: Path, epoch: int) -> None:
        environment = {**os.environ, "TMPDIR": str(temporary), "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
        lines: list[str] = []
        with subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            self._running.append(process)
            for line in process.stderr or ():
                lines.append(line.rstrip())
                if line.startswith("I: ") and line.rstrip().endswith("..."):
                    self._say(platform, line[3:].rstrip().rstrip("."))
        if process.returncode != 0:
            raise _why("\n".join(lines), platform)

    def _say(self, platform: Platform, text: str) -> None:
        self._emit(Message(text=f"{platform}: {text}"))


def add_folder(tar: Path, name: str, epoch: int) -> None:
    """Add an empty folder to a tar. `epoch`: its time.

    Without /dev in the image the engine makes it, with the time of that moment, in the first layer that has a RUN: no two
    builds of that layer are the same then.
    """
    with tarfile.open(tar, "a", format=tarfile.PAX_FORMAT) as file:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch
        file.addfile(entry)


def mmdebstrap_argv(request: PackageRequest, platform: Platform, tar: Path, stage: Path) -> list[str]:
    """The command that makes a root; hooks are fixed texts of ours, and paths in them are quoted for its own parser."""
    argv = ["mmdebstrap", "--variant=minbase", "--format=tar", f"--architectures={debian_architecture(platform)}"]
    if request.include:
        argv.append(f"--include={','.join(request.include)}")
    if "usr-is-merged" in request.include:
        # The package refuses a root whose /bin is a folder.
        argv.append("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
    # Unpacking device nodes is refused without root; the empty folder is added to the tar afterwards.
    argv.append("--skip=output/dev")
    argv += [f"--aptopt={line}" for line in request.apt]
    # The certificates come before the package that puts them into the trust store, if it is asked for: doing that once is
    # enough, and under emulation it takes half a minute.
    argv.append(f"--extract-hook=sync-in {shlex.quote(str(stage / 'early'))} /")
    if request.variant == "slim":
        argv.append(f"--customize-hook={_SWEEP}")
    argv.append(f"--customize-hook=sync-in {shlex.quote(str(stage / 'late'))} /")
    return [*argv, request.suite, str(tar), *request.sources]


def _stage(request: PackageRequest, folder: Path) -> Path:
    """What is put over the root: early the machine's extra certificates, late what only later layers shall meet."""
    stage = folder / "stage"
    for name, data in request.certificates:
        path = stage / "early/usr/local/share/ca-certificates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)
    rules = stage / "early/etc/dpkg/dpkg.cfg.d/90-chainbuild"
    rules.parent.mkdir(parents=True)
    rules.write_text("\n".join((*_DPKG, *(_SLIM if request.variant == "slim" else ()), "")), encoding="ascii")
    rules.chmod(0o644)
    settings = stage / "late/etc/apt/apt.conf.d/90-chainbuild"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(_APT_IN_IMAGE, encoding="ascii")
    settings.chmod(0o644)
    policy = stage / "late/usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(_POLICY, encoding="ascii")
    policy.chmod(0o755)
    for place in (stage, *(path for path in stage.rglob("*") if path.is_dir())):
        place.chmod(0o755)
    return stage


def _config(request: PackageRequest, platform: Platform, layer: PackedLayer, epoch: int) -> ImageConfig:
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    history = [{"created": created, "created_by": request.command}]
    config = ImageConfig.make(platform, (layer.diff_id,), created=created, history=history)
    labels = {INPUTS_LABEL: request.inputs(platform)}
    if request.certificates:
        labels[CERTIFICATES_LABEL] = ",".join(name for name, _ in request.certificates)
    return config.with_changes(env=[("PATH", _PATH)], cmd=["bash"], labels=labels)


def _why(log: str, platform: Platform) -> ChainbuildError:
    """What mmdebstrap's failure was, from its log."""
    if "No space left on device" in log:
        return NotReadyError("no space left for the root", hint="Make room, or name another folder in TMPDIR.")
    if "Unable to locate package" in log:
        found = re.findall(r"Unable to locate package (\S+)", log)
        return WrongUseError(f"the suite has no package {', '.join(dict.fromkeys(found))} for {platform}")
    if "unshare" in log and ("not permitted" in log or "subuid" in log):
        return NotReadyError(
            "without root, bootstrap needs user namespaces, which are not to be had here",
            hint="Run it as root, or: apt-get install --yes uidmap, with lines for you in /etc/subuid and /etc/subgid.",
        )
    return NotReadyError(f"mmdebstrap failed for {platform}:\n{_tail(log, 12)}")


def _tail(text: str, lines: int) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def _need_platform(platform: Platform) -> None:
    """Errors: `NotReadyError` where programs of the platform do not run here (Debian's arch-test tries one)."""
    name = debian_architecture(platform)
    if subprocess.run(["arch-test", name], capture_output=True, check=False).returncode != 0:
        raise NotReadyError(
            f"programs for {platform} do not run on this machine: no emulation is set up",
            hint="apt-get install --yes qemu-user-static binfmt-support   (then, where the kernel does not have it "
            "yet: mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable)",
        )


def debian_architecture(platform: Platform) -> str:
    """Debian's name of a platform's architecture (dpkg --print-architecture)."""
    return _DEBIAN_NAMES.get((platform.architecture, platform.variant), platform.architecture)
