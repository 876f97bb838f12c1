"""The peer's README examples next to ours, and the peer's known defects tried on both.

The originals come from the installed package's metadata, ours from `docs/from-vector-quantize-pytorch.md`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from vector_quantize_pytorch import RandomProjectionQuantizer, VectorQuantize

from codebound import Product, Projected, VectorQuantizer
from codebound.errors import InputError
from codebound.quantize.assign import Cosine
from codebound.quantize.estimator import Rotation
from codebound.quantize.form import Unit
from codebound.quantize.init import KMeans
from codebound.quantize.update import EMA, Frozen
from codebound.search import nearest

PAGE = Path(__file__).parent.parent / "docs" / "from-vector-quantize-pytorch.md"


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


THEIRS = blocks(str(metadata("vector-quantize-pytorch").get_payload()))
MIGRATION, *OURS = blocks(PAGE.read_text(encoding="utf-8"))
# Theirs that can't be run as printed, with what it says.
BROKEN = {
    7: "dead code replacement should be enabled",
    24: "expected dimension of 16 but found dimension of 32",
    25: "name 'dim' is not defined",
}
TOO_LARGE = {20}  # an entropy over 10,240 × 65,536 probabilities: several times 2.7 GB
SLOW = {13}  # 16 random maps of 256 to 4096 dimensions: see `test_random_projections_choose_as_theirs_do`


def run(code: str, namespace: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    exec(compile(code, "example", "exec"), namespace)
    return namespace


@pytest.fixture(scope="module")
def ours() -> list[dict[str, Any]]:
    """What each block left behind, run from the first to the last as one reads."""
    namespace: dict[str, Any] = run(MIGRATION, {})
    after = []
    for code in OURS:
        namespace.pop("result", None)
        after.append(dict(run(code, namespace)))
    return after


def test_every_example_has_a_counterpart() -> None:
    assert len(THEIRS) == len(OURS) == 26


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in range(26)]
)
def test_example(number: int, ours: list[dict[str, Any]]) -> None:
    """Same shapes: reproductions as theirs; indices as theirs, with the Q axis last and always there."""
    mine = ours[number]
    if number in BROKEN:
        with pytest.raises((AssertionError, NameError), match=BROKEN[number]):
            run(THEIRS[number], {})
        return
    if number in TOO_LARGE:
        return
    theirs = run(THEIRS[number], {})
    quantized = next((theirs[name] for name in ("quantized", "xhat") if name in theirs), None)
    if quantized is not None:
        assert mine["result"].z_q.shape == quantized.shape
    if "indices" in theirs:
        indices, wanted = mine["result"].indices if "result" in mine else mine["indices"], theirs["indices"]
        parts = 3 if "LatentQuantize" in THEIRS[number] else 1  # ours: one per dimension
        assert indices.numel() == wanted.numel() * parts
        if quantized is not None:  # the Q axis comes after those of the tokens
            space = quantized.shape[2:] if quantized.ndim > 3 else quantized.shape[1:-1]
            assert indices.shape[:-1] == (quantized.shape[0], *space)
        assert indices.dtype == torch.int64


def test_random_projections_choose_as_theirs_do() -> None:
    """Our composition with their matrix and codebook gives their indices.

    With one codebook: of several, theirs puts another random map of its own between.
    """
    torch.manual_seed(0)
    theirs = RandomProjectionQuantizer(dim=32, num_codebooks=1, codebook_dim=8, codebook_size=64)
    book = VectorQuantizer(8, 64, assign=Cosine(), form=Unit(), update=Frozen())
    book.codebook.reset_(theirs.vq.codebook[0])
    mine = Projected(Product([book]), 32, frozen=True)
    mine.weight_in.copy_(theirs.rand_projs[0].T)
    x = normal(2, 50, 32)
    wanted = theirs(x)
    found = mine.encode(torch.nn.functional.layer_norm(x, (32,)))
    assert torch.equal(found.squeeze(-1), wanted)
    assert len(wanted.unique()) > 30


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Its known defects: it has them, ours has not


def pair(**theirs: Any) -> tuple[VectorQuantize, VectorQuantizer]:
    torch.manual_seed(0)
    mine = VectorQuantizer(8, 64)
    mine.init_(normal(1000, 8))
    return VectorQuantize(dim=8, codebook_size=64, **theirs), mine


def test_one_nan() -> None:
    theirs, mine = pair()
    z = normal(1, 500, 8, seed=1)
    z[0, 7, 3] = float("nan")
    theirs(z)
    assert bool(theirs.codebook.isnan().any(-1).all())  # all 64 of them
    result = mine(z)
    report = mine.update_(result)
    assert result.indices[0, 7].item() == -1
    assert (report.tokens, report.non_finite) == (499, 1)
    assert bool(mine.codebook.table.isfinite().all())


def test_an_empty_batch() -> None:
    theirs, mine = pair(rotation_trick=False)
    assert bool(theirs(torch.zeros(1, 0, 8))[2].isnan().any())
    assert float(mine(torch.zeros(1, 0, 8)).loss) == 0.0


def test_checkpointing() -> None:
    moved = []
    for recompute in (False, True):
        theirs, mine = pair(decay=0.5)
        for kind in (theirs, mine):
            z = normal(1, 500, 8, seed=1).requires_grad_()
            results = []

            def block(x: Tensor, kind=kind, results=results) -> Tensor:
                results.append(kind(x))
                return results[-1][0].square().sum() + z.sum()  # noqa: B023  used at once

            out = checkpoint(block, z, use_reentrant=False) if recompute else block(z)
            assert isinstance(out, Tensor)
            torch.autograd.backward(out)
            if isinstance(kind, VectorQuantizer):
                kind.update_(results[0])
        moved.append((theirs.codebook.clone(), mine.codebook.table.clone()))
    (theirs_once, mine_once), (theirs_again, mine_again) = moved
    assert float((theirs_again - theirs_once).abs().max()) > 0.01
    assert torch.equal(mine_again, mine_once)


@pytest.mark.slow
def test_512_tokens_a_step_with_revival() -> None:
    """Share of 1,024 codewords replaced, in steady state at N(0, I₈) from k-means."""
    start = KMeans()(normal(8192, 8), 1024, torch.Generator().manual_seed(0))
    theirs = VectorQuantize(dim=8, codebook_size=1024, decay=0.99, threshold_ema_dead_code=2)
    theirs.codebook = start
    theirs._codebook.cluster_size.fill_(512 / 1024)
    theirs._codebook.embed_avg.copy_(start * (512 / 1024))
    mine = VectorQuantizer(8, 1024, update=EMA(0.99))
    mine.codebook.reset_(start)
    replaced, dead, revived = [], [], 0
    for step in range(300):
        z = normal(1, 512, 8, seed=100 + step)
        before = theirs.codebook.clone()
        theirs(z)
        jumped = (theirs.codebook - before).norm(dim=-1) > 0.5  # an EMA step of 1 % moves far less
        report = mine.update_(mine(z))
        if step >= 200:
            replaced.append(float(jumped.float().mean()))
            dead.append(float((theirs._codebook.cluster_size <= 2).float().mean()))
            revived += len(report.revived[0])
    windows = 100 * 512 / (50 * 1024)
    assert sum(dead) / len(dead) > 0.9
    assert sum(replaced) / len(replaced) > 0.49  # a step: every token becomes a codeword, 1.32 has no more
    assert revived / 1024 / windows < 0.01  # a window


# Both ranks are copies of one process, so that the libraries are loaded once.
RANKS = """
import json, os, sys, torch
import torch.distributed as dist
from vector_quantize_pytorch import VectorQuantize
from codebound import VectorQuantizer
from codebound.quantize.ranks import end_group

