"""Where code is recorded and not run: compiled, exported and traced graphs, and tensors that only stand for others.

A compiled graph stays in this process, so it may hold operators of our own (`torch.library`), which run what eager
runs. An exported or traced one leaves: to a file, to onnxruntime, to a process that never imports codebound. It gets
plain operations, for any number of rows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Numbers = float | int | tuple[float | int, ...]


def is_traced() -> bool:
    """Whether operations are being recorded as they run: `torch.jit.trace`, the older ONNX exporter."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def is_exported() -> bool:
    """Whether a graph is being recorded that leaves: one that is traced, or by `torch.export`, for ONNX too."""
    return torch.compiler.is_exporting() or is_traced()


def is_recorded() -> bool:
    """Whether code is recorded and not run, be it for a graph that leaves or for `torch.compile`: it must not look at
    numbers, nor loop over parts of a batch, as the recording would hold for this batch alone."""
    return torch.compiler.is_compiling() or is_exported()


def has_numbers(*tensors: Tensor) -> bool:
    """Whether there are numbers behind tensors which Python and NumPy may look at: not on the device `meta`, under
    `torch.func`'s transforms, nor under a dispatch mode (fake tensors, `make_fx`)."""
    if torch._C._len_torch_dispatch_stack():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # pyright: ignore[reportAttributeAccessIssue]
    return not any(tensor.is_meta or wrapped(tensor) for tensor in tensors)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A block in which autocast changes no precision; nothing where there is no autocast now."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def constant(values: Numbers, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers as a tensor. Kept between calls where code runs for real, as a copy to a device waits for its queue."""
    plain = not is_recorded() and has_numbers()
    return (_kept if plain else torch.tensor)(values, device=device, dtype=dtype)


@lru_cache(maxsize=1024)
def _kept(values: Numbers, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # a tensor made in that mode could not be differentiated through
        return torch.tensor(values, device=device, dtype=dtype)


def nearest_in_graph(z: Float[Tensor, "n d"], books: Float[Tensor, "m k d"]) -> Int64[Tensor, "m n"]:
    """The nearest codewords, as a product and an argmax: what any runtime has.

    Centred as the search is, but without its second look: where two codewords are nearest to rounding, either may be
    chosen, and of codewords that coincide the lowest if the runtime's product gives them equal scores. All n·k scores
    exist at once.
    """
    # The graph takes this block along, even where there is no autocast now.
    with torch.autocast(z.device.type, enabled=False):
        # A codeword that is not finite is never chosen, unless there is no other.
        usable = books.isfinite().all(-1, keepdim=True)
        clean = torch.where(usable, books, 0.0)
        centre = clean.sum((0, 1)) / usable.sum().clamp_min(1)
        codes = torch.where(usable, clean - centre, 0.0)
        half = torch.where(usable, 0.5 * codes.square().sum(-1, keepdim=True), torch.inf)

        # The largest z·c − |c|²/2.
        scores = torch.matmul(z - centre, codes.transpose(1, 2)) - half.transpose(1, 2)
        return scores.argmax(-1)
