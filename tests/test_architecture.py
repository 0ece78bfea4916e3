import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from llmrec_spark.tables import OWN
from tests.conftest import REPO

PACKAGE = REPO / "llmrec_spark"
MODULES = {file.relative_to(PACKAGE).with_suffix("").as_posix(): file for file in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name: file for name, file in MODULES.items() if file.name != "__init__.py"}
JOBS = sorted((REPO / "jobs").glob("*.py"))
CODE = (PACKAGE, *(REPO / folder for folder in ("jobs", "data", "benchmarks", "tests")))
SOURCES = [file for folder in CODE for file in sorted(folder.rglob("*.py"))]

GROUND, SPARK, BRIDGE, END, AROUND, DOORS, MODEL = range(7)  # the sections of the package's docstring
HEAVY = {"pyspark", "delta", "mlflow", "torch", "transformers"}
DOORS_TO = {  # who may import what
    "delta": {"storage"},
    "mlflow": {"registry", "registered_model"},
    "py4j": {"session", "storage"},
    "requests": {"notifications"},
    "openlineage": {"lineage_events"},
    "prometheus_client": {"notifications"},
}
VAGUE = {"util", "utils", "helper", "helpers", "common", "base", "misc"}
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_ATTRIBUTES = {"read_pickle", "to_pickle"}
UNSAFE_FLAGS = {"trust_remote_code", "allow_pickle"}  # must be False where they are given


class Import(NamedTuple):
    """One import: of `name`, at the top of a module or in a function."""

    name: str
    in_function: bool

    def of(self, *roots: str) -> bool:
        return any(self.name == root or self.name.startswith(f"{root}.") for root in roots)


def sections() -> list[list[str]]:
    """The modules of each section of the package's docstring, in order; those of model/ with their folder."""
    found: list[list[str]] = []
    for line in (ast.get_docstring(parsed(PACKAGE / "__init__.py")) or "").splitlines()[1:]:
        if line and not line.startswith(" "):
            found.append([])
        elif named := re.match(r" {4}(\w+) {2,}\S", line):
            found[-1].append(named[1])
    return [*found[:MODEL], [f"model/{name}" for name in found[MODEL]]]


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> list[Import]:
    """Every import of a file but those for types alone. `from a import b` counts as a and as a.b, maybe a module."""

    def walk(node: ast.AST, in_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno}: a relative import"
            yield from (Import(f"{node.module}.{alias.name}", in_function) for alias in node.names)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return list(walk(parsed(file), False))


def ours(*sections_: int) -> set[str]:
    """The dotted names of the modules of some sections."""
    every = sections()
    return {f"llmrec_spark.{name.replace('/', '.')}" for number in sections_ for name in every[number]}


def parametrised(*sections_: int):
    every = sections()
    return pytest.mark.parametrize("module", [name for number in sections_ for name in every[number]])


def test_the_docstring_of_the_package_names_every_module_once():
    named = [name for section in sections() for name in section]
    assert sorted(named) == sorted(MODULES)


def test_the_docstring_names_the_stages_in_the_order_of_their_tables():
    every = sections()
    line = [name for number in (SPARK, BRIDGE, END) for name in every[number]]
    tables = [name for name in OWN if name not in ("quarantine", "runs")]  # written beside the line
    assert [name for name in line if name in tables] == tables


@pytest.mark.parametrize("section", [GROUND, SPARK, BRIDGE, END, AROUND, DOORS, MODEL])
def test_a_module_imports_only_what_stands_before_it_in_its_section(section):
    in_order = [f"llmrec_spark.{name.replace('/', '.')}" for name in sections()[section]]
    for place, name in enumerate(sections()[section]):
        after = set(in_order[place:]) - {"llmrec_spark.quarantine"}  # checks mark rows with it; its table comes last
        assert not [one.name for one in imports(MODULES[name]) if one.of(*after)], name


@parametrised(GROUND)
def test_the_ground_is_free_of_spark_and_torch_and_imports_only_the_ground(module):
    found = imports(MODULES[module])
    assert not [one.name for one in found if one.of(*HEAVY)]
    assert not [one.name for one in found if one.of("llmrec_spark") and not one.of(*ours(GROUND))]


@parametrised(MODEL)
def test_the_model_is_free_of_spark_and_mlflow_and_imports_only_the_ground_and_itself(module):
    found = imports(MODULES[module])
    assert not [one.name for one in found if one.of("pyspark", "delta", "mlflow", "py4j")]
    assert not [one.name for one in found if one.of("llmrec_spark") and not one.of(*ours(GROUND, MODEL))]


@parametrised(SPARK, END)
def test_a_stage_of_spark_knows_no_model_no_storage_and_no_mlflow(module):
    found = imports(MODULES[module])
    forbidden = ("torch", "transformers", "mlflow", "delta", "llmrec_spark.model")
    assert not [one.name for one in found if one.of(*forbidden, *ours(AROUND, DOORS, MODEL))]


@parametrised(BRIDGE)
def test_a_bridge_knows_no_torch_no_storage_and_no_mlflow(module):
    found = imports(MODULES[module])
    doors = ours(AROUND, DOORS) - {"llmrec_spark.session"}  # shared folders and the device of a task
    assert not [one.name for one in found if one.of("torch", "transformers", "mlflow", "delta", *doors)]


@parametrised(GROUND, SPARK, BRIDGE, END, AROUND, DOORS)
def test_the_model_is_imported_inside_functions_only(module):
    top = [one for one in imports(MODULES[module]) if not one.in_function]
    assert not [one.name for one in top if one.of("llmrec_spark.model", "torch", "transformers")]


@pytest.mark.parametrize("library", DOORS_TO)
def test_each_library_has_its_doors(library):
    found = {name for name, file in MODULES.items() if any(one.of(library) for one in imports(file))}
    assert found == DOORS_TO[library]
    assert not [job.name for job in JOBS if any(one.of(library) for one in imports(job))]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_is_short_and_imports_nothing_heavy_before_its_arguments_are_parsed(job):
    assert len(job.read_text(encoding="utf-8").splitlines()) <= 40
    top = [one for one in imports(job) if not one.in_function]
    allowed = (*sys.stdlib_module_names, "llmrec_spark.command_line")
    assert not [one.name for one in top if not one.of(*allowed)]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_and_says_what_it_is(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 300
    assert ast.get_docstring(parsed(MODULES[module]))
    assert not VAGUE & set(re.split(r"[/_]", module))


def unsafe(file: Path) -> Iterator[str]:
    """Where a file could run code out of data: pickles, and code that comes with a model."""
    for one in imports(file):
        if one.of(*UNSAFE_MODULES, "torch.load"):
            yield one.name
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Attribute):
            is_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
            if node.attr in UNSAFE_ATTRIBUTES or (is_torch and node.attr == "load"):
                yield f"line {node.lineno}: {node.attr}"
        given = [(one.arg, one.value) for one in node.keywords] if isinstance(node, ast.Call) else []
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            given = [(key.value, value) for key, value in pairs if isinstance(key, ast.Constant)]
        for flag, value in given:
            if flag in UNSAFE_FLAGS and not (isinstance(value, ast.Constant) and value.value is False):
                yield f"line {value.lineno}: {flag}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(REPO).as_posix())
def test_nothing_is_unpickled_and_no_code_of_a_model_is_run(file):
    assert list(unsafe(file)) == []
