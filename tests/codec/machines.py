"""Programs as they run on other machines: with other numbers of threads and sets of instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

KERNELS = {  # what PyTorch, MKL, oneDNN and OpenBLAS (NumPy) are told to use
    "avx512": ("avx512", "AVX512", "AVX512_CORE", "SkylakeX"),
    "avx2": ("avx2", "AVX2", "AVX2", "Haswell"),
    "sse": ("default", "SSE4_2", "SSE41", "Nehalem"),
}


def output(program: str, arguments: Sequence[str], threads: int, kernel: str) -> str:
    """What a program prints under so many threads and such instructions."""
    names = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE")
    environment = dict(zip(names, KERNELS[kernel], strict=True))
    environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")  # the package that is tested
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
