"""What users of other libraries write by habit, and what is written here in its place.

The names are arguments of vector-quantize-pytorch 1.32 (Wang 2020–2026) and of the two widespread layers before it,
Sonnet's and taming-transformers'. docs/from-vector-quantize-pytorch.md says where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from codebound.errors import InputError

Constructor = TypeVar("Constructor", bound=Callable[..., None])

_NOWHERE = "leave it out, nothing like it is here"
_LAYOUT = "channel_first(quantizer, z) for channels first; latents are [*, dim] otherwise"
_RANKS = "leave it out, ranks are joined wherever torch.distributed is initialised"
_ORTHOGONALITY = "add quantize.objectives.orthogonality(…) to the loss"
_DIVERSITY = "add quantize.objectives.assignment_entropy(…) to the loss"
_DIVEQ = "estimator=DiVeQ(std=variance**0.5), update=Gradient()"
_FROM_BITS = "LFQ(bits) with 2**bits codes"

# What to write for each name; {} is the value that was given.
VECTOR = {
    "codebook_dim": "Projected(VectorQuantizer({}, codebook_size), dim)",
    "heads": "Product([VectorQuantizer(dim // {0}, codebook_size)] * {0}, share=True)",
    "separate_codebook_per_head": "Product([…]) of one quantizer per head",
    "decay": "update=EMA({})",
    "eps": "update=EMA(smoothing={})",
    "ema_update": "update=EMA(), or Gradient() or Frozen() where the codewords are to move otherwise",
    "manual_ema_update": "leave it out, codewords move in update_(result) alone",
    "learnable_codebook": "update=Gradient()",
    "in_place_codebook_optimizer": "update=Gradient(), with an optimizer for codebook_parameters()",
    "manual_in_place_optimizer_update": "leave it out, optimizers step where you call them",
    "freeze_codebook": "update=Frozen()",
    "kmeans_init": "init_(z) once before the first step: init=KMeans() is the default",
    "kmeans_iters": "init=KMeans({})",
    "sync_kmeans": _RANKS,
    "sync_codebook": _RANKS,
    "use_cosine_sim": "assign=Cosine(), form=Unit()",
    "layernorm_after_project_in": _NOWHERE,
    "threshold_ema_dead_code": "leave it out, Resample() revives dead codewords by default; its threshold is a part "
    "of a fair share of hits, not a count",
    "commitment_weight": "loss_weights={{'commitment': {} / dim}}: the loss here is summed over dim",
    "commitment_use_cross_entropy_loss": _NOWHERE,
    "orthogonal_reg_weight": _ORTHOGONALITY,
    "orthogonal_reg_active_codes_only": _ORTHOGONALITY,
    "orthogonal_reg_max_codes": _ORTHOGONALITY,
    "codebook_diversity_loss_weight": _DIVERSITY,
    "codebook_diversity_temperature": _DIVERSITY,
    "stochastic_sample_codes": "assign=Stochastic()",
    "sample_codebook_temp": "assign=Stochastic({})",
    "straight_through": "assign=GumbelAssign(), estimator=GumbelEstimator()",
    "rotation_trick": "estimator=Rotation()",
    "directional_reparam": _DIVEQ,
    "directional_reparam_variance": _DIVEQ,
    "route_gradients_to_input": "estimator=StopGradient()",
    "return_zeros_for_masked_padding": "leave it out, masked tokens are always 0",
    "channel_last": _LAYOUT,
    "accept_image_fmap": _LAYOUT,
    "accept_3d_fmap": _LAYOUT,
    "affine_param": _NOWHERE,
    "sync_affine_param": _NOWHERE,
    "affine_param_batch_decay": _NOWHERE,
    "affine_param_codebook_decay": _NOWHERE,
    "sync_update_v": _NOWHERE,
    "vq_bridge": _NOWHERE,
    # Sonnet's and taming-transformers' names.
    "num_embeddings": "codebook_size={}",
    "n_embed": "codebook_size={}",
    "n_e": "codebook_size={}",
    "embedding_dim": "dim={}",
    "embed_dim": "dim={}",
    "e_dim": "dim={}",
    "commitment_cost": "loss_weights={{'commitment': {} / dim}}: the loss here is summed over dim",
    "beta": "loss_weights={{'commitment': {} / dim}}: the loss here is summed over dim",
}
_STAGES = "Residual([VectorQuantizer(dim, codebook_size, seed=i) for i in range(depth)])"
RESIDUAL = {
    "dim": _STAGES,
    "num_quantizers": _STAGES,
    "codebook_size": _STAGES,
    "codebook_dim": "Projected(Residual([…]), dim)",
    "shared_codebook": "Residual([stage] * depth, share=True)",
    "diveq": "estimator=DiVeQ(), and stages with update=Gradient()",
    "heads": "Product([…]) in each stage",
    "quantize_dropout": "depth_dropout=1.0, or the share of samples that are to be cut",
    "quantize_dropout_cutoff_index": "depth_dropout: depths are drawn from 1 on",
    "quantize_dropout_multiple_of": "depth_dropout: every depth is drawn",
    "accept_image_fmap": _LAYOUT,
    "implicit_neural_codebook": _NOWHERE,
    "mlp_kwargs": _NOWHERE,
    "beam_size": "beam_width={}",
    "eval_beam_size": "beam_width={}",
    "beam_score_quantizer_weights": _NOWHERE,
    "quant_grad_frac": _NOWHERE,
    "return_zeros_for_masked_padding": VECTOR["return_zeros_for_masked_padding"],
}
_PARTS = "Product([…]) of {} quantizers"
FSQ = {
    "dim": "Projected(FSQ(levels), {})",
    "num_codebooks": _PARTS,
    "keep_num_codebooks_dim": "leave it out, indices are always [*, Q]",
    "scale": "Scaled(FSQ(levels), {})",
    "allowed_dtypes": "leave it out, every floating dtype is accepted",
    "channel_first": _LAYOUT,
    "projection_has_bias": "Projected(FSQ(levels), dim), whose maps have biases",
    "return_indices": "leave it out, indices are always there",
    "force_quantization_f32": "leave it out, float32 is what it computes in",
    "preserve_symmetry": _NOWHERE,
    "noise_dropout": _NOWHERE,
    "bound_hard_clamp": _NOWHERE,
    "orthogonal_rotation": _NOWHERE,
}
BINARY = {
    "dim": _FROM_BITS + "; Projected(LFQ(bits), {}) for another dim",
    "codebook_size": _FROM_BITS,
    "entropy_loss_weight": "entropy_weight={}",
    "commitment_loss_weight": "commitment_weight={} / bits: the loss here is summed over bits",
    "diversity_gamma": "diversity={}",
    "straight_through_activation": _NOWHERE,
    "num_codebooks": _PARTS,
    "keep_num_codebooks_dim": FSQ["keep_num_codebooks_dim"],
    "codebook_scale": "scale={}",
    "frac_per_sample_entropy": "leave it out, every token has its part in the entropy",
    "has_projections": "Projected(LFQ(bits), dim) where there are to be some",
    "projection_has_bias": "Projected(LFQ(bits), dim), whose maps have biases",
    "soft_clamp_input_value": _NOWHERE,
    "cosine_sim_project_in": _NOWHERE,
    "cosine_sim_project_in_scale": _NOWHERE,
    "channel_first": _LAYOUT,
    "experimental_softplus_entropy_loss": _NOWHERE,
    "entropy_loss_offset": _NOWHERE,
    "spherical": "BSQ(bits)",
    "force_quantization_f32": FSQ["force_quantization_f32"],
    "orthogonal_rotation": _NOWHERE,
}


def answered(habits: Mapping[str, str]) -> Callable[[Constructor], Constructor]:
    """Have a constructor refuse arguments of `habits` by saying what to write; its signature stays as it is.

    Raises:
        InputError: (by the constructor) at least one such argument.
    """

    def decorate(constructor: Constructor) -> Constructor:
        @wraps(constructor)
        def construct(self: Any, *arguments: Any, **named: Any) -> None:
            if given := [name for name in named if name in habits]:
                kind = type(self).__name__
                raise InputError(
                    "\n".join(
                        f"{kind} takes no {name}={named[name]!r}; instead: {habits[name].format(repr(named[name]))}"
                        for name in given
                    )
                )
            constructor(self, *arguments, **named)

        return cast(Constructor, construct)

    return decorate
