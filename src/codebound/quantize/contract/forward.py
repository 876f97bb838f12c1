"""Checks of what one forward, encode or decode returns."""

from __future__ import annotations

import torch
from torch import Tensor

from codebound.errors import InputError
from codebound.quantize.contract.case import (
    Case,
    SkipCheck,
    expect,
    expect_equal,
    expect_error,
    expect_same_result,
)


def decode_inverts_encode(case: Case) -> None:
    """In eval `decode(encode(z))` and `decode(indices)` are the forward's z_q, bit for bit in z's dtype."""
    quantizer = case.ready()
    result = quantizer(case.z)
    expect_equal(quantizer.decode(quantizer.encode(case.z)).to(case.z.dtype), result.z_q, "decode(encode(z))")
    expect_equal(quantizer.decode(result.indices).to(case.z.dtype), result.z_q, "decode(forward(z).indices)")


def decode_dtype(case: Case) -> None:
    """`decode` gives the type that it is asked for, else the one that the module was cast to, as a decoder was."""
    quantizer = case.ready()
    indices = quantizer.encode(case.z)
    for dtype in (torch.bfloat16, torch.float64):
        wanted = quantizer.decode(indices).to(dtype)
        expect_equal(quantizer.decode(indices, dtype=dtype), wanted, f"decode(dtype={dtype})", exact=False)
        cast = case.ready().to(dtype).decode(indices).dtype
        expect(cast == dtype, f"decode of a module cast to {dtype}: expected {dtype}; got {cast}")


def encode_agrees_with_forward(case: Case) -> None:
    """`encode` and the eval forward find the same indices."""
    quantizer = case.ready()
    expect_equal(quantizer.encode(case.z), quantizer(case.z).indices, "encode(z)")


def index_form(case: Case) -> None:
    """Indices are int64, the Q axis is there, and each is below its codebook's size."""
    quantizer = case.ready()
    depth = len(quantizer.codebook_sizes)
    for training in (False, True):
        # Type and shape.
        indices = quantizer.train(training)(case.z).indices
        expect(indices.dtype == torch.int64, f"indices: expected int64; got {indices.dtype}")
        shape = [len(case.z), depth]
        expect(
            list(indices.shape) == shape,
            f"indices: expected {shape}, one per codebook in the last axis; got {list(indices.shape)}",
        )

        # Each index below the size of its codebook; in training a stage may be left out.
        sizes = torch.tensor(quantizer.codebook_sizes)
        low = torch.zeros_like(sizes)
        if training and any(getattr(module, "depth_dropout", 0.0) for module in quantizer.modules()):
            low[1:] = -1  # a stage left out
        inside = bool(((indices >= low) & (indices < sizes)).all())
        expect(
            inside,
            f"indices: expected 0 ≤ index < {list(quantizer.codebook_sizes)}; "
            f"got {int(indices.min())} … {int(indices.max())}",
        )


def result_form(case: Case) -> None:
    """Statistics in training only; `loss` is a finite scalar, the weighted sum of the dict `losses`."""
    # Statistics belong to training.
    quantizer = case.ready()
    stats = quantizer(case.z).stats
    expect(stats == (), f"stats: expected () in eval; got {len(stats)} entries")

    # A finite scalar to be added to a user's loss.
    result = quantizer.train()(case.z)
    expect(isinstance(result.losses, dict), f"losses: expected a dict; got {type(result.losses).__name__}")
    expect(result.loss.shape == (), f"loss: expected a scalar; got shape {list(result.loss.shape)}")
    expect(bool(result.loss.isfinite()), f"loss: expected a finite value; got {result.loss.item()}")

    # It is made of the terms that it names.
    weights = getattr(quantizer, "loss_weights", None)
    if weights is None and result.losses:
        return  # nothing says how the terms are weighted
    total = sum(float(weights[name]) * value for name, value in result.losses.items()) if weights else 0.0
    total = torch.as_tensor(total, dtype=result.loss.dtype)
    expect_equal(result.loss.detach(), total.detach(), "loss as the weighted sum of losses", exact=False)


