"""The libraries of Hugging Face write a line for each try: the error says it once."""

import logging

import pytest

from fallow.datasets.hub_names import quiet_hub


@pytest.mark.parametrize("name", ["huggingface_hub.utils._http", "datasets.load"])
def test_libraries_are_quiet_meanwhile(caplog, name):
    logger = logging.getLogger(name)
    with quiet_hub():
        logger.warning("Retrying in 1s")
    assert not caplog.records
    logger.warning("after")
    assert [record.message for record in caplog.records] == ["after"]
