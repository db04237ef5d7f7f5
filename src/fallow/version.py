"""The version of this package, in a module of its own so that any room can import it."""

__version__ = "0.1.0.dev0"
