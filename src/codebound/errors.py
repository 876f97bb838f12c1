"""The one exception for what a user can get wrong."""


class InputError(ValueError):
    """A value from outside is not acceptable.

    The message names the argument, the value it had and what is accepted. The command line prints it
    without a traceback; in Python it is a `ValueError`.
    """
