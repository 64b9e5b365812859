"""Generated trees: chains of numbered Dockerfiles, each of whose steps writes one file into the image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OPTION = "chain"
MARK = "/chainbuild-bench/"
"""Stands in every RUN, so that what the benchmark leaves in a build cache can be told from the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainTree:
    """A tree with one option; the files written are `sizes` bytes each, one step a size.

    Their bytes are random text (gzip makes three quarters of it), so that no two builds give the same layer.
    """

    root: Path
    sizes: tuple[int, ...]
    digits: int = 3

    def write(self) -> None:
        """Write the Dockerfiles, and a file in the context for each of them to copy."""
        folder = self.root / OPTION
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(len(self.sizes)):
            (folder / f"{self.name_of(index)}.txt").write_text(f"what step {index + 1} copies\n")
            self.dockerfile(index).write_text(self._text(index))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The steps' numbers: 10, 20, ..."""
        return tuple(10 * (index + 1) for index in range(len(self.sizes)))

    def name_of(self, index: int) -> str:
        """The descriptor of a step."""
        return f"step{index + 1}"

    def dockerfile(self, index: int) -> Path:
        """The Dockerfile of a step (from 0)."""
        return self.root / OPTION / f"{self.numbers[index]:0{self.digits}}-Dockerfile-{self.name_of(index)}"

    def change(self, index: int, stamp: str) -> None:
        """Change what a step does."""
        self.dockerfile(index).write_text(self._text(index, command=f" && echo {stamp} > {MARK}changed"))

    def comment(self, index: int, stamp: str) -> None:
        """Change a comment of a step's Dockerfile, and nothing that it does."""
        path = self.dockerfile(index)
        first, _, rest = path.read_text().partition("\n")
        assert first.startswith("# "), first
        path.write_text(f"# {stamp}\n{rest}")

    def _text(self, index: int, command: str = "") -> str:
        name = self.name_of(index)
        return (
            f"# step {index + 1}\n"
            "ARG BASE_IMAGE\n"
            "FROM ${BASE_IMAGE}\n"
            "ARG BUST=0\n"
            f"COPY {OPTION}/{name}.txt {MARK}\n"
            f"RUN echo $BUST && base64 /dev/urandom | head -c {self.sizes[index]} > {MARK}{name}.data{command}\n"
        )


def chain_tree(root: Path, steps: int, *, least: int = 2_000_000, most: int = 20_000_000) -> ChainTree:
    """A chain of so many steps whose files grow evenly from the least to the most bytes."""
    span = max(1, steps - 1)
    return ChainTree(
        root=root,
        sizes=tuple(least + (most - least) * index // span for index in range(steps)),
        digits=max(2, len(str(10 * steps))),
    )
