"""A console that keeps what it is told to print."""

from rich.console import Console as RichConsole

from fallow.tasks.console import Console


class Told(Console):
    """Keeps what is printed."""

    def __init__(self):
        super().__init__(RichConsole(stderr=True), silent=True)
        self.said = []

    def line(self, text=""):
        self.said.append(text)
