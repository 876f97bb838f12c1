"""`BitTrellis`: what it reaches at a fixed number of bits, closed paths, vectors that decode alone, and refusals."""

import itertools

import pytest
import torch

from codebound.errors import InputError
from codebound.quantize import BitTrellis
from codebound.quantize.bit_trellis_search import best_symbols, cheapest_registers, reproduced
from codebound.quantize.bit_trellis_table import gaussian_table
from codebound.theory.gaussian import gap_db


def gaussian(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("bits", "state_bits", "table", "most"),
    [
        pytest.param(1, 8, "trained", 0.7, marks=pytest.mark.slow),
        (2, 6, "trained", 1.5),
        (2, 8, "quantiles", 1.25),
    ],
)
def test_error_on_fresh_vectors_beside_the_bound(bits, state_bits, table, most):
    quantizer = BitTrellis(128, bits, state_bits, table=table)
    quantizer.init_(3 * gaussian(512, 128) + 1)
    z = 3 * gaussian(128, 128, 1) + 1
    error = float((quantizer.eval()(z).z_q - z).square().mean() / 9)
    assert gap_db(error, 4.0**-bits) < most


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "most"), [(1, 0.45), (2, 0.65)])
def test_more_state_bits_are_nearer(bits, most):
    quantizer = BitTrellis(256, bits, 12)
    quantizer.init_(gaussian(512, 256))
    z = gaussian(64, 256, 1)
    error = float((quantizer.eval()(z).z_q - z).square().mean() / z.square().mean())
    assert gap_db(error, 4.0**-bits) < most


@pytest.mark.parametrize(("bits", "state_bits"), [(1, 4), (2, 4), (2, 6), (3, 6)])
def test_states_side_by_side_have_entries_of_all_quantiles(bits, state_bits):
    size, fan = 1 << state_bits, 1 << bits
    quantile = gaussian_table(bits, state_bits, 0).argsort().argsort() // (size // fan)
    every = torch.arange(fan)
    assert torch.equal(quantile.view(-1, fan).sort(1).values, every.expand(size // fan, fan))
    assert torch.equal(quantile.view(fan, -1).sort(0).values, every.unsqueeze(1).expand(fan, size // fan))


def test_the_table_is_of_the_variance_that_reproductions_have():
    table = gaussian_table(2, 10, 3)
    assert float(table.square().mean()) == pytest.approx(1 - 2.0**-4, rel=1e-5)
    assert not torch.equal(table, gaussian_table(2, 10, 4))


@pytest.mark.parametrize(("bits", "state_bits"), [(1, 3), (2, 4), (3, 6)])
def test_symbols_stand_for_what_the_register_holds(bits, state_bits):
    table = gaussian_table(bits, state_bits, 0)
    symbols = torch.randint(1 << bits, (20, 7), generator=torch.Generator().manual_seed(1))
    for row, values in zip(symbols.tolist(), reproduced(symbols, table, bits).tolist(), strict=True):
        register, passed = 0, []
        for symbol in 2 * row:  # after a turn it holds what it began with
            register = (register << bits | symbol) % len(table)
            passed.append(float(table[register]))
        assert values == passed[7:]


@pytest.mark.parametrize("free", [True, False])
def test_no_path_is_cheaper(free):
    table, x = gaussian_table(1, 3, 0), gaussian(5, 4).t().contiguous()
    node = None if free else torch.tensor([0, 1, 2, 3, 1])
    registers, first = cheapest_registers(x, table, 1, node)
    assert free or torch.equal(first, node)
    assert torch.equal(registers[1:] >> 1, registers[:-1] & 3)
    error = (table[registers] - x).square().sum(0)

    # Every node to begin with, and every four bits.
    for lane in range(5):
        costs = []
        for begin, bits in itertools.product(range(4), itertools.product(range(2), repeat=4)):
            register, total = begin, 0.0
            for bit, value in zip(bits, x[:, lane].tolist(), strict=True):
                register = (register << 1 | bit) & 7
                total += (float(table[register]) - value) ** 2
            if free or begin == register & 3 == int(node[lane]):
                costs.append(total)
        assert float(error[lane]) == pytest.approx(min(costs), abs=1e-5)


def test_no_closed_path_is_much_better():
    # 4^5 paths of five symbols: the two rounds are no exhaustive search, but come near it.
    quantizer = BitTrellis(5, 2, 4, table="quantiles")
    z = gaussian(50, 5)
    every = torch.tensor(list(itertools.product(range(4), repeat=5)))
    points = quantizer.decode(every)
    least = torch.cdist(z, points).square().min(1).values
    found = (quantizer.eval()(z).z_q - z).square().sum(1)
    assert bool((found >= least - 1e-5).all())
    assert float(found.mean()) < 1.25 * float(least.mean())


def test_vectors_decode_alone_and_symbols_have_their_bits():
    quantizer = BitTrellis(16, 2, 8).eval()
    z = gaussian(30, 16)
    indices = quantizer.encode(z)
    assert (int(indices.min()), int(indices.max())) == (0, 3)
    assert torch.equal(quantizer.decode(indices[7:8]), quantizer.decode(indices)[7:8])

    # A component follows from the symbols that its state is made of.
    changed = indices.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 4
    differs = (quantizer.decode(changed) != quantizer.decode(indices)).any(0)
    assert differs.nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_rotation_helps_heavy_tails():
    z = gaussian(128, 64) * torch.where(gaussian(128, 64, 1) > 1.5, 8.0, 0.3)
    errors = {}
    for rotation in ("hadamard", None):
        quantizer = BitTrellis(64, 2, 6, table="quantiles", rotation=rotation)
        quantizer.init_(z)
        errors[rotation] = float((quantizer.eval()(z).z_q - z).square().mean())
    assert errors["hadamard"] < 0.7 * errors[None]


def test_axes_without_variance():
    z = torch.cat([gaussian(100, 7), torch.full((100, 1), 2.0)], 1)
    quantizer = BitTrellis(8, 2, 4)
    quantizer.init_(z)
    assert bool(quantizer.eval()(z).z_q.isfinite().all())


def test_no_vectors():
    assert best_symbols(torch.zeros(0, 8), torch.zeros(16), 2).shape == (0, 8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"bits": 5}, "bits is 5"),
        ({"state_bits": 7}, "state_bits is 7"),
        ({"state_bits": 20}, "state_bits is 20"),
        ({"dim": 3, "state_bits": 8}, "dim is 3"),
        ({"dim": 12, "state_bits": 8, "rotation": "hadamard"}, "powers of two"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(InputError, match=match):
        BitTrellis(**{"dim": 8, "state_bits": 8, **arguments})
