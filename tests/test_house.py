"""Who may import whom: the two wings are strangers, libraries stay where they belong, and what is heavy is loaded late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "verifier"

NOUNS = ("values", "hooks", "matches", "targets", "rules", "sets", "packets", "hosts", "claims", "journeys")
"""What both wings may know: shapes, and not one question about a packet."""

KNOWN = (*NOUNS, "asked")
"""And what the rules make the wings carry, which is told of rules alone."""

DATA = (*KNOWN, "answers")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "": (),
    "values": (),
    "hooks": ("values",),
    "matches": ("values",),
    "targets": ("values",),
    "rules": ("values", "matches", "targets"),
    "sets": ("values", "matches"),
    "packets": ("values",),
    "hosts": ("values", "rules", "sets"),
    "claims": ("values", "rules"),
    "journeys": ("values", "hooks", "rules", "packets", "hosts"),
    "remembered": (),
    "asked": ("rules", "hosts", "sets", "remembered"),
    "answers": NOUNS,
    "assumptions": DATA,
    "bounds": NOUNS,
    "spell_sets": ("values", "sets"),
    "spell_matches": ("values", "rules"),
    "spell_targets": ("values", "rules"),
    "spell": ("values", "rules", "spell_matches", "spell_targets"),
    "wording": (*DATA, "spell"),
    "spell_hosts": ("values", "hosts"),
    "reading": (*NOUNS, "spell_hosts"),
    "owners": NOUNS,
    "kernel": (*DATA, "spell", "spell_sets", "spell_hosts", "reading"),
    "concrete": (*KNOWN, "remembered"),
    "symbolic": KNOWN,
    "replay": (*DATA, "concrete", "symbolic"),
    "samples": (*DATA, "replay"),
    "canon": (*DATA, "replay"),
    "why": (*DATA, "concrete"),
    "prove": (
        *DATA,
        "assumptions",
        "owners",
        "bounds",
        "spell",
        "wording",
        "concrete",
        "symbolic",
        "replay",
        "samples",
        "canon",
    ),
    "classes": (*DATA, "symbolic", "prove"),
    "compare": (
        *DATA,
        "assumptions",
        "owners",
        "bounds",
        "spell",
        "wording",
        "concrete",
        "symbolic",
        "replay",
        "canon",
        "prove",
    ),
    "dead": (*DATA, "assumptions", "concrete", "symbolic", "replay", "samples", "canon", "prove", "wording"),
    "sides": ("values", "rules", "claims"),
    "cases": (*DATA, "owners", "sides", "spell", "reading"),
    "check": (*DATA, "spell", "wording", "prove", "classes", "compare", "dead", "cases"),
    "workers": ("claims", "prove", "cases", "check"),
    "counterexamples": (*DATA, "reading", "spell", "spell_hosts", "spell_sets", "wording", "check"),
    "fuzzing": (
        *DATA,
        "reading",
        "spell",
        "kernel",
        "concrete",
        "symbolic",
        "replay",
        "samples",
        "cases",
        "counterexamples",
    ),
    "confirm": (
        *DATA,
        "remembered",
        "spell",
        "wording",
        "concrete",
        "replay",
        "check",
        "counterexamples",
        "kernel",
    ),
    "analyses": (*NOUNS, "owners", "spell"),
    "report": (
        *DATA,
        "assumptions",
        "spell",
        "wording",
        "why",
        "check",
        "analyses",
        "counterexamples",
        "confirm",
    ),
    "tracing": (*DATA, "owners", "reading", "concrete", "spell", "canon", "cases", "report"),
    "cli": (
        "owners",
        "spell",
        "values",
        "rules",
        "reading",
        "prove",
        "cases",
        "check",
        "workers",
        "counterexamples",
        "kernel",
        "confirm",
        "analyses",
        "report",
        "tracing",
        "fuzzing",
    ),
    "__main__": ("cli",),
}
"""For each module, and each package as one: what of the house it may import besides itself.  All of that stands above it."""

BELONGS_TO = {"z3": "symbolic.terms", "lark": "reading", "yaml": "reading", "click": "cli", "rich": "report"}
"""Where each library may be imported; no other may be at all."""

EVERYWHERE = {"msgspec"}
"""The library of our data classes."""

AT_ONCE = {"click"}
"""Libraries that are no burden at the start."""

QUESTIONS = {
    "sets.changes_by_itself",
    "sets.runs_out",
    "claims.Premise.any_state",
    "claims.Premise.has_history",
    "claims.Premise.sent_back",
    "claims.asks_for_answers",
    "claims.asks_for_zones",
    "claims._is_of_answers",
    "values.Place.__eq__",
}
"""What the nouns answer with yes or no: nothing about a packet."""


class Import(Struct, frozen=True):
    """`target` is a module of the house without its first name, or the first name of a library."""

    target: str
    names: tuple[str, ...]
    library: bool
    late: bool


def imports(module: str, text: str, package: bool = False) -> Iterator[Import]:
    """Every import in a module's text; `package` where the text is that of an `__init__.py`."""
    here = ("verifier." + module).rstrip(".").split(".")
    yield from _imports(ast.parse(text), here if package else here[:-1], late=False)


