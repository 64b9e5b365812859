"""When the results of the stages stand although the chain's image or the production image moved."""

from __future__ import annotations

import pytest

from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.reading import LayerReader
from chainbuild.rebase.stages import import_conflicts, minimized_conflicts, production_conflicts, startup_conflicts
from chainbuild.rebase.tree import ImageTree
from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.pool import Registries
from tests.support.elf_builder import library
from tests.support.fake_registry import FakeRegistry
from tests.support.rebases import BASE, Files
from tests.unit.comparison.layers import add, dpkg

CONFIG = ImageConfig.make(Platform.parse("amd64"), ()).with_changes(env=[("PATH", "/usr/bin:/bin")])


def tree(files: Files) -> ImageTree:
    fake = FakeRegistry()
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    return ImageTree(LayerReader(registries).layers(add(fake, "team/app:1", files)))


def pair(old: Files, new: Files) -> BasePair:
    return BasePair(tree(old), tree(new))


def minimized(new: Files, kept: Files, old: Files = BASE) -> list[str]:
    return list(minimized_conflicts(pair(old, new), tree(kept)))


def test_minimized_files_stand_if_none_of_them_changed() -> None:
    new = {**BASE, "/etc/motd": b"2", "/var/lib/dpkg/info/x.list": b"2", "/etc/hostname": b"2"}
    assert minimized(new, {"/opt/app": b"app"}) == []


def test_changed_file_that_was_kept_elsewhere_is_a_conflict() -> None:
    conflicts = minimized({**BASE, "/etc/motd": b"2"}, {"/usr/local/motd": b"welcome\n"})
    assert conflicts == ["/etc/motd: minimize kept it, and it changed in the chain's image"]


def test_added_or_removed_file_is_a_conflict() -> None:
    assert minimized({**BASE, "/opt/plugin": b"x"}, {}) == ["/opt/plugin: it was added to the chain's image"]
    assert minimized(BASE, {}, {**BASE, "/opt/plugin": b"x"}) == ["/opt/plugin: it was removed from the chain's image"]


@pytest.mark.parametrize("path", ["/etc/ld.so.conf", "/etc/ld.so.conf.d/libc.conf"])
def test_changed_search_path_of_the_loader_is_a_conflict(path: str) -> None:
    assert minimized({**BASE, path: b"/opt/lib\n"}, {}) == [f"{path}: it changed in the chain's image"]


def test_new_user_of_the_chain_is_a_conflict() -> None:
    new = {**BASE, "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nme:x:1:1::/:\n"}
    assert minimized(new, {}) == ["/etc/passwd: its entries differ in the chain's image"]


def test_changed_package_with_a_kept_record_is_a_conflict() -> None:
    new = {**BASE, "/var/lib/dpkg/status": dpkg(libc6="2.36-10")}
    assert minimized(new, {"/opt/app": b"x"}) == []
    conflicts = minimized(new, {"/var/lib/dpkg/status.d/libc6": b"Package: libc6\n"})
    assert conflicts == ["package libc6: minimize kept files of it, and its version changed in the chain's image"]


def test_file_that_production_image_lost_is_a_conflict_for_minimize() -> None:
    data, soname = "/usr/share/zoneinfo/UTC", "/usr/lib/x86_64-linux-gnu/libx.so.1"
    old = {**BASE, data: b"z", soname: library("libx.so.1"), "/usr/share/doc/x/README": b"x"}
    assert list(production_conflicts(pair(old, BASE))) == [
        f"{data}: minimize may have left it to the production image, which no longer has it"
    ]
    assert list(production_conflicts(pair(BASE, old))) == []


def startup(new: Files, old: Files = BASE, **changes: object) -> list[str]:
    config = CONFIG.with_changes(**changes)  # type: ignore[arg-type]
    return list(startup_conflicts(tree(old), tree(new), config))


def test_program_of_the_configuration_that_is_gone_is_a_conflict() -> None:
    new = {path: content for path, content in BASE.items() if path != "/bin/sh"}
    assert startup(new, cmd=["sh"]) == ["CMD: /bin/sh is not in the new base"]
    assert startup(new, entrypoint=["/bin/sh"]) == ["ENTRYPOINT: /bin/sh is not in the new base"]
    assert startup(BASE, cmd=["sh"]) == []


def test_user_with_another_id_and_missing_folder_are_conflicts() -> None:
    old = {**BASE, "/srv": None, "/etc/passwd": b"me:x:1:1::/:\n"}
    new = {**BASE, "/etc/passwd": b"me:x:2:1::/:\n"}
    assert startup(new, old, user="me", working_dir="/srv") == [
        "WORKDIR: /srv is not in the new base",
        "USER: me differs in /etc/passwd of the new base",
    ]


def test_changed_python_of_the_production_image_is_a_conflict() -> None:
    path = "/usr/lib/python3.11/os.py"
    old, new = {**BASE, path: b"1"}, {**BASE, path: b"2", "/etc/motd": b"2"}
    assert list(import_conflicts(pair(old, new))) == [f"{path}: it changed in the production image"]
