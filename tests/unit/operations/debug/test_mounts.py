"""The mounts of a RUN, and how a container gets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.builder.build_spec import Pin
from chainbuild.dockerfile import Instruction, parse
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.errors import WrongUseError
from chainbuild.model import Secret
from chainbuild.operations.debug.container import mount_flags, network, not_as_in_build
from chainbuild.operations.debug.mounts import RunMount, run_mounts
from chainbuild.operations.debug.secrets import mounted_file, secret_values, with_sources


def run(flags: str) -> Instruction:
    return parse(f"FROM x\nRUN {flags} make\n".encode(), "f").stages[0].instructions[0]


def mounts(flags: str, **variables: str) -> tuple[RunMount, ...]:
    return run_mounts(run(flags), variables=variables, folder="/work")


@pytest.mark.parametrize(
    ("flag", "shown", "copied"),
    [
        ("--mount=target=/src", "bind at /src", "--mount=type=bind,target=/to"),
        (
            "--mount=type=bind,from=build,src=/a,dst=sub,rw",
            "bind at /work/sub",
            "--mount=type=bind,target=/to,from=build,source=/a,rw",
        ),
        ("--mount=type=cache,target=/c/", "cache at /c", "--mount=type=cache,target=/to,id=/c"),
        (
            "--mount=type=cache,id=apt-$NAME,target=/c,sharing=locked,uid=5",
            "cache at /c",
            "--mount=type=cache,target=/to,id=apt-x,sharing=locked,uid=5",
        ),
        ("--mount=type=cache,id='a b',target=/c", "cache at /c", None),
        ("--mount=type=tmpfs,target=/t,size=1m", "tmpfs at /t", None),
        ("--mount=type=secret,id=token", "secret token at /run/secrets/token", None),
        ("--mount=type=secret,id=token,env=TOKEN", "secret token", None),
        ("--mount=type=secret,target=/etc/key", "secret key at /etc/key", None),
        ("--mount=type=ssh", "ssh default at /run/buildkit/ssh_agent.0", None),
    ],
)
def test_mount_is_read_as_builder_reads_it(flag: str, shown: str, copied: str | None) -> None:
    (mount,) = mounts(flag, NAME="x")
    assert mount.text == shown
    assert mount.is_copied == shown.startswith(("bind", "cache"))
    if mount.is_copied:
        assert mount.flag("/to") == copied


def test_mount_from_image_is_pinned_and_mounts_of_build_are_added() -> None:
    pins = (Pin(place=ImageWordPosition(2, 0), word="img", reference="r/img@sha256:1"),)
    found = run_mounts(
        run("--mount=from=img,target=/x"),
        variables={},
        folder="/",
        pins=pins,
        more=("--mount=type=bind,from=tools,source=/t,target=/n", "--other=1"),
    )
    assert [mount.flag("/to") for mount in found] == [
        "--mount=type=bind,target=/to,from=tools,source=/t",
        "--mount=type=bind,target=/to,from=r/img@sha256:1",
    ]


def test_unknown_type_of_mount_is_reported() -> None:
    with pytest.raises(WrongUseError, match="unknown type of mount: 'volume'"):
        mounts("--mount=type=volume,target=/x")


def test_container_gets_volumes_and_temporary_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent,1")
    found = mounts(
        "--mount=target=/src --mount=type=cache,target=/c --mount=type=tmpfs,target=/t,size=1m --mount=type=ssh"
    )
    assert mount_flags(found, {0: "v0", 1: "v1"}) == [
        "--mount",
        "type=volume,source=v0,target=/src,volume-nocopy,readonly",
        "--mount",
        "type=volume,source=v1,target=/c,volume-nocopy",
        "--mount",
        "type=tmpfs,target=/t,tmpfs-size=1m",
    ]


def test_differences_from_build_are_listed() -> None:
    instruction = run("--security=insecure --mount=type=cache,target=/c --mount=type=ssh --network=none")
    notes = not_as_in_build(instruction, run_mounts(instruction, variables={}, folder="/"), [0])
    assert len(notes) == 3
    assert "cache at /c lacks its content" in notes[1]
    assert network(instruction) == ("--network", "none")
    assert network(run("--network=default")) == ()
    assert network(run("--network=host")) == ()
    assert "not that of the host" in not_as_in_build(run("--network=host"), (), ())[0]


def test_secret_is_read_from_source_of_run(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"from file")
    secrets = [
        Secret(id="file", spec=f"id=file,src={tmp_path / 'token'}"),
        Secret(id="env", spec="id=env,env=TOKEN"),
        Secret(id="NAME", spec="id=NAME"),
    ]
    found = mounts("--mount=type=secret,id=file --mount=type=secret,id=env --mount=type=secret,id=NAME")
    values = secret_values(found, secrets, {"TOKEN": "from env", "NAME": "named"}, None)
    assert values == {"file": b"from file", "env": b"from env", "NAME": b"named"}


def test_secret_whose_source_is_gone_is_asked_for() -> None:
    found = mounts("--mount=type=secret,id=token --mount=type=secret,id=token,target=/again")
    secrets = [Secret(id="token", spec="id=token,src=/no/such/file")]
    asked: list[str] = []

    def ask(name: str) -> str:
        asked.append(name)
        return "typed"

    assert secret_values(found, secrets, {}, ask) == {"token": b"typed"}
    assert asked == ["token"]
    with pytest.raises(WrongUseError, match="its source no longer exists") as caught:
        secret_values(found, secrets, {}, None)
    assert "--secret id=token" in str(caught.value)
    assert with_sources(secrets, {}) == ()


def test_secret_without_source_is_left_out_unless_required() -> None:
    assert secret_values(mounts("--mount=type=secret,id=x"), (), {}, None) == {}
    with pytest.raises(WrongUseError, match="secret x: no source"):
        secret_values(mounts("--mount=type=secret,id=x,required"), (), {}, None)


def test_file_of_secret_has_mode_of_mount(tmp_path: Path) -> None:
    (plain, chosen) = mounts("--mount=type=secret,id=a --mount=type=secret,id=b,mode=0444")
    assert mounted_file(tmp_path, 0, plain, b"v").stat().st_mode & 0o777 == 0o400
    assert mounted_file(tmp_path, 1, chosen, b"v").stat().st_mode & 0o777 == 0o444


def test_file_of_secret_has_defaults_for_invalid_numbers(tmp_path: Path) -> None:
    flags = ("mode=rw", "mode=0o444", "uid=\u00b2", f"uid={1 << 32}", "gid=-1")
    for number, flag in enumerate(flags):
        (mount,) = mounts(f"--mount=type=secret,id=a,{flag}")
        assert mounted_file(tmp_path, number, mount, b"v").stat().st_mode & 0o777 == 0o400


def test_secret_is_asked_for_with_escaped_name() -> None:
    (mount,) = mounts("--mount=type=secret,id=a\x1b]0;b\x07,required")
    asked: list[str] = []

    def ask(name: str) -> str:
        asked.append(name)
        return "\udcff"

    assert secret_values((mount,), (), {}, ask) == {mount.name: b"\xff"}
    assert asked == [r"a\x1b]0;b\x07"]
