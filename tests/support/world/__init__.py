"""The outside of the program in memory, and trees on disk, for tests that run the real program.

- `trees`: Dockerfiles for tests, and the names of the chain registry and its platforms.
- `builder`: a builder that makes images in the registry in memory.
- `store`: the engine's local image store.
- `surroundings`: all of them as the backends of real sessions, plans and runs.
- `numbered`: a tree of numbered Dockerfiles in such surroundings.
"""

from tests.support.world.builder import GOOD_PROOF, TRACE, FakeDriver, failed
from tests.support.world.numbered import World
from tests.support.world.store import FakeStore
from tests.support.world.surroundings import Surroundings
from tests.support.world.trees import AMD64, ARM64, CHAIN, REPOSITORY, STAGES, STEP, THREE_STEPS

__all__ = [
    "AMD64",
    "ARM64",
    "CHAIN",
    "GOOD_PROOF",
    "REPOSITORY",
    "STAGES",
    "STEP",
    "THREE_STEPS",
    "TRACE",
    "FakeDriver",
    "FakeStore",
    "Surroundings",
    "World",
    "failed",
]
