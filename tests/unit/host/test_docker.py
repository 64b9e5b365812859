"""What the docker command prints if it cannot use an engine."""

from __future__ import annotations

import pytest

from chainbuild.host.docker import engine_error


@pytest.mark.parametrize(
    "stderr",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "failed to connect to the docker API at unix:///x; check if the path is correct and if the daemon is running",
        'error during connect: Get "http://nohost/v1.50/images/x/json": dial tcp: lookup nohost: no such host',
        'Failed to initialize: unable to resolve docker endpoint: context "nope": context not found',
    ],
)
def test_engine_that_does_not_answer_is_recognised(stderr: str) -> None:
    error = engine_error(stderr, "the reason")
    assert error is not None
    assert error.message == "cannot reach a Docker Engine: the reason"
    assert "DOCKER_HOST" in error.hint


def test_missing_permission_is_recognised() -> None:
    error = engine_error("permission denied while trying to connect to the Docker daemon socket", "denied")
    assert error is not None
    assert error.message == "no permission to use the Docker Engine: denied"


def test_missing_image_is_no_engine_error() -> None:
    assert engine_error("Error response from daemon: No such image: x:1", "x") is None
