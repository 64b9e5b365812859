"""Native compilers in real emulated builds: the same files as without them, and checks that notice when they are not."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from typing import Any

import pytest

from chainbuild.host.package_data import shipped

from .conftest import OTHER, OWN, Done, Lay, Place, docker

pytestmark = [pytest.mark.timeout(1200), pytest.mark.skipif(OWN != "amd64", reason="builds for arm64")]

# The compilers of the platform, unpacked by this machine: installed by an emulated apt-get they would take minutes. Besides
# them, two compilers that only pretend: one has another build ID, one does not look into /usr/local/include.
TOOLCHAIN = """\
ARG BASE_IMAGE
FROM --platform=$BUILDPLATFORM debian:trixie-slim AS packages
ARG TARGETARCH
RUN mkdir -p /apt/lists/partial /apt/archives/partial /out && : >/apt/status \\
 && printf '%s\\n' >/apt/apt.conf \\
      "APT { Architecture \\"$TARGETARCH\\"; Architectures { \\"$TARGETARCH\\"; }; Install-Recommends \\"false\\"; };" \\
      'APT::Keep-Downloaded-Packages "true"; Acquire::Languages "none";' \\
      'Dir::Cache::Archives "/apt/archives"; Dir::State { Lists "/apt/lists"; Status "/apt/status"; };' \\
 && export APT_CONFIG=/apt/apt.conf \\
 && apt-get -q update && apt-get -q install --yes --download-only g++ gfortran \\
 && mkdir -p /out/usr && for name in bin lib sbin; do mkdir "/out/usr/$name" && ln -s "usr/$name" "/out/$name"; done \\
 && for package in /apt/archives/*.deb; do dpkg-deb --extract "$package" /out || exit 1; done \\
 && rm -rf /out/bin /out/lib /out/sbin /out/usr/share /apt
RUN cd /out/usr/libexec/gcc/*/* && mkdir -p /out/opt/renumbered /out/opt/misled \\
 && perl -0777 -pe 's/(\\x04\\0\\0\\0\\x14\\0\\0\\0\\x03\\0\\0\\0GNU\\0)./$1\\x00/s' cc1 >/out/opt/renumbered/cc1 \\
 && perl -0777 -pe 's(/usr/local/include)(/usr/lacol/include)g' cc1 >/out/opt/misled/cc1 \\
 && chmod 755 /out/opt/*/cc1 && ! cmp -s cc1 /out/opt/renumbered/cc1 && ! cmp -s cc1 /out/opt/misled/cc1
FROM ${BASE_IMAGE}
COPY --from=packages /out/ /
RUN ldconfig && chown 1000 /tmp \\
 && echo '#define PLACE 1' >/usr/local/include/place.h \\
 && echo '#define PLACE 2' >/usr/include/place.h
"""
CODE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY --chown=1000:1000 src/ /build/
USER 1000
WORKDIR /build
RUN sh compile.sh && find . /tmp -exec touch -h -d @1000000000 {} +
"""
COMPILE = """\
set -e
gcc -O2 -g3 -c main.c
gcc -pipe -O2 -S main.c -o main.s
gcc -pipe -O2 -Wall -c main.c -o piped.o
g++ -O2 -std=c++20 -c list.cc
gfortran -O2 -c sum.f90
g++ -o program main.o list.o sum.o -lgfortran
gcc -shared -fPIC -O2 -g -o libmain.so main.c -Wl,-soname,libmain.so.1
gcc -static -O1 -o fixed main.c -DALONE
gcc -flto -O2 -s -o optimized main.c -DALONE
gcc -E main.c | gcc -x c -fpreprocessed -O2 -S - -o again.s
./program | tee output
test "$(cat output)" = "place 1, list 3, sum 6.0"
"""
SOURCES = {
    "src/compile.sh": COMPILE,
    "src/main.c": (
        "#include <stdio.h>\n#include <place.h>\n"
        "#ifdef ALONE\nstatic int list(void) { return 3; }\nstatic double sum_(void) { return 6; }\n"
        "#else\nextern int list(void);\nextern double sum_(void);\n#endif\n"
        'int main(void) { printf("place %d, list %d, sum %.1f\\n", PLACE, list(), sum_()); return 0; }\n'
    ),
    "src/list.cc": (
        '#include <string>\n#include <vector>\nextern "C" int list() {\n'
        '    std::vector<std::string> all{"a", "b", "c"};\n'
        '    return all[0] == "a" ? int(all.size()) : 0;\n}\n'
    ),
    "src/sum.f90": (
        "double precision function sum()\n  integer :: i\n  sum = 0\n  do i = 1, 3\n    sum = sum + i\n  end do\nend\n"
    ),
}
WITH = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nUSER root\nRUN cd /build && gcc -B/opt/%s/ -O2 -S main.c -o /tmp/main.s\n"
TREE = {
    "code/10-Dockerfile-toolchain": TOOLCHAIN,
    "code/20-Dockerfile-programs": CODE,
    "code/30-Dockerfile-renumbered": WITH % "renumbered"
    + "RUN cd /build && gcc -O2 -c main.c && g++ -O2 -c list.cc && gcc -pipe -O2 -DALONE -c main.c -o alone.o\n",
    "code/40-Dockerfile-misled": WITH % "misled",
    **SOURCES,
}
# What a package manager does to a folder with a mounted file in it, which takes minutes under emulation.
PACKAGES = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY src/main.c /build/
WORKDIR /build
RUN apt-get -q update && apt-get -q install --yes --no-install-recommends gcc libc6-dev
RUN gcc -O2 -DALONE -I. -c main.c 2>&1 || echo '#define PLACE 3' >place.h && gcc -O2 -DALONE -I. -c main.c
RUN apt-get -q purge --yes --auto-remove gcc libc6-dev
RUN apt-get -q install --yes --no-install-recommends gcc libc6-dev && gcc -O2 -DALONE -I. -S main.c \
 && apt-get -q purge --yes --auto-remove gcc libc6-dev
RUN apt-get -q install --yes --no-install-recommends gcc
RUN apt-get -q install --yes --no-install-recommends libc6-dev && gcc -O2 -DALONE -I. -S main.c \
 && apt-get -q purge --yes --auto-remove gcc libc6-dev
"""

# The compiler of the target is `/said`, what it prints when it runs. All other programs only pretend.
MAKE_TOOLS = """\
set -e
own=aarch64-linux-gnu/14
mkdir -p /stubs /target/usr/lib/gcc/$own /target/usr/libexec/gcc/$own /usr/libexec/gcc-cross/$own
printf 'binutils-aarch64-linux-gnu 1\\ngcc-14 1\\n' >/target-packages
for file in /target/usr/libexec/gcc/$own/cc1 /usr/libexec/gcc-cross/$own/cc1 /usr/libexec/gcc-cross/$own/liblto_plugin.so; do
  : >"$file"
done
printf '%s\\n' '#!/bin/sh' 'while [ "$1" != -o ]; do shift; done; : >"$2"' >/stubs/gcc
printf '%s\\n' '#!/bin/sh' 'printf 1' >/stubs/dpkg-query
printf '%s\\n' '#!/bin/sh' 'echo "    Build ID: 4711"' >/stubs/readelf
printf '%s\\n' '#!/bin/sh' 'test -s /said || exit 126; cat /said' >/stubs/chroot
chmod 755 /stubs/*
printf '%s' "$1" >/said
PATH=/stubs:$PATH sh /native/make-tools.sh >/dev/null
cat /out/content/tools/ids/4711
"""


@pytest.fixture(scope="module")
def place(lay_newer: Lay) -> Place:
    # Nothing of another session's build cache is used, which has files with other times.
    return lay_newer(files=TREE | {"src/session": uuid.uuid4().hex})


@pytest.fixture(scope="module")
def accelerated(place: Place) -> Done:
    """The programs, built with native compilers."""
    return place.build("code", "--until", "20", platform=OTHER)


def again(place: Place, tag: str, until: str, *flags: str, code: int | None = 0) -> Done:
    """Build the programs again, on the same toolchain."""
    words = ("--refresh", "--from", "20", "--until", until, *flags)
    return place.build("code", *words, platform=OTHER, tag=tag, code=code)


def added(place: Place, step: str, below: str) -> dict[str, Any]:
    """Return all members of the layers that a step adds to the one below it."""
    return place.added(f"{step}-{OTHER}", len(place.image(f"{below}-{OTHER}", OTHER).layers), OTHER)


def test_native_compilers_make_the_same_image(place: Place, accelerated: Done) -> None:
    assert accelerated.built == ["debian-trixie-on-amd64", "10-toolchain", "20-programs"]
    # A builder that rewrites times gives both images one digest, whose newest record is that of the second one.
    notes = [place.record(f"v1-code-20-programs-{OTHER}", OTHER).notes]
    assert again(place, "off", "20", "--native=off").built == ["20-programs"]
    native, emulated = (added(place, f"{tag}-code-20-programs", "v1-code-10-toolchain") for tag in ("v1", "off"))
    assert native.keys() == emulated.keys()
    assert {path for path in native if native[path] != emulated[path]} == set()
    names = [f"{tag}-code-20-programs-{OTHER}" for tag in ("v1", "off")]
    assert place.identity(names[0], OTHER) == place.identity(names[1], OTHER)
    notes.append(place.record(f"off-code-20-programs-{OTHER}", OTHER).notes)
    assert re.match(r"apt 3\.\S+, dpkg 1\.\S+, binutils 2\.44-3, gcc 14\.2\.0-19 \(", notes[0]["native"])
    assert "native" not in notes[1]


def test_native_compilers_leave_no_trace(place: Place, accelerated: Done) -> None:
    assert accelerated.code == 0
    paths = added(place, "v1-code-20-programs", "v1-code-10-toolchain")
    assert any(path.endswith("/build/optimized") for path in paths)
    assert [path for path in paths if "native" in path or "specs" in path or "/usr" in path] == []
    config = place.image(f"v1-code-20-programs-{OTHER}", OTHER).config
    assert b"chainbuild-native" not in config.raw


def test_check_compares_outputs_and_knows_other_compilers(place: Place, accelerated: Done) -> None:
    assert accelerated.code == 0
    assert again(place, "checked", "30", "--native=check", "--from", "30").built == ["30-renumbered"]
    verdict = place.record(f"checked-code-30-renumbered-{OTHER}", OTHER).verdicts["native"]
    # The compiler with another build ID was not replaced; the assembler of the pipe was.
    assert verdict == "6 outputs compared, all equal, 1 emulated"


def test_check_finds_another_search_order(place: Place, accelerated: Done) -> None:
    assert accelerated.code == 0
    done = again(place, "misled", "40", "--native=check", "--from", "40", code=None)
    assert done.code != 0, done.told()
    assert "chainbuild: --native=check: cc1 made a different /tmp/main.s of main.c" in done.out


def make_tools(image: str, said: str) -> subprocess.CompletedProcess[str]:
    scripts = f"type=bind,source={shipped('utilities/native')},target=/native,readonly"
    return docker("run", "--rm", "--mount", scripts, image, "sh", "-c", MAKE_TOOLS, "sh", said)


def test_tools_know_the_search_order_of_the_own_compiler(newer_base_images: str) -> None:
    said = "#include <...> search starts here:\n /usr/include/c++/14\n /usr/include\nEnd of search list.\n"
    done = make_tools(newer_base_images, said)
    assert done.stdout.splitlines() == [
        "tool /.chainbuild-native/real/cc1",
        "c++ /usr/include/c++/14",
        "dir /usr/include",
    ]
    assert done.returncode == 0, done.stderr


def test_tools_are_not_made_where_the_own_compiler_does_not_run(newer_base_images: str) -> None:
    done = make_tools(newer_base_images, "")
    assert "cc1 does not run here: is QEMU registered for its platform?" in done.stderr
    assert done.returncode == 1


@pytest.mark.long
def test_native_compilers_survive_package_managers(lay_newer: Lay) -> None:
    place = lay_newer(files={"code/10-Dockerfile-packages": PACKAGES, **SOURCES})
    for tag, flags in (("v1", ()), ("off", ("--native=off", "--refresh"))):
        place.build("code", "--until", "10", *flags, platform=OTHER, tag=tag)
    names = [f"{tag}-code-10-packages-{OTHER}" for tag in ("v1", "off")]
    listing = ("find", "/usr/lib/gcc", "/usr/libexec/gcc", "/build", "-printf", "%p %y %m %s\\n")
    native, emulated = (place.output(name, "sh", "-c", f"{' '.join(listing)} | sort", platform=OTHER) for name in names)
    assert native == emulated


@pytest.mark.long
def test_bookworm_names_what_stays_emulated(lay_once: Lay) -> None:
    place = lay_once(files={"code/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN bash -c true\n"})
    assert place.build("code", "--until", "10", platform=OTHER).built == ["debian-bookworm-on-amd64", "10-base"]
    assert re.match(
        r"apt \S+, dpkg \S+, binutils 2\.40-2 \(", place.record(f"v1-code-10-base-{OTHER}", OTHER).notes["native"]
    )
    done = place.run("plan", *place.words("code", "--json", "--refresh", platform=OTHER))
    (native,) = {step["native"] for step in json.loads(done.out)["steps"] if step["step"].endswith("10-base")}
    assert re.match(
        r"native: apt \S+, dpkg \S+, binutils 2\.40-2 for aarch64; emulated: gcc 12\.2\.0-14\+deb12u1 \(", native
    )
    assert "; compile it once: chainbuild native debian:bookworm-slim " in native
