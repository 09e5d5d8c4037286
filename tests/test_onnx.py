"""A model written as ONNX answers as the classifier does, without torch."""

import json
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnxruntime import InferenceSession, SessionOptions
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.utils import parametrizations, prune

import torchblob
from torchblob import TorchBlobClassifier, _onnx, to_onnx
from torchblob.nn import ACTIVATIONS

NAMES = np.array(["ant", "bee", "cat"])


def fit(X, y, **params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10}
    return TorchBlobClassifier(**defaults | params).fit(X, y)


def open_session(path):
    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.fixture
def run(path):
    """Return a function that writes a classifier and runs the model on rows."""

    def write_and_run(clf, X):
        to_onnx(clf, path)
        return open_session(path).run(None, {"X": X})

    return write_and_run


def assert_same(answer, clf, X, atol=1e-5):
    labels, probabilities = answer
    expected = clf.predict_proba(X)
    assert probabilities.dtype == expected.dtype
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=atol)
    assert labels.tolist() == clf.predict(X).tolist()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("hidden_units", [(), 4, (7, 5, 3)], ids=str)
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-6), ("float64", 1e-7)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_answers_as_the_classifier_does(
    small, run, activation, dtype, atol, hidden_units, n_classes
):
    X, y = small[0].astype(dtype), small[1] % n_classes
    clf = fit(X, y, hidden_units=hidden_units, activation=activation, dropout=0.1)
    assert_same(run(clf, X), clf, X, atol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_valid_and_does_not_depend_on_one_runtime(small, path, activation, dtype):
    X, y = small[0].astype(dtype), small[1]
    clf = fit(X, y, activation=activation)
    to_onnx(clf, path)
    onnx.checker.check_model(path, full_check=True)
    assert_same(ReferenceEvaluator(str(path)).run(None, {"X": X}), clf, X)


# Of logits in the thousands, float32 rounds away what is below 1e-4.
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-3), ("float64", 1e-7)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_values_neither_overflow_nor_lose_more_than_rounding(
    small, run, activation, dtype, atol
):
    X, y = small[0].astype(dtype), small[1]
    clf = fit(X, y, activation=activation)
    X = X * 1e4
    assert_same(run(clf, X), clf, X, atol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_are_right_where_probabilities_are_equal(small, run, dtype):
    X = small[0].astype(dtype)
    clf = fit(X, small[1], hidden_units=())
    layer = clf.module_.linear_layers[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-1e-9, 0.0, 0.0]))
    labels, probabilities = run(clf, X)
    assert (probabilities[:, 0] == probabilities[:, 1]).all() == (dtype == "float32")
    assert (labels == 1).all()
    assert (clf.predict(X) == 1).all()


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_takes_any_number_of_rows(small, run, dtype, n_rows):
    X, y = small[0].astype(dtype), small[1]
    clf = fit(X, NAMES[y], activation="gelu")
    rows = np.resize(X, (n_rows, 4))
    labels, probabilities = run(clf, rows)
    assert labels.shape == (n_rows,)
    assert probabilities.shape == (n_rows, 3)
    if n_rows:
        assert_same((labels, probabilities), clf, rows)


def test_it_takes_many_classes_and_features(run):
    X = np.random.default_rng(0).normal(size=(600, 50)).astype(np.float32)
    clf = fit(X, np.arange(600) % 200 - 100, max_epochs=1)
    assert_same(run(clf, X), clf, X)


@pytest.mark.parametrize(
    "classes",
    [
        NAMES,
        np.array(["", "zoë", "日本"]),
        np.array(["ant", "bee", "cat"], dtype=object),
        np.array([-(2**63), 0, 2**63 - 1]),
        np.array([-128, 0, 127], dtype=np.int8),
        np.array([0, 1, 2**63 - 1], dtype=np.uint64),
        np.array([-1.0, 0.0, 3.0]),
        np.array([1.0, 2.0, 4.0], dtype=np.float16),
        np.array([False, True]),
    ],
    ids=lambda classes: f"{classes.dtype}: {classes.tolist()}",
)
def test_labels_are_strings_or_int64(small, path, classes):
    X, y = small
    clf = fit(X, classes[y % len(classes)])
    to_onnx(clf, path)
    session = open_session(path)
    labels, _ = session.run(None, {"X": X})
    assert (labels == clf.predict(X)).all()
    of_strings = isinstance(classes.tolist()[0], str)
    assert labels.dtype == (object if of_strings else np.int64)
    found = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert found == sorted(classes.tolist())


