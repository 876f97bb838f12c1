"""Quantizers as data: a JSON-able description, and a file that holds it with the state.

A leaf is described by its constructor's arguments, which it keeps as attributes of the same names; so a new
argument is described without a line here. pydantic reads descriptions back, told apart by `kind`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from codebound import files
from codebound.errors import InputError
from codebound.quantize import init as inits
from codebound.quantize.assign import Assign
from codebound.quantize.base import Quantizer
from codebound.quantize.binary import BSQ, LFQ
from codebound.quantize.bit_trellis import BitTrellis
from codebound.quantize.compose import Product
from codebound.quantize.estimator import Estimator
from codebound.quantize.form import Form
from codebound.quantize.multiscale import MultiScale
from codebound.quantize.residual import Residual
from codebound.quantize.revival import Revival
from codebound.quantize.scalar import FSQ
from codebound.quantize.sharding import whole
from codebound.quantize.trellis import Trellis
from codebound.quantize.update import Update
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Pooled, Projected, Scaled

METADATA = "codebound.quantizer"  # where the description stands in a safetensors file
LEAVES: dict[str, type[Quantizer]] = {
    "vector": VectorQuantizer,
    "fsq": FSQ,
    "lfq": LFQ,
    "bsq": BSQ,
    "trellis": Trellis,
    "bit_trellis": BitTrellis,
}
ELSEWHERE = {"sync", "process_group"}  # where a quantizer runs is no part of what it is
_CONFIG = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

_Init = (
    inits.Uniform
    | inits.Normal
    | inits.Xavier
    | inits.Sample
    | inits.KMeans
    | inits.RateDistortion
    | inits.Synthetic
    | inits.Lattice
)


class _BestSpec(BaseModel):
    """`init.Best`, whose candidates are a protocol and no union that could be read back."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)
    kind: Literal["best"] = "best"
    candidates: tuple[Annotated[_Init, Field(discriminator="kind")], ...]
    held_out: float

    def build(self) -> inits.Best:
        return inits.Best(self.candidates, self.held_out)


CHOICES: dict[str, Any] = {
    "assign": Annotated[Assign, Field(discriminator="kind")],
    "estimator": Annotated[Estimator, Field(discriminator="kind")],
    "update": Annotated[Update, Field(discriminator="kind")],
    "revival": Annotated[Revival, Field(discriminator="kind")],
    "form": Annotated[Form, Field(discriminator="kind")],
    "init": Annotated[_Init | _BestSpec, Field(discriminator="kind")],
    "loss_weights": dict[str, float],
}


def _described(leaf: type[Quantizer]) -> dict[str, inspect.Parameter]:
    """The constructor's arguments that a description has."""
    arguments = list(inspect.signature(leaf.__init__).parameters.items())[1:]
    return {name: parameter for name, parameter in arguments if name not in ELSEWHERE}


def _leaf(kind: str, leaf: type[Quantizer]) -> type[BaseModel]:
    """The description of a leaf: its constructor's arguments, all required unless they have a default."""
    hints = get_type_hints(leaf.__init__)
    fields: dict[str, Any] = {"kind": (Literal[kind], ...)}
    for name, parameter in _described(leaf).items():
        required = parameter.default is inspect.Parameter.empty
        fields[name] = (CHOICES.get(name, hints[name]), ... if required else None)
    return create_model(f"{leaf.__name__}Spec", __config__=_CONFIG, **fields)


_LEAF_SPECS = {kind: _leaf(kind, leaf) for kind, leaf in LEAVES.items()}


class _Spec(BaseModel):
    """A description with a `kind`, of which `build` makes the quantizer."""

    model_config = _CONFIG


class _PlacesSpec(_Spec):
    """Quantizers in places; `order` says which one stands where, as shared ones are described once."""

    order: tuple[int, ...] | None = None

    def places(self, described: tuple[Any, ...]) -> list[Quantizer]:
        order = range(len(described)) if self.order is None else self.order
        if set(order) != set(range(len(described))):
            raise InputError(f"order must name each of {len(described)} quantizers; got {list(order)}")
        built = [_build(spec) for spec in described]
        return [built[i] for i in order]

    def share(self) -> bool:
        return self.order is not None and len(set(self.order)) < len(self.order)


