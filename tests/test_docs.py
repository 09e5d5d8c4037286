"""What the README, the docstrings and the package's face say is true."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import torchblob
from torchblob import TorchBlobClassifier

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
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


def test_every_public_name_is_there_and_documented():
    for name in torchblob.__all__:
        assert inspect.getdoc(getattr(torchblob, name)), name


def test_every_parameter_is_documented_in_the_order_and_default_of_the_signature():
    doc = inspect.getdoc(TorchBlobClassifier)
    section = doc.split("Parameters\n-")[1].split("Attributes\n-")[0]
    documented = dict(
        re.findall(r"^(\w+) : .*?default=(\S+)$", section, flags=re.MULTILINE)
    )
    signature = inspect.signature(TorchBlobClassifier)
    defaults = {
        name: str(parameter.default).join('""')
        if isinstance(parameter.default, str)
        else str(parameter.default)
        for name, parameter in signature.parameters.items()
    }
    assert list(documented) == list(signature.parameters)
    assert {k: v.replace("1e-4", "0.0001") for k, v in documented.items()} == defaults


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


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, torchblob; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "False\n"