@pytest.mark.parametrize(
    "classes",
    [
        np.array([0, 2**63], dtype=np.uint64),
        np.array([0.0, 0.5]),
        np.array([0.0, 2.0**63]),
        np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[ns]"),
        np.array(["ant", "\ud800"]),
    ],
    ids=lambda classes: f"{classes.dtype}",
)
def test_classes_that_onnx_lacks_are_an_error(small, path, classes):
    clf = fit(small[0], small[1] % 2)
    clf.classes_ = classes
    with pytest.raises(ValueError, match=r"^to_onnx needs classes .* Got \["):
        to_onnx(clf, path)
    assert not path.exists()


def test_inputs_and_outputs_are_named_as_skl2onnx_names_them(small, path):
    to_onnx(fit(*small), path)
    session = open_session(path)
    (X,) = session.get_inputs()
    label, probabilities = session.get_outputs()
    assert (X.name, X.type, X.shape) == ("X", "tensor(double)", [None, 4])
    assert (label.name, label.type, label.shape) == ("label", "tensor(int64)", [None])
    assert probabilities.name == "probabilities"
    assert probabilities.type == "tensor(double)"
    assert probabilities.shape == [None, 3]


def test_metadata_say_who_wrote_it_and_what_the_columns_are(small, path):
    X = pd.DataFrame(small[0], columns=["a", "b", "größe", "d"])
    clf = fit(X, NAMES[small[1]])
    to_onnx(clf, path)
    session = open_session(path)
    meta = session.get_modelmeta()
    assert meta.producer_name == "torchblob"
    assert onnx.load(path).producer_version == torchblob.__version__
    assert meta.description.startswith("TorchBlobClassifier of torchblob")
    columns = json.loads(meta.custom_metadata_map["feature_names"])
    assert columns == ["a", "b", "größe", "d"]
    assert json.loads(meta.custom_metadata_map["classes"]) == NAMES.tolist()
    assert_same(session.run(None, {"X": X[columns].to_numpy()}), clf, X)


def test_features_without_names_leave_none_in_the_metadata(small, path):
    to_onnx(fit(*small), path)
    assert set(open_session(path).get_modelmeta().custom_metadata_map) == {"classes"}


def test_the_format_is_the_oldest_that_has_the_version_of_the_operators(small, path):
    to_onnx(fit(*small), path)
    model = onnx.load(path)
    assert model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]


def test_paths_are_strings_or_path_like_and_a_file_that_is_there_is_replaced(
    small, path
):
    X, y = small
    to_onnx(fit(X, y, hidden_units=50), str(path))
    clf = fit(X, y, hidden_units=2)
    to_onnx(clf, path)
    assert_same(open_session(path).run(None, {"X": X}), clf, X)
    assert list(path.parent.iterdir()) == [path]
    written = path.read_bytes()
    to_onnx(clf, path)
    assert path.read_bytes() == written


def test_a_model_that_can_not_be_written_leaves_the_file_that_is_there(small, path):
    path.write_bytes(b"before")
    clf = fit(*small)
    clf.classes_ = np.array([0.5, 1.5, 2.5])
    with pytest.raises(ValueError):
        to_onnx(clf, path)
    assert path.read_bytes() == b"before"


