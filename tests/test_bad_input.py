"""The bad inputs that people bring, by the numbers of the list that the library is held to: each is met in words.

A message says what was expected, what came, and what to do. Three doors: `fit` and `from_data` take tables of any kind,
`log_prob` takes tensors. Numbers 30 and later belong to spaces, distances and files, and are tested with these.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from geoflow import ClassConditional, DiagonalNormal, GaussianMixture, StandardNormal, validate
from geoflow.flows import realnvp
from geoflow.train import fit
from tests.laws.tools import untouched

pytestmark = pytest.mark.usefixtures(
    "unchecked"
)  # users have no shape checker: the library's own words are what counts

Call = Callable[[Any], Any]


def rows(n: int = 60, dim: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, dim))


def put(value: float, *places: tuple[Any, Any]) -> np.ndarray:
    x = rows()
    for place in places:
        x[place] = value
    return x


def trained(x: Any, **options: Any) -> Any:
    return fit(realnvp(3, depth=2, hidden=(8,)), x, epochs=1, progress=False, seed=0, **options)


def fitted(x: Any) -> Any:
    return DiagonalNormal.from_data(x)


def mixed(x: Any) -> Any:
    return GaussianMixture.from_data(x, components=2)


def valued(x: Any) -> Any:
    return StandardNormal(3).double().log_prob(torch.as_tensor(x))


def labelled(x: Any) -> Any:
    return ClassConditional.from_data(x, np.arange(x.shape[0] if hasattr(x, "shape") else len(x)) % 2)


TABLES = {"fit": trained, "from_data": fitted, "mixture": mixed, "classes": labelled}
DOORS = {**TABLES, "log_prob": valued}


def met(doors: dict[str, Call]) -> Any:
    return pytest.mark.parametrize("call", doors.values(), ids=doors.keys())


def refused(call: Call, x: Any, kind: type[Exception], *words: str) -> None:
    """Raises that kind of error, with each of these in its message."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call(x)
    assert type(caught.value) is kind, caught.value
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


def warned(call: Call, x: Any, *words: str) -> None:
    """Goes through, with one warning that has each of these words."""
    with pytest.warns(UserWarning) as caught:
        call(x)
    messages = [str(w.message) for w in caught]
    assert any(all(re.search(word, m) for word in words) for m in messages), messages


# -- numbers that are none ---------------------------------------------------------------------------------------------


@met(DOORS)
def test_1_nan_row(call: Call) -> None:
    bad = put(np.nan, (4, 1), (7, slice(None)), (20, 0))
    refused(call, bad, ValueError, r"x of .* contains NaN in 3 of 60 rows \(row 4, 7, 20\)", "drop or impute")


@met(DOORS)
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_2_infinity(call: Call, value: float) -> None:
    bad = put(value, (slice(0, 5), 2))
    refused(call, bad, ValueError, r"contains infinity in 5 of 60 rows \(row 0, 1, 2 \.\.\.\)", "drop or impute")


@met(TABLES)
def test_3_column_of_nan(call: Call) -> None:
    refused(call, put(np.nan, (slice(None), 1)), ValueError, "column 1 of x is all NaN: drop it")


def test_3_column_of_nan_in_a_frame_has_its_name() -> None:
    frame = pd.DataFrame(put(np.nan, (slice(None), 1)), columns=["height", "weight", "age"])
    refused(trained, frame, ValueError, "'weight'", "all NaN: drop it")


# -- shapes ------------------------------------------------------------------------------------------------------------


@met(TABLES)
def test_4_no_rows(call: Call) -> None:
    refused(call, rows()[:0], ValueError, r"found array with 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 2")


def test_4_no_rows_are_fine_for_log_prob() -> None:
    assert valued(rows()[:0]).shape == (0,)


@met(TABLES)
def test_5_no_columns(call: Call) -> None:
    refused(
        call, rows()[:, :0], ValueError, r"found array with 0 feature\(s\) \(shape=\(60, 0\)\) while a minimum of 1"
    )


@met(TABLES)
def test_6_one_row(call: Call) -> None:
    refused(call, rows()[:1], ValueError, r"found array with 1 sample\(s\)", "minimum of 2 is required")


@met(TABLES)
def test_7_one_dimension(call: Call) -> None:
    refused(
        call, rows()[0], ValueError, "Expected 2D array, got 1D array instead", r"reshape\(-1, 1\).*reshape\(1, -1\)"
    )


def test_7_one_point_is_fine_for_log_prob() -> None:
    assert valued(rows()[0]).shape == ()


def test_8_wrong_number_of_columns() -> None:
    refused(trained, rows(dim=4), ValueError, "fit.*3 columns.* 4")
    refused(valued, rows(dim=4), ValueError, r"log_prob.*3 .*last axis.*\(60, 4\)")


