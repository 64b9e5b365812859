"""The program in front of native tools: which tool it starts, with which arguments, and what its checks find.

It is compiled and run on this machine, once as it is used and once with sanitizers; no engine is needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.native_front import OWN_ID, Done, Rig, Start, compiled

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc")

SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
DRIVER = ("-quiet", "x.c", "-o", "x.s")


@pytest.fixture(autouse=True)
def _unit_tests_touch_nothing() -> None:
    """These tests start processes, unlike all others of this folder."""


@pytest.fixture(scope="session", params=["plain", "sanitized"])
def compiled_rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    folder = tmp_path_factory.mktemp(f"front-{request.param}")
    try:
        return Rig(folder, *(SANITIZERS if request.param == "sanitized" else ()))
    except subprocess.CalledProcessError as error:
        if request.param == "plain":
            raise AssertionError(error.stderr.decode()) from error
        pytest.skip("this compiler has no sanitizers")


@pytest.fixture
def rig(compiled_rig: Rig, tmp_path: Path) -> Iterator[Rig]:
    yield compiled_rig.fresh(tmp_path / "work")
    compiled_rig.fresh(tmp_path / "after")


def native(rig: Rig, *argv: str) -> Start:
    return Start(role="native", argv=(str(rig.folder / "native"), *argv))


def own(*argv: str) -> Start:
    return Start(role="own", argv=argv)


# Which tool -----------------------------------------------------------------------------------------------------------


def test_tool_with_known_build_id_is_replaced(rig: Rig) -> None:
    path = str(rig.own("cc1"))
    rig.knows()
    assert rig.front(path, *DRIVER).starts == (native(rig, *DRIVER, "-nostdinc"),)


def test_tool_with_other_build_id_runs_itself(rig: Rig) -> None:
    path = str(rig.own("cc1"))
    rig.knows(identity="00c0ffef")
    assert rig.front(path, *DRIVER).starts == (own(path, *DRIVER),)


def test_tool_without_build_id_runs_itself(rig: Rig, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho itself\n")
    path = str(rig.own("cc1", source=script))
    rig.knows()
    done = rig.front(path, *DRIVER, environ={"PATH": os.environ["PATH"]})
    assert (done.out, done.roles) == (b"itself\n", [])


def test_build_id_in_a_later_note_is_read(rig: Rig, tmp_path: Path) -> None:
    note = '.pushsection .note.x,\\"a\\",%note\\n.long 4,5,9\\n.asciz \\"ABC\\"\\n.zero 8\\n.popsection\\n'
    source = f'__asm__("{note}");\nint main(void) {{ return 42; }}\n'
    compiled(source, tmp_path / "tool", f"-Wl,--build-id=0x{OWN_ID}")
    path = str(rig.own("cc1", source=tmp_path / "tool"))
    assert rig.front(path).code == 42
    rig.knows()
    assert rig.front(path).roles == ["native"]


@pytest.mark.parametrize("name", ["cc1", "cc1plus", "f951", "lto1", "as"])
def test_tool_of_each_kind_is_replaced(rig: Rig, name: str) -> None:
    path = str(rig.own(name))
    rig.knows()
    assert rig.front(path, "x", "-o", "y").roles == ["native"]


@pytest.mark.parametrize("name", ["collect2", "lto-wrapper", "cc1obj", "d21", "gnat1", "ld", "cc1 "])
def test_other_program_runs_itself(rig: Rig, name: str) -> None:
    path = str(rig.own(name))
    rig.knows()
    assert rig.front(path, "a", "", "b c").starts == (own(path, "a", "", "b c"),)


def test_tool_without_folder_is_found_in_path(rig: Rig) -> None:
    rig.own("as", "first")
    rig.own("as", "second")
    (rig.image / "first" / "as").chmod(0o644)
    rig.knows()
    path = f"{rig.image}/none:{rig.image}/first::{rig.tools}:{rig.image}/second"
    assert rig.front("as", "-o", "x", environ={"PATH": path}).roles == ["native"]
    rig.knows(identity="0")
    (rig.tools / "ids" / OWN_ID).unlink()
    assert rig.front("as", "-o", "x", environ={"PATH": path}).starts == (own("as", "-o", "x"),)


@pytest.mark.parametrize("path", ["", "/nowhere", ":", "::::"])
def test_missing_tool_is_reported(rig: Rig, path: str) -> None:
    done = rig.front("as", "x", environ={"PATH": path})
    assert (done.code, done.err) == (127, "chainbuild: as: not found\n")


def test_tool_that_cannot_start_is_reported(rig: Rig) -> None:
    done = rig.front("/nowhere/cc1", "x")
    assert (done.code, done.err) == (127, "/nowhere/cc1: No such file or directory\n")


def test_program_without_arguments_does_nothing(rig: Rig) -> None:
    assert (rig.front().code, rig.front("").code) == (2, 127)


def test_missing_native_tool_leaves_the_own_one(rig: Rig) -> None:
    path = str(rig.own("cc1"))
    rig.knows()
    loader = rig.tools / "lib" / "loader"
    loader.rename(rig.tools / "lib" / "moved")
    try:
        assert rig.front(path, *DRIVER).starts == (own(path, *DRIVER),)
    finally:
        (rig.tools / "lib" / "moved").rename(loader)


@pytest.mark.parametrize("code", [1, 33, -signal.SIGTERM])
@pytest.mark.parametrize("checked", [False, True])
def test_exit_code_of_the_tool_is_passed_on(rig: Rig, code: int, checked: bool) -> None:
    path = str(rig.own("cc1"))
    rig.knows()
    if checked:
        rig.checks()
    both = {"FAKE_OWN_EXIT": str(code), "FAKE_NATIVE_EXIT": str(code)}
    lower = {name.replace("OWN", "own").replace("NATIVE", "native"): value for name, value in both.items()}
    assert rig.front(path, *DRIVER, environ=lower).code == code


# Refusals -------------------------------------------------------------------------------------------------------------

EVERYWHERE = ["@file", "--sysroot=/x", "--sysroot", "--version", "--help", "--help=target", "-fplugin=x", "-v", "-V"]
EVERYWHERE += ["-march=native", "-mtune=native", "-mcpu=native"]
OF_COMPILERS = ["-isysroot", "-iprefix", "-iwithprefix", "-iwithprefixbefore", "-imultilib", "-finput-charset=latin1"]
OF_COMPILERS += ["-fexec-charset=latin1", "-fwide-exec-charset=UTF-16", "-frecord-gcc-switches", "--output-pch=x.gch"]
OF_COMPILERS += ["-fdump-tree-all", "-ftime-report", "-fmem-report", "-cpp", "-cpp=x"]
OF_LINKERS = ["--verbose", "--verbose=1", "-dT", "--default-script=x", "--trace", "--trace-symbol=x"]
OF_LINKERS += ["-Map", "-Map=x", "--print-map"]
ENVIRONMENT = ["C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "GCC_EXEC_PREFIX"]


@pytest.mark.parametrize("option", [*EVERYWHERE, *OF_COMPILERS, *OF_LINKERS])
def test_option_that_may_differ_runs_the_own_tool(rig: Rig, option: str) -> None:
    rig.knows()
    for name in ("cc1", "cc1plus", "f951", "lto1", "as", "real-ld"):
        path = str(rig.own("ld" if name == "real-ld" else name))
        refused = option in EVERYWHERE
        refused |= option in OF_COMPILERS and name not in {"as", "real-ld"}
        refused |= option in OF_LINKERS and name == "real-ld"
        refused &= not (name == "lto1" and option == "@file")
        words = ("x", option, "-o", "y")
        done = rig.front(*words, program=rig.linker) if name == "real-ld" else rig.front(path, *words)
        assert done.roles == ["own" if refused else "native"], (name, option)


@pytest.mark.parametrize("option", ["-v", "--version", "@x", "-march=native"])
def test_name_of_an_output_is_no_option(rig: Rig, option: str) -> None:
    path = str(rig.own("as"))
    rig.knows()
    assert rig.front(path, "x", "-o", option).roles == ["native"]


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_variable_that_changes_the_search_runs_the_own_compiler(rig: Rig, variable: str) -> None:
    rig.knows()
    for name, role in (("cc1", "own"), ("cc1plus", "own"), ("f951", "native"), ("as", "native")):
        assert rig.front(str(rig.own(name)), *DRIVER, environ={variable: "/x"}).roles == [role], name


@pytest.mark.parametrize(("value", "role"), [("off", "own"), ("on", "native"), ("", "native"), ("offline", "native")])
def test_variable_switches_native_tools_off(rig: Rig, value: str, role: str) -> None:
    path = str(rig.own("cc1"))
    rig.knows()
    assert rig.front(path, *DRIVER, environ={"CHAINBUILD_NATIVE": value}).roles == [role]


def test_preloaded_library_reaches_only_own_tools(rig: Rig) -> None:
    path, linker = str(rig.own("cc1")), rig.own("ld")
    rig.knows()
    preload = {"LD_PRELOAD": "libc.so.6", "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}
    (start,) = rig.front(path, *DRIVER, environ=preload).starts
    assert (start.role, start.preload) == ("native", False)
    (start,) = rig.front("x", program=rig.linker, environ=preload).starts
    assert (start.role, start.preload) == ("own", True)
    assert linker.exists()


# Arguments ------------------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_their_order(rig: Rig) -> None:
    rig.knows("c++ /a/c++/14", "dir /a/lib/gcc", "c++ /a/c++/back", "dir /a/local/include", "dir /a/include")
    path, cxx = str(rig.own("cc1")), str(rig.own("cc1plus"))
    folders = ["/a/c++/14", "/a/lib/gcc", "/a/c++/back", "/a/local/include", "/a/include"]
    search = [word for folder in folders for word in ("-isystem", folder)]
    assert rig.front(path, "-isystem", "/mine", "x.c").starts == (
        native(rig, "-isystem", "/mine", "x.c", "-nostdinc", *search),
    )
    plain = [word for folder in folders if "c++" not in folder for word in ("-isystem", folder)]
    assert rig.front(cxx, "-nostdinc++", "x.cc").starts == (native(rig, "-nostdinc++", "x.cc", "-nostdinc", *plain),)
    assert rig.front(cxx, "-nostdinc", "x.cc").starts == (native(rig, "-nostdinc", "x.cc"),)


@pytest.mark.parametrize("name", ["f951", "lto1", "as"])
def test_only_c_compilers_get_folders(rig: Rig, name: str) -> None:
    rig.knows("dir /usr/include")
    assert rig.front(str(rig.own(name)), "x").starts == (native(rig, "x"),)


def test_more_folders_than_there_is_room_for_are_left_out(rig: Rig) -> None:
    rig.knows(*(f"dir /{number}" for number in range(100)))
    (start,) = rig.front(str(rig.own("cc1")), "x.c").starts
    assert start.argv.count("-isystem") == 64
    assert start.argv[-1] == "/63"


INCLUDED = ("-include", "stdc-predef.h")


@pytest.fixture
def predefined(rig: Rig) -> Callable[..., Done]:
    """A start of cc1 whose second folder has the header that compilers include by themselves."""
    for folder in ("first", "second", "other"):
        (rig.work / folder).mkdir()
    (rig.work / "second" / "stdc-predef.h").write_text("")
    rig.knows(f"dir {rig.work}/first", f"dir {rig.work}/second")
    path = str(rig.own("cc1"))
    return lambda *words: rig.front(path, *words)


@pytest.mark.parametrize("words", [["x.c"], ["-I", "other", "x.c"], ["-Iother", "x.c"], ["-iquote", "other", "x.c"]])
def test_predefined_header_is_asked_for(predefined: Callable[..., Done], words: list[str]) -> None:
    (start,) = predefined(*words).starts
    assert (start.role, start.argv[1:3]) == ("native", INCLUDED)


@pytest.mark.parametrize("option", ["-ffreestanding", "-fno-hosted", "-fpreprocessed", "-nostdinc"])
def test_predefined_header_is_left_out_where_compilers_do(predefined: Callable[..., Done], option: str) -> None:
    (start,) = predefined(option, "x.c").starts
    assert start.role == "native"
    assert "-include" not in start.argv


DOUBTFUL = [["-fhosted"], ["-fno-freestanding"], ["-Isecond"], ["-I", "second"], ["-iquote", "second"]]
DOUBTFUL += [["-iquotesecond"], ["-I", "second", "-ffreestanding"]]


@pytest.mark.parametrize("words", DOUBTFUL)
def test_doubtful_predefined_header_runs_the_own_tool(predefined: Callable[..., Done], words: list[str]) -> None:
    assert predefined(*words, "x.c").roles == ["own"]


def test_predefined_header_in_the_working_folder_runs_the_own_tool(rig: Rig, predefined: Callable[..., Done]) -> None:
    (rig.work / "stdc-predef.h").write_text("")
    assert predefined("x.c").roles == ["own"]
    assert predefined("-ffreestanding", "x.c").roles == ["native"]


def test_predefined_header_that_no_folder_has_is_left_out(rig: Rig, predefined: Callable[..., Done]) -> None:
    (rig.work / "second" / "stdc-predef.h").unlink()
    (start,) = predefined("x.c").starts
    assert "-include" not in start.argv


def test_last_option_without_a_value_is_passed_on(predefined: Callable[..., Done]) -> None:
    for option in ("-I", "-iquote", "-o"):
        (start,) = predefined("x.c", option).starts
        assert start.argv[3:5] == ("x.c", option)


# The linker -----------------------------------------------------------------------------------------------------------


def test_collect2_finds_the_program_as_its_linker(rig: Rig) -> None:
    path = str(rig.own("collect2"))
    (start,) = rig.front(path, "-o", "x", environ={"COMPILER_PATH": "/a:/b"}).starts
    assert (start.role, start.compiler_path) == ("own", f"{rig.tools}/linker:/a:/b")
    (start,) = rig.front(path, "-o", "x").starts
    assert start.compiler_path == ""


@pytest.mark.parametrize("name", ["real-ld", "collect-ld", "ld"])
def test_linker_is_found_as_collect2_finds_it(rig: Rig, name: str) -> None:
    path = str(rig.own(name, "gcc"))
    rig.own("ld", "bin")
    where = {"COMPILER_PATH": f"{rig.tools}/linker:{rig.image}/none:{rig.image}/gcc"}
    (start,) = rig.front("x.o", program=rig.linker, environ=where).starts
    assert start.argv == (path, "x.o")


def test_assembler_of_a_pipe_is_native(rig: Rig) -> None:
    rig.own("as", "bin")
    rig.knows()
    (start,) = rig.front("-o", "x.o", program=rig.assembler).starts
    assert start == native(rig, "-o", "x.o")


@pytest.mark.parametrize("wrapped", [False, True])
def test_assembler_of_a_pipe_is_found_as_the_driver_finds_it(rig: Rig, wrapped: bool) -> None:
    """With -pipe and a single program to start, the driver puts the program of `-wrapper` before that of `-B`."""
    path = str(rig.own("as", "gcc"))
    rig.own("as", "bin")
    where = {"COMPILER_PATH": f"{rig.tools}/assembler:{rig.image}/none:{rig.image}/gcc"}
    words = (str(rig.assembler),) if wrapped else ()
    program = rig.program if wrapped else rig.assembler
    (start,) = rig.front(*words, "x.s", program=program, environ=where).starts
    assert (start.role, start.argv[1:]) == ("own", ("x.s",))
    assert not wrapped or start.argv[0] == path
    path = str(rig.own("as", "bin"))
    (start,) = rig.front(*words, "x.s", program=program).starts
    assert not wrapped or start.argv[0] == path
    assert rig.front(*words, "x.s", program=program, environ={"PATH": "/nowhere"}).code == 127


def test_linker_in_path_is_last(rig: Rig) -> None:
    path = str(rig.own("ld"))
    assert rig.front("x.o", program=rig.linker, environ={"COMPILER_PATH": "/nowhere"}).starts == (own(path, "x.o"),)
    assert rig.front("x.o", program=rig.linker, environ={"PATH": "/nowhere"}).code == 127


def test_linker_gets_the_own_folders_and_plugin(rig: Rig) -> None:
    rig.own("ld")
    rig.knows("dir /lib", "dir /usr/lib")
    plugin = f"{rig.tools}/lib/liblto_plugin.so"
    words = ["-plugin", "/usr/lib/gcc/x/liblto_plugin.so", "-plugin-opt=-v", "-L", "/mine", "x.o"]
    done = rig.front(*words, program=rig.linker)
    folders = ["-nostdlib", "-L", "/lib", "-L", "/usr/lib"]
    assert done.starts == (native(rig, "-plugin", plugin, *words[2:], *folders),)
    assert rig.front("-nostdlib", "x.o", program=rig.linker).starts == (native(rig, "-nostdlib", "x.o"),)


@pytest.mark.parametrize("plugin", ["LLVMgold.so", "/x/LLVMgold.so", "liblto_plugin.so", "", "/liblto_plugin.so.0"])
def test_linker_with_another_plugin_runs_itself(rig: Rig, plugin: str) -> None:
    rig.own("ld")
    rig.knows()
    assert rig.front("-plugin", plugin, "x.o", program=rig.linker).roles == ["own"]


def test_own_linker_has_the_last_word(rig: Rig) -> None:
    path = str(rig.own("ld"))
    rig.knows()
    says = {"FAKE_own_SAY": "own says\n", "FAKE_own_EXIT": "5"}
    for environ in ({"FAKE_native_EXIT": "1"}, {"FAKE_native_SAY": "warning"}, {"FAKE_native_OUT": "a map"}):
        done = rig.front("x.o", program=rig.linker, environ=says | environ)
        assert done.roles == ["native", "own"]
        assert done.starts[-1].argv == (path, "x.o")
        assert (done.code, done.out, done.err) == (5, b"", "own says\n")
    done = rig.front("x.o", "-o", "y", program=rig.linker, environ=says | {"FAKE_native_OUT": "linked"})
    assert (done.roles, done.code) == (["native"], 0)
    assert (rig.work / "y").read_text() == "linked"


# Checks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def checked(rig: Rig) -> Callable[..., Done]:
    """A start of cc1 with a check of every output."""
    path = str(rig.own("cc1"))
    rig.knows()
    rig.checks()
    return lambda *words, stdin=b"", **environ: rig.front(path, *words, environ=environ, stdin=stdin)


def test_check_of_equal_outputs_passes(rig: Rig, checked: Callable[..., Done]) -> None:
    done = checked(
        *DRIVER, FAKE_own_OUT="code", FAKE_native_OUT="code", FAKE_native_SAY="note\n", FAKE_own_SAY="note\n"
    )
    assert (done.code, done.err, done.roles) == (0, "note\n", ["own", "native"])
    assert (rig.work / "x.s").read_text() == "code"
    assert rig.verdicts == ["equal"]


def test_check_of_different_outputs_fails(rig: Rig, checked: Callable[..., Done]) -> None:
    done = checked("-quiet", "x.c", "-o", "x.s", FAKE_own_OUT="code", FAKE_native_OUT="Code")
    path = rig.image / "bin" / "cc1"
    assert (done.code, done.roles) == (1, ["own", "native", "native"])
    assert done.err == f"chainbuild: --native=check: cc1 made a different x.s of x.c than the image's own {path}\n"
    assert rig.verdicts == ["differs"]


def test_check_names_the_input_as_the_driver_does(rig: Rig, checked: Callable[..., Done]) -> None:
    words = ("x.c", "-dumpdir", "a-", "-dumpbase", "x.c", "-dumpbase-ext", ".c", "-O2", "-o", "/tmp/cc1.s")
    checked(*words[:-2], "-o", "x.s")
    (log,) = rig.check.glob("*/log")
    assert log.read_text() == "equal cc1 x.c\n"


def test_check_of_varying_outputs_passes(rig: Rig, checked: Callable[..., Done]) -> None:
    done = checked(*DRIVER, FAKE_own_PID="1", FAKE_native_PID="1")
    assert (done.code, done.err) == (0, "")
    assert rig.verdicts == ["varies"]
    assert (rig.work / "x.s").read_text().isdigit()


def test_check_of_different_exit_codes_fails(rig: Rig, checked: Callable[..., Done]) -> None:
    done = checked(*DRIVER, FAKE_own_EXIT="1", FAKE_native_EXIT="-6")
    assert done.code == 1
    assert "cc1 ended with status 134 for x.c, the image's own with 1\n" in done.err
    assert rig.verdicts == ["differs"]


def test_check_does_not_compare_what_the_own_tool_left(rig: Rig, checked: Callable[..., Done]) -> None:
    done = checked(*DRIVER, FAKE_own_OUT="code", FAKE_native_NOTHING="1")
    assert done.code == 1
    assert rig.verdicts == ["differs"]


def test_check_compares_stdout(rig: Rig, checked: Callable[..., Done]) -> None:
    same = checked("-E", "x.c", "-o", "-", FAKE_own_OUT="text", FAKE_native_OUT="text")
    assert (same.code, same.out) == (0, b"text")
    other = checked("-E", "x.c", FAKE_own_OUT="text", FAKE_native_OUT="test")
    assert (other.code, other.out) == (1, b"test")
    assert "cc1 made a different output of x.c" in other.err
    assert rig.verdicts == ["equal", "differs"]


@pytest.mark.parametrize("words", [("-", "-o", "x.s"), ("-E", "-")])
def test_check_gives_stdin_to_both_tools(rig: Rig, checked: Callable[..., Done], words: tuple[str, ...]) -> None:
    text = b"int x;\n" * 30_000
    (rig.work / "input").write_bytes(text)
    for stdin in (text, rig.work / "input"):
        done = checked(*words, stdin=stdin, FAKE_STDIN="1")
        assert (done.code, done.roles) == (0, ["own", "native"])
        assert (done.out or (rig.work / "x.s").read_bytes()) == text
    assert rig.verdicts == ["equal", "equal"]


def test_check_leaves_the_stdin_of_others_alone(rig: Rig, checked: Callable[..., Done]) -> None:
    (rig.work / "list").write_text("one\ntwo\nthree\n")
    script = 'while read -r line; do "$0" "$@" </dev/stdin; echo "$line"; done'
    words = ["sh", "-c", script, str(rig.program), str(rig.image / "bin" / "cc1"), *DRIVER]
    environment = {"PATH": os.environ["PATH"], "FAKE_LOG": str(rig.log), "ASAN_OPTIONS": "detect_leaks=0"}
    with subprocess.Popen(["cat", str(rig.work / "list")], stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            words, stdin=source.stdout, cwd=rig.work, env=environment, capture_output=True, check=True
        )
    assert done.stdout == b"one\ntwo\nthree\n"
    assert rig.verdicts == ["equal"] * 3


def test_check_of_a_piped_assembler_gives_stdin_to_both(rig: Rig) -> None:
    path = str(rig.own("as"))
    rig.knows()
    rig.checks()
    done = rig.front(path, "--64", "-o", "x.o", stdin=b"nop\n", environ={"FAKE_STDIN": "1"})
    assert (done.code, rig.verdicts) == (0, ["equal"])
    assert (rig.work / "x.o").read_bytes() == b"nop\n"


def test_check_does_not_touch_devices(rig: Rig, checked: Callable[..., Done]) -> None:
    assert checked("x.c", "-o", "/dev/null").code == 0
    (rig.work / "link").symlink_to("target")
    assert checked("x.c", "-o", "link", FAKE_own_OUT="a", FAKE_native_OUT="b").code == 0
    assert (rig.work / "target").read_text() == "b"
    assert rig.verdicts == ["equal", "equal"]


def test_check_notes_what_is_emulated(rig: Rig, checked: Callable[..., Done]) -> None:
    assert checked("x.c", "-v").roles == ["own"]
    assert rig.verdicts == ["emulated"]


def test_check_of_a_linker_that_says_something_is_emulated(rig: Rig) -> None:
    rig.own("ld")
    rig.knows()
    rig.checks()
    environ = {"FAKE_native_SAY": "native says", "FAKE_own_SAY": "own says", "FAKE_own_OUT": "own"}
    done = rig.front("x.o", "-o", "x", program=rig.linker, environ=environ)
    assert (done.code, done.err, (rig.work / "x").read_text()) == (0, "own says", "own")
    done = rig.front("x.o", "-o", "x", program=rig.linker, environ={"FAKE_own_OUT": "a", "FAKE_native_OUT": "b"})
    assert done.code == 1
    assert rig.verdicts == ["emulated", "differs"]


def test_check_of_a_linker_that_replaces_its_input_is_emulated(rig: Rig) -> None:
    rig.own("ld")
    rig.knows()
    rig.checks()
    (rig.work / "x.o").write_text("input")
    done = rig.front("-r", "x.o", "-o", "x.o", program=rig.linker, environ={"FAKE_own_OUT": "linked"})
    assert (done.code, done.roles, rig.verdicts) == (0, ["own"], ["emulated"])


@pytest.mark.parametrize("percent", [1, 30, 99])
def test_check_of_a_sample_takes_its_share(rig: Rig, percent: int) -> None:
    path = str(rig.own("cc1"))
    rig.knows()
    rig.checks(percent)
    first = [rig.front(path, f"{number}.c", "-o", "x.s").roles for number in range(60)]
    counts = {name: rig.verdicts.count(name) for name in ("equal", "unchecked")}
    assert counts["equal"] + counts["unchecked"] == 60
    assert [len(roles) == 2 for roles in first].count(True) == counts["equal"]
    assert abs(counts["equal"] - 60 * percent / 100) < 20
    # The same starts are chosen in every run: temporary names do not count.
    again = [rig.front(path, f"{number}.c", "/tmp/ccX.s", "-o", "/tmp/ccX.o").roles for number in range(10)]
    other = [rig.front(path, f"{number}.c", "/tmp/ccY.s", "-o", "/tmp/ccY.o").roles for number in range(10)]
    assert again == other
    Path("/tmp/ccX.o").unlink(missing_ok=True)
    Path("/tmp/ccY.o").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    folder = tmp_path_factory.mktemp("objects")

    def compile_object(name: str, source: str) -> Path:
        path = folder / f"{name}.o"
        if not path.exists():
            compiled(source, path, "-c")
        return path

    return compile_object


def with_comment(path: Path, comment: bytes) -> Path:
    """Return a copy of an object file whose compiler's name has other letters."""
    raw = path.read_bytes()
    assert b"GCC: (" in raw
    copy = path.with_suffix(f".{comment.decode()}.o")
    copy.write_bytes(raw.replace(b"GCC: (", comment + b": ("))
    return copy


