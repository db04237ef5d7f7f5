"""One framework a file; import the one you need."""
