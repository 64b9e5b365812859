"""The main job on real builds: a numbered chain gives tagged steps and a slim image that runs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from chainbuild.local_registry.ports import ask
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.images import read_index, resolve
from chainbuild.registry.pool import Registries

from .conftest import OWN, Done, Lay, Place, container_output, docker, gives

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def tiny(lay_once: Lay) -> tuple[Place, Done]:
    """The case `tiny`, built with the plain command line."""
    place = lay_once("tiny")
    return place, place.run(*place.words("tiny", platform="amd64"))


def test_run_prints_result_names_digest_size_and_step_times(tiny: tuple[Place, Done]) -> None:
    place, done = tiny
    assert done.code == 0, done.told()
    local, registry, digest, size = done.out.splitlines()
    assert local == f"{place.repo}:v1-tiny-amd64"
    assert registry.split() == ["registry", f"{place.host}/{place.repo}:v1-tiny-amd64"]
    assert digest.split()[1] in str(place.image("v1-tiny-amd64", "amd64").digest)
    assert "of the chain's" in size
    assert "compressed" in size
    # The summary has the duration of each step.
    for step in ("10-base", "20-tool", "30-runtime", "minimize", "production"):
        assert [line for line in done.err.splitlines() if line.split()[:1] == [step] and "s" in line], done.err


def test_steps_and_results_are_tagged(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    assert place.tags() == [
        "v1-tiny",
        "v1-tiny-10-base-amd64",
        "v1-tiny-20-tool-amd64",
        "v1-tiny-30-runtime-amd64",
        "v1-tiny-amd64",
        "v1-tiny-minimized-amd64",
    ]
    with Registries() as registries:
        index = read_index(registries, place.name("v1-tiny"))
    assert index is not None
    assert [child.digest for child in index.images] == [place.image("v1-tiny-amd64", "amd64").digest]


def test_result_runs_from_local_store_and_from_registry(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    expected = gives("tiny")["output"]["amd64"]
    assert container_output(f"{place.repo}:v1-tiny-amd64", platform="amd64").strip() == expected
    assert place.output("v1-tiny-amd64", platform="amd64").strip() == expected


def test_result_keeps_runtime_configuration_of_the_chain(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    told = docker("image", "inspect", "--format", "{{json .Config}}", f"{place.repo}:v1-tiny-amd64")
    config = json.loads(told.stdout)
    expected = gives("tiny")["config"]
    for name in ("Entrypoint", "Cmd", "WorkingDir", "User", "ExposedPorts"):
        assert config[name] == expected[name], name
    assert expected["Labels"].items() <= config["Labels"].items()
    assert set(expected["Env"]) <= set(config["Env"])


def test_result_is_production_image_plus_one_layer(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    with Registries() as registries:
        base = resolve(registries, ImageReference.parse(place.production), Platform.parse("amd64"))
    result, minimized = place.image("v1-tiny-amd64", "amd64"), place.image("v1-tiny-minimized-amd64", "amd64")
    assert result.config.diff_ids[:-1] == base.config.diff_ids
    assert len(minimized.layers) == 1


def test_result_lacks_files_not_needed_at_run_time(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    case = gives("tiny")
    script = " && ".join(
        [*(f"test -e {path}" for path in case["there"]), *(f"test ! -e {path}" for path in case["gone"])]
    )
    container_output(f"{place.repo}:v1-tiny-amd64", "-c", script, platform="amd64", entrypoint="sh")
    # The chain's image has the compiler, but not the files that its ignore file excludes.
    chain = place.image("v1-tiny-30-runtime-amd64", "amd64").reference.pinned
    script = "test -e /opt/compiler/big && test ! -e /usr/local/lib/tiny/files/ignored.txt"
    container_output(chain, "-c", script, platform="amd64", entrypoint="sh")


def test_steps_have_logs_and_manifests_have_no_local_paths(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    logs = place.root / ".chainbuild" / "logs" / "latest"
    names = {path.name for path in logs.iterdir()}
    steps = ("10-base", "20-tool", "30-runtime", "minimize", "production")
    assert names == {"events.jsonl", *(f"amd64-tiny-{step}.log" for step in steps)}
    first = (logs / "amd64-tiny-10-base.log").read_text(encoding="utf-8")
    assert "==== build" in first
    assert "==== done" in first
    with Registries() as registries:
        client = registries.client(place.name("any"))
        for tag in place.tags(machine=True):
            raw = client.manifest(place.name("any").repository, tag).raw
            assert str(place.root).encode() not in raw


def where(place: Place) -> list[str]:
    return ["--registry", str(place.registry)]


def test_shell_and_inspect_take_every_printed_name(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    image = place.image("v1-tiny-amd64", "amd64")
    local = f"{place.repo}:v1-tiny-amd64"
    names = (f"{place.host}/{local}", f"{place.host}/{place.repo}@{image.digest}", local, image.digest.short)
    for name in (*names, "production"):
        done = place.run("inspect", name, *where(place), "--json")
        assert json.loads(done.out)["digest"] == str(image.digest), done.told()
    try:
        for name, program in ((names[0], "/bin/true"), (names[1], "/bin/true"), ("20-tool", "/bin/true")):
            done = place.run("shell", name, *where(place), "--", program)
            assert done.code == 0, (name, done.told())
            assert docker("image", "inspect", local).returncode == 0, f"{local} is gone after shell {name}"
        assert docker("image", "inspect", names[0]).returncode == 0
    finally:
        step = place.name("v1-tiny-20-tool-amd64")
        docker("image", "rm", names[0], names[1], str(step))


def test_files_are_those_of_the_container(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    step = place.image("v1-tiny-20-tool-amd64", "amd64").reference.pinned
    done = place.run("files", "20-tool", "/etc/os-release", *where(place))
    assert done.out == container_output(step, "/etc/os-release", platform="amd64", entrypoint="cat"), done.told()
    added = json.loads(place.run("files", "20-tool", "--added", "--json", *where(place)).out)
    assert (added["step"], added["repeated"]) == ("amd64/tiny/20-tool", {"files": 0, "size": 0})
    assert added["totals"]["added"]["files"] > 0
    paths = [change["path"] for change in added["changes"] if change["change"] == "added" and change["kind"] == "file"]
    script = " && ".join(f"test -f {path}" for path in paths)
    container_output(step, "-c", script, platform="amd64", entrypoint="sh")


def test_report_has_the_phases_of_the_builder(tiny: tuple[Place, Done], tmp_path: Path) -> None:
    place, _ = tiny
    page, trace = tmp_path / "run.html", tmp_path / "run.json"
    done = place.run("report", "-o", str(page), "--trace", str(trace))
    assert done.code == 0, done.told()
    spans = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
    by_step: dict[int, list[str]] = {}
    for event in spans:
        if event["pid"] == 2 and not event["name"].startswith("waiting"):
            by_step.setdefault(event["tid"], []).append(event["name"])
    assert len(by_step) == 5
    for name, *phases in by_step.values():
        assert phases == ["build", "export", "push", "check"], name
    assert ">succeeded<" in page.read_text(encoding="utf-8")


def test_temporary_folder_is_empty_after_a_run(tiny: tuple[Place, Done]) -> None:
    place, _ = tiny
    assert list(place.temporary.iterdir()) == []


def test_ignore_file_of_dockerfile_overrides_that_of_context(lay: Lay) -> None:
    place = lay(
        files={
            ".dockerignore": "data/a\n",
            "one/10-Dockerfile-folder": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY data /folder\n",
            "one/20-Dockerfile-own": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY data /own\n",
            "one/20-Dockerfile-own.dockerignore": "data/*\n!data/a\n",
            "data/a": "a",
            "data/b": "b",
            "data/c": "c",
        }
    )
    place.build("one", "--until", "20")
    said = place.output("v1-one-20-own-" + OWN, "sh", "-c", "ls /folder /own")
    assert said.split() == ["/folder:", "b", "c", "/own:", "a"]


def test_contexts_and_args_from_command_line_reach_the_build(lay: Lay, nothing_image: str) -> None:
    dockerfile = (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG FRUIT=none\nARG COLOUR=none\n"
        "COPY --from=elsewhere there /there\nCOPY --from=image nothing /nothing\nCOPY here /here\n"
        'RUN echo "$FRUIT $COLOUR" >/said\n'
    )
    place = lay(
        files={
            "trees/one/10-Dockerfile-all": dockerfile,
            "trees/one/all-amd64-args": "FRUIT=plum\nCOLOUR=red\n",
            "trees/one/all-aarch64-args": "FRUIT=plum\nCOLOUR=red\n",
            "elsewhere/there": "there",
            "context/here": "here",
        }
    )
    place.build(
        "one",
        "--root",
        "trees",
        "--context",
        "context",
        "--build-context",
        "elsewhere=elsewhere",
        "--build-context",
        f"image=docker-image://{nothing_image}",
        "--build-arg",
        "FRUIT=apple",
        "--until",
        "10",
    )
    said = place.output("v1-one-10-all-" + OWN, "sh", "-c", "cat /there /here /said; ls /nothing")
    assert said == "therehereapple red\n/nothing\n"


def test_secret_is_used_and_never_stored(lay: Lay, nothing_image: str) -> None:
    secret, other = "hunter2-" + "b7c1" * 4, "swordfish-" + "a3d9" * 4
    dockerfile = (
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
        "RUN --mount=type=secret,id=token --mount=type=secret,id=other \\\n"
        "    mkdir -p /usr/local/share && sha256sum < /run/secrets/token > /usr/local/share/sum \\\n"
        " && test -s /run/secrets/other && test ! -s /run/secrets/nothing\n"
    )
    place = lay(files={"one/10-Dockerfile-secret": dockerfile}, production=nothing_image)
    (place.root.parent / "token.txt").write_text(secret, encoding="utf-8")
    place.environ = {"OTHER_TOKEN": other}
    flags = ["--secret", f"id=token,src={place.root.parent / 'token.txt'}", "--secret", "id=other,env=OTHER_TOKEN"]
    done = place.build("one", *flags)
    wrong = place.run("plan", *place.words("one", "--build-arg", "FRUIT=x", *flags))
    assert wrong.code == 2  # No Dockerfile declares FRUIT.
    plans = [place.run("plan", *place.words("one", "--refresh", how, *flags)) for how in ("--json", "-v")]
    assert [plan.code for plan in plans] == [0, 0], plans[1].told()
    assert "--secret id=token" in plans[1].out
    everywhere = [text.encode() for one in (done, wrong, *plans) for text in (one.out, one.err)]
    files = [path for path in (*place.root.rglob("*"), *place.home.rglob("*")) if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    everywhere += [path.read_bytes() for path in files]
    everywhere += small_blobs(place)
    for needle in (secret, other):
        assert not [text for text in everywhere if needle.encode() in text]
    # The step had the secret, and its image does not contain it.
    step = place.image("v1-one-10-secret-" + OWN).reference.pinned
    script = f"cat /usr/local/share/sum; grep -r -e {secret} -e {other} /usr/local /etc /run /tmp /var || echo nowhere"
    said = container_output(step, "-c", script, entrypoint="sh").split()
    assert (said[0], said[-1]) == (hashlib.sha256(secret.encode()).hexdigest(), "nowhere")


def small_blobs(place: Place) -> list[bytes]:
    """Return every manifest, record, report and config of a user's repository, and its small layers as stored."""
    found: list[bytes] = []
    with Registries() as registries:
        name = place.name("any")
        client = registries.client(name)
        for tag in place.tags(machine=True):
            raw = client.manifest(name.repository, tag)
            found.append(raw.raw)
            document = json.loads(raw.raw)
            for blob in (document.get("config"), *document.get("layers", ())):
                if blob and blob["size"] < 2_000_000:
                    content = client.blob(name.repository, Digest(blob["digest"]))
                    found.append(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    # A record is the payload of a signed envelope.
    found += [base64.b64decode(json.loads(text)["payload"]) for text in found if b'"payloadType"' in text]
    assert any(b"chainbuild.record/2" in text for text in found)
    return found


def test_plan_shows_every_step_and_changes_nothing(lay: Lay, nothing_image: str) -> None:
    place = lay("steps", production=nothing_image)
    done = place.run("plan", *place.words("chain", "-v"))
    assert done.code == 0, done.told()
    for step in ("10-one", "20-two", "30-three", "40-four", "minimize", "production"):
        assert step in done.out
    assert done.out.count("docker buildx build") == 6
    assert f"BASE_IMAGE={place.base.rpartition(':')[0]}@sha256:" in done.out
    assert "never built" in done.out
    as_json = place.run("plan", *place.words("chain", "--json", "--fail-if-build"))
    assert as_json.code == 6, as_json.told()
    document = json.loads(as_json.out)
    assert document["schema"] == "chainbuild.plan/1"
    assert place.tags(machine=True) == []
    assert list(place.temporary.iterdir()) == []
    assert not (place.root / ".chainbuild").exists()


def test_local_only_base_is_copied_to_the_registry_once(lay: Lay) -> None:
    place = lay(files={"one/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN cat /marker > /seen\n"})
    local = f"{place.repo}-local:only-here"
    built = subprocess.run(
        ["docker", "buildx", "build", "--builder", "default", "--load", "--quiet", "--tag", local, "-"],
        input=f"FROM {place.base}\nRUN echo marked > /marker\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    place.base = local
    first = place.build("one", "--until", "10")
    assert any("local image store" in event["text"] for event in first.events("message")), first.told()
    assert place.output(f"v1-one-10-a-{OWN}", "cat", "/seen") == "marked\n"
    again = place.build("one", "--until", "10")
    assert again.built == []
    assert not any("local image store" in event["text"] for event in again.events("message")), again.told()


def test_managed_registry_starts_and_stops_with_a_run(lay: Lay, engine: str) -> None:
    place = lay(
        files={"one/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo managed > /seen\n"}, managed=True
    )
    first = place.build("one", "--until", "10")
    assert first.built == ["10-a"]
    assert any("the chain registry is running" in event["text"] for event in first.events("message"))
    assert ask(place.host) == "nothing"
    assert (place.data / "docker").is_dir()
    assert not (place.root / "registry").exists()
    # A registry that the user started stays up, and has the images of the earlier run.
    up = place.run("registry", "up", "--registry-port", str(place.port))
    assert up.code == 0, up.told()
    again = place.build("one", "--until", "10")
    assert (again.built, again.reused) == ([], ["10-a"])
    assert ask(place.host) == "registry"
    assert place.output(f"v1-one-10-a-{OWN}", "cat", "/seen") == "managed\n"
    listed = place.run("registry", "ls", "--registry-port", str(place.port))
    assert f"{place.host}/{place.repo}:v1-one-10-a-{OWN}" in listed.out
    assert place.run("registry", "down", "--registry-port", str(place.port)).code == 0
    assert ask(place.host) == "nothing"
    leases = place.leases
    assert {path.name for path in leases.iterdir()} <= {"mutex", "both-loopbacks.yml"}


def test_port_in_use_is_reported(lay: Lay, tmp_path: Path) -> None:
    import http.server
    import threading

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = lay("steps", managed=True)
        place.port = int(server.server_address[1])
        done = place.build("chain", code=3)
        server.shutdown()
    assert f"port {place.port}" in done.error["message"]
    assert "--registry-port" in done.error["hint"]