def _imports(node: ast.AST, package: list[str], late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names):
                for name in names:
                    yield _import(name.name.split("."), (), late)
            case ast.ImportFrom(module, names, level):
                base = package[: len(package) - level + 1] if level else []
                path = [*base, *(module.split(".") if module else [])]
                if path == ["verifier"]:
                    for name in names:
                        inside = _is_module(name.name)
                        yield _import(
                            [*path, name.name] if inside else path, () if inside else (name.name,), late
                        )
                elif path[0] == "verifier" and len(path) == 2:
                    for name in names:
                        inside = (HOUSE / path[1] / f"{name.name}.py").exists()
                        yield _import(
                            [*path, name.name] if inside else path, () if inside else (name.name,), late
                        )
                else:
                    yield _import(path, tuple(n.name for n in names), late)
            case _:
                inside_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                only_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
                yield from _imports(child, package, late or inside_function or only_types)


def _is_module(name: str) -> bool:
    return (HOUSE / f"{name}.py").exists() or (HOUSE / name).is_dir()


def _import(path: list[str], names: tuple[str, ...], late: bool) -> Import:
    if path[0] == "verifier":
        return Import(".".join(path[1:]), names, False, late)
    return Import(path[0], names, True, late)


def slips(module: str, text: str, package: bool = False) -> list[str]:
    """What this text would do against the house's rules, if it stood in this module."""
    home = module.split(".")[0]
    if home not in MAY_IMPORT:
        return [f"{module} is not in the table"]
    out = []
    for found in imports(module, text, package):
        if found.library:
            out += _of_library(module, found)
            continue
        target = found.target.split(".")[0]
        if target not in (home, *MAY_IMPORT[home]) and (target or "__version__" not in found.names):
            out.append(f"{module} imports {found.target}")
    if home in ("concrete", "symbolic"):
        out += [f"{module} takes {name} from the nouns" for name in functions_taken(module, text)]
    return out


def _of_library(module: str, found: Import) -> Iterator[str]:
    name = found.target
    if name in sys.stdlib_module_names or name in EVERYWHERE:
        return
    where = BELONGS_TO.get(name)
    if where is None or module not in (where, *([module] if module.startswith(f"{where}.") else [])):
        yield f"{module} imports {name}"
    elif not found.late and name not in AT_ONCE:
        yield f"{module} imports {name} at once"


def functions_taken(module: str, text: str) -> Iterator[str]:
    """What a wing takes from the nouns that is neither a class nor a constant."""
    nouns: dict[str, str] = {}
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            for name in node.names:
                if node.module is None:
                    nouns[name.asname or name.name] = name.name
                elif node.module in NOUNS and not name.name[0].isupper():
                    yield f"{node.module}.{name.name}"
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(name), attribute) if name in nouns and not attribute[0].isupper():
                yield f"{nouns[name]}.{attribute}"


def modules() -> list[tuple[str, Path]]:
    out = []
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        out.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return out


# -- the rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name or "verifier" for name, _ in modules()])
def test_a_module_imports_what_it_may(module: str, path: Path) -> None:
    assert slips(module, path.read_text(encoding="utf-8"), path.stem == "__init__") == []


def test_the_table_has_an_order_and_names_what_is_there() -> None:
    above: list[str] = []
    for module, others in MAY_IMPORT.items():
        assert set(others) <= set(above), module
        above.append(module)
    assert {name.split(".")[0] for name, _ in modules()} == set(MAY_IMPORT)


def test_the_wings_have_the_same_rooms() -> None:
    rooms = {wing: {p.stem for p in (HOUSE / wing).glob("*.py")} for wing in ("concrete", "symbolic")}
    for room in ("matches", "targets", "chains", "routing", "travel", "claims"):
        assert room in rooms["concrete"] & rooms["symbolic"]


def test_the_nouns_answer_no_question_about_a_packet() -> None:
    """No function in them says yes or no: a predicate in common would be no second opinion."""
    found = set()
    for noun in NOUNS:
        found |= {
            f"{noun}.{name}" for name in truths(ast.parse((HOUSE / f"{noun}.py").read_text(encoding="utf-8")))
        }
    assert found == QUESTIONS


