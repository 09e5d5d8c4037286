"""Who may import what."""

import ast
from pathlib import Path

import pytest

import torchblob

PACKAGE = Path(torchblob.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module may import from the layers before its own, and from its own.
LAYERS = [
    ["torchblob._facts", "torchblob._files", "torchblob._version", "torchblob.nn"],
    ["torchblob.training"],
    ["torchblob._data", "torchblob._encoder", "torchblob._parameters"],
    ["torchblob._convergence", "torchblob._model_file", "torchblob._problem"],
    ["torchblob._checkpoint", "torchblob._estimator", "torchblob._tasks"],
    ["torchblob._classifier"],
    ["torchblob._candidates", "torchblob._folds", "torchblob._temperature"],
    ["torchblob._classifier_cv"],
    ["torchblob._onnx", "torchblob._persistence"],
    ["torchblob"],
    ["torchblob.inspection"],
]


def imports_of(path):
    """Yield (module, name) for each import that runs, not those for type checking."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module, alias.name


def layer_of(module):
    depths = [
        (len(name), depth)
        for depth, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    return max(depths)[1]


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down_only(path):
    for module, _ in imports_of(path):
        if module.split(".")[0] == "torchblob":
            assert layer_of(module) <= layer_of(module_name(path)), module


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_public_names_of_other_packages_are_imported(path):
    for module, name in imports_of(path):
        if module.split(".")[0] in ("torchblob", "__future__"):
            continue
        for part in [*module.split("."), name]:
            assert not part.startswith("_"), f"{module}.{name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "nn").glob("*.py")), ids=module_name)
def test_networks_are_made_of_torch_alone(path):
    used = {module.split(".")[0] for module, _ in imports_of(path)}
    assert not used & {"joblib", "skorch", "sklearn"}


FORBIDDEN = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_runs_code_that_comes_from_data(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not any(
                alias.name.split(".")[0] in ("pickle", "marshal", "shelve", "dill")
                for alias in node.names
            )
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in FORBIDDEN
            assert called not in ("pickle.load", "pickle.loads", "joblib.load")
            if called == "torch.load":
                assert any(
                    keyword.arg == "weights_only"
                    and ast.unparse(keyword.value) == "True"
                    for keyword in node.keywords
                )
