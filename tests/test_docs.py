"""What the README, the docstrings and the package's face say is true."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc

import torchblob
from torchblob import TorchBlobClassifier, inspection

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GENERATED = "sg_execution_times.rst"
PAGES = sorted(set((ROOT / "docs").glob("*.rst")) - {ROOT / "docs" / GENERATED})
CODE_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_code_of_the_readme_runs_in_its_order(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in CODE_BLOCKS:
        exec(compile(code, "README.md", "exec"), names)
        out = capsys.readouterr().out
        assert out or "print" not in code


def test_the_readme_shows_the_table_that_the_tutorial_prints(tmp_path):
    example = ROOT / "examples" / "plot_tutorial.py"
    copy = tmp_path / example.name
    copy.write_text(example.read_text())
    done = subprocess.run(
        [sys.executable, "-W", "error", str(copy)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        check=True,
    )
    table = "\n".join(done.stdout.splitlines()[:10])
    assert f"```\n{table}\n```" in README
    assert copy.with_suffix(".png").stat().st_size > 10_000


def test_files_that_the_readme_links_to_exist():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(links) > 3
    for link in links:
        assert (ROOT / link).exists(), link


def blocks_of(page):
    """Return the Python code of a page, but for blocks of the class "not-run"."""
    found = re.findall(
        r"^\.\. code-block:: python\n((?:   .*\n|\n)+)", page, flags=re.MULTILINE
    )
    return [textwrap.dedent(code) for code in found if ":class: not-run" not in code]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_in_its_order(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks_of(page.read_text()):
        exec(compile(code, page.name, "exec"), names)


def test_pages_with_code_are_found():
    assert sum(bool(blocks_of(page.read_text())) for page in PAGES) >= 5


def public():
    """Return all that is public and takes arguments, by name."""
    found = {}
    for module in (torchblob, inspection):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                found[name] = thing
            if not inspect.isclass(thing):
                continue
            found[name] = thing
            for attribute, value in vars(thing).items():
                value = inspect.unwrap(getattr(value, "__func__", value))
                if not attribute.startswith("_") and inspect.isfunction(value):
                    found[f"{name}.{attribute}"] = value
    return found


PUBLIC = public()


def parsed(thing):
    if inspect.isclass(thing):
        return ClassDoc(thing, config={"show_class_members": False})
    return FunctionDoc(thing)


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_are_documented_in_the_order_and_default_of_the_signature(name):
    documented = {
        one: parameter.type.partition("default=")[2]
        for parameter in parsed(PUBLIC[name])["Parameters"]
        for one in parameter.name.split(", ")
    }
    signature = {
        ("**" if p.kind is p.VAR_KEYWORD else "") + p.name: p.default
        for p in inspect.signature(PUBLIC[name]).parameters.values()
        if p.name != "self"
    }
    cls = PUBLIC[name.partition(".")[0]]
    if "cls" in signature:
        assert inspect.ismethod(getattr(cls, name.partition(".")[2]))
        del signature["cls"]
    assert list(documented) == list(signature)
    for parameter, default in signature.items():
        if default is inspect.Parameter.empty:
            assert not documented[parameter], parameter
        else:
            written = ast.literal_eval(documented[parameter])
            assert (written, type(written)) == (default, type(default)), parameter


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example_and_says_what_it_returns(name):
    doc = parsed(PUBLIC[name])
    assert doc["Summary"]
    assert any(">>>" in line for line in doc["Examples"])
    returns = getattr(PUBLIC[name], "__annotations__", {}).get("return")
    if not inspect.isclass(PUBLIC[name]) and returns != "None":
        (returned,) = doc["Returns"]
        assert returned.name
        assert returned.desc


def test_scikit_learns_methods_are_inherited_with_their_documentation():
    for name in ("get_params", "set_params", "set_callbacks", "get_metadata_routing"):
        if hasattr(TorchBlobClassifier, name):
            assert inspect.getdoc(getattr(TorchBlobClassifier, name)), name


def test_every_fitted_attribute_is_documented(small):
    clf = TorchBlobClassifier(device="cpu", max_epochs=1).fit(*small)
    doc = inspect.getdoc(TorchBlobClassifier)
    section = doc.split("Attributes\n-")[1].split("See Also")[0]
    documented = set(re.findall(r"^(\w+_) : ", section, flags=re.MULTILINE))
    public = {name for name in vars(clf) if name.endswith("_")}
    properties = {
        name
        for name, value in vars(TorchBlobClassifier).items()
        if isinstance(value, property)
    }
    assert documented == public | properties | {"feature_names_in_"}


@pytest.mark.parametrize("package", ["matplotlib", "onnx"])
def test_importing_the_package_does_not_import(package):
    code = f"import sys, torchblob; print({package!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "False\n"
