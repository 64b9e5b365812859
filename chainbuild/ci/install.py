"""How a job installs chainbuild: pinned with hashes, and from the repository itself if possible.

A job has the login of the registry, so it must not install whatever a package index returns for a name. In this order:

1. a requirements file in the repository that pins chainbuild with hashes,
2. wheels in the repository, of chainbuild and of all that it needs,
3. chainbuild's source in the repository or in a submodule, with its lock file.

A user can also name an image that contains the wheels, or a command.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.ci.checkout import Checkout, tracked_files
from chainbuild.ci.quoting import join, quote
from chainbuild.errors import LimitError, WrongUseError
from chainbuild.patterns import regex
from chainbuild.references import ImageReference

LOCKS: Final = ("requirements-run.lock", "requirements.lock")
"""The lock files of chainbuild's source. The first one has no development tools; older versions lack it."""
_ENVIRONMENT: Final = "$HOME/.chainbuild-ci"
_PIP: Final = f'"{_ENVIRONMENT}/bin/pip" --quiet --disable-pip-version-check install'
_MAKE_ENVIRONMENT: Final = (
    f'python3 -m venv "{_ENVIRONMENT}" || {{ sudo apt-get update && sudo apt-get install --yes python3-venv && '
    f'python3 -m venv "{_ENVIRONMENT}"; }}'
)
_REQUIREMENTS: Final = regex(r"[^/]*(?:requirements|chainbuild)[^/]*\.(?:txt|lock)")
_PINNED: Final = regex(r"(?ms)^chainbuild\s*(?:==|@)(?:[^\n]*\\\n)*[^\n]*--hash=")
_SOURCE: Final = regex(r"(?m)^name\s*=\s*[\"']chainbuild[\"']")
_WHEEL: Final = regex(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.!+]+)(?:-[^-/]+)?-[^-/]+-[^-/]+-[^-/]+\.whl")
_NAME: Final = regex(r"[A-Za-z0-9_.-]+")
_MOST_PYTHON_PROJECTS: Final = 1000


class Installation(Struct, frozen=True, kw_only=True):
    """The commands that install chainbuild, started in the top folder of the repository."""

    commands: tuple[str, ...]
    binaries: tuple[str, ...]
    """The folders to add to PATH, for a shell to expand."""
    why: str
    """What is installed and why that is safe, for the head of the workflow."""
    flags: tuple[str, ...] = ()
    """The flags of `chainbuild ci` that selected it."""


def by_command(words: Sequence[str]) -> Installation:
    """Return the installation by a command of the user."""
    command = join(words)
    pipx = ("command -v pipx > /dev/null || { sudo apt-get update && sudo apt-get install --yes pipx; }",)
    return Installation(
        commands=(*(pipx if words[0] == "pipx" else ()), command),
        binaries=("$HOME/.local/bin",),
        why="with the command that --install sets. Pin what it installs: the jobs have the login of the registry",
        flags=("--install", command),
    )


def by_image(image: ImageReference) -> Installation:
    """Return the installation from the folder `/wheels` of an image. Errors: `WrongUseError` without a digest."""
    if not image.digest:
        raise WrongUseError(
            f"--install-image {image} has no digest",
            hint="Pin the image, because whoever can move its tag runs code in every job: NAME@sha256:….",
        )
    return Installation(
        commands=(
            _MAKE_ENVIRONMENT,
            'wheels="$(mktemp -d)"',
            f'container="$(docker create {quote(str(image))} none)"',
            'docker cp "$container:/wheels/." "$wheels"',
            'docker rm "$container" > /dev/null',
            f'{_PIP} --no-index --find-links "$wheels" chainbuild',
        ),
        binaries=(f"{_ENVIRONMENT}/bin",),
        why="from the wheels in an image that is pinned by its digest. No package index is used",
        flags=("--install-image", str(image)),
    )


def find_installation(checkout: Checkout) -> Installation:
    """Return the installation from what the repository contains. Errors: `WrongUseError` with every way out."""
    paths = _paths(checkout.top)
    top = checkout.top
    installation = _by_requirements(top, paths) or _by_wheels(top, paths) or _by_source(checkout, paths)
    if installation is None:
        raise WrongUseError(
            "the repository does not say how a job installs chainbuild",
            hint="Add one of these to git: a requirements file that pins chainbuild and all that it needs with hashes, the "
            f"wheels of both, or chainbuild's source with its {LOCKS[0]} (for example as a submodule). Or use --install-image "
            "NAME@sha256:… or --install COMMAND. See chainbuild docs ci.",
        )
    return installation


