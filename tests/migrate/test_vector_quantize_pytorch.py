"""Migration against the installed peer: same indices, same reproductions, and a named refusal of all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ, GroupedResidualVQ, ResidualVQ, SimVQ, VectorQuantize

from codebound.errors import InputError
from codebound.migrate import from_vector_quantize_pytorch
from codebound.quantize.base import Quantizer
from codebound.quantize.estimator import DiVeQ, Rotation, StopGradient, StraightThrough
from codebound.quantize.update import EMA, Gradient

B, T = 3, 41


def latents(dim: int, seed: int = 0) -> Tensor:
    return torch.randn(B, T, dim, generator=torch.Generator().manual_seed(seed))


def built(make: Callable[[], nn.Module], steps: int = 3) -> Any:
    """The peer's module, its weights drawn anew and trained for some steps, so that nothing is at its default."""
    torch.manual_seed(5)
    theirs: Any = make()
    for seed in range(steps):
        theirs(latents(theirs_dim(theirs), seed + 100))
    return theirs


def theirs_dim(theirs: Any) -> int:
    if isinstance(theirs, SimVQ):
        return theirs.code_transform.out_features
    if isinstance(theirs, ResidualVQ):
        has = isinstance(theirs.project_in, nn.Linear)
        return theirs.project_in.in_features if has else theirs.codebook_dim
    return theirs.dim


def assert_same(theirs: Any, ours: Quantizer, z: Tensor) -> None:
    theirs.eval(), ours.eval()
    with torch.no_grad():
        z_q, indices, *_ = theirs(z)
        found = ours(z)
    indices = indices.reshape(B, T, -1)
    assert len(indices.unique()) > 4  # there is something to confuse
    assert torch.equal(found.indices, indices.long())
    assert torch.allclose(found.z_q, z_q, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.encode(z), found.indices)


VECTOR = {
    "plain": lambda: VectorQuantize(dim=8, codebook_size=32),
    "projected": lambda: VectorQuantize(dim=12, codebook_size=32, codebook_dim=5),
    "cosine": lambda: VectorQuantize(dim=8, codebook_size=32, use_cosine_sim=True),
    "cosine projected": lambda: VectorQuantize(dim=12, codebook_size=32, codebook_dim=5, use_cosine_sim=True),
    "learnable": lambda: VectorQuantize(dim=8, codebook_size=32, learnable_codebook=True, ema_update=False),
    "k-means": lambda: VectorQuantize(dim=8, codebook_size=32, kmeans_init=True),
    "heads, shared": lambda: VectorQuantize(dim=12, codebook_size=16, heads=3, codebook_dim=5),
    "heads, separate": lambda: VectorQuantize(
        dim=12, codebook_size=16, heads=3, codebook_dim=5, separate_codebook_per_head=True
    ),
    "heads, cosine": lambda: VectorQuantize(
        dim=12,
        codebook_size=16,
        heads=2,
        codebook_dim=4,
        use_cosine_sim=True,
        separate_codebook_per_head=True,
    ),
    "projected to more": lambda: VectorQuantize(dim=8, codebook_size=32, codebook_dim=16),
    "k-means, cosine": lambda: VectorQuantize(dim=8, codebook_size=32, kmeans_init=True, use_cosine_sim=True),
    "no update": lambda: VectorQuantize(dim=8, codebook_size=32, ema_update=False),
    "dead codes": lambda: VectorQuantize(dim=8, codebook_size=32, threshold_ema_dead_code=2),
}
RESIDUAL = {
    "residual": lambda: ResidualVQ(dim=8, num_quantizers=4, codebook_size=32),
    "residual, projected": lambda: ResidualVQ(dim=12, num_quantizers=3, codebook_size=16, codebook_dim=6),
    "residual, shared": lambda: ResidualVQ(dim=8, num_quantizers=3, codebook_size=32, shared_codebook=True),
    "residual, sizes": lambda: ResidualVQ(dim=8, codebook_size=(32, 16, 8)),
    "residual, cosine": lambda: ResidualVQ(dim=8, num_quantizers=3, codebook_size=32, use_cosine_sim=True),
    "residual, projected, shared, cosine": lambda: ResidualVQ(
        dim=8, num_quantizers=3, codebook_size=16, codebook_dim=4, shared_codebook=True, use_cosine_sim=True
    ),
    "residual, k-means": lambda: ResidualVQ(dim=8, num_quantizers=3, codebook_size=16, kmeans_init=True),
    "residual, dropout": lambda: ResidualVQ(dim=8, num_quantizers=3, codebook_size=32, quantize_dropout=True),
}
OTHER = {
    "heads, shared, cosine": lambda: VectorQuantize(
        dim=12, codebook_size=16, heads=3, codebook_dim=4, use_cosine_sim=True
    ),
    "heads, shared, unprojected": lambda: VectorQuantize(dim=12, codebook_size=16, heads=3, codebook_dim=4),
    "fsq": lambda: FSQ([8, 5, 5, 4]),
    "fsq, projected": lambda: FSQ([8, 5, 5], dim=10),
    "fsq, codebooks": lambda: FSQ([5, 3], num_codebooks=3),
    "fsq, no bias": lambda: FSQ([7, 5, 5], dim=10, projection_has_bias=False),
    "fsq, projected codebooks": lambda: FSQ([7, 5, 4], dim=8, num_codebooks=2),
    "lfq": lambda: LFQ(codebook_size=256),
    "lfq, projected": lambda: LFQ(codebook_size=64, dim=10),
    "lfq, scale": lambda: LFQ(codebook_size=64, codebook_scale=0.5, num_codebooks=2),
    "lfq, spherical": lambda: LFQ(codebook_size=64, spherical=True),
    "lfq, spherical, scale": lambda: LFQ(codebook_size=64, dim=10, spherical=True, codebook_scale=2.0),
    "lfq, spherical codebooks": lambda: LFQ(codebook_size=64, dim=10, spherical=True, num_codebooks=2),
    "lfq, no bias": lambda: LFQ(codebook_size=64, dim=10, projection_has_bias=False),
    "sim": lambda: SimVQ(dim=8, codebook_size=32),
    "sim, own transform": lambda: SimVQ(
        dim=8, codebook_size=32, codebook_transform=nn.Linear(8, 8, bias=False)
    ),
}
WITH_STATE = {**VECTOR, **RESIDUAL, "sim": OTHER["sim"]}


