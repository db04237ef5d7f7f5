"""The rules of papers, each as published, for comparison; exported by :mod:`fallow.policies`."""
