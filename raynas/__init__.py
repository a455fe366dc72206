"""raynas: neural architecture search as one distributed pipeline."""

__version__ = "0.1.0"