@met(TABLES)
def test_9_three_dimensions(call: Call) -> None:
    refused(call, rows().reshape(5, 12, 3), ValueError, r"expected 2D array.*got 3D x of shape \(5, 12, 3\)")


def test_9_any_batch_is_fine_for_log_prob() -> None:
    assert valued(rows().reshape(5, 12, 3)).shape == (5, 12)


# -- types -------------------------------------------------------------------------------------------------------------


def test_10_whole_numbers() -> None:
    """A TypeError in the core; tables are cast, as people have them."""
    whole = np.random.default_rng(0).integers(0, 1000, (60, 3))
    refused(valued, whole, TypeError, "floating point", "int64", r"\.double\(\)")
    frame = pd.DataFrame(rows(), columns=list("abc")).assign(b=whole[:, 0])
    warned(trained, frame, "'b'", "whole numbers")  # number 23, not an error


@met(DOORS)
def test_11_half_precision(call: Call) -> None:
    half = rows().astype(np.float16)
    if call is valued:
        with pytest.warns(UserWarning, match=r"float16, too coarse for densities; cast up to float32"):
            assert StandardNormal(3).log_prob(torch.as_tensor(half)).dtype == torch.float32
    else:
        warned(call, half, "float16, too coarse for densities; cast up to float32")


@met(DOORS)
def test_12_complex_numbers(call: Call) -> None:
    refused(call, rows() + 1j, ValueError, "complex", "real")


@met(TABLES)
@pytest.mark.parametrize("bad", [[["a", "b", "c"]] * 3, np.array([[object()] * 3] * 4)], ids=["text", "objects"])
def test_13_text_and_objects(call: Call, bad: Any) -> None:
    refused(call, bad, ValueError, "must hold numbers", "drop or encode")


def test_13_the_core_takes_tensors() -> None:
    for bad in (rows(), rows().tolist(), "x", None):
        with pytest.raises(TypeError, match=r"expects `x` as a torch tensor, got \w+: pass torch\.as_tensor"):
            StandardNormal(3).log_prob(bad)


@met(TABLES)
def test_14_ragged_rows(call: Call) -> None:
    refused(call, [[1.0, 2.0, 3.0], [1.0, 2.0]], ValueError, "rows of x have different lengths")


@met(TABLES)
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
def test_15_sparse_matrix(call: Call, kind: Any) -> None:
    refused(call, kind(rows()), TypeError, "scipy sparse", r"\.toarray\(\)")


@met(TABLES)
def test_16_text_column(call: Call) -> None:
    frame = pd.DataFrame(rows(), columns=["height", "weight", "age"]).assign(weight="heavy", sex="f")
    refused(call, frame, ValueError, "column 'weight', 'sex' of x is not numeric", "drop or encode")


@met(TABLES)
def test_16_missing_values_of_nullable_columns(call: Call) -> None:
    frame = pd.DataFrame(rows(), columns=["height", "weight", "age"]).convert_dtypes()
    frame.loc[4, "weight"] = pd.NA
    refused(call, frame, ValueError, r"contains NaN in 1 of 60 rows \(row 4\)")


@met(TABLES)
def test_17_masked_array(call: Call) -> None:
    refused(call, np.ma.masked_less(rows(), 0), TypeError, "masked array", r"drop the masked rows|filled")


# -- values that no density fits ---------------------------------------------------------------------------------------


@met(TABLES)
def test_18_constant_column(call: Call) -> None:
    refused(call, put(2.5, (slice(None), 1)), ValueError, "column 1 is constant", "drop it", "--drop-constant")


def test_18_constant_column_of_a_frame_has_its_name() -> None:
    frame = pd.DataFrame(put(2.5, (slice(None), 1)), columns=["height", "weight", "age"])
    refused(trained, frame, ValueError, "column 'weight' is constant")


def test_18_constant_column_is_fine_elsewhere() -> None:
    assert valued(put(2.5, (slice(None), 1))).isfinite().all()


@met(TABLES)
def test_19_duplicates(call: Call) -> None:
    """More than 5 %: number and threshold are said. Fewer pass in silence."""
    x = rows(100)
    x[:10] = x[50]
    warned(call, x, "10 of 100 rows are exact duplicates", "10%, threshold 5%", "drop duplicates or add noise")
    x = rows(100)
    x[:4] = x[50]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(x)


@met(TABLES)
def test_20_rank_below_dimension(call: Call) -> None:
    x = rows()
    x[:, 2] = x[:, 0] - 2 * x[:, 1]
    warned(call, x, "rows span 2 of 3 dimensions", "bottleneck")


