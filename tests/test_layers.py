"""Imports point down the layers of the design, and never in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "otel_agent_telemetry"
ROOT = Path(__file__).parent.parent / PACKAGE

LAYERS = (
    ("foundations", ("alert_file", "alert_judging", "alert_rules", "append", "archives", "argument_types", "base_folder", "bisection", "clock", "column_checks", "columns", "config", "counters", "deletion", "deliverer_report", "duration_words", "errors", "forks", "git", "given_by_name", "interpreter",
                     "journal", "last_activity", "last_error", "locks", "missing_root", "model", "names_in_texts", "patterns", "plain_values", "redaction", "run_content", "run_id", "run_state",
                     "run_totals", "secret_arguments", "secret_forms", "secret_names", "secret_patterns", "secret_settings", "secret_values", "settings",
                     "state_plan", "status", "toml_lines", "trusted_files", "turns",
                     "urls", "usage", "wire")),
    ("buffer", ("buffer",)),
    ("storage", ("storage",)),
    ("delivery", ("delivery",)),
    ("recording", ("recording",)),
    ("otel", ("otel",)),
    ("client", ("caller_values", "client", "client_spans", "outer_edge", "run_context")),
    ("capture", ("capture",)),
    ("operations", ("commits", "connect", "operations")),
    ("service", ("page", "service")),
    ("cli", ("__main__", "cli")),
    ("testing", ("memory_recorder", "testing")),
)  # fmt: skip
"""Layer → the folders and modules in it, the lowest first (design, "Layers"). Imports point down or sideways."""

FORBIDDEN = {"service": ("client", "capture"), "storage": ("buffer",)}
"""Layer → lower layers that it may not import all the same."""


def _modules() -> dict[str, Path]:
    """Name within the package ("" for the package itself, "otel.spans") → file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _layer_of(module: str) -> int | None:
    top = module.split(".", maxsplit=1)[0]
    return next((level for level, (_, members) in enumerate(LAYERS) if top in members), None)


def _targets(module: str, node: ast.AST) -> Iterator[str]:
    """Modules of the package that an import statement names, relative to the package."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            is_package = MODULES[module].name == "__init__.py"
            here = [PACKAGE, *module.split(".")] if module else [PACKAGE]
            here = here[: len(here) - node.level + is_package]
            base = ".".join([*here, *([node.module] if node.module else [])])
        names = [f"{base}.{alias.name}" for alias in node.names]
        names = [name if name.removeprefix(f"{PACKAGE}.") in MODULES else base for name in names]
    else:
        return
    for name in names:
        if name == PACKAGE or name.startswith(f"{PACKAGE}."):
            yield name.removeprefix(PACKAGE).removeprefix(".")


def _imports(module: str) -> set[str]:
    """Every module of the package that a module imports: at the top, in functions, for types."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    return {target for node in ast.walk(tree) for target in _targets(module, node)}


def _top_level_imports(module: str) -> set[str]:
    """What importing the module imports at once."""
    waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text("utf-8"))]
    found: set[str] = set()
    while waiting:
        node = waiting.pop()
        found.update(_targets(module, node))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return found


INNER = [module for module in MODULES if module and _layer_of(module) is not None]


def test_every_module_has_a_layer() -> None:
    """A new folder, or module beside the folders, is placed in the table before it is used."""
    assert [module for module in MODULES if module and _layer_of(module) is None] == []


@pytest.mark.parametrize("module", INNER)
def test_imports_point_down_or_sideways(module: str) -> None:
    """No module imports one of a higher layer, wherever in the file the import stands."""
    own = _layer_of(module)
    assert own is not None
    upward = {target for target in _imports(module) if (layer := _layer_of(target)) is not None and layer > own}
    assert upward == set()


@pytest.mark.parametrize("module", INNER)
def test_no_inner_module_imports_the_package_itself(module: str) -> None:
    """The package's public names are for users; inside, a module is imported by its own name."""
    assert "" not in _imports(module)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_what_the_design_forbids_is_not_imported(package: str) -> None:
    """Named exceptions to "down is allowed"."""
    inside = [module for module in MODULES if module.split(".")[0] == package]
    imported = {target.split(".")[0] for module in inside for target in _imports(module)}
    assert imported & set(FORBIDDEN[package]) == set()


def test_no_imports_go_in_a_circle() -> None:
    """Following what a module imports as it is imported never leads back to it."""
    edges = {module: _top_level_imports(module) & set(MODULES) - {module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        for target in sorted(edges[module]):
            visit(target, (*path, module))
        done.add(module)

    for module in edges:
        visit(module, ())
    assert done == set(MODULES)


def test_the_package_imports_nothing_of_itself_at_once() -> None:
    """Public names are lazy: importing the package imports none of its modules."""
    if "" in MODULES:
        assert _top_level_imports("") == set()


def test_only_config_reads_the_environment() -> None:
    """`os.environ` and `os.getenv` stand in config.py alone."""
    readers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb")
    }
    assert readers <= {"config"}
