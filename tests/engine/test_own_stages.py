"""A tree with its own stages, which pass on a tarball: lists with commas, inherited over three options.

Each option is first built by a separate command on the result of the option below, then all by one command.
"""

from __future__ import annotations

import json

import pytest

from chainbuild.values import replace

from .conftest import OTHER, OWN, Done, Lay, Place

pytestmark = pytest.mark.timeout(900)

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
MINIMIZE = """\
ARG BASE_IMAGE
ARG PRODUCTION_IMAGE
FROM ${PRODUCTION_IMAGE} AS bare
RUN ls /usr/bin > /present.txt
FROM ${BASE_IMAGE} AS packed
ARG ADDITIONAL_FILES=""
ARG PRODUCTION_PACKAGES=""
COPY --from=bare /present.txt /tmp/present.txt
COPY collect.sh /tmp/collect.sh
RUN mkdir -p /station \\
 && echo "${ADDITIONAL_FILES}" | tr , '\\n' >> /station/files.txt \\
 && echo "${PRODUCTION_PACKAGES}" | tr , '\\n' >> /station/packages.txt
RUN sh /tmp/collect.sh
"""
COLLECT = """\
set -eu
test -s /tmp/present.txt
cd /
tar -czpf minimized.tar.gz opt/station station $(cat /station/files.txt)
"""
PRODUCTION = """\
ARG PRODUCTION_IMAGE
FROM ${PRODUCTION_IMAGE} AS production
ENV PATH="/opt/station/bin:$PATH"
ADD ./minimized.tar.gz /
RUN packages=$(sort -u /station/packages.txt | xargs) \\
 && if [ -n "$packages" ]; then apt-get update && apt-get install -y --no-install-recommends $packages; fi
"""
FILES = {
    "docker/ground/05-Dockerfile-tools": (
        f'{STEP}ENV PATH="/opt/station/bin:$PATH"\nCOPY --chmod=755 parts/report /opt/station/bin/report\n'
        "COPY parts/ground /srv/ground\n"
    ),
    "docker/sensors/10-Dockerfile-wind": f"{STEP}COPY parts/wind parts/rain /srv/sensors/\nCOPY parts/chart /var/charts/\n",
    "docker/display/10-Dockerfile-panel": f"{STEP}COPY parts/panel /opt/station/panel\nCOPY parts/unasked /srv/unasked\n",
    "docker/ground/minimize-amd64-args": "ADDITIONAL_FILES=/srv/ground\n",
    "docker/ground/minimize-aarch64-args": "ADDITIONAL_FILES=/srv/ground\n",
    f"docker/sensors/minimize-{OWN}-args": "ADDITIONAL_FILES=/srv/sensors/wind,/var/charts\nPRODUCTION_PACKAGES=bc,ed\n",
    "docker/utilities/01-Dockerfile-minimize": MINIMIZE,
    "docker/utilities/02-Dockerfile-production": PRODUCTION,
    "docker/utilities/collect.sh": COLLECT,
    "docker/utilities/.dockerignore": "**\n!/collect.sh\n!/minimized.tar.gz\n",
    "parts/report": "#!/bin/sh\necho report\n",
    **{f"parts/{name}": f"{name}\n" for name in ("ground", "wind", "rain", "chart", "panel", "unasked")},
}
LIST = """\
cd / && find srv var/charts opt/station -type f 2>/dev/null | sort
for name in bc ed; do command -v $name; done
echo $PATH
"""
GROUND = ["opt/station/bin/report", "srv/ground"]
SENSORS = ["opt/station/bin/report", "srv/ground", "srv/sensors/wind", "var/charts/chart"]
DISPLAY = ["opt/station/bin/report", "opt/station/panel", "srv/ground", "srv/sensors/wind", "var/charts/chart"]
PROGRAMS = ["/usr/bin/bc", "/usr/bin/ed"]
SEARCHED = "/opt/station/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def split(lay_once: Lay) -> tuple[Place, list[Done]]:
    """The three options, each built by a separate command: the lowest for both platforms, the others for this one."""
    place = lay_once(files=FILES)
    place = replace(place, root=place.root / "docker")
    done = [place.build("ground", "--context", "..", platform=f"{OWN},{OTHER}")]
    for below, option in (("ground", "sensors"), ("sensors", "display")):
        above = replace(place, base=str(place.name(f"v1-{below}-{OWN}")))
        done.append(above.build(option, "--context", ".."))
    return place, done


