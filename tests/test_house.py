"""The house keeps its walls: imports run one way, randomness is passed, nothing unsafe is read.

Every rule is a function from (module name, syntax tree) to sentences; each is shown a source that breaks it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lowest first; a module imports its own part of the house and what lies below it.
FLOORS: tuple[dict[str, str], ...] = (
    dict.fromkeys(("errors", "machine", "rng", "stats", "record", "types", "nets", "engines", "train"), "ground")
    | dict.fromkeys(("laws", "artifacts", "modules", "plugins"), "ground"),
    # Each domain folder is a part of its own: no folder imports a sibling.
    {name: name for name in ("worlds", "humans", "leaks", "outers", "inheritance", "specialness",
                             "ledger", "joint", "remedies")},
    {"experiments": "experiments", "testing": "testing", "bench": "bench"},
    {"scenario": "scenario"},
    dict.fromkeys(("sweep", "results", "summary"), "runs"),
    {"cli": "top", "terminal": "top", "__main__": "top", "__init__": "top"},
)
LIGHT = {"reuse_sim", "reuse_sim.__main__", "reuse_sim.cli", "reuse_sim.terminal"}
"""Modules that every command imports; `--help` must not wait for torch."""
MAY_BE_LIGHT = {*sys.stdlib_module_names, "typer", "reuse_sim.errors", "reuse_sim.cli", "reuse_sim.terminal"}

GLOBAL_SEEDS = {
    *(f"torch.{f}" for f in ("manual_seed", "seed", "set_rng_state", "random.manual_seed", "random.fork_rng")),
    *("torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "torch.mps.manual_seed"),
    *("pyro.set_rng_seed", "pyro.util.set_rng_seed", "pyro.set_rng_state"),
}
NUMPY_LOCAL = {"Generator", "default_rng", "SeedSequence", "PCG64", "BitGenerator"}
TORCH_DRAWS = {f"torch.{f}" for f in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")}

Rule = Callable[[str, ast.Module], Iterator[str]]


def place(module: str) -> tuple[int, str] | None:
    """Floor and part of a `reuse_sim` module; None where the house has no such place."""
    name = module.split(".")[1] if "." in module else "__init__"
    return next(((floor, parts[name]) for floor, parts in enumerate(FLOORS) if name in parts), None)


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Every imported name with its statement; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + f"{node.module or ''}.{alias.name}", node) for alias in node.names)


def at_import_time(tree: ast.Module) -> ast.Module:
    """The tree without function bodies and without `if TYPE_CHECKING:` blocks."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    return Strip().visit(ast.parse(ast.unparse(tree)))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call by its dotted name, with `import numpy as np` and `from torch import randn` undone."""
    real = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            real |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            real |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, _, rest = ast.unparse(node.func).partition(".")
            yield ".".join(filter(None, (real.get(head, head), rest))), node


def one_way(module: str, tree: ast.Module) -> Iterator[str]:
    if not module.startswith("reuse_sim"):
        return
    here = place(module)
    if here is None:
        yield f"{module} has no floor: add it to FLOORS here and to the drawing in CONTRIBUTING.md"
        return
    for name, node in imports(tree):
        if name.startswith("."):
            yield f"line {node.lineno}: a relative import; write it out"
        if not name.startswith("reuse_sim."):
            continue
        there = place(name)
        if there is None or (there[0] >= here[0] and there[1] != here[1]):
            yield f"line {node.lineno}: {module} must not import {name}, which is not below it"


def tracking_apart(module: str, tree: ast.Module) -> Iterator[str]:
    for name, node in imports(tree):
        if module.startswith("tracking") and name.startswith("reuse_sim") and not name.startswith("reuse_sim.record"):
            yield f"line {node.lineno}: tracking knows only reuse_sim.record, not {name}"
        inner = module.startswith("reuse_sim") and module not in ("reuse_sim.cli", "reuse_sim.terminal")
        if inner and name.split(".")[0] in ("tracking", "mlflow"):
            yield f"line {node.lineno}: only the command line imports tracking"


def mlflow_late(module: str, tree: ast.Module) -> Iterator[str]:
    for name, _ in imports(at_import_time(tree)):
        if name.split(".")[0] == "mlflow":
            yield "mlflow is imported when the module is; import it inside the function that needs it"


def light_top(module: str, tree: ast.Module) -> Iterator[str]:
    if module not in LIGHT:
        return
    for name, _ in imports(at_import_time(tree)):
        if not any(name == light or name.startswith(f"{light}.") for light in MAY_BE_LIGHT):
            yield f"{name} is imported when the module is; `--help` would wait for it"


def passed_randomness(module: str, tree: ast.Module) -> Iterator[str]:
    if module == "reuse_sim.rng":
        return
    for name, node in calls(tree):
        numpy_global = name.startswith("numpy.random.") and name.split(".")[2] not in NUMPY_LOCAL
        python_global = name.startswith("random.") and name != "random.Random"
        if name in GLOBAL_SEEDS or numpy_global or python_global:
            yield f"line {node.lineno}: {name} touches global randomness; use reuse_sim.rng"
        if name in TORCH_DRAWS and not any(k.arg == "generator" for k in node.keywords):
            yield f"line {node.lineno}: {name} without generator="


