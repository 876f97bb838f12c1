"""compress-vectors and decompress-vectors: arrays of every kind of file there and back, and what is refused."""

import json
import math
import re
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from codebound import Trellis
from codebound.cli.main import app
from codebound.codec import arrays
from codebound.codec.arrays import Aim, compress_arrays, decompress_arrays, opened
from codebound.codec.vectors import compress_vectors, decompress_vectors
from codebound.coding.errors import CodecError, DamagedFile
from codebound.errors import InputError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_embeddings_there_and_back(tmp_path):
    source, file = tmp_path / "e.npy", tmp_path / "e.cbv"
    z = gaussian(20_000, 8).numpy() * np.arange(1, 9, dtype=np.float32)
    np.save(source, z)
    result = run("compress-vectors", source, "--bits", 2.5, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert row["bytes"] == file.stat().st_size
    assert row["bits_per_value"] == pytest.approx(2.5, rel=0.02)
    assert 0.3 < row["above_gaussian_db"][0] < 0.6
    assert row["above_shannon_db"][0] == pytest.approx(row["above_gaussian_db"][0], abs=0.2)

    # What it said of the error is so.
    assert run("decompress-vectors", file).exit_code == 0
    again = np.load(tmp_path / "e.cbv.npy")
    assert again.dtype == np.float32
    snr = 10 * np.log10(z.var(0).sum() * len(z) / ((again - z) ** 2).sum())
    assert row["snr_db"][0] == pytest.approx(snr, abs=0.01)

    # Nothing is replaced unasked, and the file is what info and verify take.
    assert run("compress-vectors", source).exit_code == 2
    (said,) = json.loads(run("info", file, "--json").stdout)
    assert (said["shape"], said["states"], said["coded"]) == ("20000×8", 8, 8)
    (checked,) = json.loads(run("verify", file, "--json").stdout)
    assert (checked["values"], checked["verdict"]) == (160_000, "right")
    file.write_bytes(file.read_bytes()[:-3])
    assert run("verify", file).exit_code == 2


def test_a_fixed_number_of_bits(tmp_path):
    source, z = tmp_path / "e.npy", gaussian(600, 32).numpy() * np.arange(1, 33, dtype=np.float32)
    np.save(source, z)
    result = run("compress-vectors", source, "--bits", 1, "--fixed", "--json")
    assert result.exit_code == 0, result.output
    (said,) = json.loads(run("info", tmp_path / "e.cbv", "--json").stdout)
    # Besides header, table and checksums a bit a value.
    assert 600 * 32 // 8 < said["bytes"] - said["header_bytes"] < 600 * 32 // 8 + 40
    assert run("decompress-vectors", tmp_path / "e.cbv").exit_code == 0
    again = np.load(tmp_path / "e.cbv.npy")
    assert 10 * np.log10(z.var(0).sum() * len(z) / ((again - z) ** 2).sum()) > 4.2
    result = run("compress-vectors", source, "--bits", 2.5, "--fixed", "--force")
    assert result.exit_code == 2
    assert "1, 2, 3 or 4" in " ".join(result.output.split())


def test_a_checkpoint_keeps_names_shapes_and_types(tmp_path):
    weights = {
        "layers.0.weight": gaussian(40, 24),
        "layers.0.bias": gaussian(24).half(),
        "layers.1.weight": gaussian(6, 5, 3, 3).bfloat16(),
        "scale": torch.tensor(2.5),
    }
    save_file(weights, tmp_path / "m.safetensors")
    result = run(
        "compress-vectors", tmp_path / "m.safetensors", "--snr", 20, "--out", tmp_path / "m.cbv", "--json"
    )
    assert result.exit_code == 0, result.output
    assert (
        run("decompress-vectors", tmp_path / "m.cbv", "--out", tmp_path / "again.safetensors").exit_code == 0
    )
    again = load_file(tmp_path / "again.safetensors")
    assert {k: (v.shape, v.dtype) for k, v in again.items()} == {
        k: (v.shape, v.dtype) for k, v in weights.items()
    }
    error = (again["layers.0.weight"] - weights["layers.0.weight"]).square().mean()
    assert float(error) == pytest.approx(0.01, rel=0.15)

    # Whole numbers are left out, which is said; by themselves they are refused.
    save_file({**weights, "steps": torch.arange(3), "mask": torch.ones(2) > 0}, tmp_path / "b.safetensors")
    result = run("compress-vectors", tmp_path / "b.safetensors", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["left_out"] == ["mask", "steps"]
    assert "mask (bool), steps (int64)" in result.stderr
    assert list(opened((tmp_path / "b.cbv").read_bytes())) == sorted(weights)
    alone = run("compress-vectors", tmp_path / "b.safetensors", "--only", "steps", "-o", tmp_path / "s.cbv")
    assert alone.exit_code == 2
    assert "steps" in alone.output

    # Some of them only.
    only = run(
        "compress-vectors", tmp_path / "m.safetensors", "-o", tmp_path / "o.cbv", "--only", "layers.*.weight"
    )
    assert only.exit_code == 0, only.output
    assert list(opened((tmp_path / "o.cbv").read_bytes())) == ["layers.0.weight", "layers.1.weight"]
    none = run("compress-vectors", tmp_path / "m.safetensors", "-o", tmp_path / "n.cbv", "--only", "head.*")
    assert none.exit_code == 2
    assert not (tmp_path / "n.cbv").exists()


@pytest.mark.slow
def test_the_axis_of_a_vector_and_other_files(tmp_path):
    z = gaussian(4, 3, 50)
    data, (report,) = compress_arrays([("maps", z)], Aim(snr=20.0), axis=1)
    assert report.dim == 3
    assert decompress_arrays(data)["maps"].shape == z.shape
    assert float((decompress_arrays(data)["maps"] - z).square().mean() / z.var()) == pytest.approx(
        0.01, rel=0.1
    )

    np.savez(tmp_path / "a.npz", one=z.numpy(), two=z[0].numpy())
    pd.DataFrame(z[0].T.numpy(), columns=list("xyz")).to_parquet(tmp_path / "b.parquet")
    for name in ("a.npz", "b.parquet"):
        result = run("compress-vectors", tmp_path / name)
        assert result.exit_code == 0, result.output


def test_embeddings_in_parquet_beside_other_columns(tmp_path):
    z = gaussian(200, 6).numpy()
    table = {"id": range(200), "text": ["a"] * 200, "embedding": list(z), "tokens": [[1, 2]] * 200}
    pd.DataFrame(table).to_parquet(tmp_path / "e.parquet")
    result = run("compress-vectors", tmp_path / "e.parquet", "--snr", 20, "--json")
    assert result.exit_code == 0, result.output
    assert "left out, as only its columns of lists are taken: id, text" in result.stderr
    assert json.loads(result.stdout)[0]["left_out"] == ["tokens"]
    again = decompress_arrays((tmp_path / "e.cbv").read_bytes())
    assert list(again) == ["embedding"]
    assert ((again["embedding"].numpy() - z) ** 2).mean() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize(
    ("aim", "match"),
    [
        ({}, "one of bits, distortion and snr"),
        ({"bits": 1.0, "snr": 3.0}, "one of bits, distortion and snr"),
        ({"bits": 0.0}, "bits is 0"),
        ({"bits": 17.0}, "bits is 17"),
        ({"bits": 2.5, "fixed": True}, "1, 2, 3 or 4; got 2.5"),
        ({"snr": 2.0, "fixed": True}, "1, 2, 3 or 4; got None"),
        ({"snr": -1.0}, "snr is -1"),
    ],
)
def test_aims_that_are_none(aim, match):
    with pytest.raises(InputError, match=match):
        Aim(**aim)


def test_arrays_that_are_refused(tmp_path):
    bad = gaussian(20, 2)
    bad[3] = float("nan")
    with pytest.raises(CodecError, match="w: z has 2 vectors with NaN"):
        compress_arrays([("w", bad)], Aim(bits=2.0))
    with pytest.raises(CodecError, match=r"ids: an array of torch\.int64"):
        compress_arrays([("ids", torch.arange(5))], Aim(bits=2.0))
    with pytest.raises(CodecError, match="names must differ"):
        compress_arrays([("w", bad[:2]), ("w", bad[:2])], Aim(bits=2.0))
    with pytest.raises(CodecError, match="got none"):
        compress_arrays([], Aim(bits=2.0))
    (tmp_path / "no.npy").write_bytes(b"no array")
    np.save(tmp_path / "objects.npy", np.array([1, None]), allow_pickle=True)
    for name, reason in (("no.npy", "it starts with b'no arr'"), ("objects.npy", "never unpickled")):
        refused = run("compress-vectors", tmp_path / name)
        assert refused.exit_code == 2
        said = " ".join(refused.output.split())
        assert reason in said
        assert "allow_pickle" not in said


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (torch.float64, 1e-200),
        (torch.float64, 1e300),
        (torch.float64, 1e-310),
        (torch.float32, 1e-30),
        (torch.float32, 1e30),
        (torch.bfloat16, 1e30),
    ],
)
def test_scales_beyond_float32s_squares_lose_no_more(dtype, factor, fixed):
    z = gaussian(2000, 8).double()
    _, (plain,) = compress_arrays([("", z)], Aim(bits=2.0, fixed=fixed))
    data, (report,) = compress_arrays([("", (z * factor).to(dtype))], Aim(bits=2.0, fixed=fixed))
    assert report.snr == pytest.approx(plain.snr, abs=0.1)
    assert report.above_gaussian == pytest.approx(plain.above_gaussian, abs=0.1)

    # What was said is so, by arithmetic of one's own.
    again = decompress_arrays(data)[""]
    assert again.dtype == dtype
    error = again.double() / factor - z
    snr = 10 * math.log10(float(z.var(0, correction=0).sum()) / float(error.square().sum(1).mean()))
    assert snr == pytest.approx(report.snr, abs=0.05)


