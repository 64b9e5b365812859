"""Make the root file system of a base image with mmdebstrap, and pack it as a layer. Equal inputs give equal bytes."""

from __future__ import annotations

import fcntl
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

from chainbuild.distro import native_programs as native
from chainbuild.distro.architectures import debian_architecture, is_emulated, need_platform
from chainbuild.distro.debian import CERTIFICATES_LABEL, INPUTS_LABEL, PackageRequest
from chainbuild.distro.layer_tar import PackedLayer, pack_layer
from chainbuild.errors import ChainbuildError, NotReadyError, WrongUseError
from chainbuild.events import Emit, Message
from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A minimal root of Debian 12 takes 130 MB, its tar the same again, and mmdebstrap needs both at once.
_SPACE_PER_PLATFORM: Final = 700 << 20

# Roots and layers are deleted after a failure: dpkg need not wait for the disk after every file.
_DPKG: Final = ("force-unsafe-io",)
# dpkg's settings for what Debian's slim images leave out; copyright files stay, as licences require.
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
# mmdebstrap unpacks the essential packages before dpkg's settings are in place (its own filter program takes longer than
# everything else), so the files are deleted afterwards. Runs on the machine; $1 is the root.
_SWEEP: Final = (
    'cd "$1/usr/share" && mkdir -p doc locale && rm -rf info man groff lintian linda '
    "&& find doc -mindepth 2 ! -type d ! -name copyright -delete && find doc -mindepth 1 -type d -empty -delete "
    "&& find locale -mindepth 1 ! -name locale.alias -delete && mkdir -p info man"
)
# For layers above, which should contain no downloads. Set last, because mmdebstrap itself needs the downloads.
_APT_IN_IMAGE: Final = """\
APT::Keep-Downloaded-Packages "false";
APT::AutoRemove::SuggestsImportant "false";
"""
# An image has no init system: packages must not try to start services (Debian policy, 9.3.3).
_POLICY: Final = "#!/bin/sh\nexit 101\n"


def _mounts_below(folder: Path, table: str | None = None) -> list[str]:
    """Return the mount points below a folder, in mount order (proc(5), mountinfo)."""
    if table is None:
        with suppress(OSError):
            table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    top = f"{folder.resolve()}/"
    places = (line.split()[4] for line in (table or "").splitlines())
    unescaped = (re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place) for place in places)
    return [place for place in unescaped if place.startswith(top)]