def test_the_classifier_stays_as_it_is(small, path):
    X, y = small
    clf = fit(X, y, momentum=0.9)
    before = {name: p.clone() for name, p in clf.module_.state_dict().items()}
    attributes = set(vars(clf))
    to_onnx(clf, path)
    after = clf.module_.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(vars(clf)) == attributes
    assert all(p.requires_grad for p in clf.module_.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_network_on_cuda_is_written_from_a_copy(small, run):
    X = small[0].astype(np.float32)
    clf = fit(X, small[1], device="cuda")
    assert_same(run(clf, X), clf, X)
    assert clf.device_.type == "cuda"


def parametrize_by_norm(module):
    parametrizations.weight_norm(module.linear_layers[0])


def prune_and_change(module):
    layer = module.linear_layers[1]
    prune.l1_unstructured(layer, "weight", amount=0.5)
    with torch.no_grad():
        layer.weight_orig.mul_(2)


def replace_activations(module):
    module.linear_layer_stack[1] = nn.Tanh()
    module.linear_layer_stack[3] = nn.LeakyReLU(-1.5)


def replace_by_another_elu(module):
    module.linear_layer_stack[1] = nn.ELU(alpha=0.3)


def replace_by_a_layer_without_bias(module):
    module.linear_layer_stack[2] = nn.Linear(8, 8, bias=False, dtype=torch.float64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "change",
    [
        parametrize_by_norm,
        prune_and_change,
        replace_activations,
        replace_by_another_elu,
        replace_by_a_layer_without_bias,
    ],
)
def test_a_changed_network_is_written_as_what_it_computes(small, run, change, dtype):
    clf = fit(*small, dtype=dtype)
    with torch.random.fork_rng():
        change(clf.module_)
    clf.module_.to(getattr(torch, dtype))
    X = torch.from_numpy(small[0].astype(dtype))
    labels, probabilities = run(clf, X.numpy())
    with torch.no_grad():
        logits = clf.module_(X)
    np.testing.assert_allclose(probabilities, logits.softmax(1), atol=1e-5)
    np.testing.assert_array_equal(labels, logits.argmax(1))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("at", "layer", "message"),
    [
        (0, Doubled(4, 8, dtype=torch.float64), r"number 0 .*Doubled\(.*computes more"),
        (1, nn.Softplus(), r"number 1 .*Softplus\(.*another kind"),
        (3, nn.GELU("tanh"), r"number 3 .*GELU\(approximate='tanh'\)"),
    ],
    ids=["linear", "activation", "approximation"],
)
def test_layers_that_it_does_not_know_are_an_error(small, path, at, layer, message):
    clf = fit(*small)
    clf.module_.linear_layer_stack[at] = layer
    with pytest.raises(ValueError, match=message):
        to_onnx(clf, path)


@pytest.mark.parametrize("at", [None, 1])
def test_hooks_are_an_error(small, path, at):
    clf = fit(*small)
    module = clf.module_ if at is None else clf.module_.linear_layer_stack[at]
    module.register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(ValueError, match="hooks"):
        to_onnx(clf, path)


def test_a_network_of_another_precision_is_an_error(small, path):
    clf = fit(*small)
    clf.module_.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"float32 or float64\. Got .* bfloat16"):
        to_onnx(clf, path)


def test_a_network_that_is_too_large_is_an_error(small, path, monkeypatch):
    clf = fit(*small, hidden_units=(100,))
    monkeypatch.setattr(_onnx, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"at most 1000 bytes.*\. Got .* 6448"):
        to_onnx(clf, path)


def test_a_classifier_that_is_not_fitted_is_an_error(path):
    with pytest.raises(NotFittedError):
        to_onnx(TorchBlobClassifier(), path)


def test_another_estimator_is_an_error_that_says_what_to_pass(small, path):
    net = TorchBlobClassifier(device="cpu", max_epochs=10, random_state=0)
    pipeline = make_pipeline(StandardScaler(), net).fit(*small)
    with pytest.raises(TypeError, match=r"Got Pipeline. Pass .* pipeline\[-1\]"):
        to_onnx(pipeline, path)
    to_onnx(pipeline[-1], path)


def test_without_the_package_onnx_the_error_says_what_to_install(
    small, path, monkeypatch
):
    clf = fit(*small)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        to_onnx(clf, path)
    assert not path.exists()
