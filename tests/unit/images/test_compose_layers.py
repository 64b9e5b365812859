"""Layers of files on top of an image without a builder; that it equals a build is in `tests/engine/test_science.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.dockerfile import parse
from chainbuild.images.compose_layers import can_be_joined, configured, join
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from tests.support.fake_registry import FakeRegistry
from tests.unit.layouts.science.grove import Grove

AMD64 = Platform.parse("amd64")


def joinable(text: str) -> bool:
    return can_be_joined(parse(f"FROM scratch\n{text}\n".encode(), "Dockerfile"))


@pytest.mark.parametrize(
    "text",
    [
        "COPY --link a /a",
        "copy --link=true --chown=1000:1000 a b /opt/",
        "ENV A=$B\nLABEL a=b\nCOPY --link a /a\nEXPOSE 80 53/udp\nUSER me\nSTOPSIGNAL 9\nVOLUME /x",
        'COPY --link --from=tools:1 /a /a\nENTRYPOINT ["/a"]\nCMD run',
    ],
)
def test_files_and_configuration_can_be_joined(text: str) -> None:
    assert joinable(text)


@pytest.mark.parametrize(
    "text",
    [
        "COPY a /a",
        "COPY --link=false a /a",
        "COPY --link --chmod=755 a /a",
        "COPY --link a relative",
        "COPY --link --chown=me a /a",
        "COPY --link $A /a",
        "COPY --link <<EOF /a\nEOF",
        "COPY --link a /a\nRUN true",
        "COPY --link a /a\nADD b /b",
        "COPY --link a /a\nWORKDIR /a",
        "COPY --link a /a\nARG B",
        "COPY --link a /a\nONBUILD RUN x",
        "COPY --link a /a\nHEALTHCHECK CMD x",
        'COPY --link a /a\nSHELL ["/bin/bash"]',
        "COPY --link a /a\nEXPOSE 1-3",
        "COPY --link a /a\nFROM b",
        "ENV A=1",
        "",
    ],
)
def test_everything_else_is_built(text: str) -> None:
    assert not joinable(text)


def test_custom_frontend_is_not_composed() -> None:
    dockerfile = parse(b"# syntax=someone/else\nFROM scratch\nCOPY --link a /a\n", "Dockerfile")
    assert not can_be_joined(dockerfile)


def config_of(text: str, **base: object) -> ImageConfig:
    below = ImageConfig.make(AMD64, []).with_changes(**base)  # type: ignore[arg-type]
    return configured(below, parse(f"FROM scratch\n{text}\n".encode(), "Dockerfile"))


def test_variables_are_those_from_before_the_line() -> None:
    found = config_of("ENV A=1 B=$A\nENV C=\"$A and $PATH\" D='$A'\nENV E $A words", env=[("PATH", "/bin"), ("A", "0")])
    assert dict(found.env) == {"PATH": "/bin", "A": "1", "B": "0", "C": "1 and /bin", "D": "$A", "E": "1 words"}


def test_entrypoint_resets_an_inherited_cmd_only() -> None:
    assert config_of('ENTRYPOINT ["a"]', cmd=["below"], entrypoint=["x"]).cmd is None
    assert config_of('CMD ["b"]\nENTRYPOINT ["a"]', cmd=["below"]).cmd == ("b",)
    assert config_of('CMD ["b"]', entrypoint=["x"]).entrypoint == ("x",)
    assert config_of("CMD run it", shell=["/bin/bash", "-ec"]).cmd == ("/bin/bash", "-ec", "run it")
    assert config_of("ENTRYPOINT run").entrypoint == ("/bin/sh", "-c", "run")


def test_lists_grow_and_single_values_are_replaced() -> None:
    found = config_of(
        'EXPOSE 80 53/udp\nVOLUME /b ["/c"]\nUSER $ME\nLABEL a=2 "b c"=d\nSTOPSIGNAL SIGINT',
        env=[("ME", "idies")],
        exposed_ports=["22/tcp"],
        volumes=["/a"],
        user="root",
        labels={"a": "1", "z": "1"},
    )
    assert found.exposed_ports == ("22/tcp", "53/udp", "80/tcp")
    assert set(found.volumes) >= {"/a", "/b"}
    assert (found.user, found.stop_signal) == ("idies", "SIGINT")
    assert dict(found.labels) == {"a": "2", "b c": "d", "z": "1"}


def test_composed_image_has_the_layers_of_both() -> None:
    fake = FakeRegistry()
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    base = fake.add_image("localhost:5000/x:base", AMD64, layers=[b"one", b"two"], cmd=["a"])
    files = fake.add_image("localhost:5000/x:files", AMD64, layers=[b"three"])
    dockerfile = parse(b"FROM scratch\nCOPY --link a /a\nCMD b\n", "Dockerfile")
    target = ImageReference.parse("localhost:5000/x:joined")
    made = join(registries, base, files, dockerfile, target)
    assert made.layers == (*base.layers, *files.layers)
    assert made.config.diff_ids == (*base.config.diff_ids, *files.config.diff_ids)
    assert made.config.cmd == ("/bin/sh", "-c", "b")
    assert join(registries, base, files, dockerfile, target).digest == made.digest


def test_compat_images_of_files_share_a_build(tmp_path: Path) -> None:
    grove = Grove(tmp_path / "tree")
    for name in ("a", "b", "c"):
        grove.science(name, f"FROM debian:1\nRUN {name}", compat="k")
    grove.compat("k", "COPY --link start.sh /opt/\nCMD /opt/start.sh", files={"start.sh": "one"})
    assert grove.run().succeeded
    assert grove.built == ["science/a", "science/b", "science/c", "files/k"]
    assert len(grove.resolved("compute-images/rel/b:1.0").layers) == 3
    (grove.root / "compat/k/start.sh").write_text("two")
    assert grove.builds() == ["files/k", "compat/a-1.0", "compat/b-1.0", "compat/c-1.0"]
    assert grove.actions()["compat/a-1.0"] == "join"
    assert grove.run().succeeded
    assert grove.built == ["files/k"]
    assert dict(grove.resolved("compute-images/rel/b:1.0").config.env)["SCISERVER_IMAGE"] == "b:1.0-42-f90dbd6"


def test_science_image_with_triggers_is_built(tmp_path: Path) -> None:
    grove = Grove(tmp_path / "tree")
    grove.science("a", compat="k")
    grove.compat("k", "COPY --link f /f", files={"f": "x"})
    grove.driver.changes[StepId.parse("amd64/science/a")] = {"on_build": ["RUN more"]}
    assert grove.run().succeeded
    assert grove.built == ["science/a", "files/k", "compat/a-1.0"]
