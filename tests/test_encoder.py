"""Raw columns become what networks learn from, whatever their units and tails."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from torchblob import _encoder
from torchblob._encoder import ColumnEncoder

PIECES = "piecewise_linear"


@pytest.fixture
def normal():
    return np.random.default_rng(0).normal(5.0, 3.0, (500, 3))


def encoded(X, encoding="standard", like=None, **kwargs):
    encoder = ColumnEncoder(encoding, dtype=np.float64)
    return encoder.fit(X if like is None else like, **kwargs).transform(X)


def test_without_far_values_columns_are_standardized(normal):
    near = normal[(np.abs(normal - 5) < 8).all(1)]
    np.testing.assert_allclose(encoded(near), StandardScaler().fit_transform(near))


@pytest.mark.parametrize("encoding", ["standard", PIECES])
def test_units_do_not_matter(normal, encoding):
    units = np.array([1e-300, 1.0, 1e300])
    np.testing.assert_allclose(
        encoded(normal * units, encoding), encoded(normal, encoding), rtol=1e-9
    )


def test_a_few_wild_values_hardly_move_the_others(normal):
    wild = normal.copy()
    wild[:5] = 1e12
    np.testing.assert_allclose(encoded(wild)[5:], encoded(normal)[5:], atol=0.5)
    assert np.abs(StandardScaler().fit_transform(wild)[5:]).max() < 0.2


def test_a_long_tail_leaves_the_middle_its_width():
    x = np.exp(5 * np.random.default_rng(0).normal(size=(2000, 1)))
    low, high = np.quantile(encoded(x), [0.1, 0.9])
    assert high - low > 1
    low, high = np.quantile(StandardScaler().fit_transform(x), [0.1, 0.9])
    assert high - low < 0.02


def test_far_values_keep_their_order_and_grow_by_the_logarithm(normal):
    far = np.array([[5.0 + 3.0 * d] * 3 for d in (-1e6, -100, -3, 0, 3, 100, 1e6)])
    z = encoded(far, like=normal)[:, 0]
    assert (np.diff(z) > 0).all()
    assert z[-1] == pytest.approx(3 + np.log(1e6), abs=0.2)
    assert z[0] == pytest.approx(-3 - np.log(1e6), abs=0.2)


def test_the_largest_numbers_stay_finite(normal):
    largest = np.finfo(float).max
    X = np.vstack([normal, np.full((1, 3), largest), np.full((1, 3), -largest)])
    for encoding in ("standard", PIECES):
        assert np.isfinite(encoded(X, encoding)).all()
        assert np.isfinite(encoded(X, encoding, like=normal)).all()


def test_pieces_are_the_share_of_each_bin_that_a_value_has_passed():
    x = np.arange(17.0)[:, None]
    encoder = ColumnEncoder(PIECES).fit(x)
    np.testing.assert_array_equal(encoder.edges_[0], [0, 2, 4, 6, 8, 10, 12, 14, 16])
    pieces = encoder.transform([[-100.0], [0.0], [3.0], [14.5], [100.0]])[:, 1:]
    np.testing.assert_array_equal(
        pieces,
        [
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [1, 0.5, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 1, 1, 0.25],
            [1, 1, 1, 1, 1, 1, 1, 1],
        ],
    )


def test_a_value_of_many_rows_is_an_edge_and_the_others_fill_bins_evenly():
    x = np.concatenate([np.zeros(80), np.arange(1.0, 21.0)])[:, None]
    edges = ColumnEncoder(PIECES).fit(x).edges_[0]
    np.testing.assert_array_equal(edges, [0, 1, 3, 6, 9, 12, 15, 18, 20])


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_column_of_mostly_one_value_with_a_long_tail_keeps_its_scale(share):
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < share, 0.0, np.exp(rng.normal(size=2000)))
    x[:5] = 1e9
    encoder = ColumnEncoder(PIECES).fit(x[:, None])
    assert encoder.scale_[0] < 10
    assert len(encoder.edges_[0]) > 5
    assert encoder.edges_[0][-2] < 100


def test_columns_of_few_values_have_few_bins_or_none(normal):
    X = np.column_stack(
        [normal[:, 0], normal[:, 1] > 5, np.arange(500) % 3, np.full(500, 7.0)]
    )
    encoder = ColumnEncoder(PIECES).fit(X)
    assert [len(edges) for edges in encoder.edges_] == [9, 0, 3, 0]
    assert encoder.transform(X).shape == (500, 4 + 8 + 2)


def test_a_column_that_is_constant_becomes_zero_and_a_rare_value_stays_in_view():
    X = np.zeros((1000, 2))
    X[:3, 1] = 1.0
    z = encoded(X)
    assert not z[:, 0].any()
    assert z[0, 1] > 3
    assert np.abs(z[3:, 1]).max() < 0.1


@pytest.mark.parametrize("encoding", ["standard", PIECES])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_a_row_of_weight_two_counts_as_two(normal, encoding, kind):
    weight = np.random.default_rng(1).integers(1, 4, 500)
    X, repeated = kind(normal), kind(np.repeat(normal, weight, axis=0))
    if kind is sparse.csr_array and encoding == PIECES:
        encoding = "standard"
    weighted = encoded(X, encoding, sample_weight=weight.astype(float))
    expected = ColumnEncoder(encoding, dtype=np.float64).fit(repeated).transform(X)
    if sparse.issparse(weighted):
        weighted, expected = weighted.toarray(), expected.toarray()
    np.testing.assert_allclose(weighted, expected, rtol=1e-12, atol=1e-12)


def test_of_sparse_data_zeros_stay_zeros_and_a_wild_value_moves_little():
    rng = np.random.default_rng(0)
    X = sparse.csr_array(rng.uniform(0, 40, (1000, 3)) * (rng.random((1000, 3)) < 0.2))
    wild = X.copy()
    wild.data[:3] = 1e20
    for data, tolerance in ((X, 1e-12), (wild, 0.4)):
        encoder = ColumnEncoder().fit(data)
        Z = encoder.transform(X)
        assert Z.format == "csr"
        assert Z.dtype == np.float32
        np.testing.assert_array_equal(Z.indices, X.indices)
        if data is X:
            before = Z.data
            magnitudes = np.exp(np.log(X.tocsc()[:, [0]].data).mean())
            assert encoder.scale_[0] == pytest.approx(magnitudes)
        np.testing.assert_allclose(Z.data, before, rtol=tolerance)
    assert ColumnEncoder().fit(sparse.csr_array((5, 2))).scale_.tolist() == [1, 1]
    stored = sparse.csr_array(([0.0, 4.0, 0.0], ([0, 1, 2], [0, 0, 0])), shape=(3, 1))
    assert ColumnEncoder().fit(stored).scale_ == pytest.approx([4])


def test_dense_and_sparse_rows_can_be_exchanged_after_the_fit(normal):
    normal[np.abs(normal - 5) < 2] = 0
    for encoding in ("standard", PIECES):
        encoder = ColumnEncoder(encoding).fit(normal)
        np.testing.assert_array_equal(
            encoder.transform(sparse.csr_array(normal)), encoder.transform(normal)
        )
    encoder = ColumnEncoder().fit(sparse.csr_array(normal))
    np.testing.assert_allclose(
        encoder.transform(normal),
        encoder.transform(sparse.csr_array(normal)).toarray(),
        rtol=1e-6,
    )


def test_rows_are_encoded_block_by_block(normal, monkeypatch):
    expected = encoded(normal, PIECES)
    monkeypatch.setattr(_encoder, "BLOCK_FLOATS", 100)
    np.testing.assert_array_equal(encoded(normal, PIECES), expected)


def test_the_data_stay_as_they_are(normal):
    for X in (normal, sparse.csr_array(normal)):
        before = X.copy()
        encoded(X)
        assert abs(X - before).max() == 0
