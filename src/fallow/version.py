"""The version of this package, apart so that any room may name it."""

__version__ = "0.1.0.dev0"
