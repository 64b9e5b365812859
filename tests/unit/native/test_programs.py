"""Native programs start native ones: the library in front of their C library, and the entry in PATH."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.native_programs import CALLS, KNOWN, OTHER, Rig

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc")

SEARCHING = ("execvp", "execvpe", "execlp")


@pytest.fixture(autouse=True)
def _unit_tests_touch_nothing() -> None:
    """These tests start processes, like those of the program in front of compilers."""


@pytest.fixture(scope="module")
def compiled_rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("rig"))


@pytest.fixture
def rig(compiled_rig: Rig, tmp_path: Path) -> Rig:
    return compiled_rig.fresh(tmp_path)


# Starting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_known_program_is_native(rig: Rig, call: str) -> None:
    own = rig.own("bin/sed")
    rig.knows("tool /native/sed")
    done = rig.call(call, own, "-n", "two words")
    assert (done.code, done.out, done.native) == (8, "", rig.words("/native/sed", "zero", "-n", "two words"))


@pytest.mark.parametrize("call", CALLS)
def test_other_build_id_is_the_own_program(rig: Rig, call: str) -> None:
    own = rig.own("bin/sed", OTHER)
    rig.knows("tool /native/sed")
    done = rig.call(call, own, "a", "b")
    assert (done.code, done.out, done.native) == (7, f"{OTHER}: zero a b\n", None)


@pytest.mark.parametrize("call", SEARCHING)
def test_program_is_searched_in_path(rig: Rig, call: str) -> None:
    rig.own("first/sed", OTHER)
    rig.own("bin/sed")
    rig.knows("tool /native/sed")
    assert rig.call(call, "sed", "x").native == rig.words("/native/sed", "zero", "x")
    path = {"PATH": f"{rig.work}/nowhere::{rig.work}/first:{rig.work}/bin"}
    assert rig.call(call, "sed", "x", environ=path).out == f"{OTHER}: zero x\n"
    rig.own("sed")
    assert rig.call(call, "sed", "x", environ=path).native == rig.words("/native/sed", "zero", "x")


@pytest.mark.parametrize("line", ["#!{}", "#! {}  ", "#!\t{}"])
def test_script_of_a_known_interpreter_is_native(rig: Rig, line: str) -> None:
    own = rig.own("bin/sh")
    rig.knows("tool /native/dash")
    script = rig.file("script", f"{line.format(own)}\nexit 1\n".encode())
    assert rig.call("execv", script, "a").native == rig.words("/native/dash", str(own), script, "a")


def test_argument_of_an_interpreter_is_one_word(rig: Rig) -> None:
    own = rig.own("bin/sh")
    rig.knows("tool /native/dash")
    script = rig.file("script", f"#!{own}  -e -u \n".encode())
    assert rig.call("execv", script).native == rig.words("/native/dash", str(own), "-e -u", script)


def test_system_starts_the_shell(rig: Rig) -> None:
    assert rig.call("system", "exit 3").out == "system 1 3\n"
    assert rig.call("system", "echo a; echo b").out == "a\nb\nsystem 1 0\n"


def test_file_without_a_format_is_a_script(rig: Rig) -> None:
    script = rig.file("bin/plain", b"echo $0 $1\nexit 5\n")
    for call in SEARCHING:
        assert rig.call(call, "plain", "x").out == f"{script} x\n"
        assert rig.call(call, script, "x").code == 5
    assert rig.call("execv", script).out == "returned -1: Exec format error\n"


@pytest.mark.parametrize("variable", ["CHAINBUILD_NATIVE=off", "LD_PRELOAD=/x.so", "APT_CONFIG=/x", "LD_AUDIT=/x"])
@pytest.mark.parametrize("call", ["execv", "execvp", "posix_spawn"])
def test_settings_for_own_programs_keep_them(rig: Rig, call: str, variable: str) -> None:
    own = rig.own("bin/sed")
    rig.knows("tool /native/sed")
    name, _, value = variable.partition("=")
    done = rig.call(call, own, "x", environ={name: value})
    assert (done.code, done.native) == (7, None)
    assert f"{KNOWN}: zero x\n" in done.out


def test_program_that_may_not_be_executed_is_not_native(rig: Rig) -> None:
    own = rig.own("bin/sed")
    rig.knows("tool /native/sed")
    own.chmod(0o644)
    assert rig.call("execv", own).out == "returned -1: Permission denied\n"
    assert rig.call("execvp", "sed").out == "returned -1: Permission denied\n"


# What is known about a program ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "native"),
    [
        (["tool /n"], True),
        (["tool /n", "unless /nonexistent"], True),
        (["tool /n", "unless /"], False),
        (["tool /n", "unset NAME"], True),
        (["tool /n", "unset SET"], False),
        (["tool /n", "words a b"], True),
        (["tool /n", "words a"], True),
        (["tool /n", "words b"], False),
        (["tool /n", "words a b c d"], False),
        (["tool /n", "words a bb"], False),
        (["tool /n", "without d"], True),
        (["tool /n", "without aa bb"], True),
        (["tool /n", "without d c"], False),
        (["tool /n", "without b d"], False),
        (["tool /n", "with /nonexistent /m"], True),
        (["unset NAME", "tool /n"], True),
        (["tool n"], False),
        (["tool"], False),
        (["tool /n", "with /"], False),
        (["tool /n", "sometimes /x"], False),
        ([], False),
    ],
)
def test_rules_decide(rig: Rig, lines: list[str], native: bool) -> None:
    own = rig.own("bin/x")
    rig.knows(*lines)
    done = rig.call("execv", own, "a", "b", "c", environ={"SET": ""})
    assert done.native == (rig.words("/n", "zero", "a", "b", "c") if native else None)


def test_file_of_the_image_chooses_another_program(rig: Rig) -> None:
    own = rig.own("bin/perl")
    rig.knows("tool /n", f"with {rig.work}/modules /with-modules")
    assert rig.call("execv", own).native == rig.words("/n", "zero")
    (rig.work / "modules").symlink_to("nowhere")
    assert rig.call("execv", own).native == rig.words("/with-modules", "zero")


@given(raw=st.binary(max_size=400) | st.text(st.sampled_from("tool unless/\n #\0"), max_size=60).map(str.encode))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_rules_keep_the_own_program(rig: Rig, raw: bytes) -> None:
    own = rig.own("bin/x")
    (rig.tools / "programs" / KNOWN).write_bytes(raw)
    done = rig.call("execv", own)
    assert done.code == (7 if done.native is None else 8)


@given(raw=st.binary(max_size=300) | st.text(st.sampled_from("#!/bn sh\t\n\0"), max_size=40).map(str.encode))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_started_as_without_the_library(rig: Rig, raw: bytes) -> None:
    path = rig.file("any", b"#!/nonexistent" + raw if raw[:1] == b"\0" else b"exit 4 #" + raw)
    for call in ("execv", "execvp"):
        assert rig.call(call, path) == rig.call(call, path, preloaded=False)


_PARTS = st.sampled_from(["bin", "first", "nowhere", "", "plain", "locked", "bin/tool"])


@given(
    parts=st.lists(_PARTS, max_size=4), file=st.sampled_from(["tool", "script", "locked", "no", "", "./tool", "bin"])
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_search_is_that_of_the_c_library(rig: Rig, parts: list[str], file: str) -> None:
    rig.own("bin/tool", OTHER)
    rig.own("first/tool", KNOWN)
    rig.file("bin/script", b"exit 3\n")
    rig.file("plain/locked", b"exit 3\n", 0o644)
    rig.file("first/locked", b"#!/nonexistent\n")
    path = {"PATH": ":".join(part and f"{rig.work}/{part}" for part in parts)}
    for call in (*SEARCHING, "posix_spawnp"):
        with_library, without = (rig.call(call, file, "x", environ=path, preloaded=loaded) for loaded in (True, False))
        assert with_library == without


# What programs ask for ------------------------------------------------------------------------------------------------


def test_apt_gets_the_settings_of_its_platform(rig: Rig) -> None:
    assert rig.call("getenv", "APT_CONFIG").out == f"{rig.tools}/apt.conf\n"
    assert rig.call("getenv", "NAME", environ={"NAME": "x=y"}).out == "x=y\n"
    assert rig.call("getenv", "NAM", environ={"NAME": "x"}).out == "-\n"


def test_programs_have_the_path_of_the_own_ones(rig: Rig) -> None:
    for place in ("real", "real/with-modules"):
        program = rig.tools / place / "usr/bin/perl"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_bytes(rig.caller.read_bytes())
        program.chmod(0o755)
        assert rig.as_started(program, "readlink", "/proc/self/exe").out == "/usr/bin/perl\n"
    assert rig.as_started(rig.caller, "readlink", "/proc/self/exe").out == f"{rig.real_loader.resolve()}\n"
    (rig.work / "link").symlink_to("target")
    assert rig.call("readlink", "link").out == "target\n"
    assert rig.call("readlink", "missing").code == 1


# The entry ------------------------------------------------------------------------------------------------------------


def test_entry_starts_the_next_program_of_its_name(rig: Rig) -> None:
    rig.own("bin/apt-get")
    rig.knows("tool /native/apt-get")
    assert rig.enter("apt-get", "update").native == rig.words("/native/apt-get", "apt-get", "update")


def test_entry_starts_an_own_program_as_it_is(rig: Rig) -> None:
    rig.own("bin/apt-get", OTHER)
    rig.knows("tool /native/apt-get")
    assert rig.enter("apt-get", "update").out == f"{OTHER}: apt-get update\n"
    rig.own("bin/dpkg")
    assert rig.enter("dpkg", environ={"CHAINBUILD_NATIVE": "off"}).out == f"{KNOWN}: dpkg\n"


def test_entry_passes_itself_over(rig: Rig) -> None:
    rig.own("bin/apt", OTHER)
    for place in ("sbin", "again"):
        rig.enter("apt", place=place)
    path = {"PATH": f":{rig.work}/sbin:{rig.work}/again:{rig.work}/bin"}
    assert rig.enter("apt", "x", environ=path).out == f"{OTHER}: apt x\n"


def test_entry_without_a_program_is_not_found(rig: Rig) -> None:
    rig.file("bin/apt", b"", 0o644)
    done = rig.enter("apt")
    assert (done.code, done.out) == (127, "apt: not found\n")
