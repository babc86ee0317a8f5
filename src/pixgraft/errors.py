"""The one exception that means: the input is at fault, not the program."""


class PixgraftError(Exception):
    """A fault that the user can mend: its message is one line that names the thing and the mend.

    The command line prints the message without a traceback and exits with status 2.
    """