def safe_reading(module: str, tree: ast.Module) -> Iterator[str]:
    for name, node in imports(tree):
        if name.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"):
            yield f"line {node.lineno}: {name} is not for reading files here"
        if name.startswith("ruamel") and module != "reuse_sim.scenario.reading":
            yield f"line {node.lineno}: only reuse_sim.scenario.reading reads YAML"
    for name, node in calls(tree):
        if name in ("torch.load", "eval", "exec", "numpy.load", "pandas.read_pickle"):
            yield f"line {node.lineno}: {name} can run what it reads"


def no_print(module: str, tree: ast.Module) -> Iterator[str]:
    if module != "reuse_sim.cli":
        yield from (f"line {node.lineno}: print in library code" for name, node in calls(tree) if name == "print")


RULES: tuple[Rule, ...] = (one_way, tracking_apart, mlflow_late, light_top, passed_randomness, safe_reading, no_print)


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


SOURCES = {module_name(p): p for package in ("reuse_sim", "tracking") for p in sorted((ROOT / package).rglob("*.py"))}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_stands(rule: Rule) -> None:
    assert {"reuse_sim.types", "reuse_sim.cli"} <= set(SOURCES)
    broken = [
        f"{path.relative_to(ROOT)}: {sentence}"
        for module, path in SOURCES.items()
        for sentence in rule(module, ast.parse(path.read_text()))
    ]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (one_way, "reuse_sim.types", "from reuse_sim.worlds import radius"),
        (one_way, "reuse_sim.outers.slot", "from reuse_sim.humans import descent"),
        (one_way, "reuse_sim.outers.slot", "def f():\n    import reuse_sim.sweep"),
        (one_way, "reuse_sim.experiments.reuse", "from reuse_sim import scenario"),
        (one_way, "reuse_sim.sweep", "import reuse_sim.cli"),
        (one_way, "reuse_sim.worlds.radius", "from .other import x"),
        (one_way, "reuse_sim.utils", ""),
        (tracking_apart, "tracking.reader", "from reuse_sim.stats import t_interval"),
        (tracking_apart, "reuse_sim.sweep", "def f():\n    from tracking.recorder import Recorder"),
        (mlflow_late, "tracking.recorder", "import mlflow"),
        (mlflow_late, "tracking.recorder", "try:\n    from mlflow import MlflowClient\nexcept ImportError:\n    raise"),
        (light_top, "reuse_sim.cli", "from pydantic import BaseModel"),
        (light_top, "reuse_sim", "from reuse_sim.results import Results"),
        (passed_randomness, "reuse_sim.nets", "import torch\ntorch.manual_seed(0)"),
        (passed_randomness, "reuse_sim.nets", "from torch import manual_seed as s\ns(0)"),
        (passed_randomness, "reuse_sim.nets", "import numpy as np\nnp.random.seed(0)"),
        (passed_randomness, "reuse_sim.nets", "import random\nrandom.shuffle(x)"),
        (passed_randomness, "tracking.report", "import pyro\npyro.set_rng_seed(1)"),
        (passed_randomness, "reuse_sim.nets", "import torch\ntorch.randn(3)"),
        (safe_reading, "reuse_sim.artifacts", "import torch\ntorch.load('x', weights_only=True)"),
        (safe_reading, "reuse_sim.artifacts", "import pickle"),
        (safe_reading, "reuse_sim.scenario.reading", "import yaml"),
        (safe_reading, "reuse_sim.sweep", "from ruamel.yaml import YAML"),
        (no_print, "tracking.ui", "print('here')"),
    ],
)
def test_each_rule_can_fail(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (one_way, "reuse_sim.cli", "from reuse_sim import sweep"),
        (one_way, "reuse_sim.outers.slot", "from reuse_sim.outers.parts import x\nfrom reuse_sim.types import World"),
        (tracking_apart, "tracking.reader", "from reuse_sim.record import Sweep"),
        (tracking_apart, "reuse_sim.cli", "def run():\n    from tracking.recorder import Recorder"),
        (mlflow_late, "tracking.recorder", "def f():\n    import mlflow"),
        (light_top, "reuse_sim.cli", "import typer\nif TYPE_CHECKING:\n    import torch\ndef run():\n    import torch"),
        (passed_randomness, "reuse_sim.nets", "import numpy as np\ng = np.random.default_rng(0)\ng.normal()"),
        (passed_randomness, "reuse_sim.nets", "import torch\ntorch.randn(3, generator=g)"),
    ],
)
def test_what_is_right_passes(rule: Rule, module: str, source: str) -> None:
    assert not list(rule(module, ast.parse(source)))
