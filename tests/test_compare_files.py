"""Damaged files in the folder of a comparison: each is named, and nothing is a traceback."""

import json

import pytest
import yaml

from fallow.cli.main import main
from fallow.comparison.files import FORMAT, read_config, read_settings, read_summary
from fallow.errors import DamagedData
from fallow.runs.schema import CompareSettings

EPOCH = {"accuracy": 0.5, "test_loss": None, "samples_backward": 9, "samples_forward_only": 0}
EPOCH |= {"samples_full": 10}
SUMMARY = {"accuracy": 0.5, "test_loss": None, "samples_backward": 9, "samples_forward_only": 0}
SUMMARY |= {"epochs": [EPOCH]}


def without(name):
    return {key: value for key, value in SUMMARY.items() if key != name}


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[]", "null", b"\xff\xfe{", "[" * 100_000]
    + [json.dumps(without(name)) for name in SUMMARY]
    + [json.dumps(SUMMARY | {"epochs": wrong}) for wrong in ({}, [1], [{}], [EPOCH | {"accuracy": "high"}])]
    + [json.dumps(SUMMARY | {"samples_backward": True}), json.dumps(SUMMARY | {"accuracy": [1]})]
    + [json.dumps(SUMMARY | {"bits_per_character": "few"}), json.dumps(SUMMARY | {"samples_evaluated": "x"})]
    + [json.dumps(SUMMARY | {"cpu_seconds": []}), json.dumps(SUMMARY | {"settings": {"by_default": 3}})],
    ids=lambda text: str(text[:40]),
)
def test_damaged_summaries(text, tmp_path):
    path = tmp_path / "summary.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamagedData, match=r"summary\.json must .*Remove the run's folder"):
        read_summary(path)


def test_what_a_run_writes_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_text(json.dumps(SUMMARY))
    found = read_summary(path)
    assert found.plain == SUMMARY
    assert (found.summary.samples_backward, found.summary.epochs[0].samples_full) == (9, 10)
    path.write_text(yaml.safe_dump({"epochs": 3}))
    assert read_config(path) == {"epochs": 3}
    path.write_text(json.dumps({"format": FORMAT, "options": {"epochs": 3}}))
    assert read_settings(path) == CompareSettings(FORMAT, {"epochs": 3})


@pytest.mark.parametrize("text", [b"", b"[1]", b"a: [", b"\xff\xff", b"word"])
def test_damaged_configs(text, tmp_path):
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(DamagedData, match=r"config\.yaml must .*Remove the run's folder"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": "fallow-compare-9"}', f'{{"format": "{FORMAT}", "options": 3}}']
)
def test_damaged_settings_end_the_command_with_3(text, tmp_path, capsys):
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(DamagedData, match=r"compare\.json must .*--out"):
        read_settings(tmp_path / "compare.json")
    assert main(["compare", "--data", "digits", "--out", str(tmp_path)]) == 3
    assert "compare.json must" in capsys.readouterr().err
