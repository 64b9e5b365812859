"""`script/bench native`: compile and install packages emulated, with native tools, and on the machine's own platform.

The same Dockerfiles in the same order, one after the other. Each RUN times its own work, so that exports do not count. The
digests of all objects, or of all installed files, say whether the bytes are equal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.service import push_local, registry

EMULATED, NATIVE, OWN = "emulated", "accelerated", "own platform"
_APT = "apt"
_REPO, _TAG, _OPTION = "bench/native", "v1", "compile"
_TOOLS = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN find /etc/apt -name '*.sources' -exec sed -i 's/^Types:.*/Types: deb deb-src/' '{}' + \\
 && find /etc/apt -name '*.list' -exec sed -i -e '/^deb-src /d' -e 's/^deb\\( .*\\)/&\\ndeb-src\\1/' '{}' + \\
 && apt-get update \\
 && apt-get install --yes --no-install-recommends cmake dpkg-dev g++ libabsl-dev make pkgconf \\
 && mkdir -m 777 /src /out \\
 && cd /src \\
 && apt-get source hiredis lz4 re2 cppcheck
"""
_PACKAGE = """\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}}
RUN cd {0.folder} \\
 && {0.prepare} \\
 && begin=$(date +%s%N) \\
 && {0.compile} >/out/{0.name}.log 2>&1 \\
 && echo $(( ($(date +%s%N) - begin) / 1000000 )) >/out/{0.name}.ms \\
 && {0.files} | LC_ALL=C sort | xargs -d '\\n' sha256sum >/out/{0.name}.sums
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A source package: its language, its folder, and the shell commands that prepare and compile it and list its results.

    Or packages to install, which are like one whose language is that of `apt`.
    """

    name: str
    language: str
    prepare: str = "true"
    compile: str = 'make -j"$(nproc)"'
    files: str = "find . -name '*.o' -o -name '*.so.*' -type f"

    @property
    def folder(self) -> str:
        """The folder in which the commands run, as a pattern of the shell."""
        return "/" if self.language == _APT else f"/src/{self.name}-*/"


PACKAGES = (
    Package(name="hiredis", language="C"),
    Package(name="lz4", language="C"),
    Package(
        name="re2",
        language="C++",
        prepare="cmake -S . -B build -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_SHARED_LIBS=ON >/dev/null",
        compile='make -C build -j"$(nproc)"',
    ),
    Package(name="cppcheck", language="C++", compile='make -j"$(nproc)" CXXFLAGS="-O2 -g -std=c++17"'),
    Package(
        name="packages",
        language=_APT,
        compile="apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends"
        " ca-certificates git openssh-client python3-dev python3-venv tzdata",
        # Not the caches that have the times or the inodes of other files in them.
        files="find /etc /usr /var -xdev -type f ! -path '/var/log/*' ! -path '/var/cache/*'",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """What compiling a package took, in seconds, and the digests of its objects by path; by way."""

    package: Package
    seconds: Mapping[str, float]
    objects: Mapping[str, Mapping[str, str]]

    @property
    def equal(self) -> tuple[int, int]:
        """How many objects are the same emulated and accelerated, and how many there are."""
        emulated, native = self.objects[EMULATED], self.objects[NATIVE]
        return sum(native.get(path) == digest for path, digest in emulated.items()), len({*emulated, *native})


def measured(base: str, names: tuple[str, ...]) -> tuple[Compiled, ...]:
    """Measure. `base` is a local image of both platforms. Errors: `RunFailedError`."""
    packages = tuple(package for package in PACKAGES if package.name in names)
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry() as endpoint:
        tree = Path(folder)
        _write(tree, packages)
        image = f"{endpoint}/bench/base:1"
        push_local(base, image)
        found: dict[str, Path] = {}
        for way, platform, flags in (
            (OWN, "amd64", ()),
            (NATIVE, "aarch64", ()),
            (EMULATED, "aarch64", ("--native", "off")),
        ):
            measure.say(f"{way}: {', '.join(package.name for package in packages)}")
            words = [platform, _REPO, _TAG, image, _OPTION, image, "--registry", endpoint, "--no-load"]
            measure.run(measure.chainbuild(*words, "--until", "10"), cwd=tree)
            last = str(10 * len(packages) + 10)
            again = ("--from", "20", "--until", last, "--refresh", "--no-cache")
            # `--from` and `--until` leave step 10 as it is: it compiles nothing.
            measure.run(measure.chainbuild(*words, *again, *flags), cwd=tree)
            found[way] = tree / f"out-{way.replace(' ', '-')}"
            step = f"{_TAG}-{_OPTION}-{last}-{packages[-1].name}-{platform}"
            _take(f"{endpoint}/{_REPO}:{step}", platform, found[way])
        return tuple(
            Compiled(
                package=package,
                seconds={way: int(_text(out, f"{package.name}.ms")) / 1000 for way, out in found.items()},
                objects={way: _sums(_text(out, f"{package.name}.sums")) for way, out in found.items()},
            )
            for package in packages
        )


def _write(tree: Path, packages: tuple[Package, ...]) -> None:
    option = tree / _OPTION
    option.mkdir()
    (option / "10-Dockerfile-tools").write_text(_TOOLS)
    for number, package in enumerate(packages, 2):
        (option / f"{number}0-Dockerfile-{package.name}").write_text(_PACKAGE.format(package))


def _take(image: str, platform: str, target: Path) -> None:
    """Copy /out of an image."""
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder:
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text(f"FROM {image} AS found\nFROM scratch\nCOPY --from=found /out/ /\n")
        output = f"type=local,dest={target}"
        oci = "linux/arm64" if platform == "aarch64" else "linux/amd64"
        measure.run(["docker", "buildx", "build", "--platform", oci, "--output", output, folder])


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text()


def _sums(text: str) -> dict[str, str]:
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in text.splitlines())}


def table(compiled: tuple[Compiled, ...]) -> str:
    """The page's table."""
    rows = [
        f"| | {EMULATED} | {NATIVE} | {OWN} | {EMULATED} / {NATIVE} | {NATIVE} / {OWN} | equal files |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in compiled:
        emulated, native, own = (one.seconds[way] for way in (EMULATED, NATIVE, OWN))
        equal, of = one.equal
        cells = [measure.shown(value) for value in (emulated, native, own)]
        cells += [measure.ratio(emulated / native), measure.ratio(native / own), f"{equal} of {of}"]
        rows.append(f"| {one.package.name} ({one.package.language}) | {' | '.join(cells)} |")
    return "\n".join(rows)
