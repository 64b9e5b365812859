"""The files that BuildKit copies from a context, compared with those that chainbuild expects it to read.

Every regular file contains its own path, so the content of a file in the image shows its source.
"""

from __future__ import annotations

import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from chainbuild.context import ContextTree
from chainbuild.context.dockerignore import find_ignore
from chainbuild.dockerfile import ParentConfig, find_facts, parse
from chainbuild.references import Platform
from tests.support.contexts import MISSING, missing_tree

HERE = Platform.of_this_machine()
TREE = (
    "a.txt",
    "b.txt",
    "c.md",
    "docs/README.md",
    "docs/guide/one.md",
    "docs/guide/two.txt",
    "docs/img/x.png",
    "src/main.c",
    "src/main.o",
    "src/lib/util.c",
    "src/lib/util.o",
    "src/lib/deep/er/z.c",
    "foo/bar/foo/bar",
    "foo/baz",
    ".hidden",
    "dir with space/f",
    "a+b.txt",
    "x(1).txt",
    "é.txt",
    "q^r",
    "node_modules/p/index.js",
    "src/node_modules/q/index.js",
    "[x]",
    "back#slash",
)


def make_tree(root: Path, names: tuple[str, ...] = TREE) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return root


def copied(root: Path, dockerfile: Path, out: Path, *more: str) -> Path:
    """Build, and return the folder with the content of the image."""
    argv = ["docker", "buildx", "build", "--quiet", "--file", str(dockerfile), "--output", f"type=local,dest={out}"]
    done = subprocess.run([*argv, *more, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def contents(out: Path) -> set[str]:
    """Return the contents of all regular files below a folder: their paths in the context."""
    return {path.read_bytes().decode() for path in out.rglob("*") if path.is_file() and not path.is_symlink()}


def ours(root: Path, dockerfile: Path) -> set[str]:
    """Return the regular files that chainbuild expects to be read."""
    facts = find_facts(
        parse(dockerfile.read_bytes(), str(dockerfile)), args={}, target_platform=HERE, build_platform=HERE
    )
    assert not facts.problems
    selection = ContextTree(root).select(find_ignore(root, dockerfile), facts.sources)
    assert not selection.problems
    return {entry.path for entry in selection.files if entry.kind == "file"}


IGNORE_FILES = (
    "",
    "*.txt\n",
    "**/*.o\n",
    "docs\n!docs/README.md\n",
    "docs\n!docs/guide\n",
    "docs/**\n!docs/guide/*.md\n",
    "*\n!src\nsrc/lib\n!src/lib/deep\n",
    "**\n!**/*.c\n",
    "/docs\n",
    "./src/../docs/\n",
    "src/*/\n",
    "src/lib/**\n",
    "  *.md  \n# c.md\n #b.txt\n",
    "\ufeffa.txt\r\nb.txt\r\n",
    "foo/bar\n!foo/bar/foo/bar\nfoo/baz\n",
    "!a.txt\n*.txt\n",
    "*.txt\n! a.txt\n",
    "**/node_modules\n",
    "node_modules\n",
    "*/node_modules\n",
    "**/lib/*\n!**/deep\n",
    "[ab].txt\n",
    "[^ab].*\n",
    "?.txt\n",
    "a+b.txt\nx(1).txt\n",
    "*+b.txt\nx(*).txt\n",
    "é*\n",
    "dir with space\n",
    "dir\\ with\\ space\n",
    "\\[x]\n",
    "[[]x]\n",
    "back\\#slash\n",
    "q^r\n",
    "..\n../a.txt\n",
    ".\n",
    "/\n",
    "src**\n",
    "**.txt\n",
    "**util*\n",
    "s**/*.c\n",
    "src/**/z.c\n",
    "src/**/**/*.o\n",
    ".*\n",
    "src\n!src/lib/deep/er\nsrc/lib/deep/er/z.c\n",
    "*\n!*.txt\n!**/z.c\n",
    "docs/*\n!docs/img\n",
    "docs\n!docs/*\ndocs/guide\n",
    "a/b\n!a\n",
)


@pytest.mark.parametrize("text", IGNORE_FILES)
def test_ignore_file_selects_the_files_buildkit_copies(engine: str, tmp_path: Path, text: str) -> None:
    root = make_tree(tmp_path / "context")
    (root / ".dockerignore").write_bytes(text.encode("utf-8"))
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    got = contents(copied(root, dockerfile, tmp_path / "out")) - {text}
    got |= {".dockerignore"} if ".dockerignore" in ours(root, dockerfile) else set()
    assert got == ours(root, dockerfile)


def test_random_ignore_files_select_the_files_buildkit_copies(engine: str, tmp_path: Path) -> None:
    """Compare ignore files of random lines; the seed is fixed so that failures can be reproduced."""
    choose = random.Random(20240229)
    pieces = ("*", "**", "src", "lib", "docs", "foo", "bar", "?.txt", "*.c", "*.o", "*.md", "guide", "[a-c]*", "deep")
    root = make_tree(tmp_path / "context")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    for attempt in range(25):
        lines = []
        for _ in range(choose.randint(1, 6)):
            path = "/".join(choose.choice(pieces) for _ in range(choose.randint(1, 4)))
            lines.append(choose.choice(("", "", "!")) + choose.choice(("", "", "/")) + path + choose.choice(("", "/")))
        text = "\n".join(lines)
        (root / ".dockerignore").write_text(text)
        got = contents(copied(root, dockerfile, tmp_path / f"out{attempt}")) - {text}
        assert got == ours(root, dockerfile) - {".dockerignore"}, text


def test_ignore_file_of_dockerfile_wins_even_if_empty(engine: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path, ("a", "b", "c"))
    dockerfile = root / "steps" / "Dockerfile"
    dockerfile.parent.mkdir()
    dockerfile.write_text("FROM scratch\nCOPY a* b* c* /\n")
    (root / ".dockerignore").write_text("a\n")
    assert contents(copied(root, dockerfile, tmp_path / "o1")) == ours(root, dockerfile) == {"b", "c"}
    (root / "steps" / "Dockerfile.dockerignore").write_text("b\n")
    assert contents(copied(root, dockerfile, tmp_path / "o2")) == ours(root, dockerfile) == {"a", "c"}
    (root / "steps" / "Dockerfile.dockerignore").write_text("")
    assert contents(copied(root, dockerfile, tmp_path / "o3")) == ours(root, dockerfile) == {"a", "b", "c"}


@pytest.mark.parametrize(("target", "followed"), [("ign", True), ("../outside", False), ("/ign", True)])
def test_linked_ignore_file_is_followed_only_inside_the_context(
    engine: str, tmp_path: Path, target: str, followed: bool
) -> None:
    root = make_tree(tmp_path / "context", ("a", "b"))
    (tmp_path / "outside").write_text("a\n")
    (root / "ign").write_text("a\n")
    (root / ".dockerignore").symlink_to(target)
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY a* b* /\n")
    got = contents(copied(root, dockerfile, tmp_path / "out"))
    assert got == ours(root, dockerfile) == ({"b"} if followed else {"a", "b"})


SOURCES = (
    "a.txt",
    "./a.txt",
    "/a.txt",
    "../a.txt",
    "*.txt",
    "src",
    "src/",
    "src/*",
    "src/*.c",
    "src/*/*.c",
    "*/README.md",
    "[ab].txt c.md",
    "[^ab].md",
    "?.txt",
    "docs/../a.txt",
    "docs/guide docs/img",
    "none* a.txt",
    "[[]x]",
    "é.txt",
    ".hidden",
    "**/main.c",
    "src/**",
    "tofile",
    "todir",
    "todir/util.c",
    "chain",
    "chain/deep",
    "abs",
    "lin*/er/z.c link*/util.c",
    "up/a.txt",
    "holder",
    "todir/../main.c",
)


@pytest.mark.parametrize("source", SOURCES)
def test_copy_sources_select_the_files_buildkit_copies(engine: str, tmp_path: Path, source: str) -> None:
    root = make_tree(tmp_path / "context")
    for link, target in {
        "tofile": "src/main.c",
        "todir": "src/lib",
        "chain": "todir",
        "abs": "/src/lib/util.c",
        "linkdir": "src/lib",
        "link2": "src/lib/deep",
        "up": "src/..",
        "holder/inner": "../a.txt",
    }.items():
        (root / link).parent.mkdir(exist_ok=True)
        (root / link).symlink_to(target)
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM scratch\nCOPY {source} /out/\n")
    argv = ["docker", "buildx", "build", "-q", "-f", str(dockerfile), "-o", f"type=local,dest={tmp_path / 'out'}"]
    done = subprocess.run([*argv, str(root)], capture_output=True, text=True, check=False)
    got = contents(tmp_path / "out") if done.returncode == 0 else set()
    if "**" in source or source.startswith(("lin", "up")) or source == "todir/../main.c":
        assert got <= ours(root, dockerfile)  # more is selected here: `**` as with --parents, and links in both ways
    else:
        assert done.returncode == 0, done.stderr
        assert got == ours(root, dockerfile)


def test_modes_links_and_special_files_match_buildkit(engine: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", ("plain", "run", "sub/f"))
    (root / "run").chmod(0o4755)
    (root / "sub").chmod(0o711)
    (root / "link").symlink_to("no/where")
    os.mkfifo(root / "pipe")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    facts = find_facts(parse(dockerfile.read_bytes(), "D"), args={}, target_platform=HERE, build_platform=HERE)
    entries = ContextTree(root).select(find_ignore(root), facts.sources).files
    out = copied(root, dockerfile, tmp_path / "out")
    arrived = {str(path.relative_to(out)): path.lstat().st_mode for path in out.rglob("*")}
    assert set(arrived) == {entry.path for entry in entries}
    for entry in entries:
        if entry.kind in {"file", "dir"}:
            assert stat.S_IMODE(arrived[entry.path]) == entry.mode, entry
    assert str((out / "link").readlink()) == "no/where"


def test_named_context_uses_its_own_ignore_file(engine: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", ("a", "b"))
    extra = make_tree(tmp_path / "extra", ("x", "y", "z/w"))
    (root / ".dockerignore").write_text("x\na\n")
    (extra / ".dockerignore").write_text("y\n")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\nCOPY --from=extra x* y* z /\n")
    facts = find_facts(
        parse(dockerfile.read_bytes(), "D"), args={}, target_platform=HERE, build_platform=HERE, contexts=["extra"]
    )
    named = dict(facts.named_sources)
    selection = ContextTree(extra).select(find_ignore(extra), named["extra"])
    got = contents(copied(root, dockerfile, tmp_path / "out", "--build-context", f"extra={extra}")) - {"x\na\n"}
    assert got == {"b"} | {entry.path for entry in selection.files if entry.kind == "file"} == {"b", "x", "z/w"}


def test_sources_in_stages_args_and_triggers_match_buildkit(engine: str, tmp_path: Path) -> None:
    """Catch a file that is copied but missing in the selection, in a Dockerfile with hard to find sources."""
    root = make_tree(tmp_path / "context")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_bytes(
        b"\xef\xbb\xbf# escape=`\r\n"
        b"ARG DIR=src\r\n"
        b"FROM scratch AS Base\r\n"
        b"ONBUILD COPY b.txt /on/\r\n"
        b"FROM base AS mid\r\n"
        b"ARG DIR\r\n"
        b"ARG EXT=${DIR:+c}\r\n"
        b"ENV NAME=main.$EXT\r\n"
        b"COPY $DIR/${NAME} `\r\n"
        b"   # a comment\r\n"
        b"\r\n"
        b"  ${DIR}/lib/ut*.${EXT} /m/\r\n"
        b"FROM scratch AS unused\r\n"
        b"COPY docs /\r\n"
        b"FROM scratch\r\n"
        b"copy --from=MID /m /m\r\n"
        b"COPY --from=mid /on /on\r\n"
        b'COPY <<A ["x"] /h/\r\n'
        b"COPY node_modules /\r\n"
        b"A\r\n"
        b'COPY ["dir with space/f", "/j/"]\r\n'
    )
    text = dockerfile.read_bytes().replace(b' ["x"] /h/', b" /h/")
    dockerfile.write_bytes(text)
    got = contents(copied(root, dockerfile, tmp_path / "out"))
    got = {name for name in got if not name.startswith("COPY ")}
    assert got == ours(root, dockerfile) == {"b.txt", "src/main.c", "src/lib/util.c", "dir with space/f"}


ARGS = (
    ("ENV V=a.txt\nARG V=b.txt\nCOPY $V /", ()),
    ("ARG V=b.txt\nENV V=a.txt\nCOPY $V /", ("V=c.md",)),
    ("ARG V=a\nCOPY ${V%x}.txt /", ("V=bx",)),
    ("ARG V=src/lib/util.c\nCOPY ${V%/*} /", ()),
    ("ARG V=src/lib/util.c\nCOPY ${V%%/*}/main.c /", ()),
    ("ARG V=x/a.txt\nCOPY ${V#*/} /", ()),
    ("ARG V=x/y/a.txt\nCOPY ${V##*/} /", ()),
    ("ARG V=a_txt\nCOPY ${V/_/.} /", ()),
    ("ARG V=s-r-c\nCOPY ${V//-/}/main.c /", ()),
    ("COPY ${NONE:-a}.txt /", ()),
    ("ARG V=\nCOPY ${V-x}a.txt ${V:-b}.txt /", ()),
    ("ARG V=1\nCOPY ${V:+a}.txt ${NONE+x}b.txt /", ()),
    ("ARG V='a.txt'\nCOPY $V /", ()),
    ('ENV V="dir with space"\nCOPY ["$V/f", "/"]', ()),
    ("ENV A=a B=$A\nENV C=${B:-b}\nCOPY $C.txt /", ()),
    ("ENV V a.txt\nCOPY $V /", ()),
    ("ARG A B=b\nCOPY ${A:-$B}.txt /", ()),
    ("ARG TARGETOS\nCOPY ${TARGETOS/linux/a}.txt /", ()),
)


@pytest.mark.parametrize(("body", "args"), ARGS)
def test_variables_in_sources_match_buildkit(engine: str, tmp_path: Path, body: str, args: tuple[str, ...]) -> None:
    root = make_tree(tmp_path / "context")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM scratch\n{body}\n")
    given = dict(arg.split("=", 1) for arg in args)
    facts = find_facts(
        parse(dockerfile.read_bytes(), "D"),
        args=given,
        target_platform=HERE,
        build_platform=HERE,
        parents={("x", HERE.oci): ParentConfig()},
    )
    assert not facts.problems
    files = ContextTree(root).select(find_ignore(root), facts.sources).files
    got = contents(copied(root, dockerfile, tmp_path / "out", *(f"--build-arg={arg}" for arg in args)))
    expected = {entry.path for entry in files if entry.kind == "file"}
    assert got
    assert got <= expected
    if not facts.doubts:
        assert got == expected


def test_missing_sources_are_those_the_builder_rejects(engine: str, tmp_path: Path) -> None:
    """Run the table of the unit test on the real builder."""
    root = missing_tree(tmp_path / "context")
    dockerfile = tmp_path / "Dockerfile"
    for source, ignore, missing in MISSING:
        dockerfile.write_text(f"FROM scratch\nCOPY {source} /x/\n")
        (tmp_path / "Dockerfile.dockerignore").write_text(ignore)
        argv = [
            "docker",
            "buildx",
            "build",
            "--quiet",
            "--file",
            str(dockerfile),
            "--output",
            "type=cacheonly",
            str(root),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) is missing, (source, ignore, done.stderr)
        assert not missing or "not found" in done.stderr
