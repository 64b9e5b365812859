"""What of the chain a container of the production image gets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.images.runtime_config import carried_over
from chainbuild.references import Platform
from chainbuild.registry.config import Healthcheck, ImageConfig
from chainbuild.registry.oci import digest_of

AMD64 = Platform.parse("amd64")
LAYERS = [digest_of(b"one")]


def config(**changes: Any) -> ImageConfig:
    return ImageConfig.make(AMD64, LAYERS).with_changes(**changes)


def merged(chain: dict[str, Any], base: dict[str, Any], built: dict[str, Any] | None = None) -> ImageConfig:
    """`built` is what the production Dockerfile changes of its base."""
    return carried_over(chain=config(**chain), production_base=config(**base), built=config(**(base | (built or {}))))


CHECK = Healthcheck(test=("CMD", "true"))


@pytest.mark.parametrize(
    ("field", "chain", "base", "own"),
    [
        ("working_dir", "/app", "/", "/own"),
        ("user", "app", "root", "own"),
        ("shell", ("/bin/bash", "-c"), ("/bin/sh", "-c"), ("/bin/dash", "-c")),
        ("stop_signal", "SIGINT", "SIGTERM", "SIGQUIT"),
        ("healthcheck", CHECK, Healthcheck(test=("CMD", "base")), Healthcheck(test=("CMD", "own"))),
    ],
)
def test_fields(field: str, chain: Any, base: Any, own: Any) -> None:
    nothing: dict[str, Any] = {}
    assert getattr(merged({field: chain}, {field: base}), field) == chain
    assert getattr(merged(nothing, {field: base}), field) == base
    assert getattr(merged({field: chain}, {field: base}, {field: own}), field) == own
    assert getattr(merged({field: chain}, nothing, {field: own}), field) == own
    assert getattr(merged({field: chain}, nothing), field) == chain


@pytest.mark.parametrize(
    ("chain", "base", "own", "entrypoint", "cmd"),
    [
        # the chain's
        ({"cmd": ["serve"]}, {"cmd": ["bash"]}, {}, None, ("serve",)),
        ({"entrypoint": ["/e"]}, {"cmd": ["bash"]}, {}, ("/e",), None),
        ({"entrypoint": ["/e"], "cmd": ["x"]}, {"cmd": ["bash"]}, {}, ("/e",), ("x",)),
        # the production image's, where the chain says nothing
        ({}, {"cmd": ["bash"]}, {}, None, ("bash",)),
        ({}, {"entrypoint": ["/base"], "cmd": ["bash"]}, {}, ("/base",), ("bash",)),
        # the production Dockerfile's
        ({"cmd": ["serve"]}, {"cmd": ["bash"]}, {"cmd": ["own"]}, None, ("own",)),
        ({"entrypoint": ["/e"], "cmd": ["x"]}, {}, {"cmd": ["own"]}, ("/e",), ("own",)),
        ({"entrypoint": ["/e"], "cmd": ["x"]}, {}, {"entrypoint": ["/own"]}, ("/own",), None),
        ({}, {"cmd": ["bash"]}, {"entrypoint": ["/own"], "cmd": None}, ("/own",), None),
    ],
)
def test_entrypoint_and_cmd_belong_together(
    chain: dict[str, Any],
    base: dict[str, Any],
    own: dict[str, Any],
    entrypoint: tuple[str, ...] | None,
    cmd: tuple[str, ...] | None,
) -> None:
    found = merged(chain, base, own)
    assert (found.entrypoint, found.cmd) == (entrypoint, cmd)


def test_variables_are_merged_individually() -> None:
    found = merged(
        {"env": [("PATH", "/venv:/bin"), ("CHAIN", "1"), ("BOTH", "chain")]},
        {"env": [("PATH", "/bin"), ("BASE", "1")]},
        {"env": [("PATH", "/bin"), ("BASE", "1"), ("BOTH", "own"), ("OWN", "1")]},
    )
    assert dict(found.env) == {"PATH": "/venv:/bin", "BASE": "1", "BOTH": "own", "OWN": "1", "CHAIN": "1"}


def test_labels_ports_and_volumes() -> None:
    found = merged(
        {"labels": {"a": "chain", "b": "chain"}, "exposed_ports": ["80/tcp"], "volumes": ["/data"]},
        {"labels": {"a": "base"}, "exposed_ports": ["22/tcp"]},
        {"labels": {"a": "base", "b": "own"}},
    )
    assert dict(found.labels) == {"a": "chain", "b": "own"}
    assert found.exposed_ports == ("22/tcp", "80/tcp")
    assert found.volumes == ("/data",)


PAIRS = st.dictionaries(st.sampled_from("ABCD"), st.text("xy", max_size=2), max_size=4).map(
    lambda pairs: [*pairs.items()]
)


@given(PAIRS, PAIRS, PAIRS)
def test_variables_are_kept_and_the_dockerfile_wins(
    chain: list[tuple[str, str]], base: list[tuple[str, str]], own: list[tuple[str, str]]
) -> None:
    built = dict(base) | dict(own)
    found = dict(
        carried_over(
            chain=config(env=chain), production_base=config(env=base), built=config(env=list(built.items()))
        ).env
    )
    assert found.keys() == {*dict(chain), *built}
    for name, value in found.items():
        if name in built and built[name] != dict(base).get(name):
            assert value == built[name]
        elif name in dict(chain):
            assert value == dict(chain)[name]


def test_layers_and_everything_else_stay() -> None:
    chain, built = config(env=[("A", "1")]), config(shell=["/bin/sh"], on_build=["RUN x"])
    found = carried_over(chain=chain, production_base=config(), built=built)
    assert found.diff_ids == built.diff_ids
    assert found.shell == built.shell
    assert found.on_build == ("RUN x",)
