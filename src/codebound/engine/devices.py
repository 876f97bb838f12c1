"""Where a training runs: device, number of processes, precision."""

from __future__ import annotations

import atexit
import logging
import warnings
from typing import Literal, get_args

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from codebound.errors import InputError
from codebound.quantize.ranks import end_group

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32", "bf16"]


def launch(device: str = "auto", devices: int = 1) -> Fabric:
    """Start the processes (this one is the first), also under `torchrun`.

    Raises:
        InputError: an unknown device, one that is not there, or fewer of them than `devices`.
    """
    # Refuse what can never work.
    if device not in get_args(Device):
        raise InputError(f"device is {device!r}; accepted: {', '.join(get_args(Device))}")
    if devices < 1:
        raise InputError(f"devices must be at least 1; got {devices}")

    # Take the device asked for, or the fastest one there is.
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name, there in present.items() if there) if device == "auto" else device
    if not present[kind]:
        raise InputError(
            f"device={device} is not there; this machine has {', '.join(k for k in present if present[k])}"
        )
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise InputError(f"devices={devices}, but this machine has {torch.cuda.device_count()} GPUs")
    # No broadcast of buffers: codebooks are equal by their joined statistics, and copying would hide it if not.
    strategy = DDPStrategy(broadcast_buffers=False) if devices > 1 else "auto"

    # The library's own notes say nothing that a user of ours needs.
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # The successor of `broadcast_buffers` came with torch 2.12.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")

    # Start the other processes.
    fabric = Fabric(accelerator=kind, devices=devices, strategy=strategy)
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(end_group)
    return fabric


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse bfloat16 where it is slower than float32: on a CPU without AMX, 19 times (measured).

    Raises:
        InputError: an unknown precision, or bf16 on such a CPU.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}; accepted: {', '.join(get_args(Precision))}")
    if precision == "bf16" and device.type == "cpu" and not torch.cpu._is_amx_tile_supported():
        raise InputError(
            "precision=bf16 on a CPU needs AMX, which this one lacks: it would be many times slower"
        )
