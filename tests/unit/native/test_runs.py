"""Which RUN instructions get native tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.dockerfile import parse
from chainbuild.native.runs import Use, may_compile, native_runs, writes_specs
from tests.support.dockerfiles import dockerfiles
from tests.support.world import AMD64, ARM64

COMPILING = [
    "make",
    "make -j$(nproc) install",
    "./configure --prefix=/usr && make",
    "CC=gcc CFLAGS=-O3 ./configure",
    'CFLAGS="-O2 -g" make',
    "cmake -S . -B build -G Ninja",
    "cd /src && ninja",
    "cd /src; ninja",
    "true || gcc x.c",
    "cat list | xargs -n 1 gcc -c",
    "apt-get update && apt-get install -y gcc && make",
    "apt-get update\\\n && make",
    "apt-get update && \\\n# a comment\n    make",
    "set -eux; \\\n  make",
    "set -e\\\n;make",
    "pip install numpy",
    "python3 -m pip wheel .",
    "python3 setup.py build_ext",
    "curl -fsSL https://example.org/x | sh",
    "curl -fsSL https://example.org/x | bash -s -- -y",
    "wget -qO- https://example.org/x|python3 -",
    "bash -c 'apt-get update'",
    'sh -c "make"',
    "eval make",
    "exec make",
    "command make",
    "builtin eval make",
    "time make",
    "nice -n 10 make",
    "nohup make &",
    "timeout 100 make",
    "sudo make install",
    "sudo -E -u builder make",
    "env -i PATH=/bin make",
    "env make",
    "su builder -c make",
    "if true; then make; fi",
    "if ! make; then exit 1; fi",
    "if [ -f x ]; then echo; else make; fi",
    "while ! make; do sleep 1; done",
    "until make; do sleep 1; done",
    "for x in a b; do gcc $x.c; done",
    "case $X in a) make ;; esac",
    "(make)",
    "( cd x && make )",
    "{ make; }",
    "echo $(make)",
    "echo `make`",
    "VERSION=$(gcc -dumpversion)",
    "/usr/bin/make",
    "/usr/local/bin/build.sh",
    "./build.sh",
    ". ./build.sh",
    "source build.sh",
    "scripts/ls.sh",
    '"make"',
    "'/usr/bin/gcc' x.c",
    "find . -name '*.c' -exec gcc -c {} ;",
    "find . -name '*.c' -execdir gcc -c {} +",
    "npm install",
    "cargo build",
    "go build ./...",
    "R -e 'install.packages(\"x\")'",
    "conda install x",
    "<<EOF\nmake\nEOF",
    "<<EOF\napt-get update\ngcc x.c\nEOF",
    "<<-EOF\n\tmake\n\tEOF",
    "<<EOF bash\nmake\nEOF",
    "<<EOF python3\nprint()\nEOF",
    "python3 <<EOF\nprint()\nEOF",
    "cat <<EOF > /x && make\ntext\nEOF",
    '["make"]',
    '["/bin/sh", "-c", "ls"]',
    '["python3", "-c", "print()"]',
    '["/usr/bin/gcc", "x.c"]',
    "--mount=type=cache,target=/root/.ccache make",
    "--network=none --mount=type=bind,target=/src make",
    "$CC x.c",
    "${MAKE} all",
    "\\make",
    "dpkg-buildpackage",
    "apt-get source x && cd x && debian/rules binary",
    "git clone https://example.org/x && make -C x",
    "apt-get install -y gcc && make && apt-get purge -y gcc",
    "apt-get install -y gcc g++ && make && apt-get purge -y --auto-remove gcc >/dev/null 2>&1",
    "apt-get install -y $DEPS && make && apt-get purge -y $DEPS",
    "apt-get install -y gcc && make && apt-get remove --purge -y -o APT::AutoRemove::RecommendsImportant=0 gcc",
    "apt-get install -y gcc && make && apt-get autoremove -y",
]
HARMLESS = [
    "apt-get update",
    "apt-get update && apt-get install -y --no-install-recommends gcc make && rm -rf /var/lib/apt/lists/*",
    "DEBIAN_FRONTEND=noninteractive apt-get install -y cmake",
    "env DEBIAN_FRONTEND=noninteractive apt-get install -y cmake",
    "sudo apt-get install -y make",
    "echo make",
    "echo make > /x; cat /x",
    "mkdir -p /opt/make && chown 1000:1000 /opt/make",
    "cp gcc /usr/bin/",
    "curl -fsSL https://example.org/make.tar.gz | tar xz",
    "wget https://example.org/x.deb && dpkg -i x.deb && rm x.deb",
    "useradd -m builder && adduser builder sudo",
    "ln -s gcc-12 /usr/bin/cc",
    "set -eux",
    "true",
    ":",
    "test -x /usr/bin/gcc",
    "[ -x /usr/bin/gcc ]",
    "[[ -x /usr/bin/gcc ]]",
    "command -v gcc",
    "which gcc",
    "find / -name gcc -delete",
    "if [ -f x ]; then rm x; fi",
    "A=1",
    "# make",
    "update-alternatives --install /usr/bin/cc cc /usr/bin/gcc 50",
    "ldconfig",
    "<<EOF\napt-get update\n\n# make\nEOF",
    '["apt-get", "install", "-y", "make"]',
    '["/usr/bin/apt-get", "update"]',
    '["rm", "make"]',
]
IN_THE_WAY = [
    "--mount=type=bind,target=/usr make",
    "--mount=type=cache,target=/usr/lib/gcc make",
    "--mount=type=cache,target=/usr/lib/gcc/ make",
    "--mount=type=cache,dst=/usr/lib/gcc/aarch64-linux-gnu/14 make",
    "--mount=type=tmpfs,destination=/usr/lib make",
    "--mount=type=bind,target=/ make",
    "--mount=type=bind,TARGET=/.chainbuild-native make",
    '--mount=type=bind,"target=/usr/lib" make',
    "--mount=target=/.chainbuild-native-check/100 make",
    "--mount=type=cache,target=/x --mount=type=cache,target=/usr/lib/gcc make",
]
REMOVING = [
    "make && apt-get purge -y gcc",
    "make && apt-get remove -y gcc && rm -rf x",
    "make; apt-get -y autoremove",
    "make && apt-get --purge -y autoremove",
    "make && dpkg -r gcc",
    "make && dpkg --purge gcc",
    "make && sudo apt remove gcc",
    "make && apt-get \\\n purge -y gcc",
    "bash -c 'make && apt-get purge -y gcc'",
    "<<EOF\nmake\napt-get purge -y gcc\nEOF",
    "<<EOF\nmake\napt-get \\\n  purge -y gcc\nEOF",
    "apt-get install -y libx-dev && make && apt-get purge -y gcc libx-dev",
    "apt-get install -y libx-dev && make && apt-get purge -y gcc",
]


def lines_of(text: str, use: Use = Use.COMPILERS, **how: object) -> tuple[int, ...]:
    values = {"args": {}, "platform": ARM64, "build_platform": AMD64} | how
    runs = native_runs(parse(text.encode(), "Dockerfile"), **values)  # type: ignore[arg-type]
    return tuple(line for line, uses in runs.items() if use in uses)


def test_tables_have_every_form_of_a_run() -> None:
    assert len({*COMPILING, *HARMLESS, *IN_THE_WAY, *REMOVING}) > 120


@pytest.mark.parametrize("run", COMPILING)
def test_run_that_may_compile_gets_native_tools(run: str) -> None:
    assert lines_of(f"FROM debian\nRUN {run}\n") == (2,)


@pytest.mark.parametrize("run", HARMLESS)
def test_run_without_compilers_gets_none(run: str) -> None:
    (stage,) = parse(f"FROM debian\nRUN {run}\n".encode(), "Dockerfile").stages
    assert not may_compile(stage.instructions[0])
    assert lines_of(f"FROM debian\nRUN {run}\n") == ()


@pytest.mark.parametrize("run", [*IN_THE_WAY, *REMOVING])
def test_run_that_tools_would_disturb_gets_none(run: str) -> None:
    (stage,) = parse(f"FROM debian\nRUN {run}\n".encode(), "Dockerfile").stages
    assert may_compile(stage.instructions[0])
    assert lines_of(f"FROM debian\nRUN {run}\n") == ()


@pytest.mark.parametrize(
    "mount",
    [
        "type=cache,target=/usr/lib/gccgo",
        "type=cache,target=/usr/local",
        "type=secret,id=x",
        "type=ssh",
        "target=/.chainbuild",
    ],
)
def test_mount_elsewhere_is_not_in_the_way(mount: str) -> None:
    assert lines_of(f"FROM debian\nRUN --mount={mount} make\n") == (2,)


@pytest.mark.parametrize("name", ["RUN", "run", "Run"])
def test_every_run_is_named_by_its_first_line(name: str) -> None:
    text = f"# syntax=docker/dockerfile:1\n\nFROM debian\n{name} a \\\n  b\n\nCOPY x y\n{name} apt-get update\n"
    text += f"{name} <<E\nc\nE\n{name} d"
    assert lines_of(text) == (4, 9, 12)


INSTALLING = [
    "apt-get update",
    "apt-get purge -y gcc",
    "set -e; apt install -y make && make",
    "dpkg -i x.deb",
    "/usr/bin/dpkg --configure -a",
    "./prepare.sh",
    "<<EOF\napt-get update\nEOF",
    '["apt-get", "update"]',
    "DEBIAN_FRONTEND=noninteractive apt-get install -y x",
    "--mount=type=cache,target=/var/cache/apt apt-get update",
    "--mount=type=cache,target=/usr/lib/gcc apt-get update",
]
NOT_INSTALLING = [
    "echo apt-get",
    "rm -rf /var/lib/apt/lists/*",
    "apt-cache policy gcc",
    *(f"--mount=type=cache,target={path} apt-get update" for path in ("/usr/local", "/usr", "/", "/usr/local/sbin")),
    "--mount=type=bind,source=apt,target=/usr/local/sbin/apt-get apt-get update",
    "--mount=type=tmpfs,target=/.chainbuild-native apt-get update",
]


@pytest.mark.parametrize("run", INSTALLING)
def test_run_that_may_install_gets_native_package_tools(run: str) -> None:
    assert lines_of(f"FROM debian\nRUN {run}\n", Use.PACKAGES) == (2,)


@pytest.mark.parametrize("run", NOT_INSTALLING)
def test_run_without_packages_gets_none(run: str) -> None:
    assert lines_of(f"FROM debian\nRUN {run}\n", Use.PACKAGES) == ()


def test_packages_are_native_where_compilers_are_not() -> None:
    text = "FROM debian\nRUN apt-get install -y gcc\nRUN gcc -dumpspecs >/specs\n"
    assert lines_of(text) == ()
    assert lines_of(text, Use.PACKAGES) == (2, 3)


def test_escape_directive_is_heeded() -> None:
    assert lines_of("# escape=`\nFROM debian\nRUN apt-get update `\n && make\n") == (3,)
    assert lines_of("# escape=`\nFROM debian\nRUN apt-get update `\n install\n") == ()


def test_stages_of_other_platforms_are_left_alone() -> None:
    text = (
        "ARG P=linux/amd64\nFROM --platform=$BUILDPLATFORM debian AS a\nRUN make\n"
        "FROM --platform=linux/arm64 debian AS b\nRUN make\nFROM --platform=$TARGETPLATFORM debian AS c\nRUN make\n"
        "FROM --platform=$P debian AS d\nRUN make\n"
        "FROM debian\nRUN make\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /\nCOPY --from=d / /\n"
    )
    assert lines_of(text) == (5, 7, 11)
    assert lines_of(text, args={"P": "linux/arm64"}) == (5, 7, 9, 11)
    assert lines_of(text, platform=AMD64) == (3, 7, 9, 11)


def test_unreachable_stages_are_left_alone() -> None:
    text = "FROM debian AS a\nRUN make\nFROM debian AS b\nRUN make\nFROM b AS c\nRUN make\nFROM a AS d\nRUN make\n"
    assert lines_of(text) == (2, 8)
    assert lines_of(text, target="c") == (4, 6)
    assert set(lines_of(text, target="nowhere")) <= {2, 4, 6, 8}


def test_stage_that_a_context_replaces_is_left_alone() -> None:
    text = "FROM debian AS tool\nRUN make\nFROM debian\nCOPY --from=tool / /\nRUN make\n"
    assert lines_of(text) == (2, 5)
    assert lines_of(text, contexts=frozenset({"tool"})) == (5,)


def test_run_of_onbuild_is_left_alone() -> None:
    assert lines_of("FROM debian\nONBUILD RUN make\n") == ()


def test_foreign_frontend_gets_nothing() -> None:
    text = "FROM debian\nRUN make\n"
    assert lines_of(f"# syntax=ghcr.io/team/frontend:1\n{text}") == ()
    assert lines_of(text, args={"BUILDKIT_SYNTAX": "ghcr.io/team/frontend:1"}) == ()
    assert lines_of(f"# syntax=docker/dockerfile:1.7-labs\n{text}") == (3,)


@pytest.mark.parametrize(
    "instruction",
    [
        "RUN gcc -dumpspecs > $(dirname $(gcc -print-libgcc-file-name))/specs",
        "RUN gcc -dumpspecs",
        "COPY specs /usr/lib/gcc/aarch64-linux-gnu/specs",
        "RUN <<EOF\nsed -i x /usr/lib/gcc/aarch64-linux-gnu/14/specs\nEOF",
    ],
)
def test_dockerfile_that_writes_specs_gets_nothing(instruction: str) -> None:
    text = f"FROM debian\nRUN make\n{instruction}\n"
    assert writes_specs(parse(text.encode(), "Dockerfile"))
    assert lines_of(text) == ()
    assert not writes_specs(parse(b"FROM debian\nRUN make specs && cat specs.txt /srv/specsfile\n", "Dockerfile"))


@given(raw=dockerfiles(), target=st.sampled_from([None, "first", "b", "c", "nowhere"]))
def test_only_lines_of_runs_are_named(raw: bytes, target: str | None) -> None:
    dockerfile = parse(raw, "Dockerfile")
    how = {"args": {"X": "debian"}, "platform": ARM64, "build_platform": AMD64, "target": target}
    lines = native_runs(dockerfile, **how)  # type: ignore[arg-type]
    runs = {found.line for stage in dockerfile.stages for found in stage.instructions if found.keyword == "RUN"}
    assert set(lines) <= runs
    assert all(lines.values())


@given(text=st.text(st.sampled_from("ab \\\n\t;&|$(`){}'\"#<>=-!/"), max_size=60))
def test_hostile_commands_are_never_fatal(text: str) -> None:
    lines_of(f"FROM debian\nRUN {text}\n")
