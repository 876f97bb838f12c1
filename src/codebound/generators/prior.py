"""What the priors that sample share: a layout, classes, a body, a head for each codebook, a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from codebound import arguments
from codebound.errors import InputError
from codebound.generators.drawing import Draw, check_seed
from codebound.generators.layout import Grid, Layout
from codebound.nets.transformer import Network, Transformer
from codebound.tokenizers import pretrained

BATCH = 100  # pictures that are sampled at once, by default
DEFAULT = Path(__file__).parent / "default_model"  # the prior in the package, and its tokenizer
LOGITS = 2**23  # numbers that are held at once where nothing is learned from them

EXAMPLE = """from codebound.generators import {kind}
prior = {kind}.from_pretrained("path/to/this/folder")
indices = prior.sample(16, seed=0)                      # for the decoder of its tokenizer
bits = prior.bits(indices)"""

Indices = Tensor | Sequence[Tensor]
P = TypeVar("P", bound="TokenPrior")


class TokenPrior(nn.Module, ABC):
    """How likely grids of indices are, given a class or not; and new ones.

    Args:
        layout: the grids of a picture, or several that belong together.
        classes: their names; none for a prior that knows of no classes.
        width, depth, heads, dropout: of the transformer.
        class_dropout: how often training hides the class; without it there is no guidance, and no sample without class.
        tokenizer: the digest of the tokenizer whose indices these are, so that others are refused.

    Raises:
        InputError: an argument out of its range.
    """

    exact: ClassVar[bool]  # whether `bits` is the code length itself, or an upper bound of it
    network: ClassVar[Network] = "gelu"  # of the transformer's blocks

    # A row for each token of the vocabulary; a position's logits are those of its codebook alone.
    head: nn.Linear

    def __init__(
        self,
        layout: Layout,
        *,
        classes: Sequence[str] = (),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        class_dropout: float = 0.1,
        tokenizer: str = "",
    ) -> None:
        super().__init__()
        arguments.number("class_dropout", class_dropout, least=0, below=1)
        self.layout, self.classes, self.tokenizer = layout, tuple(classes), tokenizer
        self.class_dropout, self.dropout = class_dropout, dropout
        self.body = Transformer(width, depth, heads, dropout, self.network)

    def _make_head(self, bias: bool) -> None:
        """The head, whose logits are all 0 at first."""
        self.head = nn.Linear(self.body.width, self.layout.vocabulary, bias=bias)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    # What a kind of prior has of its own.

    @abstractmethod
    def loss(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], draws: Float[Tensor, "b m"]
    ) -> Float[Tensor, ""]:
        """What training lowers, in nats per token.

        Args:
            labels: the last one, `len(classes)`, is no class.
            draws: numbers in [0, 1), `n + 1` of each picture, for whatever is random.
        """

    @abstractmethod
    def bits(self, indices: Indices, labels: Any = None) -> Float[Tensor, " b"]:
        """What each picture costs in bits: exactly, or at most (`exact`)."""

    @abstractmethod
    def sample(self, count: int, **options: Any) -> Tensor | tuple[Tensor, ...]:
        """New grids of indices."""

    def _in_parts(
        self,
        count: int,
        draw: Draw,
        sampled: Callable[[Tensor, Tensor, Layout, int], Int64[Tensor, "b n"]],
        *,
        labels: Any,
        seed: int,
        grid: tuple[int, int] | None,
        known: Indices | None,
        batch: int,
    ) -> Tensor | tuple[Tensor, ...]:
        """`sample`, some pictures at a time, so that memory does not grow with their number.

        Args:
            sampled: given tokens (−1 where one is to be drawn), class numbers, layout and the first one's place among
                the `count`, to tokens.
        """
        # Everything is checked before anything is drawn.
        arguments.whole("count", count, least=0)
        arguments.whole("batch", batch)
        check_seed(seed)
        draw.check()
        numbers, layout = self.label_numbers(labels, count), self.layout_of(grid)
        self.check_guidance(draw, numbers)
        given = self.given(known, layout, count)
        parts = [
            sampled(given[start : start + batch], numbers[start : start + batch], layout, start)
            for start in range(0, count, batch)
        ]
        return layout.unflatten(torch.cat(parts) if parts else given)

    # Labels and places.

    @property
    def no_class(self) -> int:
        """The label that stands for no class."""
        return len(self.classes)

    def label_numbers(self, labels: Any, count: int) -> Int64[Tensor, " count"]:
        """Labels as a user gives them, one for all or one for each picture, as numbers.

        Args:
            labels: None for no class, a number, a name, or a sequence or a tensor of them.

        Raises:
            InputError: an unknown class, another number of labels, or none where training never hid the class.
        """
        # One label stands for all pictures.
        device = self.head.weight.device
        if isinstance(labels, Tensor):
            labels = labels.tolist()
        single = labels is None or isinstance(labels, int | str)
        each: Sequence[Any] = [labels] if labels is None or isinstance(labels, int | str) else list(labels)
        numbers = [self._label_number(label) for label in each]
        if not single and len(numbers) != count:
            raise InputError(
                f"labels: {len(numbers)} for {count} pictures; one for all or one for each is accepted"
            )
        if self.classes and self.class_dropout == 0 and self.no_class in numbers:
            raise InputError(
                "labels=None: this prior was trained without class dropout and knows no picture without its class"
            )
        return torch.tensor(numbers * count if single else numbers, device=device, dtype=torch.int64)

    def _label_number(self, label: Any) -> int:
        """One label's number."""
        if label is None:
            return self.no_class
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(self.classes):
            return label
        known = (
            f"0 … {len(self.classes) - 1} or {', '.join(self.classes)}"
            if self.classes
            else "None: it has no classes"
        )
        raise InputError(f"labels={label!r} is no class of this prior; accepted: {known}")

    def check_guidance(self, draw: Draw, numbers: Int64[Tensor, " b"]) -> None:
        """Refuse guidance where there is nothing to guide by.

        Raises:
            InputError: no classes, none given, or training that never hid the class.
        """
        if draw.guidance == 1:
            return
        if not self.classes or self.class_dropout == 0:
            why = "has no classes" if not self.classes else "was trained without class dropout"
            raise InputError(f"guidance={draw.guidance:g}: this prior {why}; only 1 is accepted")
        if bool((numbers == self.no_class).any()):
            raise InputError(f"guidance={draw.guidance:g} needs a class for every picture")

    def layout_of(self, grid: tuple[int, int] | None) -> Layout:
        """The layout of pictures of so many rows and columns of tokens; its own if not given.

        Raises:
            InputError: a larger grid than it was trained on.
        """
        return self.layout if grid is None else self.layout.within(grid)

    def tokens_of(self, indices: Indices) -> tuple[Layout, Int64[Tensor, "b n"]]:
        """Indices as tokens, and their layout: that of this prior, or of smaller pictures.

        Raises:
            InputError: a larger grid, or an index out of range.
        """
        layout = self.layout
        if isinstance(indices, Tensor) and indices.ndim == 4 and len(layout.grids) == 1:
            own = layout.grids[0]
            if tuple(indices.shape[1:3]) != (own.height, own.width):
                layout = self.layout_of((indices.shape[1], indices.shape[2]))
        return layout, layout.flatten(indices).to(self.head.weight.device)

    # The network.

    def logits(self, hidden: Float[Tensor, "*b d"], layout: Layout, slot: int) -> Float[Tensor, "*b k"]:
        """Of the tokens of one codebook, for hidden vectors of its positions."""
        part = layout.slots[slot].tokens
        bias = None if self.head.bias is None else self.head.bias[part]
        return nn.functional.linear(hidden, self.head.weight[part], bias)

    def costs(
        self, hidden: Float[Tensor, "b n d"], tokens: Int64[Tensor, "b n"], layout: Layout
    ) -> Float[Tensor, "b n"]:
        """−ln of the probability of each token, in nats; a few positions at a time where nothing is learned from it."""
        columns: list[Tensor] = []
        order: list[int] = []
        for number, slot in enumerate(layout.slots):
            positions = list(slot.positions)
            held = LOGITS // max(1, len(tokens) * slot.size)
            step = len(positions) if torch.is_grad_enabled() else max(1, held)
            for start in range(0, len(positions), step):
                some = positions[start : start + step]
                logits = self.logits(hidden[:, some], layout, number).float()
                target = tokens[:, some] - slot.first
                columns.append(nn.functional.cross_entropy(logits.movedim(-1, 1), target, reduction="none"))
                order += some
        return torch.cat(columns, dim=1)[:, torch.tensor(order).argsort().to(tokens.device)]

    # Given parts of a picture.

    def given(self, known: Indices | None, layout: Layout, count: int) -> Int64[Tensor, "count n"]:
        """Tokens that are given, −1 where one is to be drawn; those of one picture hold for all.

        Raises:
            InputError: other grids than the layout's, another number of pictures, or an index out of range.
        """
        if known is None:
            return torch.full((count, layout.length), -1, device=self.head.weight.device)
        parts = [known] if isinstance(known, Tensor) else list(known)
        tokens = layout.flatten([part.clamp_min(0) for part in parts])
        unknown = torch.cat([(part < 0).flatten(1) for part in parts], dim=1)
        if len(tokens) not in (1, count):
            raise InputError(f"known: {len(tokens)} pictures for {count} samples; 1 or {count} are accepted")
        return tokens.masked_fill(unknown, -1).expand(count, -1).to(self.head.weight.device)

    # A folder.

    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `from_config` builds the same prior, without its weights."""
        return {
            "grids": [[grid.height, grid.width, list(grid.codebook_sizes)] for grid in self.layout.grids],
            "classes": list(self.classes),
            "width": self.body.width,
            "depth": len(self.body.blocks),
            "heads": self.body.heads,
            "dropout": self.dropout,
            "class_dropout": self.class_dropout,
            "tokenizer": self.tokenizer,
        }

    @classmethod
    def from_config(cls: type[P], config: dict[str, Any]) -> P:
        """The prior that a description describes, with fresh weights.

        Raises:
            InputError: an unknown field, a missing one, or a value that is not accepted.
        """
        sizes = pretrained.described(_Config, config).model_dump()
        layout = Layout([Grid(*grid) for grid in sizes.pop("grids")])
        return cls(layout, **sizes)

    def save_pretrained(self, folder: str | Path, *, card: str = "") -> None:
        """Write `config.json`, `model.safetensors`, `README.md` (the model card) and `manifest.json` (SHA-256).

        Raises:
            InputError: a folder that can't be written.
        """
        kind = type(self).__name__
        pretrained.save(Path(folder), kind, self.config(), self.state_dict(), card, EXAMPLE)

    @classmethod
    def from_pretrained(cls: type[P], source: str | Path, *, revision: str | None = None) -> P:
        """The prior of a folder that `save_pretrained` wrote, or of the Hugging Face hub; in eval, on the CPU.

        Args:
            source: a folder, or a name on the hub; `"default"` is the autoregressive prior in the package.

        Raises:
            InputError: no such folder or repository, a model of another kind, or files that do not fit together.
            DamagedModel: a file is not the one whose SHA-256 the manifest holds.
        """
        source = DEFAULT / "prior" if str(source) == pretrained.DEFAULT_NAME else source
        config, state = pretrained.load(source, cls.__name__, revision)
        prior = cls.from_config(config)
        pretrained.take_over(prior, state, str(source))
        return prior.eval()

    def to_transformers(self) -> Any:
        """The same prior as a model of the library `transformers`: `LlamaPrior` can be one.

        Raises:
            InputError: another kind, whose input no model there is given.
        """
        raise InputError(
            f"{type(self).__name__}.to_transformers: only a LlamaPrior has a model of transformers with the same "
            "logits; codebound train prior RUN --kind llama trains one"
        )

    def check_tokenizer(self, digest: str) -> None:
        """Refuse indices of another tokenizer than that of training.

        Raises:
            InputError: so; both hashes are named.
        """
        if self.tokenizer and digest != self.tokenizer:
            raise InputError(
                f"the prior is of the tokenizer {self.tokenizer}, not of {digest}: its indices mean other things"
            )


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    grids: list[tuple[int, int, tuple[int, ...]]]
    classes: tuple[str, ...]
    width: int
    depth: int
    heads: int
    dropout: float
    class_dropout: float
    tokenizer: str