def test_a_distortion_is_one_of_the_scale():
    z = gaussian(4000, 4).double() * 1e-150
    data, _ = compress_arrays([("", z)], Aim(distortion=0.4e-300))
    error = (decompress_arrays(data)[""] - z) * 1e150
    assert float(error.square().sum(1).mean()) == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_at_the_limits_of_their_type(dtype):
    """What would be decoded beyond them is the largest number, so that no data is refused."""
    most = torch.finfo(dtype).max
    z = (gaussian(2000, 8).double().clamp(-1, 1) * most).to(dtype)
    data, (report,) = compress_arrays([("", z)], Aim(bits=6.0))
    again = decompress_arrays(data)[""]
    assert again.dtype == dtype
    assert float(again.double().abs().max()) == most
    error = (again.double() / most - z.double() / most).square().sum(1).mean()
    spread = (z.double() / most).var(0, correction=0).sum()
    assert 10 * math.log10(float(spread / error)) == pytest.approx(report.snr, abs=0.05)
    assert report.snr > 32


def test_a_reproduction_beyond_float32_is_refused_by_the_layer():
    z = gaussian(500, 8).sign() * torch.finfo(torch.float32).max
    with pytest.raises(InputError, match=r"values of up to 3.4e\+38; values up to 1e\+16 are accepted"):
        Trellis(8, rate=8.0).init_(z)
    with pytest.raises(InputError, match=r"values of up to 1e\+300; values up to 1e\+16"):
        Trellis(1, rate=1.0).init_(torch.full((3, 1), 1e300, dtype=torch.float64))


