"""The rules of papers, each as published, to compare with: they stand in :mod:`fallow.policies`."""