def input_dtypes(case: Case) -> None:
    """z_q has z's dtype, and a half-precision z is searched as the float32 that it stands for."""
    for training in (False, True):
        quantizer = case.ready(training)
        if training:
            case.need_deterministic()
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            # Whatever the type of z, the result has it, and its gradient is finite.
            z = case.z.to(dtype, copy=True).requires_grad_()
            result = quantizer(z)
            expect(result.z_q.dtype == dtype, f"z_q for {dtype} z: expected {dtype}; got {result.z_q.dtype}")
            expect(
                bool(result.loss.isfinite()), f"loss for {dtype} z: expected finite; got {result.loss.item()}"
            )
            gradient = _gradient(z, result.z_q.float().sum() + result.loss)
            expect(bool(gradient.isfinite().all()), f"{dtype} z: expected finite gradients")

            # Half precision is a matter of the input alone: the search is in float32.
            if dtype.itemsize < 4:
                expect_equal(result.indices, quantizer(z.detach().float()).indices, f"indices for {dtype} z")


def autocast(case: Case) -> None:
    """Autocast changes no index, no value, no loss, no statistic and no gradient."""
    z = torch.cat(case.batches(6, tokens=300))  # many: bfloat16 may be right on a few
    for training in (False, True):
        if training:
            case.need_deterministic()

        # What comes without autocast.
        quantizer = case.ready(training)
        leaf = z.clone().requires_grad_()
        expected = quantizer(leaf)
        expected_gradient = _gradient(leaf, expected.z_q.square().sum() + expected.loss)

        # The same under autocast to either half precision.
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                actual, encoded = quantizer(leaf), quantizer.encode(z)
            what = f"under autocast to {dtype}, {'training' if training else 'eval'}"
            expect_same_result(actual, expected, what, case.exact)
            actual_gradient = _gradient(leaf, actual.z_q.square().sum() + actual.loss)
            expect_equal(actual_gradient, expected_gradient, f"gradient {what}", exact=False)
            if not training:
                expect_equal(encoded, expected.indices, f"encode {what}")


def mask_invariance(case: Case) -> None:
    """Masked tokens: index −1, z_q 0, no gradient; the rest is as if they were not there."""
    case.need_deterministic()

    # What comes of the unmasked tokens alone.
    mask = torch.arange(len(case.z)) % 3 != 1
    quantizer = case.ready(training=True)
    alone = quantizer(case.z[mask])
    for filling in (1e4, float("nan")):
        # The same batch with something harmful where it is masked: that leaves no trace.
        z = torch.where(mask.unsqueeze(-1), case.z, filling).requires_grad_()
        result = quantizer(z, mask=mask)
        what = f"a batch with masked tokens of {filling}"
        expect(bool((result.indices[~mask] == -1).all()), f"{what}: expected index −1 where masked")
        expect(bool((result.z_q[~mask] == 0).all()), f"{what}: expected z_q 0 where masked")

        # The unmasked tokens are as they were alone, statistics included.
        valid = result._replace(indices=result.indices[mask], z_q=result.z_q[mask])
        expect_same_result(valid, alone, what, case.exact)
        for stat in result.stats:
            expect(
                int(stat.non_finite) == 0,
                f"{what}: a masked token must not count as non-finite: {stat.non_finite}",
            )

        # No gradient flows into what is masked.
        gradient = _gradient(z, result.z_q.sum() + result.loss)
        expect(bool((gradient[~mask] == 0).all()), f"{what}: expected no gradient where masked")
        expect(bool(gradient.isfinite().all()), f"{what}: expected finite gradients")


