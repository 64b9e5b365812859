"""The proof of an image's configuration: whether a container of it can start, as the user and with the programs it names.

What is missing in the image is known from the look into it (`proof.py`, `minimize/startup.py`). Only if something is missing,
the chain's image is asked whether it has it, natively.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from chainbuild.minimize.notices import fix_line
from chainbuild.proof.chain_files import Owned, Question
from chainbuild.registry.config import ImageConfig
from chainbuild.step_warnings import StepWarning

_FILES: Final = "ADDITIONAL_FILES"
VERDICT: Final = "configuration"
SWITCH: Final = "PROVE_CONFIGURATION"
"""The build argument of the production stage that turns the proof off."""
_KEYS: Final = ("User", "Entrypoint", "Cmd", "WorkingDir", "Shell", "Healthcheck", "Volumes")
_FIELDS: Final = {"USER": "user", "ENTRYPOINT": "entrypoint", "CMD": "cmd", "HEALTHCHECK": "healthcheck"}
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh"})

Ask = Callable[[Sequence[Question]], Sequence[tuple[Owned, ...]]]
"""What looks into the chain's image: the files for each question."""


class ConfigurationFault(Struct, frozen=True, kw_only=True):
    """What keeps a container from starting, as `minimize/startup.py` has it: `field` is an instruction's name.

    `sought` are the paths at which the chain's image may have what is missing.
    """

    field: str
    kind: str
    text: str
    path: str = ""
    sought: tuple[str, ...] = ()


class MissingFile(Struct, frozen=True, kw_only=True):
    """A path that the configuration names and the image does not have: `argument`, `file` or `folder`."""

    field: str
    kind: str
    path: str


class Configuration(Struct, frozen=True, kw_only=True):
    """What the look found of the configuration. `has_apt`: packages can be installed in the image."""

    summary: str
    faults: tuple[ConfigurationFault, ...] = ()
    absent: tuple[MissingFile, ...] = ()
    has_apt: bool = False


class Judgement(Struct, frozen=True, kw_only=True):
    """What is wrong, a line each with its fix, and what is doubtful."""

    errors: tuple[str, ...] = ()
    warnings: tuple[StepWarning, ...] = ()


def settings_of(config: ImageConfig) -> bytes:
    """Return what the look needs of an image's configuration, as JSON. Of the variables PATH alone."""
    runtime: dict[str, Any] = json.loads(config.raw).get("config") or {}
    chosen = {key: runtime[key] for key in _KEYS if runtime.get(key)}
    chosen["Env"] = [f"{name}={value}" for name, value in config.env if name == "PATH"]
    chosen["architecture"] = config.platform.architecture
    return json.dumps(chosen, sort_keys=True).encode()


def read_configuration(document: Mapping[str, Any] | None) -> Configuration | None:
    """Read that part of the look's report. Errors: `ValueError`, `KeyError`, `TypeError` if it is something else."""
    if document is None:
        return None
    return Configuration(
        summary=str(document["summary"]),
        faults=tuple(
            ConfigurationFault(
                **{key: str(row[key]) for key in ("field", "kind", "text", "path")},
                sought=tuple(map(str, row["sought"])),
            )
            for row in document["faults"]
        ),
        absent=tuple(
            MissingFile(**{key: str(row[key]) for key in ("field", "kind", "path")}) for row in document["absent"]
        ),
        has_apt=bool(document["apt"]),
    )


def doubtful_fields(image: ImageConfig, *, chain: ImageConfig, production: ImageConfig) -> frozenset[str]:
    """Return the instructions that the chain does not answer for: their values come from the production image itself.

    A CMD that is a shell alone is the default of distributions' images, which the chain inherits from BASE: it counts, too.
    """
    fields = {
        name
        for name, key in _FIELDS.items()
        if getattr(image, key) == getattr(production, key) and getattr(image, key) != getattr(chain, key)
    }
    if not image.entrypoint and image.cmd and len(image.cmd) == 1 and image.cmd[0].rpartition("/")[2] in _SHELLS:
        fields.add("CMD")
    return frozenset(fields)


def judge(configuration: Configuration, ask: Ask, *, doubtful: frozenset[str], platform: str) -> Judgement:
    """Decide what is an error, with what the chain's image has. `platform` is as in names of args files.

    `ask` is called only if something is missing. Errors: those of asking.
    """
    faults, absent = configuration.faults, configuration.absent
    wanted = [Question(kind="path", name=path) for fault in faults for path in fault.sought]
    wanted += [_question(one) for one in absent]
    asked = list(dict.fromkeys(wanted))
    found = dict(zip(asked, ask(asked), strict=True)) if asked else {}
    errors: list[str] = []
    warnings: list[StepWarning] = []
    for fault in faults:
        files = (file for path in fault.sought for file in found[Question(kind="path", name=path)])
        warning = _of_fault(fault, next(files, None), configuration.has_apt, platform)
        if fault.field in doubtful:
            warnings.append(warning)
        else:
            errors.append(str(warning))
    for one in absent:
        there = found[_question(one)]
        if one.kind == "folder" and there:
            warnings.append(_of_folder(one, there, platform))
        elif there and (one.kind == "argument" or there[0].type == "file"):
            text = f"{one.field}: {one.path} is not in the image; the chain's image has {there[0]}"
            fix = _fix(there[0], configuration.has_apt, platform, one.path)
            warning = StepWarning(kind="argument", text=text, path=one.path, package=there[0].package, fix=fix)
            if one.field in doubtful:
                warnings.append(warning)
            else:
                errors.append(str(warning))
    return Judgement(errors=tuple(dict.fromkeys(errors)), warnings=tuple(warnings))


def _question(absent: MissingFile) -> Question:
    return Question(kind="folder" if absent.kind == "folder" else "path", name=absent.path)


def _of_fault(fault: ConfigurationFault, file: Owned | None, has_apt: bool, platform: str) -> StepWarning:
    if file is not None:
        fix = _fix(file, has_apt, platform)
        text = f"{fault.text}; the chain's image has {file}"
        return StepWarning(kind=fault.kind, text=text, path=file.path, package=file.package, fix=fix)
    text, fix = fault.text, ""
    if fault.sought:
        text += "; the chain's image does not have it either"
    elif fault.kind in {"user", "group"}:
        fix = f"KEEP_USERS=1 in minimize-{platform}-args brings it from the chain's image"
    return StepWarning(kind=fault.kind, text=text, path=fault.path, fix=fix)


def _of_folder(one: MissingFile, files: Sequence[Owned], platform: str) -> StepWarning:
    names = ", ".join(file.path for file in files)
    text = f"{one.field}: {one.path} is empty or missing in the image; the chain's image has {names} there"
    fix = f"{fix_line(_FILES, [one.path])} in minimize-{platform}-args"
    return StepWarning(kind="folder", text=text, path=one.path, fix=fix)


def _fix(file: Owned, has_apt: bool, platform: str, path: str = "") -> str:
    line = f"{fix_line(_FILES, [path or file.path])} in minimize-{platform}-args"
    if file.kind == "deb" and has_apt:
        line += f", or PRODUCTION_PACKAGES={file.package} in production-{platform}-args"
    return line
