"""Checks of how latents are laid out: any leading axes, channels first, padded sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from codebound.quantize.base import Quantized, Quantizer
from codebound.quantize.contract.case import Case, expect, expect_equal
from codebound.quantize.layout import channel_first, channel_first_decode, length_mask


def leading_shape(case: Case) -> None:
    """Any leading axes, also none, also of a non-contiguous tensor: same values in the same places.

    Of a sequential quantizer: each sequence as it is alone.
    """
    # The tokens as plain rows, and the same ones in other shapes.
    quantizer, z = case.ready(), case.z
    whole = quantizer(z)
    depth = len(quantizer.codebook_sizes)
    column_major = z.t().contiguous().t()
    shaped = {
        "[D]": z[7],
        "[a, b, D]": z.view(5, 12, -1),
        "[a, b, c, D]": z.view(3, 4, 5, -1),
        "not contiguous": column_major,
        "[1, n, D]": z[None],
        "[a, 0, D]": z.view(5, 12, -1)[:, :0],
    }

    # Forward, encode and decode give the same values in the same places.
    for name, value in shaped.items():
        result = quantizer(value)
        source = {"[D]": slice(7, 8), "[a, 0, D]": slice(0, 0)}.get(name, slice(None))
        rows = whole
        if quantizer.sequential:
            rows, source = _sequence_by_sequence(quantizer, value), slice(None)
        for actual, by_rows, what in (
            (result.z_q, rows.z_q, "z_q"),
            (result.indices, rows.indices, "indices"),
        ):
            expected = by_rows[source].reshape(*value.shape[:-1], by_rows.shape[-1])
            expect_equal(actual, expected, f"{what} for z {name}", case.exact or what == "indices")
        encoded = quantizer.encode(value)
        expect_equal(encoded, rows.indices[source].reshape(*value.shape[:-1], depth), f"encode for z {name}")
        decoded = quantizer.decode(encoded)
        expect(
            decoded.shape == value.shape,
            f"decode for z {name}: expected shape {list(value.shape)}; got {list(decoded.shape)}",
        )


def _sequence_by_sequence(quantizer: Quantizer, z: Tensor) -> Quantized:
    """Reproductions and indices `[n, *]` of each sequence quantized alone; a vector alone is a sequence of one."""
    rows = torch.atleast_2d(z)
    each = [quantizer(sequence) for sequence in (rows.flatten(0, -3) if rows.ndim > 2 else [rows])]
    z_q, indices = (torch.cat([getattr(result, name) for result in each]) for name in ("z_q", "indices"))
    return each[0]._replace(z_q=z_q, indices=indices)


def channels_first(case: Case) -> None:
    """`layout.channel_first` of `[b, D, h, w]` is the forward of `[b, h, w, D]`, and decodes back."""
    quantizer = case.ready()
    image = case.z.view(3, 4, 5, -1).movedim(-1, 1)
    expected, actual = quantizer(image.movedim(1, -1)), channel_first(quantizer, image)
    expect_equal(actual.z_q, expected.z_q.movedim(-1, 1), "channel_first, z_q", case.exact)
    expect_equal(actual.indices, expected.indices, "channel_first, indices")
    decoded = channel_first_decode(quantizer, actual.indices)
    expect_equal(decoded.to(image.dtype), actual.z_q, "channel_first_decode", case.exact)


def variable_lengths(case: Case) -> None:
    """A padded sequence is quantized as it is alone without padding, whatever the padding holds."""
    # Five sequences of different lengths, one of them empty, padded with something large.
    case.need_deterministic()
    z = case.z.view(5, 12, -1)
    lengths = torch.tensor([12, 0, 7, 1, 5])
    mask = length_mask(lengths, 12)
    padded = torch.where(mask.unsqueeze(-1), z, 1e4)
    for training in (False, True):
        # Each sequence alone gives what it gave in the batch.
        quantizer = case.ready(training)
        result = quantizer(padded, mask=mask)
        rows: list[Tensor] = [z[i : i + 1, :length] for i, length in enumerate(lengths.tolist())]
        for i, row in enumerate(rows):
            alone, length = quantizer(row), row.shape[1]
            what = f"a sequence of {length} of 12, {'training' if training else 'eval'}"
            expect_equal(result.indices[i : i + 1, :length], alone.indices, f"{what}, indices")
            expect_equal(result.z_q[i : i + 1, :length], alone.z_q, f"{what}, z_q", case.exact)

        # Padding has neither index nor reproduction.
        expect(bool((result.indices[~mask] == -1).all()), "padding: expected index −1")
        expect(bool((result.z_q[~mask] == 0).all()), "padding: expected z_q 0")