def test_check_ignores_the_name_of_the_compiler(
    rig: Rig, checked: Callable[..., Done], objects: Callable[..., Path]
) -> None:
    one = objects("one", "int f(int x) { return x + 1; }\n")
    same, other = with_comment(one, b"ABC"), objects("other", "int f(int x) { return x + 2; }\n")
    assert checked(*DRIVER, FAKE_own_FILE=str(one), FAKE_native_FILE=str(same)).code == 0
    assert checked(*DRIVER, FAKE_own_FILE=str(one), FAKE_native_FILE=str(other)).code == 1
    assert checked(*DRIVER, FAKE_own_FILE=str(one), FAKE_native_OUT="text").code == 1
    assert checked(*DRIVER, FAKE_own_FILE=str(one)).code == 1
    assert rig.verdicts == ["equal", "differs", "differs", "differs"]


@pytest.mark.parametrize(
    ("own_text", "native_text", "equal"),
    [
        ('\tret\n\t.ident\t"GCC: 1"\n', '\tret\n\t.ident\t"GCC: 2.2"\n', True),
        ('\tret\n\t.ident\t"GCC: 1"', '\tret\n\t.ident\t"GCC: 2.2"', True),
        ('\tret\n\t.ident\t"1"\n', '\tnop\n\t.ident\t"1"\n', False),
        ('\tret\n\t.ident\t"1"\n', '\tret\n\t.ident\t"1"\n\tnop\n', False),
        ('\tret\n\t.ident\t"1"\n', "\tret\n", False),
        ("\n", "", False),
    ],
)
def test_check_ignores_the_compiler_in_assembler_text(
    checked: Callable[..., Done], own_text: str, native_text: str, equal: bool
) -> None:
    assert checked(*DRIVER, FAKE_own_OUT=own_text, FAKE_native_OUT=native_text).code == (0 if equal else 1)


