"""Whether a container can start with an image's configuration: users, programs and their needs, folders, arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.startup import Runtime, Startup, startup
from tests.support.elf_builder import ARM64, LOADER, plant, program

TREE: dict[str, Any] = {
    "/etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    "/etc/group": b"root:x:0:\napp:x:1000:\ntools:x:50:app\n",
    LOADER: b"",
    "/bin/sh": program(),
    "/usr/bin/env": program(),
    "/usr/bin/python3": "/usr/bin/python3.11",
    "/usr/bin/python3.11": program(),
    "/usr/local/bin/tool": b"#!/usr/bin/env python3\n",
    "/app/run": b"#!/bin/sh -e\n",
    "/app/main.py": b"",
    "/app/foreign": program(machine=ARM64),
    "/app/text": b"echo no interpreter\n",
    "/app/lost": b"#!/usr/bin/perl\n",
    "/app/loop": b"#!/app/loop\n",
    "/app/plain": program(),
}
PROGRAMS = (
    "/bin/sh",
    "/usr/bin/env",
    "/usr/bin/python3.11",
    "/usr/local/bin/tool",
    "/app/run",
    "/app/foreign",
    "/app/text",
    "/app/lost",
    "/app/loop",
)


def check(tmp_path: Path, modes: dict[str, int] | None = None, **config: Any) -> Startup:
    folder = Path(plant(tmp_path / "root", TREE))
    for path in PROGRAMS:
        (folder / path.lstrip("/")).chmod(0o755)
    for path, mode in (modes or {}).items():
        (folder / path.lstrip("/")).chmod(mode)
    document = {"architecture": "amd64", "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], **config}
    return startup(RootFileSystem(str(folder)), Runtime.read(document))


def faults(found: Startup) -> list[tuple[str, str]]:
    return [(one.field, one.kind) for one in found.faults]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"Entrypoint": ["tool"], "Cmd": ["anything"]},
        {"Cmd": ["/bin/sh", "-c", "exec nothing"]},
        {"Entrypoint": ["./run"], "WorkingDir": "/app"},
        {"Cmd": ["/app/run"], "User": "app:tools"},
        {"Cmd": ["/app/run"], "User": "7:8"},
        {"Healthcheck": {"Test": ["NONE"]}},
        {"Healthcheck": {"Test": ["CMD-SHELL", "curl"]}},
        {"Healthcheck": {"Test": ["CMD", "tool"]}},
        {"Cmd": ["python3", "/app/main.py"]},
    ],
)
def test_working_configuration_has_no_fault(tmp_path: Path, config: dict[str, Any]) -> None:
    found = check(tmp_path, **config)
    assert (found.faults, [one for one in found.absent if one.kind != "folder"]) == ([], [])


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"User": "nobody"}, ("USER", "user")),
        ({"User": "app:staff"}, ("USER", "group")),
        ({"Entrypoint": ["tini"]}, ("ENTRYPOINT", "program")),
        ({"Cmd": ["/usr/bin/tini"]}, ("CMD", "program")),
        ({"Cmd": ["run"], "WorkingDir": "/app"}, ("CMD", "program")),
        ({"Cmd": ["/app"]}, ("CMD", "permission")),
        ({"Cmd": ["/app/plain"]}, ("CMD", "permission")),
        ({"Cmd": ["/app/foreign"]}, ("CMD", "machine")),
        ({"Cmd": ["/app/text"]}, ("CMD", "format")),
        ({"Cmd": ["/app/lost"]}, ("CMD", "interpreter")),
        ({"Cmd": ["/app/loop"]}, ("CMD", "format")),
        ({"Healthcheck": {"Test": ["CMD", "curl", "-f"]}}, ("HEALTHCHECK", "program")),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "x"]}, "Shell": ["/bin/bash", "-c"]}, ("HEALTHCHECK", "program")),
        ({"WorkingDir": "/app/main.py"}, ("WORKDIR", "folder")),
    ],
)
def test_broken_configuration_reports_its_instruction(
    tmp_path: Path, config: dict[str, Any], fault: tuple[str, str]
) -> None:
    assert faults(check(tmp_path, **config)) == [fault]


def test_faults_are_reported_together(tmp_path: Path) -> None:
    found = check(tmp_path, User="x", Entrypoint=["tini"], Healthcheck={"Test": ["CMD", "curl"]})
    assert [one.field for one in found.faults] == ["USER", "ENTRYPOINT", "HEALTHCHECK"]
    assert found.faults[1].sought == ("/usr/local/bin/tini", "/usr/bin/tini", "/bin/tini")


@pytest.mark.parametrize(
    ("user", "mode", "folder", "ok"),
    [
        ("", 0o744, 0o700, True),
        ("", 0o644, 0o755, False),
        ("7", 0o755, 0o755, True),
        ("7", 0o750, 0o755, True),  # its group is root's group
        ("7:8", 0o750, 0o755, False),
        ("7", 0o755, 0o700, False),
    ],
)
def test_program_must_be_executable_for_user(tmp_path: Path, user: str, mode: int, folder: int, ok: bool) -> None:
    found = check(tmp_path, {"/app/run": mode, "/app": folder}, Cmd=["/app/run"], User=user)
    assert faults(found) == ([] if ok else [("CMD", "permission")])


@pytest.mark.parametrize(
    ("config", "absent"),
    [
        (
            {"Cmd": ["tool", "/srv/x", "--config=/srv/y", "--data", "/dev/null"]},
            [("argument", "/srv/x"), ("argument", "/srv/y")],
        ),
        ({"Cmd": ["tool", "x.py", "--flag"], "WorkingDir": "/app"}, [("file", "/app/x.py")]),
        ({"Cmd": ["tool", "/data/db"], "Volumes": {"/data": {}}}, [("folder", "/data")]),
        ({"WorkingDir": "/srv/app"}, [("folder", "/srv/app")]),
        ({"Entrypoint": ["/bin/sh", "-c", "run /srv/x"]}, []),
    ],
)
def test_missing_paths_are_reported_as_absent(
    tmp_path: Path, config: dict[str, Any], absent: list[tuple[str, str]]
) -> None:
    found = check(tmp_path, **config)
    assert [(one.kind, one.path) for one in found.absent] == absent
    assert found.faults == []


def test_verify_report_has_configuration(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", TREE)
    (tmp_path / "c.json").write_text(json.dumps({"User": "x", "architecture": "amd64"}))
    report = tmp_path / "report.json"
    code = main(["verify", root, "--report", str(report), "--configuration", str(tmp_path / "c.json")])
    assert code == 1
    configuration = json.loads(report.read_text())["configuration"]
    assert configuration["faults"][0]["text"] == "USER: the image has no user x (/etc/passwd)"


VALUES = st.none() | st.text(max_size=6) | st.lists(st.text(max_size=6) | st.integers(), max_size=4) | st.integers()


@given(
    st.dictionaries(
        st.sampled_from(["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Shell", "Healthcheck", "Volumes"]),
        VALUES | st.dictionaries(st.sampled_from(["Test", "/x", "..", "\x00"]), VALUES, max_size=3),
    )
)
def test_arbitrary_configuration_is_checked(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    root = plant(tmp_path_factory.mktemp("any") / "root", {"/bin/sh": program(), "/etc/passwd": b"root:x:0:0::/:/\n"})
    json.dumps(startup(RootFileSystem(root), Runtime.read(config)).document())
