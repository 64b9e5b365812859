"""What the modules of chainbuild import, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import chainbuild

ROOT = Path(chainbuild.__file__).parent


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


@cache
def parsed(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def executed(module: str, *, late: bool = False) -> Iterator[ast.AST]:
    """Yield what is executed when a module is imported (`late`: and later), except for types only."""
    waiting: list[ast.AST] = [parsed(module)]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def imports(module: str, *, late: bool) -> Iterator[str]:
    """Return the chainbuild modules that a module imports (`late`: also in functions), except for types only."""
    for node in executed(module, late=late):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "chainbuild":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def loaded(*modules: str) -> frozenset[str]:
    """Return the chainbuild modules that are in memory after an import of these modules."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            parents = [module.rpartition(".")[0]] if "." in module else []
            waiting += [*imports(module, late=False), *parents]
    return frozenset(found)
