"""What a type checker tells a user of the package: checked by pyright in `make lint`, never run."""

from typing import assert_type

import torch
from torch import Tensor

import codebound
from codebound import Product, Projected, Residual, VectorQuantizer, check_quantizer
from codebound.metrics import CodeUsage
from codebound.quantize import Quantized, Quantizer, UpdateReport, from_spec, load, to_spec
from codebound.quantize.assign import Cosine
from codebound.quantize.contract import ContractReport
from codebound.quantize.update import Gradient


def layer(z: Tensor) -> None:
    vq = VectorQuantizer(8, 64, assign=Cosine(), update=Gradient())
    # A module's call is not typed in PyTorch; its forward is.
    result = vq.forward(z)
    assert_type(result, Quantized)
    assert_type(result.z_q, Tensor)
    assert_type(result.losses["commitment"], Tensor)
    assert_type(vq.encode(z), Tensor)
    assert_type(vq.decode(result.indices), Tensor)
    assert_type(vq.update_(result), UpdateReport)
    assert_type(vq.update_(result).window_usage[0], float)
    assert_type(vq.codebook_sizes, tuple[int, ...])


def compositions(vq: VectorQuantizer) -> None:
    for quantizer in (Residual([vq, vq]), Product([vq, vq]), Projected(vq, 16)):
        assert_type(quantizer.forward(torch.zeros(4, 16)).indices, Tensor)


def on_demand(vq: VectorQuantizer) -> None:
    """What is imported at first use has its type, too."""
    assert_type(codebound.__version__, str)
    assert_type(check_quantizer(vq), ContractReport)
    assert_type(from_spec(to_spec(vq)), Quantizer)
    assert_type(load("vq.safetensors"), Quantizer)
    assert_type(CodeUsage(64), CodeUsage)