@pytest.mark.parametrize("name", [*VECTOR, *RESIDUAL, *OTHER])
def test_module_gives_the_same_indices(name: str) -> None:
    theirs = built({**VECTOR, **RESIDUAL, **OTHER}[name])
    assert_same(theirs, from_vector_quantize_pytorch(theirs), latents(theirs_dim(theirs)))


@pytest.mark.parametrize("name", WITH_STATE)
def test_state_dict_gives_the_same_indices(name: str) -> None:
    theirs = built(WITH_STATE[name])
    state = theirs.state_dict()
    assert_same(theirs, from_vector_quantize_pytorch(state), latents(theirs_dim(theirs)))


def test_a_diveq_residual_has_the_peers_codewords() -> None:
    """The peer adds DiVeQ's noise in eval too: its indices are ours, its reproductions are not even its own."""
    theirs = built(lambda: ResidualVQ(dim=8, num_quantizers=3, codebook_size=16, diveq=True)).eval()
    ours, z = from_vector_quantize_pytorch(theirs), latents(8)
    with torch.no_grad():
        z_q, indices, *_ = theirs(z)
        assert not torch.equal(theirs(z)[0], z_q)
        found = ours(z)
        assert torch.equal(found.indices, indices)
        assert torch.allclose(found.z_q, theirs.get_output_from_indices(indices), atol=1e-5)


def test_layout_options_are_only_layout() -> None:
    theirs = VectorQuantize(dim=8, codebook_size=32, accept_image_fmap=True).eval()
    ours = from_vector_quantize_pytorch(theirs)
    image = torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(1))
    z_q, indices, _ = theirs(image)
    found = ours(image.movedim(1, -1))
    assert torch.equal(found.indices.squeeze(-1), indices)
    assert torch.allclose(found.z_q.movedim(-1, 1), z_q)