@pytest.mark.parametrize("mean", [1e5, 1e8 + 1, -1e9 - 30])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_mean_that_float32_rounds_by_more_than_the_error(mean, fixed):
    z = gaussian(500, 8).double()
    data, (report,) = compress_arrays([("", z + mean)], Aim(bits=2.0, fixed=fixed))
    _, (plain,) = compress_arrays([("", z)], Aim(bits=2.0, fixed=fixed))
    assert report.snr == pytest.approx(plain.snr, abs=0.3)
    error = (decompress_arrays(data)[""] - (z + mean)).square().mean()
    assert -10 * math.log10(float(error)) == pytest.approx(plain.snr, abs=0.3)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_mean_that_a_file_rounds_by_more_than_the_error(fixed):
    z = gaussian(500, 8).double()
    said = re.escape("a mean of up to 1e+12 and a spread of ")
    with pytest.raises(CodecError, match=f"{said}.*33 bits.*subtract the mean first"):
        compress_arrays([("", z + 1e12)], Aim(bits=2.0, fixed=fixed))


@pytest.mark.parametrize("mean", [1e8, -1e9, 1e12])
def test_a_layer_whose_mean_is_float32(mean):
    z = gaussian(500, 8).double() + mean
    quantizer = Trellis(8, rate=16.0)
    quantizer.init_(z)
    said = re.escape(f"a mean of up to {abs(mean):.3g} and a spread of ")
    with pytest.raises(CodecError, match=f"{said}.*computes in float32.*subtract the mean first"):
        compress_vectors(z, quantizer.eval())


