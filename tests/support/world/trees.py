"""Dockerfiles for tests, and the names of the chain registry and its platforms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chainbuild.references import Platform

AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("aarch64")
CHAIN = "localhost:5000"
REPOSITORY = "team/atom"

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN make\n"
STAGES = {
    "utilities/Dockerfile-minimize": (
        "ARG BASE_IMAGE\nARG PRODUCTION_IMAGE\nFROM ${BASE_IMAGE} AS chain\nFROM ${PRODUCTION_IMAGE} AS production\n"
        "FROM scratch AS minimized\nARG ADDITIONAL_FILES=\nCOPY --from=chain /opt /opt\n"
    ),
    "utilities/Dockerfile-production": (
        "ARG PRODUCTION_IMAGE\nARG MINIMIZED_IMAGE\nFROM ${MINIMIZED_IMAGE} AS minimized\nFROM ${PRODUCTION_IMAGE}\n"
        "COPY --from=minimized / /\n"
    ),
}
THREE_STEPS = {
    "stock/10-Dockerfile-base": STEP,
    "stock/20-Dockerfile-blas": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN make CPU=$CPU\n",
    "stock/20-notes.txt": "for people",
    "stock/blas-amd64-args": "CPU=HASWELL\n",
    "stock/blas-aarch64-args": "CPU=ARMV8\n",
    "stock/30-Dockerfile-venv": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY src/ /src/\nRUN make venv\n",
    "src/setup.py": "setup()\n",
    **STAGES,
}


def write_files(root: Path, files: Mapping[str, str | None]) -> None:
    """Write files below `root`; None deletes a file."""
    for name, text in files.items():
        path = root / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
