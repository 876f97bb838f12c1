"""The vector quantizer: a codebook and five small choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import without_autocast
from codebound.quantize import assign as assigns
from codebound.quantize import habits, sync
from codebound.quantize.assign import Assign, Nearest
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport, token_rows
from codebound.quantize.codebook import Codebook
from codebound.quantize.estimator import Choice, Estimator, StraightThrough
from codebound.quantize.form import Form, Linear, Table
from codebound.quantize.habits import answered
from codebound.quantize.init import Init, KMeans
from codebound.quantize.noise import mix
from codebound.quantize.reminder import Reminder
from codebound.quantize.revival import Never, Resample, Revival
from codebound.quantize.sketch import Sketch
from codebound.quantize.together import check_choices, check_together, update_is_idle
from codebound.quantize.update import EMA, Frozen, Memory, Update

LOSSES = {"commitment": 0.25, "codebook": 1.0}
LONGEST = 1e18  # the square of a longer token's error would be beyond float32


class VectorQuantizer(Quantizer):
    """Each vector is replaced by a codeword (van den Oord, Vinyals & Kavukcuoglu 2017, "VQ-VAE").

    Args:
        dim: D, the size of the vectors.
        codebook_size: K, at least 2.
        assign: how a vector finds its codeword.
        estimator: how a gradient passes to the encoder.
        update: how codewords move.
        revival: what becomes of dead codewords; `Resample()`, or `Never()` where none can be moved alone
            (`update=Frozen()`, `form=Linear()`).
        init: how `init_` chooses codewords from a batch.
        form: how codewords derive from the stored table.
        loss_weights: weights of `commitment` ‖z − sg(c)‖² and `codebook` ‖sg(z) − c‖² (present only where the
            codewords are trained by gradient); each is summed over D and averaged over valid tokens.
        seed: of everything random in the layer: the first table, `init_`, revival.
        sync: whether all ranks' batches count as one, see `distribute_`.
        process_group: the ranks that are meant; None for the default group.

    Raises:
        InputError: an argument out of its range, or choices that need each other and aren't together.
    """

    @answered(habits.VECTOR)
    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        assign: Assign = Nearest(),  # noqa: B008  frozen dataclasses: safe to share
        estimator: Estimator = StraightThrough(),  # noqa: B008
        update: Update = EMA(),  # noqa: B008
        revival: Revival | None = None,
        init: Init = KMeans(),  # noqa: B008
        form: Form = Table(),  # noqa: B008
        loss_weights: Mapping[str, float] = LOSSES,
        seed: int = 0,
        sync: bool = True,
        process_group: Any = None,
    ) -> None:
        super().__init__()

        # Sizes that a codebook can have.
        arguments.whole("dim", dim)
        arguments.seed(seed)
        if arguments.whole("codebook_size", codebook_size, least=0) < 2:
            raise InputError(
                f"codebook_size must be at least 2 (one codeword carries 0 bits); got {codebook_size}"
            )

        # Weights must be of losses that exist, and a negative one would reward what the loss is to punish.
        if not isinstance(loss_weights, Mapping) or set(loss_weights) - set(LOSSES):
            raise InputError(f"loss_weights must be a mapping of {sorted(LOSSES)}; got {loss_weights!r}")
        for name, weight in loss_weights.items():
            arguments.number(f"loss_weights[{name!r}]", weight, least=0)

        # By default dead codewords are revived wherever one can be moved alone.
        if revival is None:
            alone = not isinstance(update, Frozen) and not isinstance(form, Linear)
            revival = Resample() if alone else Never()

        # Choices of the right kinds that fit together.
        check_choices(
            assign=assign, estimator=estimator, update=update, revival=revival, init=init, form=form
        )
        check_together(assign, estimator, update, revival, form)

        # The arguments by their own names: a description is read off them.
        self.dim = dim
        self.assign, self.estimator, self.update = assign, estimator, update
        self.revival, self.init = revival, init
        self.loss_weights = {**LOSSES, **loss_weights}
        self.seed = seed
        self.codebook = Codebook(codebook_size, dim, update, seed, form)
        self.distribute_(sync=sync, process_group=process_group)

        # A warning for who forgets `init_` or `update_`, where it matters.
        self.reminder = Reminder()
        self._idle = update_is_idle(assign, estimator, update, revival)

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.codebook.table.shape[0]

    @property
    def codebook_sizes(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """K, as a tuple of one."""
        return (self.codebook_size,)

    def codewords(self) -> Float[Tensor, "K D"]:
        """The codewords as they are searched."""
        return self.codebook.codewords()

    @property
    def form(self) -> Form:
        """How codewords derive from the table."""
        return self.codebook.form

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask, generator)
        return self._quantized(z, mask, generator, None)

    def quantize_as(
        self,
        z: Float[Tensor, "*b D"],
        indices: Int64[Tensor, "*b 1"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
    ) -> Quantized:
        """`forward` with the codewords chosen elsewhere, as a beam search does; −1 only where there is no token.

        Raises:
            InputError: indices of another shape than the tokens', or out of range.
        """
        self.check_input(z, mask)
        self.check_indices(indices, mask)
        if indices.shape[:-1] != z.shape[:-1]:
            raise InputError(f"indices must have shape {[*z.shape[:-1], 1]}, as z; got {list(indices.shape)}")
        self._check_range(indices, token_rows(z, mask, LONGEST).valid.view(z.shape[:-1]))
        return self._quantized(z, mask, None, indices)

    def _quantized(
        self, z: Tensor, mask: Tensor | None, generator: torch.Generator | None, fixed_indices: Tensor | None
    ) -> Quantized:
        """The result of a forward: codewords chosen here, or those of `fixed_indices`."""
        self.check_mode()
        with without_autocast(z.device):
            # Each token's codeword, chosen here or elsewhere.
            tokens, valid, finite, every = token_rows(z, mask, LONGEST)
            codewords, memory = self.codebook.codewords(), self._memory(generator)
            choose = self.assign if self.training else self.assign.encode
            free = fixed_indices is None
            indices = choose(tokens, codewords, memory) if free else fixed_indices.reshape(-1).clamp_min(0)
            chosen = codewords.index_select(0, indices).to(tokens.dtype)
            z_q = held = chosen.detach()

            # The gradient's way: in training the estimator decides the value, too.
            # In eval an estimator is worth its cost only to latents that want a gradient.
            if self.training or tokens.requires_grad:
                estimate = self.estimator(tokens, chosen, self._choice(codewords, memory))
                z_q = estimate if self.training else z_q + (estimate - estimate.detach())

            # Tokens that are masked or not finite have no part in anything.
            squares = (tokens - held).square().sum(-1)
            if not every:
                indices = torch.where(valid, indices, -1)
                z_q = torch.where(valid.unsqueeze(-1), z_q, 0.0)
                squares = torch.where(valid, squares, 0.0)
            losses = self._losses(squares, tokens, chosen, None if every else valid)
            first, *others = (self.loss_weights[name] * value for name, value in losses.items())
            loss = sum(others, first)

        # What an update needs to know of this batch.
        stats = ()
        if self.training:
            present = finite if mask is None else finite | ~mask.reshape(-1)
            non_finite = indices.new_zeros(()) if every else (~present).sum()
            if not isinstance(self.update, Frozen):
                self.reminder.passed(self.codebook, self._idle)
            # Summed in float64, as the counts and sums are: ranks must agree to the last bit.
            error = squares.detach().sum(dtype=wide(z.device))
            stats = (self._stats(tokens, codewords, indices, valid, memory, error, non_finite),)
        return Quantized(z_q.view(z.shape).to(z.dtype), indices.view(*z.shape[:-1], 1), loss, losses, stats)

    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b 1"]:
        self.check_input(z, mask)
        tokens, valid, *_ = token_rows(z.detach(), mask, LONGEST)
        indices = self.assign.encode(tokens, self.codebook.codewords(), self._memory(None))
        return torch.where(valid, indices, -1).view(*z.shape[:-1], 1)

    def decode(
        self,
        indices: Int64[Tensor, "*b 1"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        self._check_range(indices, mask)
        flat = indices.squeeze(-1).long()
        if mask is not None:
            flat = torch.where(mask, flat, 0)
        codewords = self.codebook.codewords()
        z_q = codewords.index_select(0, flat.reshape(-1)).view(*flat.shape, self.dim)
        z_q = z_q.to(self.decoded_dtype(dtype))
        return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, 0.0)

    def _check_range(self, indices: Tensor, valid: Tensor | None) -> None:
        """Refuse indices that are no codeword's, where there is a token."""
        flat = indices.squeeze(-1).long()
        flat = flat if valid is None else torch.where(valid, flat, 0)
        self.check_codes(flat, self.codebook_size)

    @torch.no_grad()
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Choose the codewords from `z` (of all ranks, where there are several) by `self.init`.

        Codewords that `freeze_` holds stay; all of them, if they were chosen or set before.

        Raises:
            InputError: no finite token, or fewer tokens than `init` needs.
        """
        self.check_input(z, mask, generator)
        self.check_numbers(self.codebook.counts, z)
        tokens, valid, *_ = token_rows(z, mask, LONGEST)
        tokens = sync.joined_rows(tokens[valid].float(), self.ranks)
        if tokens.shape[0] == 0:
            raise InputError("z holds no finite token to initialise a codebook from")
        if wide(z.device) != torch.float64:
            tokens = tokens.cpu()  # seeding sums in float64
        if generator is None:
            generator = torch.Generator(tokens.device).manual_seed(self.seed)
        if bool(self.codebook.frozen) and bool(self.codebook.initialised):
            return
        codewords = self.init(tokens, self.codebook_size, generator)
        self.codebook.reset_(sync.from_first_rank(codewords.to(z.device), self.ranks))

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """One step of `update` and, at the end of a window, of `revival`, on the results' joined batch.

        Raises:
            InputError: before `init_`; for results of an eval forward, of another quantizer, from before the last
                `update_`, or given twice.
        """
        self.check_results(results)
        if self.update.trains and not self.codebook.sharded:
            self._check_agreement()

        # One statistic for all results and all ranks: every rank takes the same step.
        stats = sync.joined(CodeStats.merge(tuple(r.stats[0] for r in results)), self.ranks)
        self.codebook.adopt_()
        book = self.codebook
        memory = self._memory(None) if isinstance(self.assign, assigns.Soft) else None
        slope, critical = (None, None) if memory is None else self._slopes(memory)
        tokens = int(stats.hits.sum())

        # Codewords move; running distortion and usage window take the batch in.
        before = book.state()
        after = before if book.held else self.update.step(before, stats.counts, stats.sums, memory)
        if after is not before:
            book.write_(after)
        if tokens > 0:
            book.observe_((stats.squared_error / tokens).to(book.distortion))
        book.window_counts.add_(stats.hits.to(torch.int64))

        # The report's copy first, as revival at the end of a window empties it.
        window = book.window_counts.clone()
        revived = self._revive(stats.sketch, float(window.sum()))
        book.step.add_(1)
        book.version.advance_()
        self.reminder.updated()
        return UpdateReport(
            tokens=tokens,
            non_finite=int(stats.non_finite),
            revived=(revived,),
            windows=(window,),
            slope=slope,
            critical_slope=critical,
        )

    def check_results(self, results: tuple[Quantized, ...]) -> None:
        """Refuse results that this codebook can't have given since its last step."""
        super().check_results(results)
        self.check_numbers(self.codebook.counts, *(result.indices for result in results))
        if not bool(self.codebook.initialised):
            raise InputError("update_ before init_: call init_(z) with a batch of latents first")
        for result in results:
            if (width := result.stats[0].sums.shape[1]) != self.dim:
                raise InputError(f"results are of dim={width}; this has dim={self.dim}")
            self.codebook.version.check(result.stats[0].version)

    def _check_agreement(self) -> None:
        """Refuse to go on where each rank has trained codewords of its own."""
        if not all(sync.same_everywhere(parameter, self.ranks) for parameter in self.codebook.parameters()):
            raise InputError(
                "codewords differ between the ranks: their gradients were not averaged, as with ignored_params= of "
                "fully_shard. Let fully_shard have them, wrap the quantizer in DistributedDataParallel or replicate(), "
                "or pass sync=False where each rank is to have its own"
            )

    def codebook_parameters(self) -> list[torch.nn.Parameter]:
        """What an optimizer moves in the codebook: for a parameter group with a learning rate of its own."""
        return list(self.codebook.parameters())

    def distances(self, z: Float[Tensor, "*b D"]) -> Float[Tensor, "*b K"]:
        """Squared distances to all codewords, with gradient: N·K numbers, so only on request."""
        self.check_input(z, None)
        return (z.unsqueeze(-2) - self.codebook.codewords().to(z)).square().sum(-1)

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]:
        codewords, memory = self.codebook.codewords(), self._memory(None)
        choose = self.assign if self.training else self.assign.encode
        chosen = codewords[choose(z, codewords, memory)].to(z)
        return self.estimator.jacobian(z, chosen, self._choice(codewords, memory))

    def _memory(self, generator: torch.Generator | None) -> Memory:
        """What the choices may read of the codebook; a generator puts other noise in the place of the step's own."""
        memory = self.codebook.memory()
        if generator is not None:
            fresh = torch.randint(2**62, (), generator=generator, device=generator.device)
            memory = memory._replace(salt=mix(memory.salt ^ fresh.to(memory.salt.device)))
        if isinstance(self.assign, assigns.Soft):
            memory = Memory(*memory[:-1], self.assign.is_soft(memory))
        return memory

    def _choice(self, codewords: Tensor, memory: Memory) -> Choice:
        scale = self.assign.scale if isinstance(self.assign, assigns.Gumbel) else 1.0
        return Choice(codewords, memory, scale)

    def _slopes(self, memory: Memory) -> tuple[float | None, float | None]:
        """The slope of an assignment that anneals, and the one under which all its codewords merge; else None."""
        assert isinstance(self.assign, assigns.Soft)
        if not bool(memory.annealing & (memory.distortion > 0)):
            return None, None
        # The latents' covariance is that of the codewords by mass, and about distortion/D in every direction.
        share = memory.counts.cpu().double() / memory.counts.cpu().sum()
        codewords = self.codebook.codewords().cpu().double()
        offset = codewords - share @ codewords
        spread = torch.linalg.eigvalsh((offset * share.unsqueeze(-1)).T @ offset)[-1]
        largest = float(spread) + float(memory.distortion) / self.dim
        return float(self.assign.slope(memory, self.dim)), 1.0 / (2.0 * largest)

    def _revive(self, sketch: Sketch, seen: float) -> Int64[Tensor, " r"]:
        """The rows of codewords that were moved, with tokens from the sketch; none until a window has seen enough."""
        # Only at the end of a window, counted in tokens and not in batches.
        book = self.codebook
        none = torch.empty(0, dtype=torch.int64, device=book.step.device)
        if seen < self.revival.window * self.codebook_size:
            return none

        # A new window begins; held codewords stay whatever it says.
        window = book.end_window_()
        if book.held:
            return none

        # Every rank draws the same and writes the same state.
        generator = torch.Generator("cpu").manual_seed(int(book.step_salt()))
        revived = self.revival.revive(book.state(), window, sketch.filled(), generator)
        book.write_(revived.state)
        return book.free_of(revived.rows)

    def _losses(self, squares: Tensor, z: Tensor, chosen: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        """Means over valid tokens, all where `valid` is None; `squares` are the latents' errors, codewords held."""
        tokens = max(1, len(z)) if valid is None else valid.sum().clamp_min(1)
        losses = {"commitment": squares.sum() / tokens}
        if self.update.trains:
            squares = (z.detach() - chosen).square().sum(-1)
            squares = squares if valid is None else torch.where(valid, squares, 0.0)
            losses["codebook"] = squares.sum() / tokens
        return losses

    def _stats(
        self,
        z: Tensor,
        codewords: Tensor,
        indices: Tensor,
        valid: Tensor,
        memory: Memory,
        squared_error: Tensor,
        non_finite: Tensor,
    ) -> CodeStats:
        """What an update needs to know of a batch; hits count hard choices, also where the assignment is soft."""
        counts, sums = self.assign.statistics(z, codewords, indices, memory)
        hits = counts
        if isinstance(self.assign, assigns.Soft):
            hits = torch.zeros_like(counts).scatter_add_(0, indices.clamp_min(0), (indices >= 0).to(counts))
        sketch = Sketch.of(z.detach().float(), valid, self.revival.candidates, memory.salt)
        version = self.codebook.version.stamp()
        return CodeStats(counts, sums, hits, squared_error, non_finite, sketch, version)

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, codebook_size={self.codebook_size}, assign={self.assign}, "
            f"estimator={self.estimator}, update={self.update}, revival={self.revival}, form={self.codebook.form}"
        )
