"""The floors of the house: a room imports only from rooms below it, also inside functions."""

import ast
import subprocess
import sys
from pathlib import Path

import ppl_jax

PACKAGE = Path(ppl_jax.__file__).parent
#: From the ground up. What stands in one line is one floor, whose rooms do not know each other.
FLOORS = [
    "errors streams shown",
    "distributions",
    "language",
    "interop",
    "storage serving",
    "empirical",
    "encoding",
    "running",
    "nn",
    "data",
    "infer",
    "training",
    "remote",
    "diagnostics",
    "cli",
]


def room_of(module: str) -> str:
    """The room, or the file of the top, that a module of the package belongs to."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path):
    """(line, module) of everything that a file imports of the package, wherever it stands, but for the types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in ast.walk(node):
                inner.for_types = True
    for node in ast.walk(tree):
        if getattr(node, "for_types", False):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ppl_jax":
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "ppl_jax":
                    yield node.lineno, name.name


def test_the_protocol_imports_nothing_of_the_package():
    """And is importable by itself: its front end, a lazy name, is served from here."""
    for path in sorted((PACKAGE.parent / "ppx").rglob("*.py")):
        assert not list(imports(path)), path
    script = (
        "import sys, ppx; sys.exit(any(name.split('.')[0] in ('ppl_jax', 'jax', 'numpyro') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_room_imports_only_from_rooms_below_it():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
    uphill = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        own = parts[0]
        if own in ("__init__", "handlers"):  # the public faces
            continue
        for line, module in imports(path):
            other = room_of(module)
            if module != "ppl_jax.__version__" and other != own and floor.get(other, 99) >= floor[own]:
                uphill.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert not uphill, "\n".join(uphill)
