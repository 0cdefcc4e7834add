"""The rules of the house that no linter knows. The source tree in, broken rules with file and line out."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("realtime", "training", "export")
HEAVY = ("torch", "onnx", "mediapipe", "tensorrt", "tensorflow", "jax", "matplotlib", "pyvirtualcam")
UNSAFE = ("pickle", "cPickle", "dill", "shelve", "marshal", "joblib")
PLACES = re.compile(r"/(?:home|root|Users|work|tmp|opt)/[A-Za-z]|\b[A-Z]:\\\\")


def product_files() -> list[Path]:
    """The modules that are installed."""
    return [ROOT / "liveswap.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]


def python_files() -> list[Path]:
    """The installed modules and the tests."""
    return [*product_files(), *sorted((ROOT / "tests").rglob("*.py"))]


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def modules_loaded_by(statement: str) -> set[str]:
    """Top-level names in sys.modules after `statement` ran in a fresh interpreter."""
    code = (
        f"{statement}; import json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    names: list[str] = json.loads(answer.stdout)
    return set(names)


@pytest.mark.parametrize("module", ["pipeline", "detect", "infer", "swap", "sinks", "config"])
def test_the_live_path_loads_no_heavy_library(module: str) -> None:
    assert not modules_loaded_by(f"import realtime.{module}") & set(HEAVY)


def test_the_front_door_loads_nothing_but_the_standard_library() -> None:
    loaded = modules_loaded_by("import liveswap; liveswap.build_parser()")
    assert not loaded & {*HEAVY, "numpy", "cv2", "onnxruntime", "av", "rich"}


def test_nothing_is_pickled() -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in product_files()
        for line, name in imported_names(parsed(path))
        if name.partition(".")[0] in UNSAFE
    ]
    assert not broken


def test_arrays_and_weights_are_loaded_without_pickle() -> None:
    calls = re.compile(r"np\.load\((?!.*allow_pickle=False)|allow_pickle=True|torch\.(load|save)\(")
    assert not lines_with(calls, product_files())


def test_print_belongs_to_the_front_door() -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in product_files()
        if path.name != "liveswap.py"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not broken


def test_every_module_says_what_it_is_for() -> None:
    assert not [str(path.relative_to(ROOT)) for path in product_files() if not ast.get_docstring(parsed(path))]


def test_no_path_of_one_machine_is_in_the_tree() -> None:
    texts = [ROOT / name for name in ("Makefile", "pyproject.toml", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    assert not lines_with(PLACES, [path for path in (*python_files(), *texts) if path != Path(__file__).resolve()])


def test_the_map_names_every_room() -> None:
    drawn = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    folders = {f"{path.parent.name}/" for path in product_files() if path.parent.parent != ROOT and path.parent != ROOT}
    rooms = {path.name for path in product_files() if path.parent.parent == ROOT and not path.name.startswith("_")}
    assert not [name for name in sorted(folders | rooms) if name not in drawn]


def test_every_base_and_extra_dependency_of_make_setup_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["export"], *extras["dev"], *extras["vcam"]]
    pins = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    names = {re.split(r"[<>=;\[ ]", requirement)[0].lower() for requirement in wanted}
    assert not names - pins


def test_system_packages_are_the_same_in_makefile_readme_and_ci() -> None:
    makefile, readme, ci = ((ROOT / name).read_text("utf-8") for name in ("Makefile", "README.md", ".ci/run"))
    libraries = dict(re.findall(r'"(lib[^"]+\.so\.\d+)": "([^"]+)"', makefile))
    assert len(libraries) == 4
    for library, package in libraries.items():
        assert library in ci
        assert package in ci
        assert package in readme


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_an_audit_that_could_ask_nobody_fails() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (asked,) = re.findall(r"/pip-audit (.*)", makefile)
    assert "--strict" in asked  # without it, packages that were not looked up count as sound