torch.set_num_threads(1)
folder, other = sys.argv[1], os.fork()
rank = int(other == 0)
torch.manual_seed(0)
theirs, mine = VectorQuantize(dim=4, codebook_size=16), VectorQuantizer(4, 16)  # before the process group
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mine.init_(torch.randn(200, 4))
for step in range(20):
    torch.manual_seed(1 + 2 * step + rank)
    z = torch.randn(1, 100, 4)
    theirs(z)
    mine.update_(mine(z))
found = {}
for name, table in (("theirs", theirs.codebook.clone()), ("mine", mine.codebook.table.clone())):
    both = [torch.empty_like(table) for _ in range(2)]
    dist.all_gather(both, table)
    found[name] = float((both[0] - both[1]).abs().max())
end_group()
with open(f"{folder}/rank{rank}.json", "w") as file:
    json.dump(found, file)
if rank == 0:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


@pytest.mark.slow
def test_built_before_the_process_group(tmp_path: Path) -> None:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    command = [sys.executable, "-c", RANKS, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert found["theirs"] > 0.1
        assert found["mine"] == 0.0


def test_offset_latents() -> None:
    """Mean 1, spread 1e-3: float32 squares of distances lose all digits unless the mean is taken off."""
    z, codewords = (1 + 1e-3 * normal(n, 8, seed=n) for n in (4000, 1024))
    truth = torch.cdist(z.double(), codewords.double()).argmin(-1)
    theirs = VectorQuantize(dim=8, codebook_size=1024).eval()
    theirs.codebook = codewords
    wrong = float((theirs(z.unsqueeze(0))[1][0] != truth).float().mean())
    assert wrong > 0.5
    mine = VectorQuantizer(8, 1024).eval()
    mine.codebook.reset_(codewords)
    assert torch.equal(mine.encode(z).squeeze(-1), truth)
    assert torch.equal(nearest(z, codewords), truth)


def test_a_token_at_the_origin_with_the_rotation_trick() -> None:
    codewords = normal(64, 8)
    theirs = VectorQuantize(dim=8, codebook_size=64, rotation_trick=True, commitment_weight=0.0)
    theirs.codebook = codewords
    mine = VectorQuantizer(8, 64, estimator=Rotation())
    mine.codebook.reset_(codewords)
    z = torch.cat([torch.zeros(1, 8), 1e-5 * normal(9, 8, seed=1)]).unsqueeze(0)
    largest = {}
    for name, kind in (("theirs", theirs), ("mine", mine)):
        leaf = z.clone().requires_grad_()
        out = kind(leaf)[0]
        largest[name] = float(torch.autograd.grad(out.sum(), leaf)[0].norm(dim=-1).max())
        if name == "theirs":
            assert float(out[0, 0].norm()) == 0.0
        else:
            assert torch.equal(out, mine.decode(mine.encode(z)))
    assert largest["theirs"] > 1e4
    assert largest["mine"] < 8**0.5 * 10 + 1e-3  # no more than the largest scale


def test_decode_of_minus_one() -> None:
    theirs, mine = pair()
    assert torch.equal(theirs.get_codes_from_indices(torch.tensor([[-1]]))[0, 0], theirs.codebook[-1])
    with pytest.raises(InputError, match="−1"):
        mine.decode(torch.tensor([[-1]]))


@pytest.mark.untyped
def test_fullgraph() -> None:
    theirs, mine = pair()
    z = normal(1, 100, 8)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(theirs, fullgraph=True, backend="eager")(z)
    torch._dynamo.reset()
    assert torch.compile(mine, fullgraph=True, backend="eager")(z).z_q.shape == z.shape