def test_ema_goes_on_where_it_was() -> None:
    """One more step from the same state: counts, sums and codewords of both agree, cosine too."""
    for cosine in (False, True):
        theirs = built(
            lambda cosine=cosine: VectorQuantize(
                dim=12, codebook_size=16, codebook_dim=4, decay=0.9, use_cosine_sim=cosine
            )
        ).train()
        ours = from_vector_quantize_pytorch(theirs)
        assert ours.training
        z = latents(12, 7)
        ours.update_(ours(z))
        theirs(z)
        book = ours.inner.codebook  # pyright: ignore[reportAttributeAccessIssue]
        assert torch.allclose(book.counts, theirs._codebook.cluster_size[0], rtol=1e-4)
        assert torch.allclose(book.codewords(), theirs._codebook.embed[0], atol=1e-5)


def test_assigned_codewords_keep_no_stale_masses() -> None:
    """The peer's `embed_avg` is of the old codewords then, and its next step would bring them back."""
    theirs = built(lambda: VectorQuantize(dim=8, codebook_size=16))
    theirs.codebook = latents(8, 9)[0, :16] + 5.0
    ours = from_vector_quantize_pytorch(theirs)
    before = ours.codebook.table.clone()  # pyright: ignore[reportAttributeAccessIssue]
    ours.update_(ours(latents(8)))
    moved = (ours.codebook.table - before).norm(dim=1)  # pyright: ignore[reportAttributeAccessIssue]
    assert float(moved.median()) < 0.2  # decay 0.8 of a far codebook would move all by several units


def test_loss_and_gradient_are_the_peers() -> None:
    """Their weight is of a mean over D, ours of a sum: the loss comes out equal, and so does the gradient."""
    for learnable in (False, True):
        theirs = built(
            lambda learnable=learnable: VectorQuantize(
                dim=8,
                codebook_size=16,
                commitment_weight=0.7,
                rotation_trick=False,
                learnable_codebook=learnable,
                ema_update=not learnable,
            )
        ).train()
        ours = from_vector_quantize_pytorch(theirs)
        z = latents(8).requires_grad_()
        result = ours(z)
        (mine,) = torch.autograd.grad((result.z_q * 3).sum() + result.loss, z)
        z_q, _, loss = theirs(z)
        (other,) = torch.autograd.grad((z_q * 3).sum() + loss.sum(), z)
        # Trained codewords have both losses: theirs is one weight for one mean with a gradient both ways.
        assert result.loss.item() == pytest.approx(loss.item() * (2 if learnable else 1), rel=1e-5)
        assert torch.allclose(mine, other, atol=1e-6)


def test_settings_come_along() -> None:
    def moved(**options: Any) -> Any:
        return from_vector_quantize_pytorch(VectorQuantize(dim=4, codebook_size=8, **options))

    assert isinstance(moved().estimator, Rotation)  # the peer's default
    assert isinstance(moved(rotation_trick=False).estimator, StraightThrough)
    assert isinstance(moved(route_gradients_to_input=False).estimator, StopGradient)
    assert isinstance(moved(directional_reparam=True, threshold_ema_dead_code=2).estimator, DiVeQ)
    assert moved(decay=0.7, eps=1e-4).update == EMA(decay=0.7, smoothing=1e-4)
    assert isinstance(moved(learnable_codebook=True, ema_update=False).update, Gradient)
    for options in ({"freeze_codebook": True}, {"ema_update": False}):
        assert bool(moved(**options).codebook.frozen)
    assert not bool(moved().codebook.frozen)


