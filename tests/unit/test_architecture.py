"""The import order: each package imports only packages below it, and no two files import each other."""

from __future__ import annotations

import ast
import runpy

from tests.support.imports import MODULES, ROOT, imports, parsed

LEVELS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "distributions errors in_parallel minimize once patterns step_id toposort values",
        "host step_warnings text",
        "events html_page",
        "limits references trust yamlspec",
        "model registry",
        "dockerfile parsing",
        "context records",
        "builder ci distro images",
        "attestations comparison layouts local_registry native",
        "outdated planning project proof rebase release run_report",
        "execution",
        "requests singularity",
        "operations",
        "ui",
        "cli",
        "__main__",
    )
)
"""Lowest level first. Packages of one level do not import each other."""


def level_of(part: str) -> int:
    return next(level for level, parts in enumerate(LEVELS) if part in parts)


def test_top_level_parts_have_one_level() -> None:
    parts = {name.split(".")[1] for name in MODULES if "." in name}
    assert sorted(part for level in LEVELS for part in level) == sorted(parts)


def test_packages_import_only_packages_below_them() -> None:
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module, late=True)
        if other != "chainbuild"
        and module != "chainbuild"
        and module.split(".")[1] != other.split(".")[1]
        and level_of(other.split(".")[1]) >= level_of(module.split(".")[1])
    ]
    assert wrong == []


def test_architecture_page_shows_the_levels() -> None:
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = page.partition("## Imports point down")[2].partition("```text\n")[2].partition("```")[0]
    levels = [sorted(level - {"__main__"}) for level in reversed(LEVELS)]
    assert [line.split() for line in shown.splitlines()] == [level for level in levels if level]


def test_files_do_not_import_each_other() -> None:
    graph = {module: set(imports(module, late=True)) - {module} for module in MODULES}
    while free := {module for module, others in graph.items() if not others}:
        graph = {module: others - free for module, others in graph.items() if module not in free}
    assert sorted(graph) == []


def test_modules_import_no_private_name_of_another() -> None:
    wrong = [
        f"{module} imports {alias.name}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chainbuild")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.endswith("__")
    ]
    assert wrong == []


def test_only_values_converts_with_msgspec() -> None:
    wrong = [
        f"{module}:{node.lineno}"
        for module in MODULES
        if module != "chainbuild.values"
        for node in ast.walk(parsed(module))
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "msgspec"
            and "convert" in {one.name for one in node.names}
        )
        or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("json.decode", "json.Decoder", "msgspec.convert"))
            and len(node.args) + len(node.keywords) > 1
        )
    ]
    assert wrong == []


def test_minimize_imports_no_other_package() -> None:
    own = [module for module in MODULES if module.startswith("chainbuild.minimize")]
    outside = [(module, other) for module in own for other in imports(module, late=True) if "minimize" not in other]
    assert outside == []


def test_architecture_page_shows_current_tree() -> None:
    docs = ROOT.parent / "docs"
    page = runpy.run_path(str(docs / "architecture_tree.py"))["page"]()
    assert page == (docs / "architecture.md").read_text(encoding="utf-8"), "run: python docs/architecture_tree.py"
    assert all(part in page for level in LEVELS for part in level)


def test_tests_import_nothing_from_other_test_modules() -> None:
    tests = ROOT.parent / "tests"
    wrong = [
        f"{path.relative_to(tests)} imports {node.module}"
        for path in tests.rglob("*.py")
        if "cases" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2].startswith("test_")
        if not (node.module or "").startswith("chainbuild.")
    ]
    assert wrong == []