def test_report_copies_the_log(rig: Rig, checked: Callable[..., Done]) -> None:
    checked(*DRIVER)
    report = rig.work / "report"
    assert rig.front("--report", str(rig.check / "100" / "log"), str(report)).code == 0
    assert report.read_text() == "equal cc1 x.c\n"
    assert rig.front("--report", "/nowhere/log", str(report)).code == 0
    assert report.read_text() == ""
    assert rig.front("--report", "/nowhere/log", "/nowhere/report").code == 1


# Hostile input --------------------------------------------------------------------------------------------------------

HOSTILE = [
    "",
    "%s%n%s",
    "x" * 100_000,
    "-o",
    "-",
    "\n",
    "equal cc1\nequal cc1",
    "-I",
    "\udcff\udcfe",
    "-" * 9000,
    "/" * 9000,
]


@pytest.mark.parametrize("checked_too", [False, True])
def test_hostile_arguments_reach_the_tool_unchanged(rig: Rig, checked_too: bool) -> None:
    rig.knows("dir /usr/include")
    if checked_too:
        rig.checks()
    for name in ("cc1", "as", "ld"):
        path = str(rig.own(name))
        for words in [*([word, "x"] for word in HOSTILE), *(["x", word] for word in HOSTILE), HOSTILE, ["-D"] * 10_000]:
            done = rig.front(path, *words, environ={"FAKE_OUT": "%s"})
            assert done.code == 0, (name, words)
            for start in done.starts:
                assert "\0".join(words) in "\0".join(start.argv)
    assert set(rig.verdicts) <= {"equal", "emulated"}


