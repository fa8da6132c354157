"""The rules of the house that no linter can express, each shown to catch a file that breaks it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

# As the whole name of a file or folder; the second set also as a part of one (`text_utils.py`, `RunManager`).
VAGUE_NAMES = {"base", "common", "core"}
VAGUE_PARTS = {"util", "utils", "helper", "helpers", "manager", "managers", "misc"}

# Put together from pieces, so that this file keeps its own rule.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:" + "|".join(["work", "tmp" + "/w", "opt" + "/pypi", "root"]) + ")/")
REGISTRY = re.compile(
    "pypi" + r"\.org|" + "pythonhosted" + r"\.org|download\." + "pytorch" + r"\.org|index-url[ =]\S*://"
)

CODE_CARRIERS = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
GUEST_MAY_IMPORT = ("rlhf", "rlhf.errors", "rlhf.types", "rlhf.protocols", "rlhf.functional")

Rule = Callable[[Path, str, ast.Module], Iterator[str]]


# --- the rules: each yields what is wrong with one Python file --------------------------------------------------------


def file_is_short(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    num_lines = len(source.splitlines())
    if num_lines > MAX_FILE_LINES:
        yield f"{num_lines} lines, at most {MAX_FILE_LINES}: it holds more than one idea"


def functions_are_short(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {num_lines} lines, at most {MAX_FUNCTION_LINES}"


def names_say_something(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    for name in [*path.parent.parts, path.stem]:
        if name in VAGUE_NAMES or VAGUE_PARTS & set(name.split("_")):
            yield f"{name!r} says nothing: name the idea"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and VAGUE_PARTS & {w.lower() for w in re.findall("[A-Z][a-z]*", node.name)}:
            yield f"line {node.lineno}: class {node.name!r} says nothing: name the idea"


def starts_with_docstring(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "no module docstring"


def annotations_are_lazy(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    if len(tree.body) > 1 and "annotations" not in imports_of(tree).get("__future__", set()):
        yield "no `from __future__ import annotations`"


def masks_select(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    """`nan * 0` is `nan`: a masked value goes through `torch.where`."""
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.expr | ast.stmt)):
        factors: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            factors = [node.left, node.right]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Mult):
            factors = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"mul", "mul_"}:
            factors = node.args
        if any(_noun(factor).endswith("mask") for factor in factors):
            yield f"line {node.lineno}: multiplies by a mask; use torch.where"


def loads_plain_data_only(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    for module in sorted(CODE_CARRIERS & {name.split(".")[0] for name in imports_of(tree)}):
        yield f"imports {module}: what it loads can run code; use safetensors or JSON"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if keywords.get("trust_remote_code") == "True":
            yield f"line {node.lineno}: trust_remote_code=True runs code of a model's author"
        called = ast.unparse(node.func)
        if called == "torch.load" and keywords.get("weights_only") != "True":
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if called == "yaml.load" and not _is_safe_loader(keywords.get("Loader", ""), tree):
            yield f"line {node.lineno}: yaml.load; use the safe loader"


def _is_safe_loader(name: str, tree: ast.Module) -> bool:
    """yaml's own, or a class of this file that derives from it (to refuse duplicate keys, say)."""
    ours = {n.name: [ast.unparse(b) for b in n.bases] for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
    return name == "yaml.SafeLoader" or ours.get(name) == ["yaml.SafeLoader"]


def functional_imports_torch_only(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    for module in imports_of(tree):
        top = module.split(".")[0]
        if top not in sys.stdlib_module_names and top != "torch" and not module.startswith("rlhf.functional"):
            yield f"imports {module}; rlhf/functional may import torch and itself"


def guest_imports_public_names(path: Path, source: str, tree: ast.Module) -> Iterator[str]:
    for module in imports_of(tree):
        is_public = module in GUEST_MAY_IMPORT or module.startswith("rlhf.functional.")
        if module.split(".")[0] == "rlhf" and not is_public:
            yield f"imports {module}; a guest plugin may import {', '.join(GUEST_MAY_IMPORT)}"


def imports_of(tree: ast.Module) -> dict[str, set[str]]:
    """Modules this file imports anywhere, with the names taken from each."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.name, set())
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return found


def _noun(node: ast.expr) -> str:
    """What an expression is about: `batch.mask[:, 1:].float()` is about `mask`."""
    while True:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value
        elif isinstance(node, ast.Subscript):
            node = node.value
        elif isinstance(node, ast.UnaryOp):
            node = node.operand
        else:
            break
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


# --- the house keeps them --------------------------------------------------------------------------------------------

# (rule, where it holds, a file that breaks it: its path and its source)
LONG = "x = 1\n" * (MAX_FILE_LINES + 1)
LONG_FUNCTION = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
RULES: list[tuple[Rule, str, list[tuple[str, str]]]] = [
    (file_is_short, "rlhf benchmarks plugins docs", [("a.py", LONG)]),
    (functions_are_short, "rlhf benchmarks plugins docs tests", [("a.py", LONG_FUNCTION)]),
    (
        names_say_something,
        "rlhf benchmarks plugins",
        [("rlhf/utils/a.py", ""), ("base.py", ""), ("text_helpers.py", ""), ("a.py", "class RunManager: ...")],
    ),
    (starts_with_docstring, "rlhf benchmarks plugins docs tests", [("a.py", "x = 1")]),
    (annotations_are_lazy, "rlhf benchmarks plugins", [("a.py", '"""Doc."""\nx: int = 1')]),
    (
        masks_select,
        "rlhf",
        [
            ("a.py", "y = x * mask"),
            ("a.py", "y = batch.response_mask[:, 1:].float() * x"),
            ("a.py", "y = x * ~mask"),
            ("a.py", "x *= mask"),
            ("a.py", "x.mul_(mask)"),
        ],
    ),
    (
        loads_plain_data_only,
        "rlhf benchmarks plugins docs",
        [
            ("a.py", "import pickle"),
            ("a.py", "from cloudpickle import loads"),
            ("a.py", "load(x, trust_remote_code=True)"),
            ("a.py", "torch.load(path)"),
            ("a.py", "torch.load(path, weights_only=False)"),
            ("a.py", "yaml.load(text, Loader=yaml.Loader)"),
            ("a.py", "class Loose(yaml.Loader): ...\nyaml.load(text, Loader=Loose)"),
        ],
    ),
    (
        functional_imports_torch_only,
        "rlhf/functional",
        [("a.py", "import numpy"), ("a.py", "from rlhf.types import Experience"), ("a.py", "def f():\n    import ray")],
    ),
    (guest_imports_public_names, "plugins", [("a.py", "from rlhf.runtime.pipeline import train")]),
]
BREACHES = [
    pytest.param(rule, *breach, id=f"{rule.__name__}-{i}") for rule, _, bad in RULES for i, breach in enumerate(bad)
]


@pytest.mark.parametrize(("rule", "where"), [pytest.param(r, w, id=r.__name__) for r, w, _ in RULES])
def test_the_house_keeps_its_rules(rule: Rule, where: str) -> None:
    findings = [
        f"{path.relative_to(ROOT)}: {finding}"
        for folder in where.split()
        for path in sorted((ROOT / folder).rglob("*.py"))
        if folder == "tests" or "tests" not in path.relative_to(ROOT).parts  # those of the packages in plugins/
        for finding in _check(rule, path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    ]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(("rule", "path", "source"), BREACHES)
def test_each_rule_catches_its_breach(rule: Rule, path: str, source: str) -> None:
    assert len(list(_check(rule, Path(path), source))) == 1


def test_rules_leave_good_code_alone() -> None:
    source = '"""Doc."""\nfrom __future__ import annotations\nimport torch\ny = torch.where(mask, x, 0) * mask_count\n'
    assert not [f for rule, _, _ in RULES for f in _check(rule, Path("rlhf/functional/masked.py"), source)]


def _check(rule: Rule, path: Path, source: str) -> Iterator[str]:
    return rule(path, source, ast.parse(source))


# --- files of every kind ---------------------------------------------------------------------------------------------


def foreign_text(text: str) -> list[str]:
    """Paths of the machine a file was written on, and hosts that packages come from."""
    return [found.group() for pattern in (MACHINE_PATH, REGISTRY) for found in pattern.finditer(text)]


def test_no_file_names_a_machine_or_a_registry() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    texts = {p: p.read_text(encoding="utf-8", errors="ignore") for p in paths if p.is_file()}
    findings = [f"{p.relative_to(ROOT)}: {found!r}" for p, text in texts.items() for found in foreign_text(text)]
    assert texts
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    "text",
    ["see /" + "work/main", "'/" + "tmp/w/x'", "https://" + "pypi" + ".org/simple", "--index-url=https" + "://host/"],
)
def test_foreign_text_is_seen(text: str) -> None:
    assert foreign_text(text)


def test_relative_paths_are_not_foreign() -> None:
    assert not foreign_text("runs/work/a, ../shared/data, https://example.org/network/")


def test_every_package_has_a_docstring() -> None:
    folders = {path.parent for path in (ROOT / "rlhf").rglob("*.py")}
    missing = [str(f.relative_to(ROOT)) for f in sorted(folders) if not (f / "__init__.py").is_file()]
    assert not missing, f"folders without __init__.py (its docstring is the folder's caption): {missing}"
