"""Numbers of runs, kept so that a change of the code's shape shows that it changed no number.

    python tests/recorded/record.py FOLDER

FOLDER holds what `run.sh` beside this file made: quick runs of the five studies, 200 steps of `codebound train`, ten
compressed pictures. The numbers go to `numbers.json.gz`; `test_recorded.py` compares a new FOLDER with them. They are
of the code before it got its engine and its study framework, but for PSNR and SSIM of the compression study: those are
of `metrics.likeness`, which came after (PSNR moved by 1e-8 of its value, SSIM by up to 0.017).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

STUDIES = ("init", "estimators", "population", "compression", "utilisation")
HERE = Path(__file__).parent

# Recorded where a claim had no source of samples; now it is who made the claim, a text.
_ORIGIN = re.compile(r"/claims/\d+/source")

# What differs between two runs of the same code: times, versions, the machine, the command.
VOLATILE = (
    "version",
    "machine",
    "command",
    "identity",
    "fingerprint",
    "seconds",
    "timing",
    "encode_s",
    "decode_s",
)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every number and truth value of nested dicts and lists, by its path; text is prose and left out."""
    if isinstance(tree, dict) and tree.get("metric") == "seconds":
        return {}  # a claim about time
    if isinstance(tree, dict):
        pairs = [(str(key), value) for key, value in tree.items() if not any(v in str(key) for v in VOLATILE)]
    elif isinstance(tree, list):
        pairs = [(str(number), value) for number, value in enumerate(tree)]
    else:
        return {} if isinstance(tree, str) else {path: tree}
    return {name: leaf for key, value in pairs for name, leaf in leaves(value, f"{path}/{key}").items()}


def tensors(run: Path) -> dict[str, dict[str, Any]]:
    """Of a run's last checkpoint, for each tensor: shape, SHA-256 of its bytes, and its norm."""
    import torch
    from safetensors.torch import load_file

    last = max((run / "checkpoints").glob("step-*.safetensors"))
    return {
        _first_name(name): {
            "shape": list(tensor.shape),
            "sha256": hashlib.sha256(
                tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            ).hexdigest(),
            "norm": float(tensor.double().norm()) if tensor.is_floating_point() else None,
        }
        for name, tensor in load_file(last).items()
    }


def _first_name(name: str) -> str:
    """A tensor's name in checkpoints of the first version, which held one model and one optimizer."""
    renamed = {
        "/modules/tokenizer/": "/model/",
        "/average/tokenizer/": "/average/",
        "/optimizers/tokenizer/": "/optimizer/",
    }
    new = next((new for new in renamed if name.startswith(new)), "")
    return renamed[new] + name.removeprefix(new) if new else name


def numbers(folder: Path) -> dict[str, Any]:
    """All that is compared."""
    studies = {name: leaves(json.loads((folder / name / "results.json").read_text())) for name in STUDIES}
    compressed = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "compressed").iterdir())
    }
    return {"studies": studies, "checkpoint": tensors(folder / "train"), "compressed": compressed}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is no longer there or no longer equal; what came in addition is not counted."""
    return [
        f"{name}: {value!r} → {after.get(name)!r}"
        for name, value in before.items()
        if not _ORIGIN.fullmatch(name) and (name not in after or not _equal(value, after[name]))
    ]


def _equal(one: Any, other: Any) -> bool:
    both = isinstance(one, float) and isinstance(other, float)
    return one == other or (both and math.isnan(one) and math.isnan(other))


if __name__ == "__main__":
    content = json.dumps(numbers(Path(sys.argv[1])), separators=(",", ":")).encode()
    (HERE / "numbers.json.gz").write_bytes(gzip.compress(content, mtime=0))
