"""The form of a message: a rule, the value found and the next step."""


def says(error, *words):
    """Assert that a message is one line of a rule, a value found and a next step, and holds the words."""
    text = str(error.value)
    rule, _, rest = text.partition(" Found ")
    found, _, step = rest.partition(". ")
    assert "\n" not in text, text
    assert rule.endswith("."), text
    assert found, text
    assert step.endswith("."), text
    for word in words:
        assert word in text, text