@pytest.mark.parametrize("bits", [0.5, 2.0, 8.0])
def test_one_component_of_a_large_mean_and_a_small_spread(bits):
    """It is below the water level of the others: then it is its mean, which float32 would miss by thirty spreads."""
    plain = gaussian(2000, 8).double() * torch.tensor([1.0] + [1000.0] * 7)
    z = plain + torch.tensor([1e9 + 30.0] + [0.0] * 7, dtype=torch.float64)
    data, (report,) = compress_arrays([("", z)], Aim(bits=bits))
    error = (decompress_arrays(data)[""] - z).square().mean(0)
    assert float(error[0]) < 1.1
    _, (without,) = compress_arrays([("", plain)], Aim(bits=bits))
    assert report.snr == pytest.approx(without.snr, abs=0.1)

    quantizer = Trellis(8, rate=8 * bits)
    quantizer.init_(z)
    with pytest.raises(CodecError, match=r"a mean of up to 1e\+09 and a spread of (1\.|0\.9).*float32"):
        compress_vectors(z, quantizer.eval())


def test_constants_are_kept_to_float32():
    data, _ = compress_arrays([("", torch.full((500, 3), 1e9 / 3, dtype=torch.float64))], Aim(bits=2.0))
    assert float((decompress_arrays(data)[""] * 3e-9 - 1).abs().max()) < 2.0**-24


