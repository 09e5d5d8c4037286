"""The benchmarks run; what they measure is not judged here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

SHORT = {
    "fit.py": ["--only", "0", "--repeats", "1", "--networks", "3", "--skorch"],
    "predict.py": ["--repeats", "1"],
    "memory.py": ["--rows", "20000"],
    "search.py": ["--repeats", "1", "--many", "50"],
}


@pytest.mark.parametrize("name", SHORT)
def test_a_benchmark_prints_a_row_for_each_work(name):
    if name == "memory.py" and sys.platform != "linux":
        pytest.skip("reads /proc")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *SHORT[name]],
        capture_output=True,
        text=True,
        check=True,
        cwd=BENCHMARKS,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)},
    )
    expected = {
        "fit.py": ["800x2", "of GEMM rate", "3 networks"],
        "predict.py": ["1000000 x 2", "1 x 2"],
        "memory.py": ["fit, 3 epochs", "predict_proba"],
        "search.py": ["without the backend: the same", "50 fits in one search"],
    }
    for words in expected[name]:
        assert words in done.stdout
    assert "nan" not in done.stdout
