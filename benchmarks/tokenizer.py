"""A full training step of the image tokenizer against the same network without a quantizer, and with the peer's.

    make bench        or        OMP_NUM_THREADS=1 python benchmarks/tokenizer.py [--write]

A step is `Trainer.step`: the crops of a batch, forward, backward, clipping, AdamW, the codebook's update, averaged
weights; default network, 64 crops of 32×32, fp32. `identity` passes the latents through: what remains is the network's
price. `peer` is vector-quantize-pytorch's layer in the same place, without dead-code search (ours has one). One
thread, interleaved, medians of processor time.
"""

from __future__ import annotations

import argparse
from typing import Any

import page
import timing
import torch
from torch import Tensor

from codebound.data.image_sources import PictureRequest, open_images
from codebound.engine.devices import launch
from codebound.engine.trainer import Trainer
from codebound.quantize import Quantized, Quantizer, UpdateReport
from codebound.recipes import named as quantizers
from codebound.runs import settings as settings_module
from codebound.runs.settings import Settings
from codebound.tasks.tokenizer import TokenizerTask
from codebound.tokenizers import ImageTokenizer

SIZES = (256, 512, 1024)
SLOWER_THAN_IDENTITY, OF_THE_PEER = 1.1, 1 / 1.3


class Identity(Quantizer):
    """Latents pass through unchanged."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.codebook_sizes = dim, (1,)

    def forward(self, z: Tensor, *, mask: Tensor | None = None, generator: Any = None) -> Quantized:
        return Quantized(z, torch.zeros(*z.shape[:-1], 1, dtype=torch.int64), z.new_zeros(()), {}, ())

    def encode(self, z: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return torch.zeros(*z.shape[:-1], 1, dtype=torch.int64)

    def decode(self, indices: Tensor, *, mask: Any = None, dtype: Any = None) -> Tensor:
        return torch.zeros(*indices.shape[:-1], self.dim, dtype=self.decoded_dtype(dtype))

    def init_(self, z: Tensor, *, mask: Any = None, generator: Any = None) -> None:
        pass

    def update_(self, *results: Quantized) -> UpdateReport:
        return UpdateReport(0, 0, (), (None,))


class Peer(Identity):
    """vector-quantize-pytorch's layer, which moves its codewords inside `forward`."""

    def __init__(self, dim: int, codebook_size: int) -> None:
        super().__init__(dim)
        generator = torch.Generator().manual_seed(0)
        self.layer = timing.peer(torch.randn(codebook_size, dim, generator=generator))

    def forward(self, z: Tensor, *, mask: Tensor | None = None, generator: Any = None) -> Quantized:
        z_q, indices, loss = self.layer(z.reshape(1, -1, self.dim))
        return Quantized(z_q.view(z.shape), indices.view(*z.shape[:-1], 1), loss.sum(), {}, ())

    def init_(self, z: Tensor, *, mask: Any = None, generator: Any = None) -> None:
        rows = z.reshape(-1, self.dim)[: self.layer._codebook.embed.shape[1]]
        for buffer in (self.layer._codebook.embed, self.layer._codebook.embed_avg):
            buffer.data.copy_(rows.unsqueeze(0))


def trainer(quantizer: Quantizer, settings: Settings, images: Any) -> Trainer:
    torch.manual_seed(0)
    sizes = {"width": settings.width, "depth": settings.depth, "stride": settings.stride}
    task = TokenizerTask(ImageTokenizer(quantizer, **sizes), images, settings)
    work = Trainer(launch("cpu"), task, settings_module.recipe(settings, images))
    work.initialise()
    task.tokenizer.train()
    return work


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine, images = timing.machine(), open_images("photos", PictureRequest(held_out=64))
    rows, bars = [], []
    for size in SIZES:
        settings = Settings(codebook_size=size, steps=10_000)
        ours = quantizers.quantizer("vq-ema", settings_module.quantizer_request(settings, 10_000, images))
        contenders = {
            "identity": trainer(Identity(settings.dim), settings, images),
            "codebound": trainer(ours, settings, images),
            "peer": trainer(Peer(settings.dim, size), settings, images),
        }
        found = timing.medians({name: work.step for name, work in contenders.items()}, arguments.rounds, 120)
        seconds = {name: median for name, (median, _) in found.items()}
        speeds = [f"{settings.batch_size / seconds[name]:.0f}" for name in contenders]
        ratios = seconds["codebound"] / seconds["identity"], seconds["codebound"] / seconds["peer"]
        rows.append([str(size), *speeds, *(f"{ratio:.3f}" for ratio in ratios)])
        bars.append(timing.bar("codebound / identity", f"K = {size}", ratios[0], SLOWER_THAN_IDENTITY))
        bars.append(timing.bar("codebound / peer", f"K = {size}", ratios[1], OF_THE_PEER))
    head = [
        "K",
        "identity, images/s",
        "codebound",
        "peer",
        "codebound / identity, time",
        "codebound / peer, time",
    ]
    text = "\n\n".join([f"{machine}.", timing.markdown(head, rows), timing.bars(bars)])
    print(text)
    if arguments.write:
        page.write_block("benchmarks.md", "tokenizer", text)


if __name__ == "__main__":
    main()
