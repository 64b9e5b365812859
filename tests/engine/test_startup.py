"""The configuration of production images: the needs of USER, ENTRYPOINT and CMD are present, and containers start."""

from __future__ import annotations

import json

import pytest

from .conftest import OTHER, OWN, Lay, Place, container_output, docker, push_files

pytestmark = pytest.mark.timeout(900)

SERVICE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends tini \\
 && rm -rf /var/lib/apt/lists/* \\
 && useradd --create-home --uid 4711 app \\
 && groupadd --gid 4712 readers \\
 && usermod --append --groups readers,video app \\
 && echo "app:secret" | chpasswd \\
 && mkdir --parents /srv/app && echo 'echo "started by $(id -un), $(id -Gn), in $HOME of $(stat -c %U "$HOME")"' >/srv/app/main
USER app
WORKDIR /srv/app
ENTRYPOINT ["tini", "--", "/bin/sh"]
CMD ["/srv/app/main"]
"""
ON_SCRATCH = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends busybox-static \\
 && cp /bin/busybox /usr/local/bin/ \\
 && rm -rf /var/lib/apt/lists/* \\
 && useradd --create-home --uid 4711 app
USER app
ENTRYPOINT ["busybox"]
CMD ["sh", "-c", "busybox id -un; cd; busybox touch x; busybox pwd"]
"""


def test_unstartable_chain_fails_with_fixes_that_make_it_start(lay: Lay) -> None:
    """Catch a configuration that was copied unchecked: the image was tagged, and its containers did not start."""
    place = lay(files={"opt/10-Dockerfile-service": SERVICE})
    failed = place.build("opt", "--no-load", code=5)
    program, argument = failed.error["findings"]
    assert program.startswith(
        "ENTRYPOINT: tini is not in the image; the chain's image has /usr/bin/tini, of the Debian"
    )
    assert f"ADDITIONAL_FILES=/usr/bin/tini in minimize-{OWN}-args" in program
    assert f"PRODUCTION_PACKAGES=tini in production-{OWN}-args" in program
    assert argument.startswith("CMD: /srv/app/main is not in the image; the chain's image has /srv/app/main")
    assert f"v1-opt-{OWN}" not in place.tags()
    args = {f"opt/minimize-{OWN}-args": "ADDITIONAL_FILES=/srv/app\n"}
    args |= {f"opt/production-{OWN}-args": "PRODUCTION_PACKAGES=tini\n"}
    for path, text in args.items():
        (place.root / path).write_text(text)
    done = place.build("opt", "--no-load")
    (verdict,) = [one for one in done.events("verdict") if one["proof"] == "configuration"]
    assert (verdict["passed"], verdict["summary"]) == (True, "tini, as app")
    assert place.output(f"v1-opt-{OWN}") == "started by app, app video readers, in /home/app of app\n"
    name = place.image(f"v1-opt-{OWN}").reference.pinned
    # The password of the chain is not copied.
    shadow = docker("run", "--rm", "--user", "0", "--entrypoint", "/bin/grep", name, "^app:", "/etc/shadow")
    assert shadow.stdout == "app:*:::::::\n"


def test_user_is_added_to_scratch_on_another_platform(lay: Lay) -> None:
    place = lay(files={"opt/10-Dockerfile-tool": ON_SCRATCH}, production="scratch")
    place.build("opt", "--no-load", platform=OTHER)
    image = place.image(f"v1-opt-{OTHER}", OTHER)
    assert container_output(image.reference.pinned, platform=OTHER) == "app\n/home/app\n"


def test_verify_reports_configuration_that_cannot_start(lay: Lay) -> None:
    place: Place = lay()
    name = f"{place.host}/{place.repo}:no-start"
    push_files(name, {"/etc/passwd": b"root:x:0:0::/root:/bin/sh\n"}, user="app", entrypoint=["/bin/none"])
    done = place.run("verify", name, "--registry", place.host, "--json")
    assert done.code == 5, done.told()
    assert json.loads(done.out)["errors"] == [
        "USER: the image has no user app (/etc/passwd)",
        "ENTRYPOINT: /bin/none is not in the image",
    ]


def test_warnings_repeat_for_reused_image_and_fail_a_strict_run(lay: Lay) -> None:
    dockerfile = (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nWORKDIR /srv/data\nRUN echo lost >table && echo x >/usr/local/lib/x\n"
    )
    place = lay(files={"opt/10-Dockerfile-data": dockerfile})
    for reused in (False, True):
        done = place.build("opt", "--no-load")
        (event,) = done.events("step_warnings")
        assert (event["step"], event["reused"]) == (f"{OWN}/opt/production", reused)
        (warning,) = event["warnings"]
        assert "WORKDIR: /srv/data is empty or missing in the image" in warning["text"]
        assert warning["fix"] == f"ADDITIONAL_FILES=/srv/data in minimize-{OWN}-args"
    strict = place.build("opt", "--no-load", "--strict", tag="v2", code=5)
    assert warning["text"] in strict.error["findings"][0]
    assert f"v2-opt-{OWN}" not in place.tags()
    told = place.run("inspect", str(place.name(f"v1-opt-{OWN}")), "--registry", place.host)
    assert "/srv/data/table" in told.out, told.told()
    (place.root / f"opt/minimize-{OWN}-args").write_text("ADDITIONAL_FILES=/srv/data\n")
    fixed = place.build("opt", "--no-load", "--strict", tag="v2")
    assert fixed.events("step_warnings") == []
    assert container_output(place.image(f"v2-opt-{OWN}").reference.pinned, "cat", "table") == "lost\n"
