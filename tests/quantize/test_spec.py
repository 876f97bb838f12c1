"""Quantizers as data: description and state of every public one survive a file, and what is wrong with one is named."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from zoo import EVERY, INITS, Sign

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import (
    FSQ,
    Product,
    Projected,
    Quantizer,
    Residual,
    Scaled,
    from_spec,
    load,
    save,
    to_spec,
)
from codebound.quantize.estimator import StraightThrough
from codebound.quantize.spec import METADATA
from codebound.quantize.update import Gradient

NESTED: dict[str, Callable[[], Quantizer]] = {
    "deep": lambda: Projected(
        Product([Residual([VectorQuantizer(3, 8)] * 2, share=True), Scaled(FSQ([5, 3]), (0.5, 2.0))]),
        9,
        orthogonal=True,
        seed=5,
    ),
    "shared unevenly": lambda: Residual(
        [a := VectorQuantizer(4, 8, seed=1), b := VectorQuantizer(4, 16, seed=2), a, b, b], share=True, seed=3
    ),
    **{f"init {name}": lambda kind=kind: VectorQuantizer(4, 16, init=kind) for name, kind in INITS.items()},
}
ALL = {**EVERY, **NESTED}


def latents(quantizer: Quantizer, seed: int = 0) -> Tensor:
    return torch.randn(256, quantizer.dim, generator=torch.Generator().manual_seed(seed))


def train(quantizer: Quantizer, seeds: range) -> None:
    torch.manual_seed(0)
    for seed in seeds:
        quantizer.update_(quantizer(latents(quantizer, seed)))


def assert_same_state(got: Quantizer, wanted: Quantizer) -> None:
    assert got.state_dict().keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(got.state_dict()[name], tensor), name


@pytest.mark.parametrize("name", ALL)
def test_a_description_is_json_and_builds_the_same(name: str) -> None:
    quantizer = ALL[name]()
    spec = to_spec(quantizer)
    built = from_spec(json.loads(json.dumps(spec)))
    assert type(built) is type(quantizer)
    assert to_spec(built) == spec
    assert str(built) == str(quantizer)
    assert_same_state(built, quantizer)  # the seeds are part of it
    for one in (built, quantizer):
        one.init_(latents(quantizer))
        train(one, range(1, 4))
    assert_same_state(built, quantizer)


@pytest.mark.parametrize("name", ALL)
def test_a_file_holds_description_and_state(name: str, tmp_path: Path) -> None:
    quantizer = ALL[name]()
    quantizer.init_(latents(quantizer))
    train(quantizer, range(1, 4))
    save(quantizer, tmp_path / "q.safetensors")
    loaded = load(tmp_path / "q.safetensors")
    assert not loaded.training
    assert_same_state(loaded, quantizer)
    z = latents(quantizer, 9)
    wanted, got = quantizer.eval()(z), loaded(z)
    assert torch.equal(got.indices, wanted.indices)
    assert torch.equal(got.z_q, wanted.z_q)
    assert torch.equal(loaded.decode(got.indices), quantizer.decode(wanted.indices))
    for one in (loaded, quantizer):
        train(one.train(), range(4, 7))
    assert_same_state(loaded, quantizer)


def test_a_shared_codebook_is_stored_once_and_stays_shared(tmp_path: Path) -> None:
    quantizer = NESTED["shared unevenly"]()
    save(quantizer, tmp_path / "q.safetensors")
    with safe_open(tmp_path / "q.safetensors", framework="pt") as file:
        tables = [name for name in file.keys() if name.endswith("table")]  # noqa: SIM118  not a dict
    assert len(tables) == 2
    loaded = load(tmp_path / "q.safetensors")
    assert isinstance(loaded, Residual)
    stages = loaded.stages
    assert stages[0] is stages[2]
    assert stages[1] is stages[3] is stages[4]
    assert stages[0] is not stages[1]


def test_a_frozen_codebook_stays_frozen(tmp_path: Path) -> None:
    quantizer = VectorQuantizer(4, 8, update=Gradient())
    quantizer.init_(latents(quantizer))
    quantizer.codebook.freeze_()
    save(quantizer, tmp_path / "q.safetensors")
    loaded = load(tmp_path / "q.safetensors")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    free = VectorQuantizer(4, 8, update=Gradient())
    quantizer.load_state_dict(free.state_dict())
    assert all(parameter.requires_grad for parameter in quantizer.parameters())


def test_half_precision_around_a_codebook_is_no_matter_to_the_file(tmp_path: Path) -> None:
    quantizer = VectorQuantizer(4, 8).bfloat16()
    save(quantizer, tmp_path / "q.safetensors")
    assert_same_state(load(tmp_path / "q.safetensors"), quantizer)


# What is refused


class Own(VectorQuantizer):
    """A subclass may do anything: its description would not be it."""


@dataclass(frozen=True)
class OwnEstimator(StraightThrough):
    """A strategy from outside."""

    kind: Any = "own"


def test_what_is_not_of_the_package_has_no_description() -> None:
    for quantizer in (Sign(3), Own(4, 8), Residual([Own(4, 8)]), Projected(Sign(3), 5)):
        with pytest.raises(InputError, match=r"(Sign|Own) has no spec"):
            to_spec(quantizer)
    with pytest.raises(InputError, match="estimator"):
        to_spec(VectorQuantizer(4, 8, estimator=OwnEstimator()))


VECTOR_SPEC = to_spec(VectorQuantizer(4, 8))
RESIDUAL_SPEC = to_spec(Residual([VectorQuantizer(4, 8)] * 2, share=True))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({}, "kind"),
        ({"kind": "no_such"}, "no_such"),
        ({**VECTOR_SPEC, "colour": "red"}, "colour"),
        ({k: v for k, v in VECTOR_SPEC.items() if k != "dim"}, "dim"),
        ({**VECTOR_SPEC, "dim": "wide"}, "dim"),
        ({**VECTOR_SPEC, "codebook_size": 1}, "codebook_size"),
        ({**VECTOR_SPEC, "assign": {"kind": "farthest"}}, "assign"),
        ({**VECTOR_SPEC, "update": {"kind": "ema", "decay": 2.0}}, "decay"),
        ({**VECTOR_SPEC, "update": {"kind": "ema", "speed": 2.0}}, "speed"),
        ({**VECTOR_SPEC, "loss_weights": {"beta": 1.0}}, "loss_weights"),
        ({**RESIDUAL_SPEC, "order": [0, 1]}, "order"),
        ({**RESIDUAL_SPEC, "order": [0, 0], "stages": []}, "order"),
        ({**RESIDUAL_SPEC, "stages": [{"kind": "fsq", "levels": [1]}]}, "levels"),
        ({"kind": "fsq"}, "levels"),
        ({"kind": "scaled", "inner": VECTOR_SPEC, "scale": -1.0}, "scale"),
        ({"kind": "projected", "inner": VECTOR_SPEC, "dim": 0}, "dim"),
        ([], "spec"),
        ("vector", "spec"),
        (None, "spec"),
    ],
)
@pytest.mark.untyped  # the hook refuses what is no mapping
def test_a_wrong_description_is_named(spec: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        from_spec(spec)


def written(tmp_path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """A file of `save` with its tensors changed."""
    path = tmp_path / "q.safetensors"
    save(VectorQuantizer(4, 8), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={METADATA: json.dumps(VECTOR_SPEC)})
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop("codebook.counts"), "codebook.counts"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), "more"),
        (lambda tensors: tensors.update({"codebook.table": torch.zeros(9, 4)}), "codebook.table"),
    ],
)
def test_a_state_that_does_not_fit_is_named(tmp_path: Path, change, named: str) -> None:
    with pytest.raises(InputError, match=named):
        load(written(tmp_path, change))


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {METADATA: "{"}, {METADATA: "5"}, {METADATA: '"vector"'}, {METADATA: "{}"}],
    ids=str,
)
def test_a_file_without_a_description_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "q.safetensors"
    save_file(dict(nn.Linear(2, 2).state_dict()), path, metadata=metadata)
    with pytest.raises(InputError, match=r"q\.safetensors|spec"):
        load(path)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"hello world, hello"), ("cut", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        if name == "cut":
            save(VectorQuantizer(4, 8), path)
            path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match=name):
            load(path)
    torch.save(VectorQuantizer(4, 8).state_dict(), tmp_path / "pickle.pt")
    for path in (tmp_path / "pickle.pt", tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="safetensors"):
            load(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    save(VectorQuantizer(4, 8), path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        save(Own(4, 8), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["q.safetensors"]
