"""Command lines of commands without a config."""

import argparse
from typing import NoReturn

from lrm_align.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes end in one line, and whose help keeps the lines of its examples.

    Args:
      command: "python -m lrm_align.report".
      about: what it does.
      examples: whole command lines.
    """

    def __init__(self, command: str, about: str, *examples: str):
        shown = "\n".join(["examples:", *(f"  {example}" for example in examples)])
        kind = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=command, description=about, epilog=shown, formatter_class=kind, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the mistake."""
        raise UserError(f"{message}; see {self.prog} --help")
