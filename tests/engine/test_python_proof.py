"""The proof of Python: modules that import in the chain's image import in the production image too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chainbuild.values import replace

from .conftest import OWN, Done, Lay, Place, write_tree

pytestmark = pytest.mark.timeout(900)

SITE = "/opt/venv/lib/python3.11/site-packages"
MODULES = {
    # Opened by name, as by cv2 and similar modules: the analysis of ELF files does not see it.
    "modules/shapes.py": "import ctypes\nctypes.CDLL('libyaml-0.so.2')\n",
    "modules/colours/__init__.py": "TABLE = open('/usr/share/colours/table').read()\n",
    "modules/good.py": "print('x' * 1_000_000)\n",
    # These modules fail by themselves.
    "modules/unable.py": "import nothing_of_that_name\n",
    "modules/leaves.py": "raise SystemExit(3)\n",
    "modules/crashes.py": "import os\nos.kill(os.getpid(), 11)\n",
    "modules/forms-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: forms\nVersion: 1.0\n",
    "modules/forms-1.0.dist-info/RECORD": "shapes.py,,\ncolours/__init__.py,,\nforms-1.0.dist-info/RECORD,,\n",
    "table": "red\n",
}
CHAIN = {
    "py/10-Dockerfile-python": (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
        "RUN apt-get update \\\n"
        " && apt-get install -y --no-install-recommends python3 python3-venv libyaml-0-2 \\\n"
        " && rm -rf /var/lib/apt/lists/* \\\n"
        " && python3 -m venv --without-pip /opt/venv\n"
    ),
    "py/20-Dockerfile-modules": (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
        f"COPY modules/ {SITE}/\n"
        "COPY table /usr/share/colours/table\n"
        # Imports must work for any user of the image.
        "USER 1000\n"
    ),
}
LIBRARY = "/usr/lib/*-linux-gnu/libyaml-0.so.2"


@pytest.fixture(scope="module")
def refused(lay_once: Lay) -> tuple[Place, Done]:
    """The chain, whose production image lacks what two modules load."""
    place = lay_once(files=CHAIN | MODULES)
    return place, place.build("py", code=5)


def imports(done: Done) -> dict[str, object]:
    """Return the verdict on the imports."""
    (verdict,) = (event for event in done.events("verdict") if event["proof"] == "imports")
    return verdict


def test_import_failing_only_in_production_image_fails_the_build(refused: tuple[Place, Done]) -> None:
    place, done = refused
    verdict = imports(done)
    assert verdict["passed"] is False
    findings = done.error["findings"]
    (library,) = (line for line in findings if line.startswith("shapes "))
    assert "(/opt/venv/bin/python): OSError: libyaml-0.so.2: cannot open shared object file" in library
    assert "; the chain's image has /usr/lib/" in library
    assert "/libyaml-0.so.2, of the Debian package libyaml-0-2 0." in library
    (table,) = (line for line in findings if line.startswith("colours "))
    assert "FileNotFoundError: " in table
    assert table.endswith("; the chain's image has /usr/share/colours/table, of no package")
    assert len(findings) == 2
    assert "ADDITIONAL_FILES=" in done.error["hint"]
    assert "/usr/share/colours/table" in done.error["hint"]
    assert f"v1-py-{OWN}" not in place.tags()


def test_import_failing_in_both_images_is_a_warning(refused: tuple[Place, Done]) -> None:
    findings = imports(refused[1])["findings"]
    assert isinstance(findings, list)
    told = "\n".join(line for line in findings if line.startswith("warning: "))
    assert "unable (/opt/venv/bin/python): ModuleNotFoundError: No module named 'nothing_of_that_name'" in told
    assert "leaves (/opt/venv/bin/python): SystemExit: 3, as in the chain's image" in told
    assert "crashes (/opt/venv/bin/python): killed by signal 11" in told


def test_failed_proof_is_not_recorded_and_runs_again(refused: tuple[Place, Done]) -> None:
    place, _ = refused
    again = place.build("py", code=5)
    assert again.built == ["production"]
    assert imports(again)["passed"] is False


def copy_of(place: Place, tmp_path: Path, files: dict[str, str]) -> Place:
    """Return a copy of the user's tree with these files."""
    shutil.copytree(place.root, tmp_path / "tree")
    write_tree(tmp_path / "tree", files)
    return replace(place, root=tmp_path / "tree", home=tmp_path / "home")


def test_added_files_pass_the_proof_and_result_is_reused(refused: tuple[Place, Done], tmp_path: Path) -> None:
    bringing = {f"py/minimize-{OWN}-args": f"ADDITIONAL_FILES={LIBRARY} /usr/share/colours\n"}
    place = copy_of(refused[0], tmp_path, bringing)
    done = place.build("py", tag="whole")
    verdict = imports(done)
    assert verdict["passed"] is True
    # 3 modules of the test and the extension modules of the standard library.
    words = str(verdict["summary"]).split()
    assert words[1:] == ["modules"]
    assert int(words[0]) > 20
    assert place.output(f"whole-py-{OWN}", "/opt/venv/bin/python", "-c", "import shapes, colours") == ""
    again = place.build("py", tag="whole")
    assert (again.built, again.events("verdict")) == ([], [])
    told = place.run("inspect", f"{place.host}/{place.repo}:whole-py-{OWN}", "--registry", place.host)
    assert f"imports: {verdict['summary']}" in told.out, told.told()


def test_proof_can_be_turned_off_and_on_again(refused: tuple[Place, Done], tmp_path: Path) -> None:
    place = copy_of(refused[0], tmp_path, {f"py/production-{OWN}-args": "PROVE_IMPORTS=0\n"})
    done = place.build("py", tag="off")
    assert [event["proof"] for event in done.events("verdict")] == ["libraries", "configuration"]
    assert f"off-py-{OWN}" in place.tags()
    write_tree(place.root, {f"py/production-{OWN}-args": "PROVE_IMPORTS=1\n"})
    assert imports(place.build("py", tag="on", code=5))["passed"] is False


def test_interpreter_without_standard_library_fails_the_proof(lay: Lay) -> None:
    # The environment and the interpreter behind its links are kept; the rest of that Python is not.
    own = (
        "RUN mkdir -p /srv/python/bin /srv/python/lib && mv /usr/bin/python3.11 /srv/python/bin/"
        " && mv /usr/lib/python3.11 /srv/python/lib/ && rm -r /opt/venv"
        " && /srv/python/bin/python3.11 -m venv --without-pip /opt/venv\n"
    )
    copying = CHAIN["py/20-Dockerfile-modules"].replace("COPY modules/", f"{own}COPY modules/")
    switch = {f"py/minimize-{OWN}-args": "KEEP_SURROUNDINGS=0\n"}
    place = lay(files=CHAIN | {"modules/good.py": "", "table": "", "py/20-Dockerfile-modules": copying} | switch)
    done = place.build("py", code=5)
    (finding,) = (line for line in done.error["findings"] if line.startswith("good "))
    assert "the interpreter does not start" in finding
    assert "; the chain's image has /srv/python/lib/python3.11, of no package" in finding


def test_image_without_python_has_no_import_proof(lay: Lay) -> None:
    place = lay("tiny")
    done = place.build("tiny")
    assert [event["proof"] for event in done.events("verdict")] == ["libraries", "configuration"]