def _paths(top: Path) -> tuple[str, ...]:
    """Return the paths of the files in git, the nearest to the top first; without git, those of two levels."""
    files = tracked_files(top)
    if files is None:
        files = tuple(path.relative_to(top).as_posix() for form in ("*", "*/*") for path in top.glob(form))
    return tuple(sorted(files, key=lambda path: (path.count("/"), path)))


def _by_requirements(top: Path, paths: Iterable[str]) -> Installation | None:
    for path in paths:
        if _REQUIREMENTS.fullmatch(posixpath.basename(path)) and _PINNED.search(_text(top / path)):
            return Installation(
                commands=(_MAKE_ENVIRONMENT, f"{_PIP} --require-hashes --requirement {quote(_relative(path))}"),
                binaries=(f"{_ENVIRONMENT}/bin",),
                why=f"from {path} of this repository, which pins chainbuild and all that it needs with hashes",
            )
    return None


def _by_wheels(top: Path, paths: Iterable[str]) -> Installation | None:
    wheels = [path for path in paths if path.endswith(".whl")]
    own = next((path for path in wheels if posixpath.basename(path).startswith("chainbuild-")), None)
    if own is None:
        return None
    folder = posixpath.dirname(own)
    pins: dict[str, list[str]] = {}
    versions: dict[str, set[str]] = {}
    for path in wheels:
        name = _WHEEL.fullmatch(posixpath.basename(path))
        if name is None or posixpath.dirname(path) != folder:
            continue
        with (top / path).open("rb") as wheel:
            digest = hashlib.file_digest(wheel, "sha256").hexdigest()
        pins.setdefault(f"{name['name']}=={name['version']}", []).append(f"--hash=sha256:{digest}")
        versions.setdefault(_normal(name["name"]), set()).add(name["version"])
    _check_wheels(folder or ".", versions)
    requirements = [" ".join([pin, *sorted(hashes)]) for pin, hashes in sorted(pins.items())]
    file = f'"{_ENVIRONMENT}/requirements.txt"'
    options = f"--no-index --find-links {quote(_relative(folder))} --require-hashes"
    return Installation(
        commands=(
            _MAKE_ENVIRONMENT,
            f"printf '%s\\n' {join(requirements)} > {file}",
            f"{_PIP} {options} --requirement {file}",
        ),
        binaries=(f"{_ENVIRONMENT}/bin",),
        why=f"from the wheels in {folder or 'the top folder'} of this repository. No package index is used",
    )


def _check_wheels(folder: str, versions: dict[str, set[str]]) -> None:
    """Check that there is one version of each package, and that no direct dependency is missing. Errors: `WrongUseError`."""
    several = sorted(name for name, numbers in versions.items() if len(numbers) > 1)
    if several:
        raise WrongUseError(
            f"{folder} has wheels of several versions of {', '.join(several)}", hint="Keep one version of each package."
        )
    requirements = importlib.metadata.requires("chainbuild") or []
    names = {_normal(name[0]) for text in requirements if ";" not in text and (name := _NAME.match(text))}
    missing = sorted(names - versions.keys())
    if missing:
        raise WrongUseError(
            f"{folder} has a wheel of chainbuild, but none of {', '.join(missing)}",
            hint=f"Add them: pip download --dest {folder} {folder}/chainbuild-*.whl.",
        )


def _by_source(checkout: Checkout, paths: Iterable[str]) -> Installation | None:
    projects = [path for path in paths if posixpath.basename(path) == "pyproject.toml"][:_MOST_PYTHON_PROJECTS]
    folders = [*checkout.submodules, *(posixpath.dirname(path) for path in projects)]
    for folder in folders:
        if not _SOURCE.search(_text(checkout.top / folder / "pyproject.toml")):
            continue
        name = next((name for name in LOCKS if (checkout.top / folder / name).is_file()), None)
        if name is None:
            continue
        lock = _relative(posixpath.join(folder, name))
        return Installation(
            commands=(
                _MAKE_ENVIRONMENT,
                f"{_PIP} --require-hashes --requirement {quote(lock)}",
                # The lock has the build backend, so this downloads nothing.
                f"{_PIP} --no-deps --no-build-isolation {quote(_relative(folder))}",
            ),
            binaries=(f"{_ENVIRONMENT}/bin",),
            why=f"from its source in {folder or 'this repository'}, and what it needs from {lock}, which pins it with hashes",
        )
    return None


def _relative(path: str) -> str:
    """Return a path that pip does not take for the name of a package, nor for an option."""
    return f"./{path}" if path else "."


def _normal(name: str) -> str:
    """Return the name of a package in its normal form (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


def _text(path: Path) -> str:
    try:
        return limits.read_file(path).decode("utf-8", "replace")
    except (OSError, LimitError):
        return ""