def masked_encode(case: Case) -> None:
    """`encode` with a mask: −1 where masked, whatever stands there; the rest as without a mask."""
    quantizer, mask = case.ready(), torch.arange(len(case.z)) % 3 != 1
    if quantizer.sequential:  # the others' sequence is shorter without them
        expected = torch.full((len(case.z), len(quantizer.codebook_sizes)), -1)
        expected[mask] = quantizer.encode(case.z[mask])
    else:
        expected = torch.where(mask.unsqueeze(-1), quantizer.encode(case.z), -1)
    for filling in (1e4, float("nan")):
        z = torch.where(mask.unsqueeze(-1), case.z, filling)
        what = f"encode with masked tokens of {filling}"
        expect_equal(quantizer.encode(z, mask=mask), expected, what)
        shaped = quantizer.encode(z.view(5, 12, -1), mask=mask.view(5, 12))
        if quantizer.sequential:
            rows = [
                quantizer.encode(row, mask=m)
                for row, m in zip(z.view(5, 12, -1), mask.view(5, 12), strict=True)
            ]
            expect_equal(shaped, torch.stack(rows), f"{what}, z [a, b, D]")
        else:
            expect_equal(shaped, expected.view(5, 12, -1), f"{what}, z [a, b, D]")


def non_finite_tokens(case: Case) -> None:
    """NaN and Inf tokens: index −1, z_q 0, zero gradient, and the rest is as if they were not there."""
    case.need_deterministic()

    # A batch with NaN and both infinities in one coordinate of a token each.
    bad = {3: float("nan"), 11: float("inf"), 20: float("-inf")}
    good = torch.ones(len(case.z), dtype=torch.bool)
    good[list(bad)] = False
    z = case.z.clone()
    for row, value in bad.items():
        z[row, row % z.shape[1]] = value

    # What comes of the good tokens alone, and of all.
    quantizer = case.ready(training=True)
    alone = quantizer(case.z[good])
    leaf = z.clone().requires_grad_()
    result = quantizer(leaf)

    # A bad token has no index and no reproduction.
    for row, value in bad.items():
        what = f"a token with {value}"
        expect(
            bool((result.indices[row] == -1).all()),
            f"{what}: expected index −1; got {result.indices[row].tolist()}",
        )
        expect(bool((result.z_q[row] == 0).all()), f"{what}: expected z_q 0; got {result.z_q[row].tolist()}")

    # The good ones are as they were alone.
    valid = result._replace(indices=result.indices[good], z_q=result.z_q[good])
    expect_same_result(valid, alone, "a batch with NaN and Inf tokens", case.exact)

    # A bad token must not spoil the gradient of the others.
    gradient = _gradient(leaf, result.z_q.sum() + result.loss)
    expect(bool(gradient.isfinite().all()), "NaN and Inf tokens: expected finite gradients everywhere")
    expect(bool((gradient[~good] == 0).all()), "NaN and Inf tokens: expected zero gradient at them")

    # Nor does it get an index in eval.
    encoded = quantizer.eval().encode(z)
    expect(bool((encoded[~good] == -1).all()), "encode of NaN and Inf tokens: expected −1")


def empty_batch(case: Case) -> None:
    """No tokens, or only masked ones: right shapes, zero z_q, finite loss, and a harmless update."""
    # A batch without a token, and one whose tokens are all masked.
    depth = len(case.original.codebook_sizes)
    nothing = case.z[:0]
    masked = torch.zeros(len(case.z), dtype=torch.bool)
    for z, mask, what in ((nothing, None, "empty batch"), (case.z, masked, "all-masked batch")):
        for training in (False, True):
            # Shapes are right, values zero, and the loss is finite though there is nothing to average.
            quantizer = case.ready(training)
            leaf = z.clone().requires_grad_()
            result = quantizer(leaf, mask=mask)
            expect_equal(result.z_q.detach(), torch.zeros_like(z), f"{what}, z_q")
            expect_equal(result.indices, torch.full((len(z), depth), -1), f"{what}, indices")
            expect(bool(result.loss.isfinite()), f"{what}: expected a finite loss; got {result.loss.item()}")
            gradient = _gradient(leaf, result.z_q.sum() + result.loss)
            expect(bool((gradient == 0).all()), f"{what}: expected zero gradients")

            # An update with nothing leaves the state finite.
            if training:
                report = quantizer.update_(result)
                expect(report.tokens == 0, f"{what}: expected a report of 0 tokens; got {report.tokens}")
                for name, value in quantizer.state_dict().items():
                    expect(bool(value.isfinite().all()), f"{what}: {name!r} is not finite after update_")