class _ResidualSpec(_PlacesSpec):
    """The description of a `Residual`."""

    kind: Literal["residual"]
    stages: tuple[AnySpec, ...]
    depth_dropout: float = 0.0
    beam_width: int = 1
    estimator: Annotated[Estimator, Field(discriminator="kind")] | None
    seed: int = 0

    def build(self) -> Residual:
        return Residual(
            self.places(self.stages),
            depth_dropout=self.depth_dropout,
            beam_width=self.beam_width,
            estimator=self.estimator,
            share=self.share(),
            seed=self.seed,
        )


class _ProductSpec(_PlacesSpec):
    """The description of a `Product`."""

    kind: Literal["product"]
    parts: tuple[AnySpec, ...]

    def build(self) -> Product:
        return Product(self.places(self.parts), share=self.share())


class _ProjectedSpec(_Spec):
    """The description of a `Projected`."""

    kind: Literal["projected"]
    inner: AnySpec
    dim: int
    normalise: bool = False
    orthogonal: bool = False
    frozen: bool = False
    seed: int = 0

    def build(self) -> Projected:
        arguments = {name: getattr(self, name) for name in ("normalise", "orthogonal", "frozen", "seed")}
        return Projected(_build(self.inner), self.dim, **arguments)


class _ScaledSpec(_Spec):
    """The description of a `Scaled`."""

    kind: Literal["scaled"]
    inner: AnySpec
    scale: float | tuple[float, ...]

    def build(self) -> Scaled:
        return Scaled(_build(self.inner), self.scale)


class _PooledSpec(_Spec):
    """The description of a `Pooled`."""

    kind: Literal["pooled"]
    inner: AnySpec
    factor: int
    size: int

    def build(self) -> Pooled:
        return Pooled(_build(self.inner), self.factor, self.size)


class _MultiScaleSpec(_Spec):
    """The description of a `MultiScale`."""

    kind: Literal["multiscale"]
    inner: AnySpec
    sizes: tuple[tuple[int, int], ...]
    blends: int = 4
    blend: float = 0.5
    seed: int = 0

    def build(self) -> MultiScale:
        inner = _build(self.inner)
        if not isinstance(inner, VectorQuantizer):
            raise InputError(f"spec: inner must describe a VectorQuantizer; got a {type(inner).__name__}")
        return MultiScale(inner, self.sizes, blends=self.blends, blend=self.blend, seed=self.seed)


_LEAF_UNION = (
    _LEAF_SPECS["vector"]
    | _LEAF_SPECS["fsq"]
    | _LEAF_SPECS["lfq"]
    | _LEAF_SPECS["bsq"]
    | _LEAF_SPECS["trellis"]
    | _LEAF_SPECS["bit_trellis"]
)
AnySpec = Annotated[
    _LEAF_UNION | _ResidualSpec | _ProductSpec | _ProjectedSpec | _ScaledSpec | _PooledSpec | _MultiScaleSpec,
    Field(discriminator="kind"),
]
for _model in (_ResidualSpec, _ProductSpec, _ProjectedSpec, _ScaledSpec, _PooledSpec, _MultiScaleSpec):
    _model.model_rebuild()
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnySpec)


def to_spec(quantizer: Quantizer) -> dict[str, Any]:
    """A JSON-able description from which `from_spec` builds the same quantizer, without its state.

    Raises:
        InputError: a quantizer or a strategy from outside the package.
    """
    values = _values(quantizer)
    return _validated(values).model_dump(mode="json")


def from_spec(spec: Mapping[str, Any]) -> Quantizer:
    """The quantizer that a description describes, as constructed (not initialised).

    Raises:
        InputError: an unknown kind or field, a missing one, or a value that is not accepted.
    """
    if not isinstance(spec, Mapping):
        raise InputError(f"spec must be a mapping, as to_spec returns; got {type(spec).__name__}")
    return _build(_validated(dict(spec)))


def save(quantizer: Quantizer, path: str | Path) -> None:
    """Write description and state to one safetensors file, whole or not at all.

    Raises:
        InputError: what `to_spec` refuses.
    """
    metadata = {METADATA: json.dumps(to_spec(quantizer)), "format": "pt"}
    state = {
        name: whole(tensor.detach()).cpu().contiguous() for name, tensor in quantizer.state_dict().items()
    }
    with files.replacing(Path(path)) as temporary:
        try:
            save_file(state, temporary, metadata=metadata)
        except RuntimeError as error:  # two names of one tensor
            raise InputError(f"the state can't be written: {error}") from None


