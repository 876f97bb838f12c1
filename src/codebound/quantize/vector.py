"""The vector quantizer: a codebook and five small choices."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import search
from codebound.errors import InputError
from codebound.quantize import sync
from codebound.quantize.assign import Assign, Nearest
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.codebook import Codebook
from codebound.quantize.estimator import Estimator, StraightThrough
from codebound.quantize.init import Init, KMeans
from codebound.quantize.revival import Resample, Revival
from codebound.quantize.sketch import Sketch
from codebound.quantize.update import EMA, Update

LOSSES = {"commitment": 0.25, "codebook": 1.0}


class VectorQuantizer(Quantizer):
    """Each vector is replaced by a codeword (van den Oord, Vinyals & Kavukcuoglu 2017, "VQ-VAE").

    Args:
        dim: D, the size of the vectors.
        codebook_size: K, at least 2.
        assign: how a vector finds its codeword.
        estimator: how a gradient passes to the encoder.
        update: how codewords move.
        revival: what becomes of dead codewords.
        init: how `init_` chooses codewords from a batch.
        loss_weights: weights of `commitment` ‖z − sg(c)‖² and `codebook` ‖sg(z) − c‖² (present only where the
            codewords are trained by gradient); each is summed over D and averaged over valid tokens.
        seed: of everything random in the layer: the first table, `init_`, revival.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        assign: Assign = Nearest(),  # noqa: B008  frozen dataclasses: safe to share
        estimator: Estimator = StraightThrough(),  # noqa: B008
        update: Update = EMA(),  # noqa: B008
        revival: Revival = Resample(),  # noqa: B008
        init: Init = KMeans(),  # noqa: B008
        loss_weights: Mapping[str, float] = LOSSES,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise InputError(f"dim must be at least 1; got {dim}")
        if codebook_size < 2:
            raise InputError(
                f"codebook_size must be at least 2 (one codeword carries 0 bits); got {codebook_size}"
            )
        if unknown := set(loss_weights) - set(LOSSES):
            raise InputError(f"loss_weights knows {sorted(LOSSES)}; got {sorted(unknown)}")
        self.dim, self.codebook_sizes = dim, (codebook_size,)
        self.assign, self.estimator, self.update = assign, estimator, update
        self.revival, self.init = revival, init
        self.loss_weights = {**LOSSES, **loss_weights}
        self.seed = seed
        self.codebook = Codebook(codebook_size, dim, update, seed)

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.codebook_sizes[0]

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask)
        with torch.autocast(z.device.type, enabled=False):
            tokens, valid, finite = _tokens(z, mask)
            codewords = self.codebook.codewords()
            indices = self.assign(tokens, codewords, generator)
            chosen = codewords.index_select(0, indices).to(tokens.dtype)
            indices = torch.where(valid, indices, -1)
            z_q = torch.where(valid.unsqueeze(-1), self.estimator(tokens, chosen), 0.0)
            losses = self._losses(tokens, chosen, valid)
            loss = sum(
                (self.loss_weights[name] * value for name, value in losses.items()), tokens.new_zeros(())
            )
        present = finite if mask is None else finite | ~mask.reshape(-1)
        stats = (self._stats(tokens, indices, valid, (~present).sum()),) if self.training else ()
        return Quantized(z_q.view(z.shape).to(z.dtype), indices.view(*z.shape[:-1], 1), loss, losses, stats)

    def encode(self, z: Float[Tensor, "*b D"]) -> Int64[Tensor, "*b 1"]:
        self.check_input(z, None)
        tokens, valid, _ = _tokens(z.detach(), None)
        indices = self.assign(tokens, self.codebook.codewords(), None)
        return torch.where(valid, indices, -1).view(*z.shape[:-1], 1)

    def decode(
        self, indices: Int64[Tensor, "*b 1"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        flat = indices.squeeze(-1)
        if mask is not None:
            flat = torch.where(mask, flat, 0)
        # A compiled graph has no place for a data-dependent error.
        check = flat.numel() > 0 and not torch.compiler.is_compiling()
        if check and not bool(((flat >= 0) & (flat < self.codebook_size)).all()):
            raise InputError(
                f"indices must be in 0 … {self.codebook_size - 1} (−1 only where mask is False); "
                f"got {int(flat.min())} … {int(flat.max())}"
            )
        codewords = self.codebook.codewords()
        z_q = codewords.index_select(0, flat.reshape(-1)).view(*flat.shape, self.dim)
        return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, 0.0)

    @torch.no_grad()
    def init_(self, z: Float[Tensor, "*b D"], *, generator: torch.Generator | None = None) -> None:
        """Choose the codewords from `z` (of all ranks, where there are several) by `self.init`.

        Raises:
            InputError: no finite token, or fewer tokens than `init` needs.
        """
        self.check_input(z, None)
        tokens, valid, _ = _tokens(z, None)
        tokens = sync.joined_rows(tokens[valid].float())
        if tokens.shape[0] == 0:
            raise InputError("z holds no finite token to initialise a codebook from")
        if generator is None:
            generator = torch.Generator(z.device).manual_seed(self.seed)
        codewords = self.init(tokens, self.codebook_size, generator)
        self.codebook.reset_(sync.from_first_rank(codewords))

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """One step of `update` and, at the end of a window, of `revival`, on the results' joined batch.

        Raises:
            InputError: before `init_`, or for results of an eval forward.
        """
        if not bool(self.codebook.initialised):
            raise InputError("update_ before init_: call init_(z) with a batch of latents first")
        if not results or not all(r.stats for r in results):
            raise InputError(
                "update_ needs the results of forwards in training mode; in eval they carry no statistic"
            )
        stats = sync.joined(CodeStats.merge(tuple(r.stats[0] for r in results)))
        book = self.codebook
        book.write_(self.update.step(book.state(), stats.counts, stats.sums))
        book.window_counts += stats.counts
        used = book.window_counts / book.window_counts.sum().clamp_min(1.0)
        revived = self._revive(stats.sketch)
        book.step += 1
        return UpdateReport(
            tokens=int(stats.counts.sum()),
            non_finite=int(stats.non_finite),
            revived=(revived,),
            window_usage=(float((used > 0).double().mean()),),
            window_perplexity=(float(torch.special.entr(used).sum().exp()),),
        )

    def _revive(self, sketch: Sketch) -> Int64[Tensor, " r"]:
        book = self.codebook
        none = torch.empty(0, dtype=torch.int64, device=book.step.device)
        if float(book.window_counts.sum()) < self.revival.window * self.codebook_size:
            return none
        generator = torch.Generator().manual_seed(int(book.step_salt()))
        revived = self.revival.revive(book.state(), book.window_counts, sketch.filled(), generator)
        book.write_(revived.state)
        book.window_counts.zero_()
        return revived.rows

    def _losses(self, z: Tensor, chosen: Tensor, valid: Tensor) -> dict[str, Tensor]:
        tokens = valid.sum().clamp_min(1)

        def mean_square(error: Tensor) -> Tensor:
            return torch.where(valid, error.square().sum(-1), 0.0).sum() / tokens

        losses = {"commitment": mean_square(z - chosen.detach())}
        if self.update.trains:
            losses["codebook"] = mean_square(z.detach() - chosen)
        return losses

    def _stats(self, z: Tensor, indices: Tensor, valid: Tensor, non_finite: Tensor) -> CodeStats:
        counts, sums = search.assignment_sums(z, indices, self.codebook_size)
        sketch = Sketch.of(z.detach().float(), valid, self.revival.candidates, self.codebook.step_salt())
        return CodeStats(counts, sums, non_finite, sketch)

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, codebook_size={self.codebook_size}, assign={self.assign}, "
            f"estimator={self.estimator}, update={self.update}, revival={self.revival}"
        )


def _tokens(z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """`z` as rows of float32 (float64 stays), zero where not valid; which are valid, and which finite."""
    flat = z.reshape(-1, z.shape[-1])
    finite = flat.isfinite().all(-1)
    valid = finite if mask is None else finite & mask.reshape(-1)
    flat = torch.where(valid.unsqueeze(-1), flat, 0.0)
    return flat if flat.dtype == torch.float64 else flat.float(), valid, finite
