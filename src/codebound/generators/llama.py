"""The prior of Llama's shape: a position is given the token before it, so that `transformers` can run it, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from codebound import extras
from codebound.errors import InputError
from codebound.generators.causal import CausalPrior, Inputs
from codebound.generators.layout import Layout
from codebound.nets.transformer import Rotation

ROTARY_BASE = 10_000.0  # as Llama's
EPSILON = torch.finfo(torch.float32).eps  # what `nn.RMSNorm` adds to a mean square


class LlamaPrior(CausalPrior):
    """Grids of indices, one token after the other, by a language model (Llama: Touvron et al. 2023; on codes of
    pictures: LlamaGen, Sun et al. 2024).

    ```
    class, token 0, …, token n − 2 ──▶ one table of embeddings ──▶ transformer ──▶ logits of tokens 0, …, n − 1
    ```

    The classes, and "no class", are tokens behind those of the layout's vocabulary (`class_token`). Blocks are Llama's:
    norms before attention and a SwiGLU network, nothing with a bias, rotary by a token's number in the sequence: that
    the token above stands a row's length back has to be learned. `log_prob` is exact.

    Raises:
        InputError: as `TokenPrior`.
    """

    network = "swiglu"

    def __init__(self, layout: Layout, **options: Any) -> None:
        super().__init__(layout, **options)
        self.token = nn.Embedding(layout.vocabulary + len(self.classes) + 1, self.body.width)
        nn.init.normal_(self.token.weight, std=0.5)
        self._make_head(bias=False)

    def forward(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], layout: Layout | None = None
    ) -> Float[Tensor, "b n d"]:
        """What the network knows of each position from those before it."""
        inputs, rotation = self.inputs(labels, layout or self.layout)
        return self.body(inputs(tokens, slice(None)), rotation, causal=True)

    def inputs(self, labels: Int64[Tensor, " b"], layout: Layout) -> tuple[Inputs, Rotation]:
        """The class at the first position, behind it the token before each."""
        first = self.layout.vocabulary + labels[:, None]

        def at(tokens: Tensor, part: slice) -> Tensor:
            return self.token(torch.cat([first, tokens[:, :-1]], dim=1)[:, part])

        numbers = torch.arange(layout.length, device=labels.device)
        return at, self.body.rotation(numbers[:, None], ROTARY_BASE)

    def layout_of(self, grid: tuple[int, int] | None) -> Layout:
        """The layout of pictures of fewer rows of tokens; its own if not given.

        Raises:
            InputError: a larger grid than it was trained on, or narrower rows: a place is known by its number alone.
        """
        layout = super().layout_of(grid)
        if layout.grids[0].width != self.layout.grids[0].width:
            raise InputError(
                f"grid={layout.grids[0].height}x{layout.grids[0].width} is not accepted: a LlamaPrior knows places by "
                f"their number in the sequence; rows must be as wide as in training: {self.layout.grids[0].width}"
            )
        return layout

    # As a model of `transformers`.

    def class_token(self, label: Any = None) -> int:
        """The token that a sequence of this class begins with.

        Args:
            label: a number or a name; None for no class.

        Raises:
            InputError: an unknown class, or none where training never hid the class.
        """
        return self.layout.vocabulary + int(self.label_numbers(label, 1))

    def logits_processor(self) -> Callable[[Int[Tensor, "b n"], Float[Tensor, "b k"]], Float[Tensor, "b k"]]:
        """For `generate(logits_processor=[…])`: only the tokens of a position's own codebook can be drawn there.

        What it returns raises `InputError` behind the last token of a picture.
        """
        slots = self.layout.slot_of.tolist()

        def masked(input_ids: Int[Tensor, "b n"], scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
            if not 1 <= input_ids.shape[1] <= len(slots):
                raise InputError(
                    f"input_ids has {input_ids.shape[1]} tokens; a class's and up to {len(slots) - 1} of a picture are "
                    f"accepted: max_new_tokens={len(slots)} behind the class alone"
                )
            slot = self.layout.slots[slots[input_ids.shape[1] - 1]]
            other: Bool[Tensor, " k"] = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
            other[slot.tokens] = False
            return scores.masked_fill(other, -torch.inf)

        return masked

    def to_transformers(self) -> Any:
        """A `transformers.LlamaForCausalLM` with copies of these weights, in eval.

        ```
        model = prior.to_transformers()
        first = torch.full((4, 1), prior.class_token("dress"))
        tokens = model.generate(first, do_sample=True, top_k=0, logits_processor=[prior.logits_processor()])
        indices = prior.layout.unflatten(tokens[:, 1:])          # for the decoder of its tokenizer
        ```

        A sequence is the class's token, then `layout.flatten(indices)`. Logits behind the token at place i are those of
        the picture's token i; they equal this prior's where the position's codebook has its tokens
        (`layout.slots`), and those of other codebooks mean nothing: `logits_processor` leaves them out, which a layout
        of one codebook does not need, as classes are suppressed by the model's generation settings.

        Raises:
            MissingExtra: `transformers` is not installed.
        """
        transformers = extras.imported("transformers", "trainers", "to_transformers")
        state, vocabulary, length = self._llama_state(), self.layout.vocabulary, self.layout.length
        unconditional = not self.classes or self.class_dropout > 0
        first = self.class_token() if unconditional else None
        config = transformers.LlamaConfig(
            vocab_size=self.token.num_embeddings,
            hidden_size=self.body.width,
            intermediate_size=state["model.layers.0.mlp.down_proj.weight"].shape[1],
            num_hidden_layers=len(self.body.blocks),
            num_attention_heads=self.body.heads,
            max_position_embeddings=length,
            rms_norm_eps=EPSILON,
            rope_theta=ROTARY_BASE,
            attention_dropout=self.dropout,
            bos_token_id=first,
            eos_token_id=None,
        )
        model = transformers.LlamaForCausalLM(config)
        model.load_state_dict(state)

        # A picture has a known length, and no class in it.
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=first,
            max_new_tokens=length,
            suppress_tokens=list(range(vocabulary, self.token.num_embeddings)),
        )
        return model.to(self.head.weight.device).eval()

    def _llama_state(self) -> dict[str, Tensor]:
        """These weights under Llama's names; a class has a row of the head that is 0."""
        head = nn.functional.pad(self.head.weight, (0, 0, 0, len(self.classes) + 1))
        state = {
            "model.embed_tokens.weight": self.token.weight,
            "model.norm.weight": self.body.norm.weight,
            "lm_head.weight": head,
        }
        for number, block in enumerate(self.body.blocks):
            own = _block_state(block)
            state |= {f"model.layers.{number}.{name}.weight": weight for name, weight in own.items()}
        return {name: weight.detach() for name, weight in state.items()}


def _block_state(block: Any) -> dict[str, Tensor]:
    """The weights of a `Block`: what stands in one matrix here is several of Llama's."""
    query, key, value = block.project_in.weight.chunk(3)
    gate, up = block.network[0].weight.chunk(2)
    return {
        "input_layernorm": block.attention_norm.weight,
        "self_attn.q_proj": query,
        "self_attn.k_proj": key,
        "self_attn.v_proj": value,
        "self_attn.o_proj": block.project_out.weight,
        "post_attention_layernorm": block.network_norm.weight,
        "mlp.gate_proj": gate,
        "mlp.up_proj": up,
        "mlp.down_proj": block.network[-1].weight,
    }
