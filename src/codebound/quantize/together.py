"""Which choices go together: every other pair works as its classes say."""

from __future__ import annotations

from codebound.errors import InputError
from codebound.quantize import assign as assigns
from codebound.quantize import estimator as estimators
from codebound.quantize.assign import Assign
from codebound.quantize.estimator import Estimator
from codebound.quantize.form import Form, Linear
from codebound.quantize.revival import Never, Revival
from codebound.quantize.update import BlahutArimoto, Frozen, Gradient, Update


def check_choices(**choices: object) -> None:
    """Refuse what is no choice at all: a name, a class that was not called, None."""
    methods = {"assign": "statistics", "update": "step", "revival": "revive", "form": "kind"}
    for name, choice in choices.items():
        if isinstance(choice, type) or not hasattr(choice, methods.get(name, "__call__")):
            raise InputError(
                f"{name} must be made by one of the classes in codebound.quantize.{name}; got {choice!r}"
            )


def update_is_idle(assign: Assign, estimator: Estimator, update: Update, revival: Revival) -> bool:
    """Whether `update_` changes nothing that matters: no codeword, and no noise or schedule that hangs on the step."""
    by_step = (assigns.Stochastic, assigns.Gumbel, estimators.NSVQ, estimators.DiVeQ, estimators.Gumbel)
    still = isinstance(update, Gradient | Frozen) and isinstance(revival, Never)
    return still and not isinstance(assign, by_step) and not isinstance(estimator, by_step)


def check_together(
    assign: Assign, estimator: Estimator, update: Update, revival: Revival, form: Form
) -> None:
    """Refuse choices that need each other and aren't together."""
    # Two halves of one method.
    pairs = [
        ("assign=Gumbel", assign, assigns.Gumbel, "estimator=Gumbel", estimator, estimators.Gumbel),
        ("assign=Soft", assign, assigns.Soft, "update=BlahutArimoto", update, BlahutArimoto),
    ]
    for one, a, kind_a, other, b, kind_b in pairs:
        if isinstance(a, kind_a) != isinstance(b, kind_b):
            raise InputError(f"{one} and {other} need each other; got {a} with {b}")

    # A codeword's length is of its mass, which these don't keep: all lengths would stay equal.
    if isinstance(assign, assigns.EntropyConstrained) and isinstance(update, Gradient | Frozen):
        raise InputError(
            f"assign=EntropyConstrained() needs update=EMA(), which keeps the codewords' shares; got {update}"
        )

    # Where codewords must not or can't be moved one by one, none is revived.
    if isinstance(update, Frozen) and not isinstance(revival, Never):
        raise InputError(f"update=Frozen() needs revival=Never(): revival moves codewords; got {revival}")
    if isinstance(form, Linear) and not (update.trains and isinstance(revival, Never)):
        raise InputError(
            f"form=Linear() needs update=Gradient() and revival=Never(): no codeword can be moved alone; "
            f"got {update} with {revival}"
        )
