"""Files from strangers: whatever is in them, loading is an error that says what."""

import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

import torchblob
from torchblob import TorchBlobClassifier


@pytest.fixture
def path(small, tmp_path):
    """Return the path of a file that is in order."""
    clf = TorchBlobClassifier(device="cpu", momentum=0.9, max_epochs=5, random_state=0)
    clf.n_iter_no_change = 5
    torchblob.save(clf.fit(*small), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("code of the file's has run",)


def header_and_tensors(path):
    """Return the two parts of a file: the JSON, and the bytes of the tensors."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def assembled(header, tensors):
    """Return the bytes of a file of two parts, whose digest is right."""
    metadata = header.get("__metadata__", {})
    if "torchblob" in metadata:
        digest = hashlib.sha256(metadata["torchblob"].encode() + tensors)
        metadata["sha256"] = digest.hexdigest()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def with_tensor(name, **changes):
    def forge(path):
        header, tensors = header_and_tensors(path)
        header[name].update(changes)
        return assembled(header, tensors)

    return forge


def with_json(text):
    def forge(path):
        header, tensors = header_and_tensors(path)
        header["__metadata__"]["torchblob"] = text
        return assembled(header, tensors)

    return forge


def with_entry(*keys, value):
    """Return a function that makes a file in which one entry is another."""

    def forge(path):
        content = json.loads(header_and_tensors(path)[0]["__metadata__"]["torchblob"])
        of_entry = content
        for key in keys[:-1]:
            of_entry = of_entry[key]
        of_entry[keys[-1]] = value
        return with_json(json.dumps(content))(path)

    return forge


def without_tensors(path):
    metadata = header_and_tensors(path)[0]["__metadata__"]
    return assembled({"__metadata__": metadata}, b"")


def with_a_layer_of_three_inputs(path):
    metadata = header_and_tensors(path)[0]["__metadata__"]
    other = {"layer.1.weight": torch.ones(8, 3)}
    path.write_bytes(
        to_safetensors(from_safetensors(path.read_bytes()) | other, metadata)
    )
    return assembled(*header_and_tensors(path))


def with_numbers_for_tensors(path):
    """Return a file whose optimizer would remember numbers where it needs tensors."""
    path.write_bytes(with_entry("net", "optimizer", value="RMSprop")(path))
    numbers = {"optimizer.0.step": 1, "optimizer.0.square_avg": 1}
    return with_entry("memory", "numbers", value=numbers)(path)


def ten_gigabytes(path):
    claim = {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}
    return assembled({"layer.0.weight": claim}, b"")


def with_nan(path):
    header, tensors = header_and_tensors(path)
    at = header["layer.0.weight"]["data_offsets"][0]
    return assembled(header, tensors[:at] + b"\xff" * 8 + tensors[at + 8 :])


def of_the_size_of_a_gigabyte(path):
    return struct.pack("<Q", 2**30) + b"{}"


def with_a_long_name(path):
    """Return a file of few bytes whose class labels would have a gigabyte."""
    names = ["a" * 2**22, *(str(number) for number in range(100))]
    return with_entry("classes", value={"dtype": "str", "values": names})(path)


NAN = float("nan")
HISTORY = "memory", "history", 0
HOSTILE = {
    "empty": (lambda path: b"", "no safetensors file"),
    "pickle": (lambda path: pickle.dumps(Evil()), "no safetensors file, which begins"),
    "pickle of torch": (lambda path: torch_file(), "no safetensors file, which"),
    "text": (lambda path: b"TorchBlobClassifier()" * 9, "no safetensors file, which"),
    "truncated": (lambda path: path.read_bytes()[:-9], "no safetensors file"),
    "half a header": (lambda path: path.read_bytes()[:99], "no safetensors file"),
    "appended to": (lambda path: path.read_bytes() + b"x", "no safetensors file"),
    "a large header": (of_the_size_of_a_gigabyte, "that is over 16777216 bytes"),
    "ten gigabytes": (ten_gigabytes, "no safetensors file"),
    "another's": (
        lambda path: to_safetensors({"a": torch.ones(2)}),
        "not of torchblob",
    ),
    "shape": (with_tensor("layer.0.weight", shape=[4, 8]), "units, inputs"),
    "no layers": (without_tensors, "there is no layer"),
    "layers": (with_a_layer_of_three_inputs, "8 units is followed by one of 3 inputs"),
    "type": (with_tensor("layer.0.weight", dtype="I64"), "must be of shape"),
    "type unknown": (with_tensor("layer.0.weight", dtype="F65"), "no safetensors"),
    "offsets": (with_tensor("layer.0.bias", data_offsets=[8, 72]), "no safetensors"),
    "NaN": (with_nan, "infinite or NaN"),
    "no JSON": (with_json("{"), "no JSON"),
    "deep": (with_json("[" * 10**6), "no JSON"),
    "huge number": (with_json('{"format": ' + "9" * 10**6 + "}"), "no JSON"),
    "a list": (with_json("[]"), "no JSON object"),
    "newer": (with_entry("format", value=2), r"format 2, .*reads format 1: update"),
    "unknown": (with_entry("code", value="1"), r"unknown entries, \['code'\]"),
    "no name": (with_entry("estimator", value=3), "'estimator' must be str"),
    "other": (with_entry("estimator", value="SVC"), "it is of a 'SVC'"),
    "parameter": (with_entry("params", "depth", value=3), r"unknown .*\['depth'\]"),
    "of parameter": (with_entry("params", "lr", value="x"), "'lr' parameter"),
    "parameter range": (with_entry("params", "lr", value=-1), "'lr' parameter"),
    "pairs": (with_entry("params", "class_weight", value={"dict": 3}), "no pairs"),
    "code": (with_entry("params", "scoring", value={"code": "x"}), "scoring is code"),
    "seed": (with_entry("net", "params", "seed", value=2**64), r"seed' must be in"),
    "rate": (with_entry("net", "params", "lr", value=-1.0), r"lr' must be in"),
    "dropout": (with_entry("net", "params", "module__dropout", value=7), "dropout"),
    "of net": (with_entry("net", "params", "module", value="os"), "unknown entries"),
    "optimizer": (with_entry("net", "optimizer", value="os.system"), "'optimizer'"),
    "activation": (with_entry("net", "params", "module__activation", value="x"), "one"),
    "precision": (with_entry("net", "dtype", value="float32"), "must be of shape"),
    "frozen": (with_entry("memory", "frozen", value=[99]), "no such parameters"),
    "frozen type": (
        with_entry("memory", "frozen", value=[[]]),
        "must be a list of int",
    ),
    "rates": (
        with_entry("memory", "rates", value=[]),
        "'rates' must have an entry for each group",
    ),
    "of rates": (with_entry("memory", "rates", value=[{"lr": "x"}]), "'lr' must be"),
    "uphill": (with_entry("memory", "rates", value=[{"lr": -0.1}]), "lr' must be in"),
    "no rate": (with_entry("memory", "rates", value=[{"lr": NAN}]), "lr' must be in"),
    "huge rate": (
        with_entry("memory", "rates", value=[{"lr": 10**400}]),
        "'lr' must be in",
    ),
    "number": (with_entry("memory", "numbers", value={"x": 1}), "of no parameter"),
    "memory": (
        with_entry("memory", "numbers", value={"optimizer.0.step": 1}),
        "optimizer.0. has unknown",
    ),
    "memory of another": (
        with_entry("net", "optimizer", value="RMSprop"),
        r"optimizer.0. must have \['square_avg', 'step'\]",
    ),
    "memory of numbers": (
        with_numbers_for_tensors,
        "optimizer.0.step must be of shape .*, not 1",
    ),
    "loss": (with_entry(*HISTORY, "rows", 0, 2, value="x"), "'train_loss' must be"),
    "row": (with_entry(*HISTORY, "rows", 0, value=[]), "are no values of"),
    "epoch": (with_entry("best_epoch", value="x"), "'best_epoch' must be"),
    "no epoch": (with_entry("best_epoch", value=6), "best epoch, 6, is not in the"),
    "classes": (with_entry("classes", "values", value=[0, 1]), "2 classes, 3 logits"),
    "twice": (with_entry("classes", "values", value=[0, 0, 1]), "are no classes"),
    "of classes": (with_entry("classes", "values", value=["a", 0, 1]), "are no <i8"),
    "too large": (with_entry("classes", "values", value=[0, 1, 2**70]), "are no <i8"),
    "far too large": (
        with_entry("classes", value={"dtype": "<f4", "values": [0.0, 1e39, 1e40]}),
        "are no classes of <f4",
    ),
    "long names": (with_a_long_name, "names of the classes are too long"),
    "objects": (with_entry("classes", "dtype", value="|O"), "no classes of"),
    "long": (with_entry("classes", "dtype", value="<U999999999"), "no classes of"),
    "names": (with_entry("feature_names", value=["a"]), "1 names for 4 features"),
    "of names": (
        with_entry("feature_names", value=[1, 2, 3, 4]),
        "must be a list of str",
    ),
}


def torch_file():
    file = io.BytesIO()
    torch.save(Evil(), file)
    return file.getvalue()


@pytest.mark.parametrize(("forge", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_an_error_that_says_what_is_wrong(path, forge, message):
    path.write_bytes(forge(path))
    with pytest.raises(ValueError, match=message) as raised:
        torchblob.load(path, "cpu")
    assert str(raised.value).startswith(f"torchblob.load can't use '{path}'")


MEGABYTES = 300

LOAD_ALL = f"""
import resource, sys, time, torchblob
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + {MEGABYTES} * 2**20,) * 2)
for path in sys.argv[1:]:
    try:
        torchblob.load(path, "cpu")
    except ValueError:
        print(path)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_little_memory_does_for_hostile_files(path):
    paths = []
    for name, (forge, _) in HOSTILE.items():
        paths.append(path.with_name(f"{name}.safetensors"))
        paths[-1].write_bytes(forge(path))
    command = [sys.executable, "-c", LOAD_ALL, *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.stdout.split("\n")[:-1] == [str(path) for path in paths], run.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp_avg", torch.zeros(())),
        ("exp_avg_sq", torch.zeros(8, 3)),
        ("exp_avg", torch.zeros(8, 4, dtype=torch.float16)),
        ("step", torch.zeros(8, 4)),
        ("step", torch.zeros((), dtype=torch.int64)),
    ],
)
def test_what_an_optimizer_would_write_beyond_is_an_error(small, path, name, value):
    clf = TorchBlobClassifier(optimizer="adam", device="cpu", max_epochs=5)
    clf.set_params(n_iter_no_change=5).fit(*small)
    weight = clf.module_.linear_layers[0].weight
    clf.net_.optimizer_.state[weight][name] = value
    torchblob.save(clf, path)
    with pytest.raises(ValueError, match=f"optimizer.0.{name} must be of shape"):
        torchblob.load(path, "cpu")


