"""The user's own vectors: every format read back exactly, every kind of damage named, splits by group."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from codebound.data.arrays import Vectors, load_vectors, split
from codebound.errors import InputError

X = np.random.default_rng(0).normal(size=(12, 3))


def npy(tmp_path, array, name="a.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def text(tmp_path, content, name="a.csv", encoding="utf-8"):
    (tmp_path / name).write_text(content, encoding=encoding)
    return tmp_path / name


def parquet(tmp_path, columns):
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ("float64", torch.float64),
        ("float32", torch.float32),
        (">f8", torch.float64),
        ("float16", torch.float32),
        ("uint8", torch.float32),
        ("int32", torch.float64),
        ("int64", torch.float64),
        ("bool", torch.float32),
    ],
)
def test_npy_keeps_values_exactly_whatever_the_type(tmp_path, stored, kept):
    array = (X * 50 + 120).astype(stored) if stored != "bool" else X > 0
    vectors = load_vectors(npy(tmp_path, array))
    assert vectors.values.dtype == kept
    np.testing.assert_array_equal(vectors.values.numpy(), array.astype(np.float64))
    assert vectors.name == "a"
    assert "a.npy" in vectors.note
    assert vectors.groups is None


def test_leading_axes_are_flattened_and_the_note_says_so(tmp_path):
    array = np.arange(24.0).reshape(2, 3, 4)
    vectors = load_vectors(npy(tmp_path, np.asfortranarray(array)))
    np.testing.assert_array_equal(vectors.values.numpy(), array.reshape(6, 4))
    assert "(2, 3, 4) flattened to [-1, 4]" in vectors.note


def test_the_axis_of_the_vectors_is_asked_for_and_moved_last(tmp_path):
    array = np.random.default_rng(0).standard_normal((2, 5, 3, 4)).astype("f4")
    path = npy(tmp_path, array)
    with pytest.raises(InputError, match=r"shape \(2, 5, 3, 4\) has 4 axes.*--axis.*1 for vectors of 5"):
        load_vectors(path)
    vectors = load_vectors(path, axis=1).values.numpy()
    np.testing.assert_array_equal(vectors, array.transpose(0, 2, 3, 1).reshape(-1, 5))
    np.testing.assert_array_equal(load_vectors(path, axis=-1).values.numpy(), array.reshape(-1, 4))
    with pytest.raises(InputError, match=r"axis=4 .* 0 to 3"):
        load_vectors(path, axis=4)


def test_npz_takes_the_only_array_or_the_named_one(tmp_path):
    np.savez(tmp_path / "one.npz", z=X)
    np.savez(tmp_path / "two.npz", z=X, labels=np.arange(12))
    np.testing.assert_array_equal(load_vectors(tmp_path / "one.npz").values.numpy(), X)
    named = load_vectors(f"{tmp_path}/two.npz:z")
    np.testing.assert_array_equal(named.values.numpy(), X)
    assert "array 'z'" in named.note
    with pytest.raises(
        InputError, match=r"holds 2 arrays; name one as two\.npz:KEY, arrays in the file: z, labels"
    ):
        load_vectors(tmp_path / "two.npz")
    with pytest.raises(InputError, match="no array 'y'; arrays in the file: z, labels"):
        load_vectors(f"{tmp_path}/two.npz:y")
    with pytest.raises(InputError, match=r"three\.npz', which does not exist"):
        load_vectors(f"{tmp_path}/three.npz:y")


@pytest.mark.parametrize(
    ("header", "said"),
    [(["x", "y", "width [mm]"], "is a header"), (None, "no header"), ([0, 1, 2], "is a header")],
)
def test_csv_with_and_without_a_header(tmp_path, header, said):
    pd.DataFrame(X).to_csv(tmp_path / "a.csv", index=False, header=header or False)
    vectors = load_vectors(tmp_path / "a.csv")
    np.testing.assert_allclose(vectors.values.numpy(), X, rtol=1e-12)
    assert said in vectors.note


def test_csv_from_a_spreadsheet_with_byte_order_mark_blanks_and_integers(tmp_path):
    path = text(tmp_path, "a, b\n1, 2\n\n3, 4.5\n", encoding="utf-8-sig")
    np.testing.assert_array_equal(load_vectors(path).values.numpy(), [[1, 2], [3, 4.5]])


def test_parquet_columns_and_lists(tmp_path):
    path = parquet(tmp_path, {"a": X[:, 0], "b": np.arange(12, dtype=np.int32)})
    np.testing.assert_array_equal(
        load_vectors(path).values.numpy(), np.stack([X[:, 0], np.arange(12)], axis=1)
    )
    path = parquet(tmp_path, {"embedding": list(X.astype(np.float32))})
    vectors = load_vectors(path)
    assert vectors.values.dtype == torch.float32
    np.testing.assert_array_equal(vectors.values.numpy(), X.astype(np.float32))


def with_value(value, *rows):
    array = X.copy()
    array[list(rows), 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (X[:, 0], r"shape \(12,\); \[n, dim\] is accepted .*reshape\(-1, 1\)"),
        (np.float64(3), r"shape \(\); \[n, dim\]"),
        (with_value(np.nan, 4, 9), "2 of 12 rows hold a NaN.* the first is row 4"),
        (with_value(np.inf, 7), "1 of 12 rows .* the first is row 7"),
        (X[:1], r"1 row, shape \(1, 3\); at least 2 accepted"),
        (X[:0], "no rows"),
        (np.empty((0, 2, 3)), "no rows"),
        (X[:, :0], "zero columns"),
        (X + 1j, "complex128.* store real and imaginary parts"),
        (np.full((5, 2), 3.5), "all 5 rows are equal"),
        (X.astype(str), "real numbers are accepted"),
        (X * 1e200, "scale is out of range"),
        (X * 1e-200, "scale is out of range"),
        (X.astype("datetime64[s]"), "real numbers are accepted"),
    ],
)
def test_arrays_that_cannot_be_quantized_are_refused(tmp_path, array, message):
    with pytest.raises(InputError, match=message) as raised:
        load_vectors(npy(tmp_path, array))
    assert "a.npy" in str(raised.value)


def test_constant_columns_alone_are_fine(tmp_path):
    array = X.copy()
    array[:, 0] = 1
    assert load_vectors(npy(tmp_path, array)).values.shape == (12, 3)


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([[1, "a"], [None, 2]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"Python objects .* never unpickled"):
        load_vectors(path)
    np.savez(tmp_path / "a.npz", z=np.array([None, 2], dtype=object))
    with pytest.raises(InputError, match=r"Python objects .* never unpickled"):
        load_vectors(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,x4\n5,6\n", r"column 'b' is not numeric .* row 1 .* holds 'x4'"),
        ("1,2\n3,four\n", r"column 1 .0 is the first. is not numeric .* row 1 .* holds 'four'"),
        ("1,two\n3,4\n5,6\n", "first row mixes names and numbers, column 1 holds 'two'"),
        (",a,b\n0,1,2\n1,3,5\n", "looks like a row index"),
        (",0,1\n0,1,2\n1,3,5\n", "looks like a row index"),
        ("a,b\n1,2\n3,\n", "1 of 2 rows hold .* missing value, the first is row 1"),
        ("1,2\n3\n", "missing value, the first is row 1"),
        ("1,2\n3,4,5\n", "can't be read as .csv: .*line 2"),
        ("a,b\n1,2,3\n3,4,5\n", "can't be read as .csv"),
        ("a,b\n1,2\n3,inf\n", "the first is row 1"),
        ("", "the file is empty"),
        ("a,b\n", "0 rows of 2 columns"),
        ("a;b\n1;2\n3;4\n", r"column 'a;b' is not numeric .* row 0 .* holds '1;2'"),
    ],
)
def test_csv_damage_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        load_vectors(text(tmp_path, content))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, 2.0], "label": ["cat", "dog"]}, r"column 'label' is not numeric .* row 0 .* 'cat'"),
        (
            {"a": [1.0, 2.0], "when": pd.to_datetime(["2020-01-01", "2020-01-02"])},
            "column 'when' is not numeric",
        ),
        ({"a": [1.0, 2.0], "v": [[1.0], [2.0]]}, "column 'v' of lists stands among 2 columns"),
        ({"v": [[1.0, 2.0], [3.0]]}, "row 1 of column 'v' holds 1 numbers"),
        ({"v": [[1.0, 2.0], None]}, "row 1 of column 'v' holds no list"),
        ({"v": [["a"], ["b"]]}, "real numbers are accepted"),
        ({"a": [1.0, None, 3.0]}, "the first is row 1"),
        ({"a": pd.array([1, None, 3], dtype="Int64")}, "the first is row 1"),
        ({"a": []}, "0 rows"),
    ],
)
def test_parquet_damage_is_named(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        load_vectors(parquet(tmp_path, columns))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".csv"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00garbage\x81", b""])
def test_files_that_are_not_what_they_say_are_named(tmp_path, suffix, content):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"bad{suffix}"):
        load_vectors(path)


def test_a_cut_off_npy_is_named(tmp_path):
    path = npy(tmp_path, X)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"a\.npy can't be read as \.npy"):
        load_vectors(path)


def test_missing_files_and_unknown_suffixes(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.npy', which does not exist"):
        load_vectors(tmp_path / "nothing.npy")
    with pytest.raises(
        InputError, match=r"suffix '\.pkl'; accepted: \.npy, \.npz, \.csv, \.parquet, or a folder"
    ):
        load_vectors(text(tmp_path, "", "a.pkl"))


def image_folder(tmp_path, number=5):
    for i in range(number):
        pixels = np.random.default_rng(i).integers(40 * i, 40 * i + 30, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_folder_of_images_gives_grouped_patches(tmp_path):
    vectors = load_vectors(image_folder(tmp_path), count=52, size=4, seed=3)
    assert vectors.values.shape == (52, 16)
    assert vectors.group_names == ("0.png", "1.png", "2.png", "3.png", "4.png")
    assert vectors.groups is not None
    assert vectors.groups.bincount().tolist() == [11, 11, 10, 10, 10]
    assert ((vectors.values * 255 / 40).floor() == vectors.groups[:, None]).all()
    assert torch.equal(vectors.values, load_vectors(tmp_path, count=52, size=4, seed=3).values)
    assert not torch.equal(vectors.values, load_vectors(tmp_path, count=52, size=4, seed=4).values)
    assert "52 luminance patches of 4x4 from 5 images" in vectors.note


def test_split_by_row_is_a_partition_that_repeats_by_seed():
    vectors = Vectors(torch.arange(200.0).reshape(100, 2), "v", "made")
    train, held = split(vectors, held_out_fraction=0.25, seed=1)
    assert len(held.values) == 25
    joined = torch.cat([train.values, held.values])
    assert torch.equal(joined[joined[:, 0].argsort()], vectors.values)
    assert torch.equal(held.values, split(vectors, held_out_fraction=0.25, seed=1)[1].values)
    assert not torch.equal(held.values, split(vectors, held_out_fraction=0.25, seed=2)[1].values)
    assert "held out" in held.note


@pytest.mark.parametrize(("fraction", "images"), [(0.01, 1), (0.4, 2), (0.99, 4)])
def test_split_by_group_never_divides_an_image(tmp_path, fraction, images):
    vectors = load_vectors(image_folder(tmp_path), count=50)
    train, held = split(vectors, held_out_fraction=fraction, seed=0)
    assert train.groups is not None
    assert held.groups is not None
    assert len(held.groups.unique()) == images
    assert not set(train.groups.tolist()) & set(held.groups.tolist())
    assert len(train.values) + len(held.values) == 50
    assert held.group_names == vectors.group_names
    assert ((held.values * 255 / 40).floor() == held.groups[:, None]).all()


def test_split_refuses_what_it_cannot_do(tmp_path):
    vectors = load_vectors(image_folder(tmp_path, 1), count=50)
    with pytest.raises(InputError, match="has 1 image; a split needs at least 2"):
        split(vectors)
    rows = Vectors(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)), "v", "made")
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="held_out_fraction is"):
            split(rows, held_out_fraction=fraction)


def test_an_archive_named_npy_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, z=X)
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=r"holds an archive"):
        load_vectors(tmp_path / "a.npy")
