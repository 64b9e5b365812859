"""Derive paths from calls, by a model of the current folder of each process."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.trace import accesses as module
from chainbuild.minimize.trace.accesses import CALLS, Accesses
from chainbuild.minimize.trace.strace import Call, Reading, read_calls


def accesses_of(text: str, folder: str = "/") -> Accesses:
    found = Accesses(folder=folder)
    found.feed(read_calls(io.BytesIO(text.encode()), Reading()))
    return found


def paths(text: str, folder: str = "/") -> dict[str, str]:
    return {path: access.kind for path, access in accesses_of(text, folder).found.items()}


def test_accesses_are_recorded_with_their_program() -> None:
    found = accesses_of(
        '8 execve("/bin/sh", ["sh"], 0x1 /* 0 vars */) = 0\n'
        '8 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 3</etc/passwd>\n'
        '8 chdir("/srv") = 0\n'
    ).found
    assert {path: (one.kind, one.program, one.real) for path, one in found.items()} == {
        "/bin/sh": ("executed", "", ""),
        "/etc/passwd": ("opened", "/bin/sh", "/etc/passwd"),
        "/srv": ("entered", "/bin/sh", ""),
    }


def test_failed_calls_do_not_count() -> None:
    assert (
        paths('8 openat(AT_FDCWD</>, "/none", O_RDONLY) = -1 ENOENT (No such file)\n8 chdir("/no") = -1 ENOENT (x)\n')
        == {}
    )


@pytest.mark.parametrize(
    ("flags", "counts"),
    [
        ("O_RDONLY", True),
        ("O_RDWR", True),
        ("O_WRONLY", True),
        ("O_WRONLY|O_APPEND", True),
        ("O_RDWR|O_CREAT, 0666", True),
        ("O_RDONLY|O_DIRECTORY|O_CLOEXEC", True),
        ("O_RDONLY|O_PATH", False),
        ("O_WRONLY|O_CREAT|O_TRUNC, 0666", False),
        ("O_WRONLY|O_CREAT|O_APPEND, 0666", False),
        ("O_RDWR|O_TRUNC", False),
        ("O_RDWR|O_CREAT|O_EXCL, 0600", False),
        ("O_RDWR|O_TMPFILE, 0600", False),
    ],
)
def test_opened_file_counts_only_if_readable(flags: str, counts: bool) -> None:
    assert bool(paths(f'8 openat(AT_FDCWD</>, "/f", {flags}) = 3</f>\n')) is counts


def test_openat2_flags_are_read_from_structure() -> None:
    line = '8 openat2(AT_FDCWD</>, "/f", {flags=%s, resolve=RESOLVE_NO_SYMLINKS}, 24) = 3</f>\n'
    assert paths(line % "O_RDONLY|O_CLOEXEC") == {"/f": "opened"}
    assert paths(line % "O_PATH") == {}


def test_relative_path_is_relative_to_shown_folder() -> None:
    assert paths('8 openat(AT_FDCWD</etc>, "./ssl/../passwd", O_RDONLY) = 3</etc/passwd>\n') == {
        "/etc/ssl/../passwd": "opened"
    }
    assert paths('8 openat(5</usr/share>, "x", O_RDONLY) = 3</usr/share/x>\n') == {"/usr/share/x": "opened"}


def test_relative_path_of_open_follows_chdir() -> None:
    text = '8 chdir("/usr") = 0\n8 chdir("share") = 0\n8 open("x", O_RDONLY) = 3\n'
    assert paths(text) == {"/usr": "entered", "/usr/share": "entered", "/usr/share/x": "opened"}


def test_fchdir_enters_folder_of_descriptor() -> None:
    assert "/srv/data/x" in paths('8 fchdir(3</srv/data>) = 0\n8 open("x", O_RDONLY) = 4\n')


def test_first_process_starts_in_image_folder() -> None:
    assert paths('8 execve("./run", ["run"], 0x1) = 0\n', folder="/app") == {"/app/run": "executed"}


def test_path_in_unknown_folder_is_kernel_path() -> None:
    text = '8 fchdir(3) = 0\n8 open("x", O_RDONLY) = 4</found/x>\n8 execve("./y", ["y"], 0x1) = 0\n'
    assert paths(text) == {"/found/x": "opened"}


def test_child_inherits_folder_and_changes_its_own() -> None:
    text = (
        '8 chdir("/one") = 0\n'
        "8 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x5) = 9\n"
        '9 open("x", O_RDONLY) = 3\n'
        '9 chdir("/two") = 0\n'
        '8 open("y", O_RDONLY) = 3\n'
    )
    assert set(paths(text)) == {"/one", "/one/x", "/two", "/one/y"}


def test_thread_shares_current_folder() -> None:
    text = (
        "8 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_THREAD, stack=0x7f}, 88) = 9\n"
        '9 chdir("/two") = 0\n'
        '8 open("y", O_RDONLY) = 3\n'
    )
    assert "/two/y" in paths(text)


def test_child_seen_before_fork_returns_belongs_to_forking_process() -> None:
    text = (
        '7 chdir("/other") = 0\n'
        "7 fork() = 8\n"
        '8 chdir("/one") = 0\n'
        "8 vfork( <unfinished ...>\n"
        '9 execve("./tool", ["tool"], 0x1) = 0\n'
        "8 <... vfork resumed>) = 9\n"
        '9 open("x", O_RDONLY) = 3\n'
    )
    found = accesses_of(text).found
    assert found["/one/tool"].kind == "executed"
    assert found["/one/x"].program == "/one/tool"


def test_process_with_other_root_uses_kernel_paths() -> None:
    text = (
        '8 chroot("/jail") = 0\n'
        '8 openat(AT_FDCWD</jail>, "/etc/passwd", O_RDONLY) = 3</jail/etc/passwd>\n'
        '8 execve("/bin/x", ["x"], 0x1) = 0\n'
    )
    assert paths(text) == {"/jail/etc/passwd": "opened"}


def test_file_executed_by_descriptor_is_recorded() -> None:
    assert paths('8 execveat(3</opt/x>, "", ["x"], 0x1, AT_EMPTY_PATH) = 0\n') == {"/opt/x": "executed"}


def test_execution_overrides_open_by_emulator() -> None:
    text = '8 openat(AT_FDCWD</>, "/bin/sh", O_RDONLY) = 3</usr/bin/dash>\n8 execve("/bin/sh", ["sh"], 0x1) = 0\n'
    assert paths(text) == {"/bin/sh": "executed"}


def test_ended_processes_are_dropped() -> None:
    found = accesses_of('8 open("/x", O_RDONLY) = 3\n8 +++ exited with 0 +++\n')
    assert found._processes == {}


def test_paths_and_processes_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PATHS", 3)
    monkeypatch.setattr(module, "MAX_PROCESSES", 3)
    found = accesses_of("".join(f'{pid} open("/{pid}", O_RDONLY) = 3\n' for pid in range(9)))
    assert (len(found.found), len(found._processes), found.cut) == (3, 3, True)


_ARGUMENTS = st.lists(
    st.sampled_from([b'"x"', b'"/y"', b"AT_FDCWD</z>", b"AT_FDCWD", b"3", b"O_RDONLY", b"", b'""']), max_size=4
)
_CALLS = st.builds(
    Call,
    pid=st.integers(1, 4),
    name=st.sampled_from([*CALLS, "exit", "superseded", "stat"]),
    arguments=_ARGUMENTS.map(tuple),
    result=st.one_of(st.none(), st.integers(-1, 5)),
    path=st.sampled_from(["", "/real"]),
    pending=st.booleans(),
)


@given(st.lists(_CALLS, max_size=30))
def test_arbitrary_calls_give_absolute_paths(calls: list[Call]) -> None:
    found = Accesses()
    found.feed(calls)
    assert all(path.startswith("/") for path in found.found)