ODD = [None, True, -1, 0, 2**63, 1e308, float("nan"), "", "x" * 999, [], [[]], {}]


def loaded_or_none(path):
    """Return a file's classifier, or None after an error that is torchblob's."""
    try:
        return torchblob.load(path, "cpu")
    except ValueError as error:
        if "torchblob.load can't use" not in str(error):
            raise
        return None


def places(content):
    """Yield each container in JSON with each of its keys."""
    if isinstance(content, dict | list):
        keys = content if isinstance(content, dict) else range(len(content))
        for key in keys:
            yield content, key
            yield from places(content[key])


def test_no_odd_entry_of_the_json_does_harm(small, path):
    text = header_and_tensors(path)[0]["__metadata__"]["torchblob"]
    rng = np.random.default_rng(0)
    n_places = len(list(places(json.loads(text))))
    original, outcomes = path.read_bytes(), set()
    for number in range(n_places):
        content = json.loads(text)
        container, key = list(places(content))[number]
        container[key] = ODD[rng.integers(len(ODD))]
        path.write_bytes(with_json(json.dumps(content))(path))
        clf = loaded_or_none(path)
        outcomes.add(clf is None)
        if clf is not None:
            assert np.isfinite(clf.predict_proba(small[0])).all()
            clf.partial_fit(*small)
        path.write_bytes(original)
    assert outcomes == {True, False}


def test_no_flipped_bit_goes_unnoticed(path):
    original = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(len(original), size=1000):
        data = bytearray(original)
        data[at] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        assert loaded_or_none(path) is None


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        torchblob.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="it is no regular file"):
        torchblob.load(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such devices")
def test_a_device_that_never_ends_is_no_file():
    with pytest.raises(ValueError, match=r"/dev/zero': it is no regular"):
        torchblob.load("/dev/zero")
