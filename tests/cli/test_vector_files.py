"""compress-vectors and decompress-vectors: arrays of every kind of file there and back, and what is refused."""

import json
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from codebound import Trellis
from codebound.cli.main import app
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