def test_name_with_a_newline_is_one_line_of_the_log(rig: Rig, checked: Callable[..., Done]) -> None:
    checked("a\nequal cc1 b", "-o", "x.s")
    checked("b" * 20_000)
    (log,) = rig.check.glob("*/log")
    first, second = log.read_text().splitlines()
    assert first == "equal cc1 a equal cc1 b"
    assert second.startswith("equal cc1 bbb")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"tool",
        b"tool ",
        b"tool \n",
        b"x" * 10_000,
        b"dir /a\n",
        b"tool /x\0y\n",
        b"\xff\xfe\n",
        b"%s %n\n" * 100,
    ],
)
def test_hostile_configuration_harms_nothing(rig: Rig, text: bytes) -> None:
    path = str(rig.own("cc1"))
    (rig.tools / "ids" / OWN_ID).write_bytes(text)
    done = rig.front(path, *DRIVER)
    assert done.code in {0, 124}
    (rig.tools / "ids" / OWN_ID).write_bytes(text + b"\ntool " + os.fsencode(rig.folder / "native") + b"\n")
    assert rig.front(path, *DRIVER).code in {0, 124}


@pytest.mark.parametrize("name", ["-5", "x", "100000000000000000000", "0", "%s"])
def test_hostile_percentage_harms_nothing(rig: Rig, name: str) -> None:
    path = str(rig.own("cc1"))
    rig.knows()
    (rig.check / name).mkdir(parents=True)
    assert rig.front(path, *DRIVER).code == 0


HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
NUMBERS = st.one_of(
    st.integers(0, 5000), st.integers(0, 2**64 - 1), st.sampled_from([2**64 - 1, 2**64 - 12, 2**63, 2**32 - 1, 2**32])
)


@st.composite
def damaged_elf(draw: st.DrawFn, raw: bytes) -> bytes:
    """Return an ELF file with other numbers in it, or without its end."""
    changed = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        header = HEADER.unpack_from(changed)
        tables = [header[5], header[6]] + [start + 64 * row for start in header[5:7] for row in range(8)]
        place = draw(
            st.sampled_from([0x18, 0x20, 0x28, 0x30, 0x36, 0x38, 0x3A, 0x3C, 0x3E, *tables, *(t + 8 for t in tables)])
        )
        place += draw(st.sampled_from([0, 0, 8, 16, 24]))
        if place + 8 <= len(changed):
            width = draw(st.sampled_from([1, 2, 4, 8]))
            changed[place : place + width] = (draw(NUMBERS) & (2 ** (8 * width) - 1)).to_bytes(width, "little")
    end = draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    return bytes(changed[:end])


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_damaged_tool_is_never_fatal(rig: Rig, data: st.DataObject) -> None:
    raw = data.draw(damaged_elf((rig.folder / "own").read_bytes()))
    path = rig.image / "cc1"
    path.write_bytes(raw)
    path.chmod(0o644)  # so that only its build ID is read
    rig.knows()
    done = rig.front(str(path), *DRIVER)
    assert done.code in {0, 127}, done
    assert done.roles in ([], ["native"])


@FUZZ
@given(data=st.data())
def test_damaged_output_is_never_fatal(rig: Rig, objects: Callable[..., Path], data: st.DataObject) -> None:
    one = objects("one", "int f(int x) { return x + 1; }\n")
    damaged = rig.work / "damaged.o"
    damaged.write_bytes(data.draw(damaged_elf(one.read_bytes())))
    equal = damaged.read_bytes() == one.read_bytes()
    path = str(rig.own("as"))
    rig.knows()
    (rig.check / "100").mkdir(parents=True, exist_ok=True)
    other = with_comment(damaged, b"ABC") if b"GCC: (" in damaged.read_bytes() else damaged
    for first, second in ((one, damaged), (damaged, one), (damaged, other)):
        files = {"FAKE_own_FILE": str(first), "FAKE_native_FILE": str(second)}
        done = rig.front(path, "x.s", "-o", "x.o", environ=files)
        assert done.code in {0, 1}, done
        assert done.code == 0 or not equal
