"""A run as a Python object: its samples and epochs as data frames, its chart and its report."""
