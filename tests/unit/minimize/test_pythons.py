"""Find the Python environments of a root, the modules to import in each, and the owners of missing files."""

from __future__ import annotations

import os

import pytest

from chainbuild.minimize.pythons import pythons
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.whose import answers
from tests.support.elf_builder import plant

ELF = b"\x7fELF"
SITE = "/opt/venv/lib/python3.11/site-packages"
DYNLOAD = "/usr/lib/python3.11/lib-dynload"
VENV = {
    "/usr/bin/python3.11": ELF,
    "/opt/venv/pyvenv.cfg": b"home = /usr/bin\nversion = 3.11.2\n",
}


def rooted(tmp_path, files, links=(("/opt/venv/bin/python", "/usr/bin/python3.11"),)):
    root = RootFileSystem(plant(tmp_path / "root", files))
    for path, target in links:
        os.makedirs(os.path.dirname(root.host + path), exist_ok=True)
        os.symlink(target, root.host + path)
    return root


def found(tmp_path, files, **more):
    return {one.start: one for one in pythons(rooted(tmp_path, files, **more))}


def modules(tmp_path, files):
    return found(tmp_path, VENV | {SITE + path: raw for path, raw in files.items()})["/opt/venv/bin/python"].modules


def test_root_without_python_has_no_environments(tmp_path):
    assert found(tmp_path, {"/usr/bin/python3": b"#!/bin/sh\n", "/etc/pyvenv.cfg": b""}, links=()) == {}


def test_interpreter_has_extension_modules_and_debian_packages(tmp_path):
    files = {
        "/usr/bin/python3.11": ELF,
        f"{DYNLOAD}/_ssl.cpython-311-x86_64-linux-gnu.so": b"",
        f"{DYNLOAD}/_testcapi.cpython-311-x86_64-linux-gnu.so": b"",
        f"{DYNLOAD}/_xxsubinterpreters.so": b"",
        "/usr/lib/python3.11/os.py": b"",
        "/usr/lib/python3/dist-packages/yaml/__init__.py": b"",
        "/usr/local/lib/python3.11/dist-packages/own.py": b"",
        "/usr/lib/python3.12/site-packages/another.py": b"",
    }
    one = found(tmp_path, files, links=(("/usr/bin/python3", "python3.11"),))
    assert list(one) == ["/usr/bin/python3.11"]
    assert one["/usr/bin/python3.11"].modules == ("_ssl", "own", "yaml")
    assert one["/usr/bin/python3.11"].folders[:2] == ("/usr/lib/python3.11", DYNLOAD)


def test_virtual_environment_has_its_own_packages(tmp_path):
    files = VENV | {f"{SITE}/a.py": b"", f"{DYNLOAD}/_ssl.so": b"", "/opt/venv/bin/python3.11": ELF}
    both = found(tmp_path, files)
    assert both["/opt/venv/bin/python"].modules == ("a",)
    assert both["/usr/bin/python3.11"].modules == ("_ssl",)
    assert len(both) == 2


@pytest.mark.parametrize(
    ("links", "missing"),
    [
        (
            [("/opt/venv/bin/python", "python3"), ("/opt/venv/bin/python3", "/srv/py/bin/python3")],
            "/srv/py/bin/python3",
        ),
        ([("/opt/venv/bin/python", "../../../srv/py")], "/srv/py"),
        ([("/opt/venv/bin/python", "python")], "/opt/venv/bin/python"),
        ([], "/opt/venv/bin/python"),
    ],
)
def test_missing_interpreter_target_is_reported(tmp_path, links, missing):
    one = found(tmp_path, VENV | {f"{SITE}/a.py": b""}, links=links)["/opt/venv/bin/python"]
    assert (one.missing, one.modules) == (missing, ("a",))


def test_environment_without_modules_must_start(tmp_path):
    """An interpreter without its standard library used to pass, because there was nothing to import."""
    site = {f"{SITE}/README": b""}
    both = found(tmp_path, VENV | site, links=[("/opt/venv/bin/python", "/opt/python/bin/python3.11")])
    assert {start: (one.missing, one.modules) for start, one in both.items()} == {
        "/opt/venv/bin/python": ("/opt/python/bin/python3.11", ("encodings",)),
        "/usr/bin/python3.11": ("", ("encodings",)),
    }


def test_recorded_modules_count_even_if_missing(tmp_path):
    record = b"gone/__init__.py,,\ngone/sub/__init__.py,,\nhere.py,,\n../../../bin/tool,,\nd-1.dist-info/RECORD,,\n"
    files = {"/d-1.dist-info/RECORD": record, "/d-1.dist-info/top_level.txt": b"never\n", "/here.py": b""}
    assert modules(tmp_path, files) == ("gone", "here")


def test_namespace_package_is_imported_by_its_parts(tmp_path):
    record = b"google/cloud/storage/__init__.py,,\ngoogle/one.py,,\ngoogle/one.json,,\n"
    assert modules(tmp_path, {"/g-1.dist-info/RECORD": record}) == ("google.cloud.storage", "google.one")


def test_old_and_editable_distributions_use_top_level_txt(tmp_path):
    files = {
        "/old-1.egg-info/top_level.txt": b"old\nold_more\n",
        "/e-1.dist-info/RECORD": b"__editable__.e-1.pth,,\n",
        "/e-1.dist-info/top_level.txt": b"elsewhere\n",
    }
    assert modules(tmp_path, files) == ("elsewhere", "old", "old_more")


