"""Where data are missing: how samples look to a trained network and its density."""

from .survey import Survey, Surveyor

__all__ = ["Survey", "Surveyor"]