REFUSED = {
    "affine_param=True": lambda: VectorQuantize(dim=4, codebook_size=8, affine_param=True),
    "has_codebook_orthogonal_loss": lambda: VectorQuantize(
        dim=4, codebook_size=8, orthogonal_reg_weight=1.0, ema_update=False
    ),
    "has_codebook_diversity_loss": lambda: VectorQuantize(
        dim=4, codebook_size=8, codebook_diversity_loss_weight=1.0
    ),
    "commitment_use_cross_entropy_loss": lambda: VectorQuantize(
        dim=4, codebook_size=8, commitment_use_cross_entropy_loss=True
    ),
    "in_place_codebook_optimizer": lambda: VectorQuantize(
        dim=4,
        codebook_size=8,
        learnable_codebook=True,
        ema_update=False,
        in_place_codebook_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    ),
    "sync_update_v=0.1": lambda: VectorQuantize(
        dim=4, codebook_size=8, learnable_codebook=True, ema_update=False, sync_update_v=0.1
    ),
    "vq_bridge": lambda: VectorQuantize(dim=4, codebook_size=8, vq_bridge=nn.Linear(4, 4)),
    "return_zeros_for_masked_padding=False": lambda: VectorQuantize(
        dim=4, codebook_size=8, return_zeros_for_masked_padding=False
    ),
    "quant_grad_frac=0.5": lambda: ResidualVQ(dim=4, num_quantizers=2, codebook_size=8, quant_grad_frac=0.5),
    "quantize_dropout_cutoff_index=1": lambda: ResidualVQ(
        dim=4, num_quantizers=4, codebook_size=8, quantize_dropout=True, quantize_dropout_cutoff_index=1
    ),
    "bound_hard_clamp=True": lambda: FSQ([5, 5], bound_hard_clamp=True),
    "experimental_softplus_entropy_loss=True": lambda: LFQ(
        codebook_size=16, experimental_softplus_entropy_loss=True
    ),
    "code_transform.bias": lambda: SimVQ(dim=4, codebook_size=8, codebook_transform=nn.Linear(4, 4)),
    "stochastic_sample_codes": lambda: VectorQuantize(dim=4, codebook_size=8, stochastic_sample_codes=True),
    "saw no data": lambda: VectorQuantize(dim=4, codebook_size=8, kmeans_init=True),
    "project_in.0.weight": lambda: VectorQuantize(
        dim=4, codebook_size=8, codebook_dim=2, layernorm_after_project_in=True
    ),
    "implicit_neural_codebook": lambda: ResidualVQ(
        dim=4, num_quantizers=2, codebook_size=8, implicit_neural_codebook=True
    ),
    "beam_size=3": lambda: ResidualVQ(dim=4, num_quantizers=2, codebook_size=8, beam_size=3),
    "quantize_dropout_multiple_of=2": lambda: ResidualVQ(
        dim=4, num_quantizers=4, codebook_size=8, quantize_dropout=True, quantize_dropout_multiple_of=2
    ),
    "preserve_symmetry=True": lambda: FSQ([5, 5], preserve_symmetry=True),
    "orthogonal_rotation=True": lambda: FSQ([5, 5], orthogonal_rotation=True),
    "soft_clamp_input_value": lambda: LFQ(codebook_size=16, soft_clamp_input_value=3.0),
    "cosine_sim_project_in": lambda: LFQ(codebook_size=16, dim=6, cosine_sim_project_in=True),
    "activation": lambda: LFQ(codebook_size=16, straight_through_activation=nn.Tanh()),
    "codebook_transform=Sequential": lambda: SimVQ(
        dim=4, codebook_size=8, codebook_transform=nn.Sequential(nn.Linear(4, 4))
    ),
    "square": lambda: SimVQ(dim=4, codebook_size=8, frozen_codebook_dim=3),
    "accepted are a VectorQuantize, ResidualVQ, FSQ, LFQ or SimVQ": lambda: nn.Linear(2, 2),
    "source is a GroupedResidualVQ": lambda: GroupedResidualVQ(
        dim=8, num_quantizers=2, groups=2, codebook_size=8
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_counterpart_is_named(words: str) -> None:
    with pytest.raises(InputError) as error:
        from_vector_quantize_pytorch(REFUSED[words]())
    assert words in str(error.value)


@pytest.mark.parametrize(
    "make",
    [lambda: FSQ([5, 5], dim=6), lambda: LFQ(codebook_size=16), lambda: nn.Linear(2, 2)],
)
def test_a_state_dict_that_tells_nothing(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match="pass the module"):
        from_vector_quantize_pytorch(make().state_dict())


def test_state_dict_of_what_is_refused_as_module() -> None:
    state = VectorQuantize(dim=4, codebook_size=8, affine_param=True).state_dict()
    with pytest.raises(InputError, match="codebook_mean"):
        from_vector_quantize_pytorch(state)
