"""The commands of `raynas`, each a function; :mod:`raynas.cli.main` puts them together."""
