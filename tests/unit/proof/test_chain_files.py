"""The missing files that failed imports report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.proof.chain_files import MissingObject, Raised, in_words, missing_files

FILE_NAMES = st.from_regex(r"[A-Za-z0-9_+.-]{1,30}", fullmatch=True)
MODULE_NAMES = st.lists(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "library", "libGL.so.1"),
        (
            "python3: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file",
            "library",
            "libz.so.1",
        ),
        ("/opt/x/libfoo.so: cannot open shared object file: No such file or directory", "library", "/opt/x/libfoo.so"),
        (
            "Original error was: libblas.so.3: cannot open shared object file: No such file\n\nmore",
            "library",
            "libblas.so.3",
        ),
        (
            "Error loading shared library libssl.so.3: No such file or directory (needed by /x/_ssl.so)",
            "library",
            "libssl.so.3",
        ),
        ("No module named 'a.b'", "module", "a.b"),
        ("No module named encodings", "module", "encodings"),
        ("Fatal Python error\nModuleNotFoundError: No module named 'encodings'\n", "module", "encodings"),
        ("[Errno 2] No such file or directory: '/usr/share/x y'", "path", "/usr/share/x y"),
        ('[Errno 2] No such file or directory: "/usr/it\'s"', "path", "/usr/it's"),
        ("[Errno 2] No such file or directory: b'/usr/raw'", "path", "/usr/raw"),
    ],
)
def test_messages_of_loaders_and_python_give_missing_file(text: str, kind: str, name: str) -> None:
    assert [(one.kind, one.name) for one in in_words(text)] == [(kind, name)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "undefined symbol: foo",
        "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x.so)",
        "libx.so: cannot open shared object file: Permission denied",
        "No such file or directory: 'relative'",
        "No module named ''",
        "cannot import name 'x' from 'y'",
    ],
)
def test_other_messages_give_no_missing_file(text: str) -> None:
    assert list(in_words(text)) == []


def test_first_cause_comes_first() -> None:
    errors = (
        Raised(type="ImportError", message="numpy is broken: No module named 'other'"),
        Raised(type="ModuleNotFoundError", message="No module named 'a.b'", module="a.b"),
        Raised(type="OSError", message="libx.so.1: cannot open shared object file: No such file or directory"),
    )
    assert [one.name for one in missing_files(errors, "No module named 'said'")] == [
        "libx.so.1",
        "a.b",
        "other",
        "said",
    ]


@given(FILE_NAMES, st.sampled_from(["", "x: ", "\n", "ImportError: "]), st.sampled_from(["", "\n", " or directory"]))
def test_arbitrary_library_is_found_in_glibc_message(name: str, before: str, after: str) -> None:
    text = f"{before}{name}: cannot open shared object file: No such file{after}"
    assert MissingObject(kind="library", name=name) in set(in_words(text))


@given(MODULE_NAMES)
def test_arbitrary_module_is_found_in_python_message(name: str) -> None:
    errors = (Raised(type="ModuleNotFoundError", message=str(ModuleNotFoundError(f"No module named {name!r}"))),)
    assert missing_files(errors) == (MissingObject(kind="module", name=name),)


@given(st.from_regex(r"/[^\n'\"\\]{1,60}", fullmatch=True).filter(str.isprintable))
def test_arbitrary_path_is_found_in_system_message(path: str) -> None:
    message = str(FileNotFoundError(2, "No such file or directory", path))
    assert list(in_words(message)) == [MissingObject(kind="path", name=path)]


@given(st.lists(st.builds(Raised, type=st.text(), message=st.text(), module=st.text(), file=st.text())), st.text())
def test_arbitrary_output_never_raises(errors: list[Raised], said: str) -> None:
    found = missing_files(errors, said)
    assert len(set(found)) == len(found)
    for one in errors:
        assert "\n" not in str(one)
