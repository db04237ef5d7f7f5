"""The surface: what can be imported, what that costs, and which file may know which."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fallow

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fallow"

FLOORS = [
    {"spelling", "import_path", "described"},
    {"_checks", "keyed", "selection", "no_score", "matching", "numbering", "shares", "csv_table"},
    {"regular_file", "schema", "terminal"},
    {"plain_yaml"},
    {
        "scores",
        "policies",
        "step_rules",
        "schedule",
        "distributed",
        "forward_only",
        "bitset",
        "host_index",
        "storage",
        "run_lock",
        "state_file",
        "headed_file",
        "keyed_draws",
        "memory",
        "usage_errors",
    },
    {
        "densities",
        "class_ids",
        "table",
        "journal",
        "order",
        "generations",
        "data_file",
        "sample_names",
        "sample_table",
        "showcase",
        "shown_file",
        "gaps_file",
        "picks",
    },
    {"activations"},
    {"ledger", "plan", "history", "recording", "data_changes"},
    {"state_checks"},
    {"loading", "state", "epoch_file"},
    {"measuring", "run_directory"},
    {"readings", "reading"},
    {"by_hand"},
    {"subsampler"},
    {"charts", "verifying", "life"},
    {"report", "export", "gaps"},
    {"integrations", "datasets", "models"},
    {"options"},
    {"tasks"},
    {"comparison"},
    {"reading_commands"},
    {"cli", "__main__", "__init__"},
]
"""Imports go down. On one floor only within a family, and from subsampler to readings."""

OWNERS = {
    "torch.distributed": {"distributed.py"},
    "lightning": {"integrations/lightning.py", "tasks"},
    "matplotlib": {"charts"},
    "jsonargparse": {"cli.py"},
    "rich": {"tasks/console.py", "tasks/rich_console.py", "tasks/telling_gaps.py", "comparison/console.py"},
    "rich.console.Console": {"tasks/rich_console.py"},
    "scipy": {"comparison/statistics.py", "gaps/tree.py"},
    "sklearn": {"datasets/digits.py"},
    "PIL": {"datasets", "report"},
    "jinja2": {"report/page.py"},
    "pyarrow": {"export.py", "datasets/pool_tables.py", "datasets/parquet_file.py"},
    "datasets": {"datasets/pool_tables.py", "datasets/table_files.py"},
    "tokenizers": {"datasets/tokenizing.py"},
    "transformers": {"integrations/transformers.py"},
}


def modules():
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path):
    """Yield the absolute name of everything that a file imports."""
    package = ["fallow", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parent = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{parent}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path):
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "fallow" or len(parts) < 2 or not hasattr(sys.modules["fallow"], "__path__"):
            continue
        there = parts[1]
        if there == here or here == "__init__" or not any(there in rooms for rooms in FLOORS):
            continue
        allowed = floor(there) < floor(here) or (here, there) in {
            ("subsampler", "readings"),
            ("__main__", "cli"),
        }
        assert allowed, f"{here} (floor {floor(here)}) imports {there} (floor {floor(there)})"


def test_every_module_has_a_floor():
    assert {room(path) for path in modules()} == set().union(*FLOORS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_framework_in_its_own_file(path):
    where = str(path.relative_to(SOURCE))
    for name in imports(path):
        for framework, owners in OWNERS.items():
            if name == framework or name.startswith(f"{framework}."):
                assert any(where == owner or where.startswith(f"{owner}/") for owner in owners), name


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_one_place_prints(path):
    """What is printed elsewhere might hold what a terminal obeys."""
    if path.name == "terminal.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and node.attr == "write":
            assert ast.unparse(node.value) not in ("sys.stdout", "sys.stderr"), f"line {node.lineno}"


READS_WEIGHTS = re.compile(r"torch\.load\([\w.()]+, weights_only=True\)")
"""The one way in which a file of torch may be read: it builds tensors, and runs nothing."""


def test_no_pickle_and_no_global_seed():
    calls = ["pickle", r"torch\.load", r"yaml\.load", r"np\.random\.seed", r"random\.seed", "eval", "exec"]
    forbidden = re.compile("|".join(rf"(?<![\w.]){call}\(" for call in calls) + "|import pickle")
    hits = [
        (path.name, line)
        for path in modules()
        for line in path.read_text().splitlines()
        if forbidden.search(READS_WEIGHTS.sub("", line)) and ">>>" not in line
    ]
    assert hits == []


def test_house_numbers():
    """Files of at most 500 lines, half of them under 200; functions of at most 60."""
    lengths = sorted(len(path.read_text().splitlines()) for path in modules())
    assert lengths[-1] <= 500
    assert lengths[len(lengths) // 2] < 200
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                doc = len((ast.get_docstring(node) or "").splitlines())
                length = node.end_lineno - node.lineno - doc
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"


def test_every_public_name_is_there():
    for name in fallow.__all__:
        assert getattr(fallow, name) is not None
    assert set(fallow.__all__) < set(dir(fallow))
    with pytest.raises(AttributeError, match="no attribute 'Subsampel'"):
        fallow.Subsampel  # noqa: B018


@pytest.mark.parametrize("name", ["ClassGaussian", "Flow", "NearestNeighbours"])
def test_a_density_that_left_says_what_to_use(name):
    for place in (fallow, fallow.densities):
        with pytest.raises(AttributeError, match=rf"{name} has left fallow\. .*examples/flow_density\.py"):
            getattr(place, name)
    with pytest.raises(AttributeError, match="no attribute 'Floe'"):
        fallow.densities.Floe  # noqa: B018


def test_names_for_type_checkers_are_those_at_run_time():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert {alias.asname for node in block.body for alias in node.names} == set(fallow.__all__)


def test_rooms_open_by_name():
    code = "import fallow; print(fallow.policies.Threshold.name, fallow.scores.KLDivergence.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["threshold", "kl"]


def test_importing_loads_no_torch():
    code = "import sys, fallow; print('torch' in sys.modules); fallow.Schedule; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_optional_parts_are_here_where_they_must_be():
    """In CI a test that needs an extra must run: none may be skipped for a missing package."""
    import importlib.util
    import os

    if not os.environ.get("FALLOW_REQUIRE_ALL"):
        pytest.skip("FALLOW_REQUIRE_ALL is not set")
    needed = ["lightning", "jsonargparse", "yaml", "rich", "matplotlib", "PIL", "sklearn", "accelerate"]
    needed += ["jinja2", "pyarrow", "duckdb", "polars", "pandas", "playwright", "tokenizers", "transformers"]
    assert [name for name in needed if importlib.util.find_spec(name) is None] == []
