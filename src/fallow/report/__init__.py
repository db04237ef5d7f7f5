"""The report of a run: one HTML file that opens from the disk, without a network."""

from .writing import write_report as write_report

__all__ = ["write_report"]
