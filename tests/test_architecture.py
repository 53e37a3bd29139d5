"""The house rules that no single module can break unseen: which way imports point, what is never called, what ships."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rewards", "estimators", "rl", "experiments")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

FORBIDDEN = {
    "rewards": {"estimators", "rl", "experiments", "torch", "trl", "transformers", "accelerate", "deepspeed"},
    "estimators": {"rewards", "rl", "experiments", "trl"},
    "rl": {"experiments"},
    "experiments": set(),
}
CALLED_BY_NAME = {"eval", "exec", "compile", "__import__", "parse_expr", "sympify", "unsafe_load"}
CALLED_ON_A_MODULE = {"torch.load", "yaml.load", "yaml.unsafe_load", "numpy.load", "np.load", "joblib.load"}
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def each_module(function):
    return pytest.mark.parametrize("path", MODULES, ids=name_of)(function)


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Dotted names of what is imported anywhere in a module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides where it points"
            yield node.module or "", node.lineno


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def broken_rules(source: str, package: str) -> list[str]:
    tree = ast.parse(source)
    problems = []
    for name, line in imports(tree):
        top = name.partition(".")[0]
        if top in FORBIDDEN[package]:
            problems.append(f"line {line}: {package} imports {name}")
        if top in UNPICKLING:
            problems.append(f"line {line}: imports {name}, which runs what it reads")
    for name, call in calls(tree):
        if name in CALLED_BY_NAME or name.rpartition(".")[2] in ("parse_expr", "sympify") or name in CALLED_ON_A_MODULE:
            problems.append(f"line {call.lineno}: calls {name}")
        for keyword in call.keywords:
            literal = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg in ("trust_remote_code", "allow_pickle") and not literal:
                problems.append(f"line {call.lineno}: {keyword.arg} is not False")
            if keyword.arg == "shell" and not literal:
                problems.append(f"line {call.lineno}: runs a shell")
    return problems


@each_module
def test_imports_point_the_right_way_and_nothing_runs_what_it_reads(path: Path) -> None:
    assert broken_rules(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts[0]) == []


@pytest.mark.parametrize(
    ("source", "package"),
    [
        ("def f():\n    from rl.grpo import CalibratedGRPOTrainer", "rewards"),
        ("import torch.nn", "rewards"),
        ("import rewards.rubric as r", "estimators"),
        ("from experiments.config.recipe import load_recipe", "rl"),
        ("eval('1')", "rl"),
        ("sympy.parsing.sympy_parser.parse_expr(x)", "rewards"),
        ("torch.load(p)", "rl"),
        ("model = M.from_pretrained(p, trust_remote_code=True)", "rl"),
        ("model = M.from_pretrained(p, trust_remote_code=flag)", "rl"),
        ("import pickle", "experiments"),
        ("subprocess.run(text, shell=True)", "experiments"),
    ],
)
def test_the_rules_notice_what_they_are_for(source: str, package: str) -> None:
    assert len(broken_rules(source, package)) == 1


@each_module
def test_a_module_is_short_or_says_why_not(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert docstring, "no docstring"
    assert len(source.splitlines()) <= 300 or "300 lines" in docstring


FLOORS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("ablation", "quickstart"),
    ("replay", "build_tiny", "export", "serve", "launch"),
    ("train",),
    ("report",),
    ("routing",),
    ("probe",),
    ("config",),
    ("tasks",),
    ("schema", "files"),
    ("errors",),
)
"""What stands on what in `experiments`, top first: rooms and modules import from floors below them alone."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> the modules among ``sources`` (dotted name -> text) that it imports anywhere, inside functions too."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                from_module = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= (from_module & sources.keys()) or {node.module}
        graph[name] = (graph[name] & sources.keys()) - {name}
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that are left when those that import none of the rest are taken away again and again."""
    left = dict(graph)
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports inside `experiments` that do not go to a lower floor, rooms importing within themselves apart."""
    arrows = [(one, other) for one, imported in graph.items() for other in imported]
    rooms = [(each, *(name.split(".")[1:2] for name in each)) for each in arrows]
    return [
        f"{one} -> {other}"
        for (one, other), here, there in rooms
        if here and there and here != there and one.startswith("experiments.") and other.startswith("experiments.")
        if FLOOR[here[0]] >= FLOOR[there[0]]
    ]


GRAPH = import_graph({dotted(path): path.read_text(encoding="utf-8") for path in MODULES})


def test_no_circle_of_modules_and_no_arrow_upward() -> None:
    assert circle(GRAPH) == []
    assert upward(GRAPH) == []


def test_circles_and_arrows_upward_are_seen() -> None:
    sources = {
        "experiments.train": "def f():\n    from experiments.probe import measure",
        "experiments.probe.measure": "import experiments.cli",
        "experiments.cli": "from experiments.train import train",
        "rl.files": "import json",
    }
    graph = import_graph({**sources, "experiments.probe": ""})
    graph["experiments.train"] = {"experiments.probe.measure"}
    assert circle(graph) == ["experiments.cli", "experiments.probe.measure", "experiments.train"]
    assert upward(graph) == ["experiments.probe.measure -> experiments.cli"]


def test_experiments_has_few_modules_at_its_own_level() -> None:
    own = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__", "__main__"}
    assert len(own) <= 8 and own <= FLOOR.keys()


def test_every_package_with_code_is_in_the_wheel() -> None:
    with_code = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in MODULES}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == with_code
    assert all((ROOT / name.replace(".", "/") / "__init__.py").is_file() for name in with_code)


def test_every_file_beside_the_code_is_in_the_wheel() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    data = [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
        if "results" not in path.parts and path.name != "README.md"  # nothing reads them
    ]
    packages = PROJECT["tool"]["setuptools"]["packages"]
    assert any(path.suffix == ".yaml" for path in data)
    for path in data:
        owner = max((name for name in packages if path.is_relative_to(name.replace(".", "/"))), key=len)
        inside = str(path.relative_to(owner.replace(".", "/")))
        # setuptools matches a pattern part by part, so that * does not reach into folders.
        reached = [
            pattern
            for pattern in patterns.get(owner, [])
            if len(Path(pattern).parts) == len(Path(inside).parts)
            and all(map(fnmatch, Path(inside).parts, Path(pattern).parts))
        ]
        assert reached, f"{path} is matched by no pattern of {owner}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rewards.rubric", {"torch", "transformers", "trl", "pandas", "sympy"}),
        ("rewards.verifiers.pool", {"torch", "transformers", "trl", "pandas"}),
        ("estimators", {"torch", "transformers", "trl", "pandas"}),
        ("estimators.metrics", {"torch", "transformers", "trl"}),
        ("experiments.cli", {"torch", "transformers", "trl", "pandas", "numpy"}),
        ("experiments.config.recipe", {"torch", "transformers", "trl", "pandas"}),
        ("experiments.commands.probe", {"torch", "transformers", "trl"}),
        ("rl.files", {"torch", "transformers", "trl", "accelerate"}),
    ],
)
def test_what_starts_fast_imports_nothing_heavy(module: str, absent: set[str]) -> None:
    """What Python has loaded at the end is what counts: a heavy import may hide behind several light ones."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert absent.isdisjoint(loaded.stdout.split())