def truths(tree: ast.AST, inside: str = "") -> Iterator[str]:
    """Functions that say that they return a bool, or do not say what they return."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name):
                returned = ast.unparse(node.returns) if node.returns else "bool"
                if "bool" in returned:
                    yield inside + name
            case ast.ClassDef(name):
                yield from truths(node, f"{inside}{name}.")
            case _:
                pass


def test_the_command_line_starts_with_nothing_heavy() -> None:
    heavy = ("z3", "lark", "yaml", "rich", "hypothesis", "asyncio", "multiprocessing")
    ours = ("prove", "check", "concrete", "symbolic", "reading", "report", "cases", "kernel", "fuzzing")
    code = (
        "import sys, verifier.cli\n"
        f"print(*[m for m in {heavy} if m in sys.modules])\n"
        f"print(*[m for m in {ours} if f'verifier.{{m}}' in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_check_in_plain_text_needs_no_rich() -> None:
    code = (
        "import sys, verifier.cli\n"
        "try: verifier.cli.main(['check', '--only', 'path-in-1.9', '--color', 'always'])\n"
        "except SystemExit as leave: print(leave.code, 'rich' in sys.modules, 'verifier.symbolic.terms' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False True"


# -- the rules find what is against them ---------------------------------------------------------------------

SLIPS = [
    ("symbolic.matches", "from ..concrete import matches", "symbolic.matches imports concrete.matches"),
    ("symbolic.matches", "from ..concrete.matches import holds", "symbolic.matches imports concrete.matches"),
    ("symbolic.matches", "import verifier.concrete.matches", "symbolic.matches imports concrete.matches"),
    ("symbolic.matches", "from .. import concrete", "symbolic.matches imports concrete"),
    (
        "concrete.travel",
        "def f():\n    from ..symbolic.travel import x",
        "concrete.travel imports symbolic.travel",
    ),
    (
        "concrete.travel",
        "if TYPE_CHECKING:\n    from ..symbolic import terms",
        "concrete.travel imports symbolic.terms",
    ),
    ("concrete.matches", "from ..samples import near", "concrete.matches imports samples"),
    (
        "concrete.matches",
        "from ..values import in_range",
        "concrete.matches takes values.in_range from the nouns",
    ),
    (
        "symbolic.chains",
        "from .. import rules as r\nr.ordered(x)",
        "symbolic.chains takes rules.ordered from the nouns",
    ),
    ("symbolic.matches", "def f():\n    import z3", "symbolic.matches imports z3"),
    ("symbolic.terms", "import z3.z3core as core", "symbolic.terms imports z3 at once"),
    ("reading.rules", "from lark import Lark", "reading.rules imports lark at once"),
    ("reading.rules", "from ..concrete import matches", "reading.rules imports concrete.matches"),
    ("cases", "def f():\n    import yaml", "cases imports yaml"),
    ("kernel.oracle", "from ..concrete import travel", "kernel.oracle imports concrete.travel"),
    ("check", "import click", "check imports click"),
    ("check", "from .cli import main", "check imports cli"),
    ("report.text", "from . import data\nfrom ..prove import Prover", "report.text imports prove"),
    ("report.text", "import rich.console", "report.text imports rich at once"),
    ("rules", "import numpy", "rules imports numpy"),
    ("values", "from .rules import Rule", "values imports rules"),
    ("novelty", "", "novelty is not in the table"),
]


@pytest.mark.parametrize(("module", "text", "complaint"), SLIPS, ids=[complaint for *_, complaint in SLIPS])
def test_a_planted_slip_is_found(module: str, text: str, complaint: str) -> None:
    assert slips(module, text) == [complaint]


def test_what_is_allowed_is_not_complained_of() -> None:
    assert slips("symbolic.terms", "def f():\n    import z3.z3core as core") == []
    assert (
        slips("symbolic.chains", "import sys\nfrom .. import rules as r\nfrom . import matches\nr.Accept()")
        == []
    )
    assert (
        slips("reading.trees", "if TYPE_CHECKING:\n    import lark\nfrom ..values import read_protocol") == []
    )
    assert slips("cli", "import click\nfrom . import __version__") == []


def test_a_predicate_among_the_nouns_is_found() -> None:
    text = "class Net:\n    def holds(self, x: int) -> bool: ...\ndef same(a, b): ...\ndef read(x: str) -> int: ..."
    assert list(truths(ast.parse(text))) == ["Net.holds", "same"]
