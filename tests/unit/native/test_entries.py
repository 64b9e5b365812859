"""Package tools of an image's own, where native ones would be mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from chainbuild.dockerfile import parse
from chainbuild.native.entries import own_entry
from tests.support.dockerfiles import dockerfiles

APT_GET = "/usr/local/sbin/apt-get"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in (
        "root/usr/local/sbin/apt-get",
        "local/sbin/apt-get",
        "tools/apt-get",
        "tools/dpkg",
        "plain/x",
        "x.tar.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path


def found(instruction: str, context: Path) -> str:
    text = f"FROM debian AS tools\nRUN make\nFROM debian\n{instruction}\n"
    return own_entry(parse(text.encode(), "Dockerfile"), context)


@pytest.mark.parametrize(
    "instruction",
    [
        f"COPY wrapper {APT_GET}",
        f"RUN printf x > {APT_GET}",
        f"RUN <<EOF\nln -s /bin/true {APT_GET}\nEOF",
        "COPY root/ /",
        "COPY root /",
        "COPY roo* /",
        "COPY --chmod=755 plain root /",
        "COPY root/usr /usr",
        "COPY local /usr/local/",
        "COPY local/sbin /usr/local/sbin",
        "COPY tools/apt-get /usr/local/sbin/",
        "COPY root .",
        "COPY root $TARGET",
        "COPY local ./",
        "ADD x.tar.gz /",
        "COPY --from=other/image / /",
        "COPY --from=other/image /usr /usr",
    ],
)
def test_own_package_tool_is_found(context: Path, instruction: str) -> None:
    assert found(instruction, context) == APT_GET


@pytest.mark.parametrize(
    "instruction",
    [
        "RUN apt-get update",
        "RUN touch /usr/local/sbin/apt-getter /usr/local/bin/apt-get",
        "COPY root/ /opt",
        "COPY plain /",
        "COPY tools /",
        "COPY tools/apt-get /usr/local/bin/",
        "COPY --from=tools / /",
        "COPY --from=0 /usr /usr",
        "COPY --from=other/image /x /opt/x",
        "COPY x.tar.gz /",
        "ADD x.tar.gz /opt/",
        "COPY missing /",
        "COPY <<EOF /x\nroot\nEOF",
    ],
)
def test_other_files_are_not_own_package_tools(context: Path, instruction: str) -> None:
    assert found(instruction, context) == ""


def test_other_package_tools_are_found(context: Path) -> None:
    (context / "local/sbin/apt-get").rename(context / "local/sbin/dpkg")
    assert found("COPY local /usr/local", context) == "/usr/local/sbin/dpkg"
    assert found("COPY tools/d* /usr/local/sbin/", context) == "/usr/local/sbin/dpkg"


@given(raw=dockerfiles())
def test_any_dockerfile_is_read(raw: bytes) -> None:
    own_entry(parse(raw, "Dockerfile"), Path("/nonexistent"))