class Workshop:
    """A temporary folder and the mmdebstrap processes in it; leaving the `with` block ends and removes them.

    `emulate_all` makes foreign roots without native programs, to compare the results and the times.
    """

    def __init__(self, emit: Emit, *, emulate_all: bool = False) -> None:
        self._emit = emit
        self._emulate_all = emulate_all
        self._running: list[subprocess.Popen[str]] = []
        self._stopping = False
        self._foreign: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        # Not a TemporaryDirectory, which also deletes through mounts.
        self._folder = Path(tempfile.mkdtemp(prefix="chainbuild-bootstrap-"))
        # Without root, mmdebstrap runs as other users of a user namespace, who need access.
        self._folder.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        # A killed mmdebstrap leaves binds of the machine's /dev/shm, /proc and /sys below its root. Deleting files there
        # would delete them on the machine.
        for place in reversed(_mounts_below(self._folder)):
            subprocess.run(["umount", place], capture_output=True, check=False)
        left = _mounts_below(self._folder)
        if left:
            text = f"{self._folder} was not removed: still mounted: {', '.join(left)}"
            self._emit(Message(level="warning", text=text))
            return
        shutil.rmtree(self._folder, ignore_errors=True)

    def make(
        self, request: PackageRequest, platforms: Sequence[Platform]
    ) -> dict[str, tuple[PackedLayer, ImageConfig, float]]:
        """Return a layer and a config per platform, made in parallel. Errors: `NotReadyError`."""
        from concurrent.futures import ThreadPoolExecutor

        for platform in platforms:
            need_platform(platform)
        free = shutil.disk_usage(self._folder).free
        if free < _SPACE_PER_PLATFORM * len(platforms):
            raise NotReadyError(
                f"not enough disk space: {free >> 20} MB free, {(_SPACE_PER_PLATFORM * len(platforms)) >> 20} MB needed",
                where=str(self._folder),
                hint="Free some space, or set TMPDIR to another folder.",
            )
        epoch = self._mirror_date(request)
        if not self._emulate_all:
            self._foreign = tuple(debian_architecture(platform) for platform in platforms if is_emulated(platform))
        with ThreadPoolExecutor(max_workers=len(platforms) + 1) as threads:
            if self._foreign:
                threads.submit(self._make_programs, request, epoch, self._lock_programs())
            jobs = {item.oci: threads.submit(self._make_one, request, item, epoch) for item in platforms}
            try:
                return {key: job.result() for key, job in jobs.items()}
            except BaseException:
                # Also for Ctrl-C: the threads end when mmdebstrap ends, which unmounts and cleans up after SIGTERM.
                self._stopping = True
                for process in self._running:
                    process.terminate()
                raise

    def _mirror_date(self, request: PackageRequest) -> int:
        """Return the newest date of the suite's releases, in seconds since the epoch; no file gets a newer time.

        Errors: `NotReadyError` if the mirror does not have the suite or does not respond.
        """
        newest = 0
        for line in request.sources:
            _, uri, suite, _ = line.split(" ")
            target = self._folder / f"InRelease-{suite}"
            argv = ["/usr/lib/apt/apt-helper", "download-file", f"{uri}/dists/{suite}/InRelease", str(target)]
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode != 0:
                output = (done.stdout + done.stderr).strip()
                if "404" in output:
                    raise NotReadyError(
                        f"the machine's mirror has no {request.distribution} {suite}",
                        hint="Check the name of the suite.",
                    )
                raise NotReadyError(f"the machine's package mirror does not respond: {_tail(output, 2)}")
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
        self._make_root(request, platform, tar, epoch)
        self._say(platform, "packing the layer")
        add_folder(tar, "./dev", epoch)
        layer = pack_layer(tar, folder / "layer.tar.gz")
        tar.unlink()
        return layer, _config(request, platform, layer, epoch), time.monotonic() - began

    def _make_root(self, request: PackageRequest, platform: Platform, tar: Path, epoch: int) -> None:
        """Make the tar of a root. A foreign one is made with native programs, or if that fails, with emulation only."""
        stage, temporary, architecture = _stage(request, tar.parent), tar.parent / "tmp", debian_architecture(platform)
        if architecture in self._foreign:
            argv = mmdebstrap_argv(request, platform, tar, stage, programs=self._programs)
            try:
                self._run(platform, argv, temporary, epoch, path=native.SEARCH_PATH)
                if not native.has_traces(tar):
                    self._say(platform, f"installed {native.shown_packages(self._programs, architecture)}")
                    return
                reason = "a native program got into the root"
            except RootFailedError as error:
                if self._stopping:
                    raise
                reason = _tail(str(error), 3)
            text = f"{platform}: made again without native programs, which takes longer: {reason}"
            self._emit(Message(level="warning", text=text))
            tar.unlink(missing_ok=True)
        self._run(platform, mmdebstrap_argv(request, platform, tar, stage), temporary, epoch)

    @property
    def _programs(self) -> Path:
        """The folder of the native programs for foreign roots."""
        return self._folder / "native"

    def _lock_programs(self) -> int:
        """Return the locked file for which foreign roots wait before they use the native programs."""
        # Scripts in the folder run as root: only `tmp`, where apt verifies signatures as another user, is for everybody,
        # and `out`, if mmdebstrap runs as other users.
        for folder, mode in (("", 0o755), ("tmp", 0o1777), ("out", 0o755 if os.geteuid() == 0 else 0o1777)):
            (self._programs / folder).mkdir()
            (self._programs / folder).chmod(mode)
        lock = os.open(self._programs / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _make_programs(self, request: PackageRequest, epoch: int, lock: int) -> None:
        """Unpack the native programs for foreign roots. After a failure, roots are made with emulation only."""
        folder, own = self._programs, Platform.of_this_machine()
        tar, archives = folder / "out/programs.tar", folder / "out/archives"
        try:
            self._run(own, programs_argv(request, own, tar, archives), folder / "tmp", epoch, say=False)
            names = archives.read_text(encoding="utf-8").split()
            native.unpack_programs(tar, folder, names, self._foreign)
            (folder / "ready").touch()
        except (ChainbuildError, native.NotUsableError, OSError, ValueError, tarfile.TarError) as error:
            if not self._stopping:
                text = f"packages are installed with emulation only, which takes longer: {_tail(str(error), 3)}"
                self._emit(Message(level="warning", text=text))
        finally:
            os.close(lock)

    def _run(
        self, platform: Platform, argv: Sequence[str], temporary: Path, epoch: int, *, path: str = "", say: bool = True
    ) -> None:
        """Run mmdebstrap. `path` is put before PATH; `say` reports its progress."""
        environment = {**os.environ, "TMPDIR": str(temporary), "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
        if path:
            environment["PATH"] = f"{path}:{environment.get('PATH') or _PATH}"
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
                if say and line.startswith("I: ") and line.rstrip().endswith("..."):
                    self._say(platform, line[3:].rstrip().rstrip("."))
        if process.returncode != 0:
            raise _why("\n".join(lines), platform)

    def _say(self, platform: Platform, text: str) -> None:
        self._emit(Message(text=f"{platform}: {text}"))


def add_folder(tar: Path, name: str, epoch: int) -> None:
    """Add an empty folder to a tar, with the time `epoch`.

    Without /dev in the image, the engine creates it with the current time in the first layer with a RUN, and no two
    builds of that layer are the same.
    """
    with tarfile.open(tar, "a", format=tarfile.PAX_FORMAT) as file:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch
        file.addfile(entry)


def mmdebstrap_argv(
    request: PackageRequest, platform: Platform, tar: Path, stage: Path, *, programs: Path | None = None
) -> list[str]:
    """Return the command that makes a root. Its hooks are constant texts, and paths in them are quoted for mmdebstrap.

    `programs` is the folder of native programs to use while the root is made.
    """
    argv = ["mmdebstrap", "--variant=minbase", "--format=tar", f"--architectures={debian_architecture(platform)}"]
    if request.include:
        argv.append(f"--include={','.join(request.include)}")
    if "usr-is-merged" in request.include:
        # The package rejects a root whose /bin is a folder.
        argv.append("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
        # Device nodes cannot be unpacked without root; an empty /dev is added to the tar afterwards.
    argv.append("--skip=output/dev")
    argv += [f"--aptopt={line}" for line in request.apt]
    # The certificates are added before the package that puts them into the trust store: that then runs only once,
    # and takes half a minute under emulation.
    argv.append(f"--extract-hook=sync-in {shlex.quote(str(stage / 'early'))} /")
    if programs is not None:
        enter, leave = (shlex.quote(str(programs / name)) for name in ("enter", "leave"))
        # The folder is empty until its lock is free, so the lock is taken before the script is started.
        wait = f"flock --shared {shlex.quote(str(programs / 'lock'))} true"
        start = f'if [ -e {enter} ]; then sh {enter} "$1" {debian_architecture(platform)}; fi'
        argv.append(f"--extract-hook={wait} && {start}")
        argv.append(f'--customize-hook=if [ -e {leave} ]; then sh {leave} "$1"; fi')
    if request.variant == "slim":
        argv.append(f"--customize-hook={_SWEEP}")
    argv.append(f"--customize-hook=sync-in {shlex.quote(str(stage / 'late'))} /")
    return [*argv, request.suite, str(tar), *request.sources]


def programs_argv(request: PackageRequest, own: Platform, tar: Path, archives: Path) -> list[str]:
    """Return the command that unpacks the native programs for foreign roots, and lists their package files."""
    argv = ["mmdebstrap", "--variant=extract", "--format=tar", f"--architectures={debian_architecture(own)}"]
    argv += [
        f"--include={','.join(native.packages())}",
        "--skip=output/dev",
        *(f"--aptopt={line}" for line in request.apt),
    ]
    argv.append(f'--extract-hook=ls "$1/var/cache/apt/archives" > {shlex.quote(str(archives))}')
    return [*argv, request.suite, str(tar), *request.sources]


def _stage(request: PackageRequest, folder: Path) -> Path:
    """Write the files to copy into the root: `early` the extra certificates, `late` the settings for later layers."""
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


class RootFailedError(NotReadyError):
    """mmdebstrap failed, and the log shows no cause that the user can change."""


def _why(log: str, platform: Platform) -> ChainbuildError:
    """Return mmdebstrap's failure as an error, from its log."""
    if "No space left on device" in log:
        return NotReadyError(
            "not enough disk space for the root", hint="Free some space, or set TMPDIR to another folder."
        )
    if "Unable to locate package" in log:
        packages = re.findall(r"Unable to locate package (\S+)", log)
        return WrongUseError(f"the suite has no package {', '.join(dict.fromkeys(packages))} for {platform}")
    if "unshare" in log and ("not permitted" in log or "subuid" in log):
        return NotReadyError(
            "bootstrap without root needs user namespaces, which are not available here",
            hint="Run it as root, or install uidmap and add lines for your user to /etc/subuid and /etc/subgid.",
        )
    return RootFailedError(f"mmdebstrap failed for {platform}:\n{_tail(log, 12)}")


def _tail(text: str, lines: int) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