def content(place: Place, tag: str, platform: str = OWN) -> list[str]:
    """Return the files that the options requested, the programs of packages, and the PATH of an image."""
    return place.output(tag, "sh", "-c", LIST, platform=platform).splitlines()


def test_results_include_files_requested_by_lower_options(split: tuple[Place, list[Done]]) -> None:
    place, _ = split
    assert content(place, f"v1-ground-{OWN}") == [*GROUND, SEARCHED]
    assert content(place, f"v1-sensors-{OWN}") == [*SENSORS, *PROGRAMS, SEARCHED]
    assert content(place, f"v1-display-{OWN}") == [*DISPLAY, *PROGRAMS, SEARCHED]
    assert place.output(f"v1-display-{OWN}", "report") == "report\n"


def test_tarballs_are_separate_for_each_platform(split: tuple[Place, list[Done]]) -> None:
    place, _ = split
    assert content(place, f"v1-ground-{OTHER}", OTHER) == [*GROUND, SEARCHED]
    assert place.image(f"v1-ground-{OTHER}", OTHER).config.platform.name == OTHER


def test_tree_is_unchanged_after_the_builds(split: tuple[Place, list[Done]]) -> None:
    place, _ = split
    assert sorted(path.name for path in (place.root / "utilities").iterdir()) == [
        ".dockerignore",
        "01-Dockerfile-minimize",
        "02-Dockerfile-production",
        "collect.sh",
    ]


def test_single_command_reuses_results_of_separate_commands(split: tuple[Place, list[Done]]) -> None:
    """Catch inherited arguments that differ between the two ways: they are a part of every stage's key."""
    place, _ = split
    done = place.build("ground,sensors,display", "--context", "..", tag="v2")
    assert done.built == []
    for option in ("ground", "sensors", "display"):
        assert place.identity(f"v2-{option}-{OWN}") == place.identity(f"v1-{option}-{OWN}")


def test_plan_shows_arguments_inherited_from_earlier_image(split: tuple[Place, list[Done]]) -> None:
    place, _ = split
    above = replace(place, base=str(place.name(f"v1-sensors-{OWN}")))
    words = above.words("display", "--context", "..", tag="v3")
    shown = above.run("plan", *words)
    assert shown.code == 0, shown.told()
    assert "ADDITIONAL_FILES=/srv/ground (from ground)" in shown.out
    assert "PRODUCTION_PACKAGES=bc ed (from sensors)" in shown.out
    steps = {step["step"]: step for step in json.loads(above.run("plan", *words, "--json").out)["steps"]}
    files = {one["name"]: one for one in steps[f"{OWN}/display/minimize"]["arguments"]}["ADDITIONAL_FILES"]
    assert files["value"] == "/srv/ground,/srv/sensors/wind,/var/charts"
    assert files["inherited"] == [
        {"value": "/srv/ground", "from": "ground"},
        {"value": "/srv/sensors/wind /var/charts", "from": "sensors"},
    ]


def test_missing_sources_hint_at_the_right_context(split: tuple[Place, list[Done]]) -> None:
    place, _ = split
    done = place.build("ground,sensors,display", tag="v4", code=2)
    messages = [(problem["path"], problem["line"]) for problem in done.error["problems"]]
    assert ("ground/05-Dockerfile-tools", 4) in messages
    assert len(messages) == 7
    assert all("use --context .." in problem["hint"] for problem in done.error["problems"])
    assert done.built == []
