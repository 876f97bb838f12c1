"""What frozen codes know of the classes: a linear probe."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError


def linear_probe(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test_features: Float[Tensor, "m d"],
    test_labels: Int64[Tensor, " m"],
    *,
    penalty: float = 1e-3,
    iterations: int = 100,
) -> float:
    """Accuracy on the test part of multinomial logistic regression on standardised features (Alain & Bengio 2016).

        minimise  mean cross-entropy + penalty/2 · |W|²

    by L-BFGS from zero: convex, so the result does not depend on a seed. Features that do not vary are left out.

    Raises:
        InputError: one class only, or features and labels of different lengths.
    """
    if len(features) != len(labels) or len(test_features) != len(test_labels):
        raise InputError(
            f"as many labels as features are needed; got {len(labels)} for {len(features)} and "
            f"{len(test_labels)} for {len(test_features)}"
        )
    classes = int(torch.cat([labels, test_labels]).max()) + 1 if len(labels) and len(test_labels) else 0
    if classes < 2:
        raise InputError(f"a probe needs at least 2 classes; got {classes}")
    mean, spread = features.mean(0), features.std(0)
    varying = spread > 1e-6
    x, test = (((f - mean) / spread)[:, varying] for f in (features, test_features))
    weight = torch.zeros(classes, x.shape[1], requires_grad=True, device=x.device)
    bias = torch.zeros(classes, requires_grad=True, device=x.device)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(x @ weight.T + bias, labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return float(((test @ weight.T + bias).argmax(1) == test_labels).double().mean())
