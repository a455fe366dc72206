"""This module has the version of raynas, for modules that must not import the facade."""

__version__ = "0.2.0"
