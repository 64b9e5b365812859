"""Prove an image's configuration: whether a container of it can start, as its user and with the programs it names.

The analysis of the image (`libraries.py`, `minimize/startup.py`) reports what the image lacks. Only if something is
missing, it is looked up natively in the chain's image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.minimize.notices import fix_line
from chainbuild.proof.chain_files import Owned, Question
from chainbuild.registry.config import ImageConfig
from chainbuild.step_warnings import StepWarning
from chainbuild.values import convert

_FILES: Final = "ADDITIONAL_FILES"
VERDICT: Final = "configuration"
SWITCH: Final = "PROVE_CONFIGURATION"
"""The build argument of the production stage that turns off the proof."""
_KEYS: Final = ("User", "Entrypoint", "Cmd", "WorkingDir", "Shell", "Healthcheck", "Volumes")
_FIELDS: Final = {"USER": "user", "ENTRYPOINT": "entrypoint", "CMD": "cmd", "HEALTHCHECK": "healthcheck"}
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh"})

Ask = Callable[[Sequence[Question]], Sequence[tuple[Owned, ...]]]
"""Looks up files in the chain's image: returns the files for each question."""


class ConfigurationFault(Struct, frozen=True, kw_only=True):
    """Why a container cannot start, as in `minimize/startup.py`: `field` is an instruction's name.

    `sought` are the paths at which the chain's image may have the missing file.
    """

    field: str
    kind: str
    text: str
    path: str = ""
    sought: tuple[str, ...] = ()


class MissingFile(Struct, frozen=True, kw_only=True):
    """A path that the configuration names and the image lacks: `argument`, `file` or `folder`."""

    field: str
    kind: str
    path: str


class Configuration(Struct, frozen=True, kw_only=True):
    """The findings for the configuration. `has_apt`: packages can be installed in the image."""

    summary: str
    faults: tuple[ConfigurationFault, ...] = ()
    absent: tuple[MissingFile, ...] = ()
    has_apt: bool = field(name="apt", default=False)


class Judgement(Struct, frozen=True, kw_only=True):
    """The errors, a line each with its fix, and the warnings."""

    errors: tuple[str, ...] = ()
    warnings: tuple[StepWarning, ...] = ()


def settings_of(config: ImageConfig) -> bytes:
    """Return the fields of an image's configuration that the analysis needs, as JSON. Of the variables only PATH."""
    runtime: dict[str, Any] = json.loads(config.raw).get("config") or {}
    chosen = {key: runtime[key] for key in _KEYS if runtime.get(key)}
    chosen["Env"] = [f"{name}={value}" for name, value in config.env if name == "PATH"]
    chosen["architecture"] = config.platform.architecture
    return json.dumps(chosen, sort_keys=True).encode()


def read_configuration(document: Mapping[str, Any] | None) -> Configuration | None:
    """Read the configuration's part of the report. Errors: `ValueError`, `KeyError`, `TypeError` if it is malformed."""
    return None if document is None else convert(document, Configuration)


def doubtful_fields(image: ImageConfig, *, chain: ImageConfig, production: ImageConfig) -> frozenset[str]:
    """Return the instructions whose values come from the production image itself and not from the chain.

    A CMD that is only a shell is the default of distributions' images, which the chain inherits from BASE: it counts
    too.
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
    """Decide what is an error, using the chain's files. `platform` is spelled as in names of args files.

    `ask` is called only if something is missing. Errors: those of `ask`.
    """
    faults, absent = configuration.faults, configuration.absent
    requests = [Question(kind="path", name=path) for fault in faults for path in fault.sought]
    requests += [_question(item) for item in absent]
    questions = list(dict.fromkeys(requests))
    files_of = dict(zip(questions, ask(questions), strict=True)) if questions else {}
    errors: list[str] = []
    warnings: list[StepWarning] = []
    for fault in faults:
        files = (file for path in fault.sought for file in files_of[Question(kind="path", name=path)])
        warning = _of_fault(fault, next(files, None), configuration.has_apt, platform)
        if fault.field in doubtful:
            warnings.append(warning)
        else:
            errors.append(str(warning))
    for item in absent:
        existing = files_of[_question(item)]
        if item.kind == "folder" and existing:
            warnings.append(_of_folder(item, existing, platform))
        elif existing and (item.kind == "argument" or existing[0].type == "file"):
            text = f"{item.field}: {item.path} is not in the image; the chain's image has {existing[0]}"
            fix = _fix(existing[0], configuration.has_apt, platform, item.path)
            warning = StepWarning(kind="argument", text=text, path=item.path, package=existing[0].package, fix=fix)
            if item.field in doubtful:
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
        text += "; it is missing in the chain's image too"
    elif fault.kind in {"user", "group"}:
        fix = f"KEEP_USERS=1 in minimize-{platform}-args brings it from the chain's image"
    return StepWarning(kind=fault.kind, text=text, path=fault.path, fix=fix)


def _of_folder(item: MissingFile, files: Sequence[Owned], platform: str) -> StepWarning:
    names = ", ".join(file.path for file in files)
    text = f"{item.field}: {item.path} is empty or missing in the image; in the chain's image it has {names}"
    fix = f"{fix_line(_FILES, [item.path])} in minimize-{platform}-args"
    return StepWarning(kind="folder", text=text, path=item.path, fix=fix)


def _fix(file: Owned, has_apt: bool, platform: str, path: str = "") -> str:
    line = f"{fix_line(_FILES, [path or file.path])} in minimize-{platform}-args"
    if file.kind == "deb" and has_apt:
        line += f", or PRODUCTION_PACKAGES={file.package} in production-{platform}-args"
    return line