@met(TABLES)
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_21_22_extreme_scales(call: Call, scale: float, dtype: Any) -> None:
    """Warned about, and still fitted: the moments do not overflow."""
    x = (rows() * scale).astype(dtype)
    warned(call, x, r"scale \de" + ("-30" if scale < 1 else r"\+30"), "standardise")
    if call is fitted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert fitted(x).log_prob(torch.as_tensor(x)).isfinite().all()


@met(TABLES)
def test_23_whole_numbered_columns(call: Call) -> None:
    x = rows()
    x[:, 1] = np.round(10 * x[:, 1])
    warned(call, x, "column 1 holds whole numbers", "dequantise", "uniform noise")


@met({"fit": trained, "from_data": fitted})
def test_24_fewer_rows_than_columns(call: Call) -> None:
    wide = np.random.default_rng(0).normal(size=(20, 30))
    if call is trained:
        call = lambda x: fit(StandardNormal(30), x, progress=False)  # noqa: E731
    warned(call, wide, r"fewer rows \(20\) than columns \(30\)")


# -- good data in odd shapes -------------------------------------------------------------------------------------------


def views() -> dict[str, np.ndarray]:
    locked = rows()
    locked.setflags(write=False)
    double = np.repeat(np.repeat(rows(), 2, 0), 2, 1)
    return {
        "read only": locked,
        "Fortran order": np.asfortranarray(rows()),
        "negative strides": rows()[::-1, ::-1].copy()[::-1, ::-1],
        "every second": double[::2, ::2],
        "big endian": rows().astype(">f8"),
        "list": rows().tolist(),
        "frame": pd.DataFrame(rows()),
        "nullable frame": pd.DataFrame(rows()).convert_dtypes(),
    }


@met(TABLES)
@pytest.mark.parametrize("name", views())
def test_25_26_memory_layouts(call: Call, name: str) -> None:
    """The same rows in any layout give the same fit, and the caller's array is not written to."""
    given_rows = views()[name]
    before = np.array(given_rows, copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = call(given_rows)
        wanted = call(rows())
    assert np.array_equal(np.asarray(given_rows), before)
    if call is not trained:
        x, context = torch.as_tensor(rows()), torch.arange(60) % 2 if call is labelled else None
        assert torch.equal(result.log_prob(x, context), wanted.log_prob(x, context))


@met(DOORS)
def test_27_gradients_stay_the_callers(call: Call) -> None:
    for flag in (True, False):
        x = torch.as_tensor(rows()).requires_grad_(flag)
        with untouched(x):
            call(x)


# -- types and devices that do not meet --------------------------------------------------------------------------------


def test_28_precision() -> None:
    """`fit` casts to the model; elsewhere the two ways out are said."""
    model = realnvp(3, depth=2, hidden=(8,))
    fit(model, torch.as_tensor(rows()), epochs=1, progress=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for call in (model.log_prob, model.score, model.bijection.encode, model.bijection.decode):
        refused(
            call,
            torch.as_tensor(rows()),
            ValueError,
            "float64",
            "the model torch.float32",
            r"\.to\(torch\.float32\)",
            r"model\.to\(torch\.float64\)",
        )


def test_29_device() -> None:
    """Both are named (the meta device stands in for a GPU here)."""
    elsewhere = torch.zeros(4, 3, device="meta")
    model = realnvp(3, depth=2, hidden=(8,))
    for call in (model.log_prob, model.bijection.encode):
        refused(call, elsewhere, ValueError, "x is on meta", "the model on cpu", r"x\.to\('cpu'\)")


# -- context -----------------------------------------------------------------------------------------------------------


def float_model() -> Any:
    return realnvp(3, context=2, depth=2, hidden=(8,))


def test_36_context_missing_or_too_many() -> None:
    x = torch.as_tensor(rows()).float()
    for conditional in (float_model(), ClassConditional(3, 4)):
        for call in (conditional.log_prob, conditional.score, lambda x, m=conditional: fit(m, x, progress=False)):
            refused(call, x, TypeError, "conditional and needs context=", r"\(\*batch")
    model = realnvp(3, depth=2, hidden=(8,))
    for call in (model.log_prob, model.score, lambda x, c: fit(model, x, c, progress=False)):
        refused(lambda x, call=call: call(x, torch.zeros(60, 1)), x, TypeError, "takes no context", "leave it out")


def test_37_contexts_that_do_not_match_rows() -> None:
    x = torch.as_tensor(rows()).float()
    model = float_model()
    refused(
        lambda x: model.log_prob(x, torch.zeros(59, 2)),
        x,
        ValueError,
        r"batch \(59,\)",
        r"\(60,\)",
        "one context per row",
    )
    refused(lambda x: fit(model, x, torch.zeros(59, 2), progress=False), x, ValueError, "59", "60")
    refused(lambda x: fit(model, x, torch.zeros(60, 3), progress=False), x, ValueError, r"\b2\b", r"\b3\b")
    classes = ClassConditional(3, 4)
    refused(lambda x: fit(classes, x, np.full(59, 1), progress=False), x, ValueError, "59", "60")
    refused(lambda x: fit(classes, x, np.full(60, 4), progress=False), x, ValueError, "below 4", r"\[4, 4\]")
    refused(lambda x: fit(classes, x, np.full(60, 0.5), progress=False), x, TypeError, "integer labels")


def test_classes_need_labels_and_two_rows_each() -> None:
    refused(ClassConditional.from_data, rows(), TypeError, "needs context=, one integer label per row")
    lone = np.where(np.arange(60) == 3, 1, 0)
    refused(lambda x: ClassConditional.from_data(x, lone), rows(), ValueError, r"two rows of each class; class \[1\]")


def test_contexts_are_looked_at_like_data() -> None:
    x, model = torch.as_tensor(rows()).float(), float_model()
    bad = torch.zeros(60, 2)
    bad[5, 1] = torch.nan
    for call in (
        lambda c: model.log_prob(x, c),
        lambda c: fit(model, x, c, progress=False),
        lambda c: model.sample(2, c),
    ):
        refused(call, bad, ValueError, r"context of .* contains NaN in 1 of 60 rows \(row 5\)")
    refused(lambda c: model.log_prob(x, c), rows()[:, :2], TypeError, "context must be a tensor", "got ndarray")


# -- counts and shapes of draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "kind"),
    [
        (-1, ValueError),
        (2.5, ValueError),
        ("3", TypeError),
        (None, TypeError),
        ((2, -1), ValueError),
        (True, TypeError),
    ],
)
def test_numbers_of_draws(n: Any, kind: type[Exception]) -> None:
    refused(StandardNormal(2).sample, n, kind, "sample: n must be", r"-1|2\.5|'3'|None|True")


@pytest.mark.parametrize("build", [StandardNormal, DiagonalNormal, lambda d: GaussianMixture(d, 2), realnvp])
@pytest.mark.parametrize("dim", [0, -2, 1.5, "2"])
def test_sizes_of_models(build: Call, dim: Any) -> None:
    refused(build, dim, (ValueError if isinstance(dim, (int, float)) else TypeError), r"\bdim\b", str(dim))


# -- any array ---------------------------------------------------------------------------------------------------------


NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=8))
def test_a_table_is_finite_or_refused(values: list[list[float]]) -> None:
    """Whatever the numbers: a float tensor with the same values, or an error that says which rows."""
    array = np.array(values)
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        with pytest.raises(ValueError, match="NaN|infinity") as caught:
            validate.table(values, "test")
        if not np.isnan(array).all(0).any():
            assert f"in {bad.sum()} of {len(bad)} rows" in str(caught.value)
    else:
        table = validate.table(values, "test")
        assert table.dtype == torch.float64
        assert np.array_equal(table.numpy(), array)


