"""Output to the terminal: the only room that prints, with controls in foreign text escaped."""