def test_bundled_tests_and_scripts_are_not_modules(tmp_path):
    files = {
        "/tests/__init__.py": b"",
        "/setup.py": b"",
        "/conftest.py": b"",
        "/not-a-name.py": b"",
        "/data/table.csv": b"",
        "/README": b"",
        "/__pycache__/x.pyc": b"",
        "/x-1.dist-info/RECORD": b"docs/conf.py,,\nexamples/a.py,,\npkg/tests/__init__.py,,\n",
    }
    assert modules(tmp_path, files | {"/kept.py": b""}) == ("kept",)


def test_extension_modules_of_other_python_are_skipped(tmp_path):
    files = {
        "/a.cpython-311-x86_64-linux-gnu.so": b"",
        "/b.cpython-312-x86_64-linux-gnu.so": b"",
        "/c.abi3.so": b"",
        "/d.so": b"",
        "/e.so.1": b"",
    }
    assert modules(tmp_path, files) == ("a", "c", "d")


@pytest.mark.parametrize("record", [b'"', b"\x00,,\n", b"\xff\xfe.py,,\n", b"a" * 200_000, b"//,,\n/.py,,\n"])
def test_malformed_record_is_ignored(tmp_path, record):
    assert modules(tmp_path, {"/x-1.dist-info/RECORD": record, "/kept.py": b""}) == ("kept",)


def test_python_path_of_image_counts(tmp_path):
    root = rooted(tmp_path, VENV | {f"{SITE}/a.py": b"", "/srv/more/extra.py": b""})
    (one,) = (one for one in pythons(root, "/srv/more:relative:/none") if one.start == "/opt/venv/bin/python")
    assert one.modules == ("a", "extra")


# Owners of missing files ----------------------------------------------------------------------------------------------

STATUS = b"Package: libgl1\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.6\n\n"
LIB = "/usr/lib/x86_64-linux-gnu"


def whose(root, kind, name, *folders):
    (one,) = answers(root, [{"kind": kind, "name": name, "folders": folders}])["answers"]
    return [(file["path"], file["package"]) for file in one["files"]]


@pytest.fixture
def chain(tmp_path):
    files = {
        "/var/lib/dpkg/status": STATUS,
        "/var/lib/dpkg/info/libgl1:amd64.list": f"{LIB}/libGL.so.1.7\n{LIB}/libGL.so.1\n".encode(),
        f"{LIB}/libGL.so.1.7": ELF,
        "/opt/app/lib/deeper/libGL.so.1": ELF,
        "/usr/share/table": b"",
        f"{SITE}/forms-1.dist-info/METADATA": b"Name: forms\nVersion: 1\n",
        f"{SITE}/forms-1.dist-info/RECORD": b"forms/__init__.py,,\nforms/sub/a.py,,\nforms/fast.abi3.so,,\nforms/ns/b.py,,\n",
        f"{SITE}/forms/__init__.py": b"",
        f"{SITE}/forms/sub/a.py": b"",
        f"{SITE}/forms/fast.abi3.so": b"",
        "/srv/lib/python3.11/encodings/__init__.py": b"",
        "/srv/lib/python3.11/json/__init__.py": b"",
        "/srv/bin/python3.11": ELF,
        "/opt/uv/cp/lib/python3.12/encodings/__init__.py": b"",
        "/opt/uv/cp/bin/python3.12": ELF,
    }
    return rooted(tmp_path, files, links=[(f"{LIB}/libGL.so.1", "libGL.so.1.7")])


def test_library_name_finds_system_library_first(chain):
    assert whose(chain, "library", "libGL.so.1") == [
        (f"{LIB}/libGL.so.1", "libgl1"),
        ("/opt/app/lib/deeper/libGL.so.1", ""),
    ]
    assert whose(chain, "library", "libnone.so") == []
    assert whose(chain, "library", "/opt/app/lib/deeper/libGL.so.1") == [("/opt/app/lib/deeper/libGL.so.1", "")]


def test_path_question_returns_path(chain):
    assert whose(chain, "path", "/usr/share/table") == [("/usr/share/table", "")]
    assert whose(chain, "path", "/usr/share/none") == []
    assert whose(chain, "path", "../escape") == []


def test_module_is_found_on_python_path(chain):
    assert whose(chain, "module", "forms", SITE) == [(f"{SITE}/forms/__init__.py", "forms")]
    assert whose(chain, "module", "forms.sub.a", SITE) == [(f"{SITE}/forms/sub/a.py", "forms")]
    assert whose(chain, "module", "forms.fast", SITE) == [(f"{SITE}/forms/fast.abi3.so", "forms")]
    assert whose(chain, "module", "forms.sub", SITE) == [(f"{SITE}/forms/sub", "forms")]
    assert whose(chain, "module", "forms.none", SITE) == []
    assert whose(chain, "module", "..forms", SITE) == []


def test_module_missing_in_environment_is_found_in_other_python(chain):
    assert whose(chain, "module", "json", SITE) == [("/srv/lib/python3.11/json/__init__.py", "")]


def test_missing_standard_library_returns_its_folder(chain):
    assert whose(chain, "module", "encodings", SITE)[0] == ("/srv/lib/python3.11", "")
    assert whose(chain, "path", "/opt/uv/cp/bin/python3.12") == [("/opt/uv/cp", "")]
    # A folder of the whole system is never kept.
    assert whose(chain, "path", "/srv/bin/python3.11") == [("/srv/bin/python3.11", "")]