SHAPES = st.lists(st.integers(0, 3), min_size=0, max_size=3).map(tuple)


@given(SHAPES, SHAPES)
def test_batches_of_points_and_contexts_broadcast_or_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """The result has the shape torch gives to the two, where it gives one."""
    model = ClassConditional(2, 3)
    x, labels = torch.zeros(*a, 2), torch.ones(b, dtype=torch.long)
    try:
        shape = torch.broadcast_shapes(a, b)
    except RuntimeError:
        with pytest.raises(ValueError, match="give one context per row"):
            model.log_prob(x, labels)
        return
    assert model.log_prob(x, labels).shape == shape
    assert model.score(x, labels).shape == (*shape, 2)
    assert model.sample(a, labels).shape == (*a, *b, 2)


def test_what_is_looked_at_costs_nothing_inside_transforms() -> None:
    """Value checks step aside under vmap; shapes are checked everywhere."""
    model = StandardNormal(3)
    x = torch.zeros(4, 3)
    x[1, 1] = torch.nan
    assert torch.vmap(model.log_prob)(x).isnan().tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="3 .*last axis"):
        torch.vmap(model.log_prob)(torch.zeros(4, 2))


def test_messages_of_first_rows() -> None:
    bad = torch.zeros(2, 3, 3)
    bad[1, 2, 0] = torch.inf
    with pytest.raises(ValueError, match=re.escape("in 1 of 6 rows (row (1, 2))")):
        StandardNormal(3).log_prob(bad)
    with pytest.raises(ValueError, match=r"in 1 of 1 rows \(the point\)"):
        StandardNormal(3).log_prob(torch.tensor([0.0, torch.nan, 0.0]))