def decode_refuses_bad_indices(case: Case) -> None:
    """An index that is too large raises, and so does −1 unless its token is masked."""
    # One index of a good batch is put out of range.
    quantizer = case.ready()
    good = quantizer.encode(case.z)
    for q, size in enumerate(quantizer.codebook_sizes):
        for bad in (size, -1, -size - 1):
            indices = good.clone()
            indices[2, q] = bad
            expect_error(
                InputError, "indices", lambda i=indices: quantizer.decode(i), f"decode of index {bad}"
            )

    # A masked token may have −1, and decodes to zero.
    mask = torch.arange(len(good)) != 2
    indices = torch.where(mask.unsqueeze(-1), good, -1)
    decoded = quantizer.decode(indices, mask=mask)
    expect(bool((decoded[2] == 0).all()), "decode of a masked −1: expected 0")
    expect_equal(decoded[mask], quantizer.decode(good)[mask], "decode with a mask", case.exact)


def refuses_wrong_input(case: Case) -> None:
    """Wrong last size, integers, wrong masks and wrong indices: an InputError that names the argument."""
    # A z of the wrong size or type, in every method that takes one.
    quantizer, z = case.ready(), case.z
    wide = torch.cat([z, z[:, :1]], dim=1)
    mask = torch.ones(len(z), dtype=torch.bool)
    for method in (quantizer.forward, quantizer.encode, quantizer.init_):
        name = method.__name__
        expect_error(InputError, "z", lambda m=method: m(wide), f"{name} of a z of the wrong last size")
        expect_error(InputError, "z", lambda m=method: m(z.long()), f"{name} of an integer z")
        wrong = f"{name} with a mask of the wrong"
        expect_error(InputError, "mask", lambda m=method: m(z, mask=mask[1:]), f"{wrong} shape")
        expect_error(InputError, "mask", lambda m=method: m(z, mask=mask.float()), f"{wrong} type")

    # Indices of the wrong type, number, or with a wrong mask.
    indices = quantizer.encode(z)
    expect_error(InputError, "indices", lambda: quantizer.decode(indices.float()), "decode of float indices")
    extra = torch.cat([indices, indices[:, :1]], dim=1)
    expect_error(InputError, "indices", lambda: quantizer.decode(extra), "decode of one index too many")
    expect_error(
        InputError, "mask", lambda: quantizer.decode(indices, mask=mask[1:]), "decode with a wrong mask"
    )


def declared_jacobian(case: Case) -> None:
    """∂z_q/∂z by autograd is what `declared_jacobian` says, in a random direction."""
    quantizer = case.ready(training=True)
    declared = quantizer.declared_jacobian(case.z[:64].double())
    if declared is None:
        raise SkipCheck("no Jacobian is declared")
    z = case.z[:64].double().requires_grad_()
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(case.seed), dtype=torch.float64)
    gradient = _gradient(z, (quantizer(z).z_q * direction).sum())
    expected = (direction.unsqueeze(-2) @ declared.detach()).squeeze(-2)
    worst = float((gradient - expected).detach().abs().max() / expected.abs().max().clamp_min(1.0))
    expect(worst < 1e-5, f"∂z_q/∂z differs from the declared Jacobian by {worst:.1e} (relative)")


def _gradient(z: Tensor, loss: Tensor) -> Tensor:
    """Gradient by z; zero if nothing of z reaches the loss."""
    if not loss.requires_grad:
        return torch.zeros_like(z)
    (gradient,) = torch.autograd.grad(loss, z, allow_unused=True)
    return torch.zeros_like(z) if gradient is None else gradient
