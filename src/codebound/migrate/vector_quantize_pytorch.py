"""From modules of vector-quantize-pytorch to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.migrate.parts import projected, take_masses
from codebound.quantize.assign import Cosine, Nearest
from codebound.quantize.base import Quantizer
from codebound.quantize.binary import BSQ, LFQ
from codebound.quantize.compose import Product
from codebound.quantize.estimator import DiVeQ, Estimator, Rotation, StopGradient, StraightThrough
from codebound.quantize.form import Linear, Table, Unit
from codebound.quantize.residual import Residual
from codebound.quantize.revival import Never, Resample
from codebound.quantize.scalar import FSQ
from codebound.quantize.update import EMA, Gradient, Update
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Scaled

ACCEPTED = (
    "a VectorQuantize, ResidualVQ, FSQ, LFQ or SimVQ of vector-quantize-pytorch 1.32, or the state dict of one of "
    "the first two or of SimVQ (FSQ and LFQ keep their settings outside the state dict: pass the module)"
)

_BOOK = ("embed", "embed_avg", "cluster_size", "initted")


def from_vector_quantize_pytorch(source: nn.Module | Mapping[str, Tensor]) -> Quantizer:
    """Our quantizer with the peer's codewords and projections: in eval the same indices and reproductions.

    A module brings its training settings too: estimator, EMA masses and decay, loss weights (theirs are means over
    D, ours sums), frozen or trained codebook. What differs in training: revival is `Resample()` with our relative
    threshold, a residual's estimator stands on the total (theirs adds up one per stage), and LFQ's entropies are
    exact. From a state dict, which says nothing about training, the settings are our defaults.

    Layout is not carried over: ours take `[*, D]` and give indices `[*, Q]`, Q also where it is 1; so move the
    channels of `accept_image_fmap`, `accept_3d_fmap`, `channel_last=False` or `channel_first=True` last
    (`quantize.layout.channel_first`).
    Heads become a `Product`. A state dict does not show heads that share a codebook without projections: what comes
    back is one head's quantizer, for `Product([head] * heads, share=True)`.

    Args:
        source: a module or the state dict of one; see `ACCEPTED`.

    Raises:
        InputError: what is not one of these, or has options that have no counterpart here (all are named).
    """
    if isinstance(source, nn.Module):
        theirs = [
            kind for kind in type(source).__mro__ if kind.__module__.startswith("vector_quantize_pytorch.")
        ]
        name = theirs[0].__name__ if theirs else type(source).__name__
        if not theirs or name not in _MODULES:
            raise InputError(f"source is a {name}; accepted are {ACCEPTED}")
        quantizer = _MODULES[name](source)
        tensors = [*source.parameters(), *source.buffers()]
        quantizer.train(source.training)
    else:
        quantizer = _from_state(source)
        tensors = list(source.values())
    return quantizer.to(tensors[0].device) if tensors else quantizer


def _from_state(state: Mapping[str, Tensor]) -> Quantizer:
    if "_codebook.embed" in state:
        _refuse_keys(state, "_codebook.", _BOOK)
        return _vector(state, "", _Settings())
    if "layers.0._codebook.embed" in state:
        _refuse_keys(state, "mlps.", ())
        _refuse_keys(state, "layers.0._codebook.", _BOOK)
        return _residual(state, _Settings())
    if "frozen_codebook" in state:
        return _sim(state, Rotation(), 1.0, 0.25)
    raise InputError(f"source has the keys {sorted(state)[:8]}; accepted are {ACCEPTED}")


def _refuse_keys(state: Mapping[str, Tensor], prefix: str, known: Sequence[str]) -> None:
    unknown = [key for key in state if key.startswith(prefix) and key.removeprefix(prefix) not in known]
    if unknown:
        raise InputError(f"source has {unknown}, which have no counterpart here")


def _refuse(module: nn.Module, refused: Mapping[str, Callable[[Any], bool]], why: str = "") -> None:
    """Name the options that have no counterpart: attributes for which the test holds."""
    values = {name: getattr(module, name, None) for name in refused}
    options = [f"{name}={values[name]!r}" for name, test in refused.items() if test(values[name])]
    if options:
        raise InputError(f"{type(module).__name__} has {', '.join(options)}: no counterpart here{why}")


# --- VectorQuantize ---------------------------------------------------------------------------------------------


class _Settings:
    """What a state dict does not hold; without a module, our defaults."""

    def __init__(self, module: Any = None) -> None:
        self.cosine, self.frozen, self.heads = False, False, None
        self.estimator: Estimator = StraightThrough()
        self.update: Update = EMA()
        self.dead: Never | Resample = Resample()
        self.commitment: float | None = None
        if module is None:
            return
        book = module._codebook
        self.cosine, self.heads = module.use_cosine_sim, module.heads
        # Theirs stand still too where neither an average nor an optimizer moves them.
        self.frozen = module.freeze_codebook or not (book.learnable_codebook or book.ema_update)
        self.commitment = module.commitment_weight if module.has_commitment_loss else 0.0
        if module.rotation_trick:
            self.estimator = Rotation()
        if module.directional_reparam:
            self.estimator = DiVeQ(std=module.directional_reparam_variance**0.5)
        if not module.route_gradients_to_input:
            self.estimator = StopGradient()
        self.update = Gradient() if book.learnable_codebook else EMA(decay=book.decay, smoothing=book.eps)
        self.dead = Resample() if book.has_dead_code_replacement else Never()

    def weights(self, dim: int) -> dict[str, float]:
        """Theirs is one weight of means over D; ours are of sums."""
        if self.commitment is None:
            return {}
        return {"commitment": self.commitment / dim, "codebook": self.commitment / dim}


def _set(value: object) -> bool:
    return value is not None and value is not False and value != 0


_VECTOR_REFUSED: dict[str, Callable[[Any], bool]] = {
    "has_codebook_orthogonal_loss": _set,
    "has_codebook_diversity_loss": _set,
    "commitment_use_cross_entropy_loss": _set,
    "in_place_codebook_optimizer": _set,
    "sync_update_v": _set,
    "return_zeros_for_masked_padding": lambda value: value is False,
}


def _check_vector(module: Any) -> None:
    book = module._codebook
    _refuse(book, {"affine_param": _set, "vq_bridge": _set})
    sampling = getattr(book.gumbel_sample, "keywords", {})
    if sampling.get("stochastic") or sampling.get("straight_through"):
        raise InputError(
            "VectorQuantize has stochastic_sample_codes or straight_through: it samples from softmax(−|z − c|), not "
            "−|z − c|²; no counterpart here, pass its state dict for the codebook alone"
        )
    _refuse(module, _VECTOR_REFUSED, "; pass its state dict for the codebook alone")
    if not bool(book.initted):
        raise InputError("VectorQuantize has kmeans_init and saw no data yet: there are no codewords to take")


def _from_vector(module: Any) -> Quantizer:
    _check_vector(module)
    return _vector(module.state_dict(), "", _Settings(module))


def _vector(state: Mapping[str, Tensor], prefix: str, settings: _Settings) -> Quantizer:
    embed = state[f"{prefix}_codebook.embed"]
    books, _, dim = embed.shape
    weight = state.get("project_in.weight")
    heads = settings.heads or (books if weight is None else weight.shape[0] // dim)
    codes = [_codebook(state, prefix, settings, book) for book in range(books)]
    if heads == 1:
        return projected(codes[0], state, settings.cosine)
    parts = codes if books > 1 else codes * heads
    return projected(Product(parts, share=books == 1), state)  # Cosine normalises each head by itself


def _codebook(state: Mapping[str, Tensor], prefix: str, settings: _Settings, book: int) -> VectorQuantizer:
    """One codebook, with the masses behind it where these belong to its codewords."""
    embed = state[f"{prefix}_codebook.embed"][book].float()
    size, dim = embed.shape
    quantizer = VectorQuantizer(
        dim,
        size,
        assign=Cosine() if settings.cosine else Nearest(),
        estimator=settings.estimator,
        update=settings.update,
        revival=settings.dead,
        form=Unit() if settings.cosine else Table(),
        loss_weights=settings.weights(dim),
    )
    quantizer.codebook.reset_(embed)
    if isinstance(settings.update, EMA):
        counts = state[f"{prefix}_codebook.cluster_size"][book].float()
        take_masses(quantizer, counts, state[f"{prefix}_codebook.embed_avg"][book].float(), settings.cosine)
    if settings.frozen:
        quantizer.codebook.freeze_()
    return quantizer


# --- ResidualVQ, SimVQ --------------------------------------------------------------------------------------------


def _from_residual(module: Any) -> Quantizer:
    beam = max(module.beam_size or 1, module.eval_beam_size or 1)
    _refuse(module, {"implicit_neural_codebook": _set, "quant_grad_frac": _set} if not module.diveq else {})
    if beam > 1:
        raise InputError(
            f"ResidualVQ has beam_size={beam}: its beam adds up the errors of all stages, ours takes the last one; "
            "pass its state dict and set beam_width"
        )
    if module.quantize_dropout and (
        module.quantize_dropout_cutoff_index != 0 or module.quantize_dropout_multiple_of != 1
    ):
        raise InputError(
            f"ResidualVQ has quantize_dropout_cutoff_index={module.quantize_dropout_cutoff_index}, "
            f"quantize_dropout_multiple_of={module.quantize_dropout_multiple_of}: no counterpart here"
        )
    for layer in module.layers:
        _check_vector(layer)
    settings = _Settings(module.layers[0])
    if module.diveq:
        settings.estimator = DiVeQ(std=5e-3**0.5)
    return _residual(module.state_dict(), settings, 1.0 if module.quantize_dropout else 0.0)


def _residual(state: Mapping[str, Tensor], settings: _Settings, depth_dropout: float = 0.0) -> Quantizer:
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
    tables = [state[f"layers.{q}._codebook.embed"] for q in range(depth)]
    shared = depth > 1 and all(torch.equal(table, tables[0]) for table in tables)
    stages: list[Quantizer] = [
        _codebook(state, f"layers.{q}.", settings, 0) for q in range(1 if shared else depth)
    ]
    inner = Residual(
        stages * depth if shared else stages,
        estimator=settings.estimator,
        depth_dropout=depth_dropout,
        share=shared,
    )
    return projected(inner, state)


def _from_sim(module: Any) -> Quantizer:
    if not isinstance(module.code_transform, nn.Linear):
        raise InputError(
            f"SimVQ has codebook_transform={type(module.code_transform).__name__}: no counterpart here but nn.Linear"
        )
    estimator = Rotation() if module.rotation_trick else StraightThrough()
    return _sim(
        module.state_dict(), estimator, module.commitment_weight, module.input_to_quantize_commit_loss_weight
    )


def _sim(state: Mapping[str, Tensor], estimator: Estimator, weight: float, commitment: float) -> Quantizer:
    unknown = set(state) - {"frozen_codebook", "code_transform.weight"}
    table = state["frozen_codebook"].float()
    if unknown or state["code_transform.weight"].shape != (table.shape[1], table.shape[1]):
        raise InputError(
            f"SimVQ has the code_transform {[(key, list(state[key].shape)) for key in sorted(state)]}: accepted is "
            "one square matrix without bias (no frozen_codebook_dim of its own)"
        )
    size, dim = table.shape
    quantizer = VectorQuantizer(
        dim,
        size,
        estimator=estimator,
        update=Gradient(),
        revival=Never(),
        form=Linear(),
        loss_weights={"commitment": weight * commitment / dim, "codebook": weight / dim},
    )
    quantizer.codebook.reset_(table)
    with torch.no_grad():
        quantizer.codebook.map.copy_(state["code_transform.weight"])
    return quantizer


# --- FSQ, LFQ -----------------------------------------------------------------------------------------------------


def _from_fsq(module: Any) -> Quantizer:
    refused = ("preserve_symmetry", "noise_dropout", "bound_hard_clamp", "orthogonal_rotation")
    _refuse(module, dict.fromkeys(refused, _set))
    parts = [FSQ(module._levels.tolist()) for _ in range(module.num_codebooks)]
    return projected(_together(parts), module.state_dict())


def _from_lfq(module: Any) -> Quantizer:
    refused = ("soft_clamp_input_value", "experimental_softplus_entropy_loss", "orthogonal_rotation")
    other = {"activation": lambda value: not isinstance(value, nn.Identity)}
    _refuse(module, {**dict.fromkeys(refused, _set), **other})
    if module.has_projections and not isinstance(module.project_in, nn.Linear):
        raise InputError("LFQ has cosine_sim_project_in: no counterpart here")
    bits, books, scale = module.codebook_dim, module.num_codebooks, float(module.codebook_scale)
    settings: dict[str, Any] = {
        "entropy_weight": module.entropy_loss_weight / books,  # theirs is a mean over the codebooks
        "diversity": module.diversity_gamma,
        "commitment_weight": module.commitment_loss_weight / (bits * books),
        "temperature": 0.01,
        "group_bits": min(bits, 18),
    }
    parts: list[Quantizer] = []
    for _ in range(books):
        if module.spherical:
            sphere = BSQ(bits, **settings)
            parts.append(sphere if scale == 1 else Scaled(sphere, scale))
        else:
            parts.append(LFQ(bits, scale=scale, **settings))
    return projected(_together(parts), module.state_dict())


def _together(parts: Sequence[Quantizer]) -> Quantizer:
    return parts[0] if len(parts) == 1 else Product(parts)


_MODULES: dict[str, Callable[[Any], Quantizer]] = {
    "VectorQuantize": _from_vector,
    "ResidualVQ": _from_residual,
    "SimVQ": _from_sim,
    "FSQ": _from_fsq,
    "LFQ": _from_lfq,
}