def load(path: str | Path) -> Quantizer:
    """The quantizer of a file that `save` wrote, with its state, in eval, on the CPU.

    Raises:
        InputError: no such file, not a file of `save`, or a state that does not fit its description.
    """
    if not isinstance(path, str | Path):
        raise InputError(f"path must be a str or a Path; got {type(path).__name__}")

    # Description and tensors from one file.
    try:
        with safe_open(path, framework="pt") as file:
            spec = (file.metadata() or {}).get(METADATA)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} can't be read as a safetensors file: {error}") from None

    # The description is a user's input like any other: whatever is wrong with it is said.
    if spec is None:
        raise InputError(f"{path} holds no quantizer: {METADATA!r} is not in its metadata")
    try:
        described = json.loads(spec)
    except json.JSONDecodeError as error:
        raise InputError(f"{METADATA!r} in the metadata of {path} is not JSON: {error}") from None
    if not isinstance(described, dict):
        raise InputError(f"{METADATA!r} in the metadata of {path} is no description: {described!r}")

    # Build what it describes, then fill in the state.
    quantizer = from_spec(described)
    try:
        quantizer.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the state in {path} does not fit its description: {error}") from None
    return quantizer.eval()


def _values(quantizer: Quantizer) -> dict[str, Any]:
    """The fields of the description, quantizers inside it described too."""
    # Exact classes only: a subclass may do something else.
    kind = type(quantizer)
    for name, leaf in LEAVES.items():
        if kind is leaf:
            return {"kind": name, **{a: _plain(getattr(quantizer, a)) for a in _described(leaf)}}

    # Compositions describe each member once, with the order where one stands in several places.
    if isinstance(quantizer, Residual | Product) and kind in (Residual, Product):
        members = [_values(member) for member in quantizer.members if isinstance(member, Quantizer)]
        order = quantizer.order if len(members) < len(quantizer.order) else None
        if isinstance(quantizer, Product):
            return {"kind": "product", "parts": members, "order": order}
        names = ("depth_dropout", "beam_width", "estimator", "seed")
        values = {name: getattr(quantizer, name) for name in names}
        return {"kind": "residual", "stages": members, "order": order, **values}

    # Wrappers describe the quantizer inside.
    if kind is Projected and isinstance(quantizer, Projected):
        names = ("dim", "normalise", "orthogonal", "frozen", "seed")
        values = {name: getattr(quantizer, name) for name in names}
        return {"kind": "projected", "inner": _values(quantizer.inner), **values}
    if kind is Scaled and isinstance(quantizer, Scaled):
        return {"kind": "scaled", "inner": _values(quantizer.inner), "scale": quantizer.scale}
    if kind is Pooled and isinstance(quantizer, Pooled):
        values = {"factor": quantizer.factor, "size": quantizer.size}
        return {"kind": "pooled", "inner": _values(quantizer.inner), **values}
    if kind is MultiScale and isinstance(quantizer, MultiScale):
        values = {name: getattr(quantizer, name) for name in ("sizes", "blends", "blend", "seed")}
        return {"kind": "multiscale", "inner": _values(quantizer.inner), **values}
    raise InputError(f"a {kind.__name__} has no spec: it is not a quantizer of this package")


def _plain(value: Any) -> Any:
    if isinstance(value, inits.Best):
        return {"kind": "best", "candidates": value.candidates, "held_out": value.held_out}
    return dict(value) if isinstance(value, Mapping) else value


def _validated(values: Mapping[str, Any]) -> BaseModel:
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "spec"
        raise InputError(f"spec: {where}={first['input']!r} is not accepted: {first['msg']}") from None


def _build(spec: Any) -> Quantizer:
    """The quantizer of a validated description."""
    if isinstance(
        spec, _ResidualSpec | _ProductSpec | _ProjectedSpec | _ScaledSpec | _PooledSpec | _MultiScaleSpec
    ):
        return spec.build()
    fields = {name: getattr(spec, name) for name in spec.model_fields_set if name != "kind"}
    arguments = {name: v.build() if isinstance(v, _BestSpec) else v for name, v in fields.items()}
    return LEAVES[spec.kind](**arguments)
