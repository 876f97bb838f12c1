"""`.cbv` files: near the bound in bytes, exact everywhere, refused where they are damaged."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import vector_stranger
from machines import KERNELS, output

from codebound.codec import compress_vectors, decompress_vectors, inspect_vectors
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile
from codebound.errors import InputError
from codebound.quantize import FSQ, BitTrellis, Trellis
from codebound.theory.gaussian import gap_db

GOLDEN = Path(__file__).parent / "golden_vectors"


def gaussian(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def fitted(z, **arguments):
    quantizer = (BitTrellis if "bits" in arguments else Trellis)(z.shape[-1], **arguments)
    quantizer.init_(z)
    return quantizer.eval()


@pytest.mark.parametrize(("rate", "most"), [(0.6, 0.47), (2.2, 0.47)])
def test_bytes_of_a_file_beside_the_bound(rate, most):
    z = gaussian(1 << 18, 1)
    data = compress_vectors(z, fitted(z, rate=rate))
    error = float((decompress_vectors(data) - z).double().square().mean())
    bits = inspect_vectors(data).bits_per_value
    assert bits == pytest.approx(rate, abs=0.01)
    assert gap_db(error / float(z.double().square().mean()), 2.0 ** (-2 * bits)) < most


SPREAD = gaussian(60, 4) * torch.tensor([5.0, 1.0, 0.5, 0.01]) @ torch.linalg.qr(gaussian(4, 4, 1))[0] + 10.0
OUTLIER = torch.cat([SPREAD[:7], 1e5 * SPREAD[7:8], SPREAD[8:]])
MANY = gaussian(30, 40) * torch.linspace(0.3, 2, 40)
SPARSE = torch.where(gaussian(3000, 6, 2) > 1, 2.5, 0.2) * gaussian(3000, 6, 3) * torch.linspace(4, 0.5, 6)
CONSTANT = torch.full((5, 2), 3.0)
MASK = torch.arange(60).view(3, 20) % 3 != 1

# Files of every kind: the vectors, those that the quantizer begins from, its arguments, and those of the file.
SETTINGS = {
    "axes": (SPREAD, SPREAD, {"rate": 9.0}, {}),
    "blocks": (SPREAD, SPREAD, {"rate": 9.0, "states": 32}, {"block": 25}),
    "no-axes": (SPREAD.double(), SPREAD, {"distortion": 2.0, "transform": None}, {}),
    "mask": (SPREAD.view(3, 20, 4), SPREAD, {"rate": 6.0}, {"mask": MASK}),
    "fine": (SPREAD.double(), SPREAD, {"rate": 40.0}, {}),
    "coarse": (SPREAD.bfloat16(), SPREAD, {"rate": 0.5}, {}),
    "far": (OUTLIER, SPREAD, {"rate": 7.0}, {}),
    "bins": (MANY, MANY, {"rate": 60.0, "states": 4}, {}),
    "scalars": (SPARSE, SPARSE, {"rate": 3.0, "transform": None}, {"block": 1100}),
    "scalars-alone": (SPARSE[:40, 3:5], SPARSE[:, 3:5], {"rate": 0.6, "transform": None}, {}),
    "constant": (CONSTANT, CONSTANT, {"rate": 1.0}, {}),
    "one": (SPREAD[:1], SPREAD, {"rate": 9.0}, {}),
    "none": (SPREAD[:0], SPREAD, {"rate": 9.0}, {}),
    "fixed": (MANY, MANY, {"bits": 3, "state_bits": 6}, {"block": 7}),
    "fixed-axes": (
        SPREAD.view(3, 20, 4),
        SPREAD,
        {"bits": 1, "state_bits": 4, "rotation": "hadamard"},
        {"mask": MASK},
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_gives_back_what_the_quantizer_makes(name):
    z, seen, arguments, options = SETTINGS[name]
    quantizer = fitted(seen, **arguments)
    data = compress_vectors(z, quantizer, **options)
    found = decompress_vectors(data)
    assert (found.shape, found.dtype) == (z.shape, z.dtype)

    # Block by block the quantizer's own reproductions, to the rounding of what stands in the file.
    mask = options.get("mask", torch.ones(z.shape[:-1], dtype=torch.bool))
    parts = z[mask].split(options.get("block", 10_000))
    wanted = torch.cat([quantizer(part.float()).z_q for part in parts])
    scale = float(wanted.abs().max()) if len(wanted) else 1.0
    # (A half-precision result is rounded once more.)
    rounding = {torch.bfloat16: 2**-8}.get(z.dtype, 2e-4)
    assert torch.allclose(found[mask].double(), wanted.double(), atol=rounding * scale)
    assert bool((found[~mask] == 0).all())

    # A stranger who knows the page alone finds the same, bit for bit.
    rows = torch.tensor(vector_stranger.read(data), dtype=torch.float64).view(z.shape)
    assert torch.equal(rows.to(z.dtype), found)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.cbv")), ids=lambda path: path.stem)
def test_files_written_once_decode_for_ever(path):
    wanted = np.load(path.with_suffix(".npy"))
    assert np.array_equal(decompress_vectors(path.read_bytes()).numpy(), wanted)


DIGESTS = """
import hashlib, pathlib, sys, torch
from codebound.codec import decompress_vectors
from codebound.quantize import viterbi
torch.set_num_threads(int(sys.argv[2]))
viterbi.WORTH = int(sys.argv[3])
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.cbv")):
    found = decompress_vectors(path.read_bytes())
    print(hashlib.sha256(found.view(torch.uint8).numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
def test_files_decode_the_same_on_every_machine(tmp_path, compiled):
    """Threads and instructions of products of matrices, the compiled walk and the plain one; every kind of file."""
    wide = SPARSE.repeat(1, 8) @ torch.linalg.qr(gaussian(48, 48, 7))[0]
    for name, z, arguments in (
        ("axes", gaussian(3000, 64) @ gaussian(64, 64, 1), {"rate": 150.0}),
        ("sparse", SPARSE, {"rate": 3.0, "transform": None}),
        ("both", wide, {"rate": 30.0, "states": 64}),
        ("fixed", gaussian(700, 64), {"bits": 2, "state_bits": 8, "rotation": "hadamard"}),
    ):
        (tmp_path / f"{name}.cbv").write_bytes(compress_vectors(z, fitted(z, **arguments)))
    worth = str(0 if compiled else 1 << 62)
    found = {
        output(DIGESTS, (str(tmp_path), str(threads), worth), threads, kernel)
        for threads in (1, 4)
        for kernel in KERNELS
    }
    (digests,) = found
    assert len(digests.split()) == 4


def test_golden_files_of_both_versions_are_there():
    versions = [path.read_bytes()[4] for path in GOLDEN.glob("*.cbv")]
    assert versions.count(1) >= 8
    assert versions.count(2) >= 6


def test_files_of_both_versions_are_as_the_page_says():
    for path in GOLDEN.glob("*.cbv"):
        wanted = torch.from_numpy(np.load(path.with_suffix(".npy")))
        rows = torch.tensor(vector_stranger.read(path.read_bytes()), dtype=torch.float64).view(wanted.shape)
        assert torch.equal(rows.to(wanted.dtype), wanted)


def test_sparse_components_are_scalars():
    quantizer = fitted(SPARSE, rate=3.0, transform=None)
    assert 0 < int(quantizer.alone.sum()) < 6
    assert int(fitted(SPARSE[:, 3:5], rate=0.5, transform=None).alone.sum()) == 2
    assert not bool((quantizer.encode(SPARSE)[:, quantizer.alone > 0] % 2).any())


def test_no_damage_passes():
    z = gaussian(40, 3)
    data = compress_vectors(z, fitted(z, rate=5.0), block=25)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decompress_vectors(data[:length])
    for place in range(len(data)):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[place] ^= bit
            with pytest.raises(CodecError):
                decompress_vectors(bytes(damaged))
    with pytest.raises(DamagedFile, match="goes on for 1 bytes"):
        decompress_vectors(data + b"\0")
    with pytest.raises(UnsupportedFile, match="version 9"):
        decompress_vectors(data[:4] + b"\x09" + data[5:])


def some_are_scalars_(quantizer, wanted):
    """Make coded components scalars, with evenly spaced levels, as `init_` does where it has vectors enough."""
    alone = wanted & (quantizer.step > 0)
    step = quantizer.step[alone]
    quantizer.alone[alone], quantizer.pitch[alone] = 1.0, step
    quantizer.slope[alone], quantizer.bits[alone] = 1e-3 * step.square(), 0.0
    quantizer.values[alone] = step.unsqueeze(1) * (torch.arange(9) // 2 * 2)


@pytest.mark.slow
def test_any_setting_comes_back():
    generator = torch.Generator().manual_seed(0)

    def draw(most):
        return int(torch.randint(most, (1,), generator=generator))

    for _ in range(2000):
        dim, count = 1 + draw(64), (0, 1, 2, 7, 50, 300)[draw(6)]
        z = torch.randn(300, dim, generator=generator) * 10.0 ** (draw(7) - 3) + 10.0 * draw(3)
        if draw(2):
            z = z @ torch.randn(dim, dim, generator=generator)
        states = 4 << draw(4)
        quantizer = fitted(
            z, rate=dim * (0.05 + 6 * float(torch.rand(1, generator=generator))), states=states
        )
        if draw(4) == 0:
            some_are_scalars_(quantizer, torch.rand(dim, generator=generator) < 0.4)
        mask = (
            torch.rand(count, generator=generator) < 0.7 if draw(2) else torch.ones(count, dtype=torch.bool)
        )
        # Each block has models of its own: of one vector each there are a few, of 300 they would take minutes.
        block = (None, 1 if count < 50 else 40, 13)[draw(3)]
        data = compress_vectors(z[:count], quantizer, mask=mask, block=block)
        found = decompress_vectors(data)
        parts = z[:count][mask].split(block or 10_000)
        wanted = torch.cat([quantizer(part).z_q for part in parts])
        # What stands in the file is rounded: each component to some thousandths of its step, axes to 2^−15.
        scale = float(wanted.abs().max()) if len(wanted) else 1.0
        rounding = 1e-3 * scale + 0.02 * float(quantizer.step.max())
        assert torch.allclose(found[mask], wanted, atol=rounding)
        assert bool((found[~mask] == 0).all())


def test_vectors_of_a_fixed_number_of_bits_stand_at_their_places():
    """A block's body is so many bits for each vector: one is read without those before it."""
    z = gaussian(10, 8)
    quantizer = fitted(z, bits=2, state_bits=4)
    data = compress_vectors(z, quantizer)
    body = data[-4 - 10 * 8 * 2 // 8 : -4]
    symbols = quantizer.encode(z[6:7]).squeeze(0).tolist()
    assert body[6 * 2 : 7 * 2] == bytes(sum(symbols[4 * i + j] << 2 * j for j in range(4)) for i in range(2))


def test_damage_of_a_fixed_rate_does_not_pass():
    z = gaussian(9, 3)
    data = compress_vectors(z, fitted(z, bits=1, state_bits=3))
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decompress_vectors(data[:length])
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(CodecError):
            decompress_vectors(bytes(damaged))


def test_what_is_refused():
    z = gaussian(20, 2)
    quantizer = fitted(z, rate=4.0)
    data = compress_vectors(z, quantizer)
    with pytest.raises(CodecError, match="40 numbers; at most max_values=39"):
        decompress_vectors(data, max_values=39)
    z[3, 0] = math.nan
    with pytest.raises(CodecError, match="1 vectors with NaN or Inf"):
        compress_vectors(z, quantizer)
    with pytest.raises(InputError, match="z must have shape"):
        compress_vectors(gaussian(5, 3), quantizer)


@pytest.mark.untyped
def test_another_kind_of_quantizer_is_refused():
    with pytest.raises(CodecError, match="quantizer must be a Trellis or a BitTrellis; got FSQ"):
        compress_vectors(gaussian(5, 2), FSQ([4, 4]))
    with pytest.raises(CodecError, match="block must be a whole number"):
        compress_vectors(gaussian(5, 2), fitted(gaussian(50, 2), rate=4.0), block=0)


def test_a_huge_size_is_refused_before_anyone_makes_room():
    z = torch.full((3, 2), 1.0)
    data = bytearray(compress_vectors(z, fitted(z, rate=1.0)))
    assert inspect_vectors(bytes(data)).shape == (3, 2)
    at = data.index(b"\x02\x03\x02") + 1
    bomb = bytes(data[:at] + b"\xff\xff\xff\xff\x1f" + data[at + 1 :])
    with pytest.raises(CodecError):
        decompress_vectors(bomb)
