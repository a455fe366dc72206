"""The entry point of ``python -m raynas.cli``, the same as the command ``raynas``."""

from raynas.cli.main import main

main()
