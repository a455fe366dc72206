"""The commands of `raynas`, each a function; :mod:`raynas.cli` puts them together."""
