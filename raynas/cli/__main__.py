"""``python -m raynas.cli`` is the command ``raynas``."""

from raynas.cli.main import main

main()
