"""The contract of a quantizer, as checks that anyone can run on their own class.

```python
from codebound import check_quantizer

check_quantizer(MyQuantizer(dim=8))  # raises ContractError with all that is wrong
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from codebound.errors import InputError
from codebound.quantize.base import Quantizer
from codebound.quantize.contract import forward, layout, machinery, update
from codebound.quantize.contract.case import Case, Check, ContractError, SkipCheck

__all__ = ["CHECKS", "ContractError", "ContractReport", "check_quantizer", "check_two_ranks"]

CHECKS: tuple[Check, ...] = (
    forward.index_form,
    forward.result_form,
    forward.decode_inverts_encode,
    forward.decode_dtype,
    forward.encode_agrees_with_forward,
    layout.leading_shape,
    layout.channels_first,
    layout.variable_lengths,
    forward.input_dtypes,
    forward.autocast,
    forward.mask_invariance,
    forward.masked_encode,
    forward.non_finite_tokens,
    forward.empty_batch,
    forward.decode_refuses_bad_indices,
    forward.refuses_wrong_input,
    forward.declared_jacobian,
    update.forward_is_pure,
    update.init_before_update,
    update.init_is_deterministic,
    update.masked_init,
    update.update_reports,
    update.accumulation,
    update.permutation,
    update.state_dict_round_trip,
    update.safetensors_round_trip,
    update.deep_copy,
    machinery.compiles,
    machinery.exports,
    machinery.two_ranks,
)


@dataclass(frozen=True)
class ContractReport:
    """Names of the checks that passed, and of those that don't apply with the reason."""

    passed: tuple[str, ...]
    skipped: dict[str, str]


def check_quantizer(
    quantizer: Quantizer | Callable[[], Quantizer],
    *,
    checks: Iterable[str] | None = None,
    z: Tensor | None = None,
    exact: bool = True,
    seed: int = 0,
) -> ContractReport:
    """Check that a quantizer keeps the contract: what `Quantizer` promises, and what users rely on.

    Args:
        quantizer: an instance as constructed, before `init_`, or a function that makes one. It is copied, never
            changed.
        checks: names out of `CHECKS`; all by default. `compiles`, `exports` and `two_ranks` take seconds.
        z: float32 latents `[n, dim]` to initialise from and to quantize; Gaussian by default.
        exact: False allows rounding where batches of different shape are compared, for quantizers that compute
            (multiply by a matrix, say) before they search.
        seed: of the data.

    Returns:
        Which checks passed, and which don't apply.

    Raises:
        ContractError: at least one check failed; the message lists all that did.
        InputError: an unknown check, or `quantizer` is not one.
    """
    # Run every check, also after one failed: all that is wrong is said at once.
    chosen = _chosen(checks)
    case = _case(quantizer, z, exact, seed)
    passed, skipped, failed = [], {}, []
    for check in chosen:
        name = check.__name__
        try:
            check(case)
        except SkipCheck as reason:
            skipped[name] = str(reason)
        except Exception as error:
            said = str(error) if type(error) is AssertionError else f"{type(error).__name__}: {error}"
            failed.append(f"{name}: {said}")
        else:
            passed.append(name)

    # The message lists the failures, the report what passed and what does not apply.
    if failed:
        kind = type(case.original).__name__
        raise ContractError(f"{kind} breaks {len(failed)} of {len(chosen)} checks\n  " + "\n  ".join(failed))
    return ContractReport(tuple(passed), skipped)


def check_two_ranks(
    *quantizers: Quantizer | Callable[[], Quantizer], exact: bool = True, seed: int = 0
) -> None:
    """The check `two_ranks` for many quantizers in one pair of processes.

    Raises:
        ContractError: two ranks and one process come to different states.
    """
    cases = [_case(quantizer, None, exact, seed) for quantizer in quantizers]
    failures = machinery.run_two_ranks(cases)
    if failures:
        lines = [
            f"{type(cases[i].original).__name__} (number {i}): {message}" for i, message in failures.items()
        ]
        raise ContractError("\n".join(lines))


def _chosen(checks: Iterable[str] | None) -> tuple[Check, ...]:
    if checks is None:
        return CHECKS
    names, known = list(checks), [check.__name__ for check in CHECKS]
    if unknown := sorted(set(names) - set(known)):
        raise InputError(f"checks names {unknown}; known are {known}")
    return tuple(check for check in CHECKS if check.__name__ in names)


def _case(quantizer: Quantizer | Callable[[], Quantizer], z: Tensor | None, exact: bool, seed: int) -> Case:
    original = quantizer if isinstance(quantizer, Quantizer) else quantizer()
    if not isinstance(original, Quantizer):
        raise InputError(
            f"quantizer must be a Quantizer or a function that makes one; got {type(original).__name__}"
        )
    if z is None:
        rows = min(max(256, 2 * max(original.codebook_sizes)), 20_000)
        z = torch.randn(rows, original.dim, generator=torch.Generator().manual_seed(seed))
    return Case(original, z.detach(), exact, seed)
