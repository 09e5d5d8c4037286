"""The benchmarks run; what they measure is not judged here."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_moons

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

SHORT = {
    "fit.py": ["--only", "0", "--repeats", "1", "--networks", "3", "--skorch"],
    "predict.py": ["--repeats", "1"],
    "memory.py": ["--rows", "20000"],
    "search.py": ["--repeats", "1", "--many", "50"],
    "accuracy.py": [".", "--splits", "1", "--table", "t.csv", "--picture", "p.png"],
}


@pytest.mark.parametrize("name", SHORT)
def test_a_benchmark_prints_a_row_for_each_work(name, tmp_path):
    X, y = make_moons(80, noise=0.3, random_state=0)
    np.savez(tmp_path / "moons.npz", X=X, y=y)
    if name == "memory.py" and sys.platform != "linux":
        pytest.skip("reads /proc")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *SHORT[name]],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)},
    )
    expected = {
        "fit.py": ["800x2", "of GEMM rate", "3 networks"],
        "predict.py": ["1000000 x 2", "1 x 2"],
        "memory.py": ["fit, 3 epochs", "predict_proba"],
        "search.py": ["without the backend: the same", "50 fits in one search"],
        "accuracy.py": ["moons 0.", "TorchBlobClassifierCV, refit", "the best of"],
    }
    for words in expected[name]:
        assert words in done.stdout
    assert "nan" not in done.stdout


def test_results_of_other_methods_are_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    accuracy = importlib.import_module("accuracy")
    measures = dict.fromkeys(accuracy.MEASURES, 0.5)
    results = {(name, "moons", 0): measures for name in ("RealMLP", accuracy.OURS)}
    accuracy.write(tmp_path / "results.csv", results)
    assert accuracy.read(tmp_path / "results.csv") == results
    assert accuracy.read(tmp_path / "other.csv") == {}
    rows = accuracy.summary(results, accuracy.METHODS)
    assert [row[0] for row in rows] == [accuracy.OURS, "RealMLP", rows[-1][0]]
    assert rows[1][-1] == "0-1-0"


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    accuracy = importlib.import_module("accuracy")
    proba = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    y = np.array([0] * 9 + [1] + [1] * 3 + [0] * 7)
    error = accuracy.calibration_error(y, proba, np.array([0, 1]))
    assert error == pytest.approx((0.0 + 0.3) / 2)
