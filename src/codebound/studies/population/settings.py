"""What can be set in the population study."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from codebound import config
from codebound.quantize.revival import Resample
from codebound.theory.population import EMA, SGD, Schedule

SourceName = Literal["gaussian", "laplace", "cube", "mixture"]
InitName = Literal["uniform", "normal", "xavier", "sample"]
Role = Literal["held_out", "development", "revival", "sweep", "own"]

REVIVAL = Resample()
LIFETIMES, FILM = "lifetimes", "film"  # cells of every run beside its scenarios


class Scenario(config.Settings):
    """One way to train a codebook."""

    name: str = Field(pattern=r"^[\w.=-]+$")
    role: Role = "own"
    update: Literal["sgd", "ema"]
    lr: float = Field(1.0, gt=0, description="of SGD")
    decay: float = Field(0.99, ge=0, lt=1, description="of EMA")
    codebook_size: int = Field(ge=2)
    batch_size: int = Field(ge=1)
    init: InitName
    std: float = Field(1.0, gt=0, description="of init normal")
    source: SourceName
    dim: int = Field(ge=1)
    revival: bool = False
    varied: str = Field(default="", description="the setting that a sweep changes from its base")

    @property
    def rule(self) -> SGD | EMA:
        """The update as the theory names it."""
        return SGD(self.lr) if self.update == "sgd" else EMA(self.decay)

    @property
    def memory_hits(self) -> float:
        """Hits that a codeword of probability 1/K remembers: B/(K(1−γ)) for EMA, B/(2·lr) for SGD."""
        ema = self.update == "ema"
        return self.batch_size / (self.codebook_size * (1 - self.decay) if ema else 2 * self.lr)

    @property
    def revive_below(self) -> float:
        """Share of a window's mean hits under which a codeword is revived; 0 is never."""
        return REVIVAL.threshold if self.revival else 0.0


class Settings(config.Settings):
    """Which scenarios, for how long, how often."""

    sweep: bool = Field(False, description="also the sweep around two bases")
    scenarios: tuple[Scenario, ...] = Field((), description="your own, {name, update, codebook_size, ...}")
    window: int = Field(50, ge=1, description="tokens per codeword; dead: no hit in it")
    windows: int = Field(20, ge=2, description="length of a run")
    codewords: int = Field(8192, ge=16, description="per held-out scenario: 8192 / K runs; fewer for others")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        names = [*(scenario.name for scenario in self.scenarios), LIFETIMES, FILM]
        if len(set(names)) < len(names):
            raise ValueError(f"scenarios must have different names, none of them {LIFETIMES} or {FILM}")
        return self

    @property
    def all(self) -> list[Scenario]:
        """The scenarios to run, those that decide first."""
        return list(self.scenarios) or package_scenarios(sweep=self.sweep)

    def runs(self, scenario: Scenario) -> int:
        """How many codebooks are trained."""
        share = {"development": 2, "revival": 2, "sweep": 4}.get(scenario.role, 1)
        return max(4, self.codewords // share // scenario.codebook_size)

    def schedule(self, scenario: Scenario) -> Schedule:
        """The run in steps; a window has at least `window`·K tokens."""
        steps = -(-self.window * scenario.codebook_size // scenario.batch_size)
        return Schedule(scenario.batch_size, steps, self.windows)


def package_scenarios(*, sweep: bool) -> list[Scenario]:
    """Held-out, development and revival settings, and those of the sweep."""
    here = files("codebound.studies.population")
    raw: dict[str, Any] = {}
    for name in ("held_out", "development"):
        raw |= yaml.safe_load(here.joinpath(f"{name}.yaml").read_text("utf-8"))
    roles: tuple[Role, ...] = ("held_out", "development", "revival")
    scenarios = [Scenario(role=role, **values) for role in roles for values in raw[role]]
    return scenarios + (list(_sweep(**raw["sweep"])) if sweep else [])


def _sweep(bases: list[dict[str, Any]], changes: dict[str, list[Any]]) -> Iterator[Scenario]:
    for base in bases:
        yield Scenario(role="sweep", **base)
        other = "lr" if base["update"] == "ema" else "decay"
        for key, values in changes.items():
            for value in values if key != other else ():
                changed = {key: value, "name": f"{base['name']}-{key}={value}", "varied": key}
                yield Scenario(role="sweep", **base | changed)
