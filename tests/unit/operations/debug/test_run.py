"""What a debug session shows of its builds."""

from __future__ import annotations

import pytest

from chainbuild.events import StepProgress
from chainbuild.operations.debug.run import running_instruction
from chainbuild.step_id import StepId


@pytest.mark.parametrize(
    ("doing", "instruction"),
    [
        ("[2/3] RUN make", "RUN make"),
        ("[step-0 3/5] RUN make && echo [1/2] done", "RUN make && echo [1/2] done"),
        ("[step-1 stage-0 2/4] COPY a /a", "COPY a /a"),
        ("[step-0 1/5] FROM localhost:5000/a@sha256:1", ""),
        ("[step-0 chainbuild-debug 1/1] COPY --from=files / /.chainbuild/", ""),
        ("[step-0 internal] load .dockerignore", ""),
        ("[step-0 chainbuild-debug-files] load from client", ""),
        ("exporting layers", ""),
    ],
)
def test_only_instructions_of_the_tree_are_shown(doing: str, instruction: str) -> None:
    step = StepId.parse("amd64/tools/10-base")
    assert running_instruction(StepProgress(step=step, doing=doing)) == instruction