@pytest.mark.parametrize(("bits", "dim", "least"), [(1, 8, 4.3), (2, 8, 9.3), (2, 16, 10.0), (4, 12, 20.0)])
def test_short_vectors_of_a_fixed_rate_are_no_worse_than_scalars(bits, dim, least):
    _, (report,) = compress_arrays([("", gaussian((1 << 15) // dim, dim))], Aim(bits=float(bits), fixed=True))
    assert report.snr > least


@pytest.mark.parametrize(
    ("z", "fixed", "match"),
    [
        (torch.zeros(500, 0), False, r"shape \[500, 0\] has vectors of no component"),
        (torch.zeros(500, 0), True, r"shape \[500, 0\] has vectors of no component"),
        (torch.zeros(500), True, "1 components; a fixed rate of 2 bits needs 8 at least"),
        (torch.zeros(500, 6), True, "6 components; a fixed rate of 2 bits needs 8 at least"),
        (torch.zeros(0, 8), True, "a fixed rate needs 1 vector at least"),
        (torch.full((5, 8), torch.nan), True, "z has 5 vectors with NaN"),
        (torch.full((500, 8), torch.nan), False, "z has 500 vectors with NaN"),
    ],
)
def test_arrays_that_no_code_is_for(z, fixed, match):
    with pytest.raises(CodecError, match=match):
        compress_arrays([("", z)], Aim(bits=2.0, fixed=fixed))


@pytest.mark.parametrize("aim", [{"bits": 15.0}, {"snr": 90.0}])
def test_the_ends_of_the_stated_ranges_are_accepted(aim):
    _, (report,) = compress_arrays([("", gaussian(4000, 4))], Aim(**aim))
    assert 89 < report.snr < 91


def test_what_the_commands_refuse_and_take(tmp_path):
    z = gaussian(300, 8).numpy()
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "swapped.npy", z.astype(">f4"))
    np.save(tmp_path / "long.npy", z.astype(np.longdouble))
    np.savez(tmp_path / "none.npz")

    # Another order of bytes makes the same file.
    for name in ("z", "swapped"):
        assert run("compress-vectors", tmp_path / f"{name}.npy").exit_code == 0
    assert (tmp_path / "z.cbv").read_bytes() == (tmp_path / "swapped.cbv").read_bytes()

    for arguments, reason in (
        (("compress-vectors", "-"), "stdin (-) is not accepted"),
        (("compress-vectors", tmp_path / "none.npz"), "no array is in it"),
        (("compress-vectors", tmp_path / "long.npy"), f"is of type {np.dtype(np.longdouble)}"),
        (
            ("compress-vectors", tmp_path / "z.npy", "--fixed", "--states", 8, "--force"),
            "--states is not accepted",
        ),
        (
            ("decompress-vectors", tmp_path / "z.cbv", "--out", tmp_path / "y.txt"),
            "accepted suffixes are .npy",
        ),
        (
            ("decompress-vectors", tmp_path / "z.cbv", "--out", tmp_path / "y.parquet"),
            "accepted suffixes are .npy",
        ),
    ):
        found = run(*arguments)
        assert found.exit_code == 2, found.output
        assert reason in " ".join(found.output.split())
    assert not list(tmp_path.glob("y.*"))

    # A table that is much of a file is said.
    np.save(tmp_path / "wide.npy", gaussian(100, 64).numpy())
    found = run("compress-vectors", tmp_path / "wide.npy", "--fixed")
    assert found.exit_code == 0
    assert "tables and axes are" in " ".join(found.output.split())


def test_no_damage_passes():
    data, _ = compress_arrays([("a", gaussian(10, 2)), ("b", gaussian(3))], Aim(bits=2.0))
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decompress_arrays(data[:length])
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 16
        with pytest.raises(CodecError):
            decompress_arrays(bytes(damaged))


def test_vectors_by_themselves_are_a_file_too(tmp_path):
    file, z, quantizer = tmp_path / "v.cbv", gaussian(500, 4), Trellis(4, rate=8.0)
    quantizer.init_(z)
    file.write_bytes(compress_vectors(z, quantizer))
    (said,) = json.loads(run("info", file, "--json").stdout)
    assert (said["array"], said["shape"]) == ("", "500×4")
    assert run("verify", file).exit_code == 0
    assert run("decompress-vectors", file).exit_code == 0
    assert np.array_equal(np.load(tmp_path / "v.cbv.npy"), decompress_vectors(file.read_bytes()).numpy())


def test_an_axis_that_an_array_has_not_is_damage():
    data, _ = compress_arrays([("a", gaussian(40, 1))], Aim(bits=2.0))
    # After signature, version and count: the name's length, the number of axes, and which of them is the vector's.
    assert list(data[4:9]) == [1, 1, 1, 2, 1]
    end = data.index(b"a", 9) + 1
    head = data[:8] + bytes([2]) + data[9:end]
    with pytest.raises(DamagedFile, match="vector's axis"):
        opened(head + zlib.crc32(head).to_bytes(4, "little") + data[end + 4 :])


def test_sparse_vectors_are_no_worse_than_as_scalars():
    z = gaussian(4096, 8) * gaussian(4096, 8, seed=1).square()
    found, scalars = arrays.fitted(z, Aim(bits=0.5), 8), Trellis(8, rate=4.0, transform=None).eval()
    scalars._parts = arrays.ALL_SCALARS
    scalars.init_(z)
    assert arrays._cost(found, z, len(z)) <= arrays._cost(scalars, z, len(z))


def test_a_file_of_vectors_that_hold_little_takes_no_more_than_was_asked_for(tmp_path):
    """Of rectified values a file of twice the rate came."""
    for name, z in (("signs", gaussian(2000, 16).sign()), ("rectified", (gaussian(4000, 32) - 1).relu())):
        np.save(tmp_path / f"{name}.npy", z.numpy())
        result = run("compress-vectors", tmp_path / f"{name}.npy", "--bits", 2, "--json")
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)
        assert row["bits_per_value"] < 2.1
        assert row["snr_db"][0] > 20
