"""The benchmark for a GPU: its parts on the CPU, its tables, and all of it in its small form."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fallow
from fallow.datasets import ImageDataset
from fallow.errors import InvalidValue

with pytest.MonkeyPatch.context() as patch:  # as a script finds what lies beside it
    patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    gpu = importlib.import_module("gpu")
    gpu_steps, gpu_tables, gpu_training = gpu.gpu_steps, gpu.gpu_tables, gpu.gpu_training

CPU = torch.device("cpu")


def test_resnet_18_has_the_published_number_of_weights():
    network = gpu_steps.resnet18(224, classes=1000)
    assert sum(values.numel() for values in network.parameters()) == 11_689_512
    assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


def test_on_small_pictures_it_keeps_their_size_at_first():
    network = gpu_steps.resnet18(32, width=4).eval()
    assert network[:3](torch.zeros(1, 3, 32, 32)).shape == (1, 4, 32, 32)


def pictures(n=6, side=8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), np.uint8)
    return ImageDataset(torch.from_numpy(values), torch.arange(n))


def unnormalised(data, batch):
    return (batch.permute(0, 2, 3, 1) * data.deviation + data.mean).mul(255).round().permute(0, 3, 1, 2)


def test_without_a_generator_a_batch_is_the_pictures():
    part = pictures()
    data = gpu_training.OnDevice(part, CPU)
    batch = data.batch(torch.tensor([4, 1]))
    assert torch.equal(unnormalised(data, batch), part.images[[4, 1]].float())
    assert batch.is_contiguous(memory_format=torch.channels_last)
    everything = data.batch(torch.arange(6))
    assert everything.mean((0, 2, 3)).abs().max() < 1e-5
    assert (everything.std((0, 2, 3)) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("flip", [False, True])
def test_each_picture_of_a_batch_is_a_crop_of_its_own(flip):
    part = pictures(side=16)
    data = gpu_training.OnDevice(part, CPU)
    around = torch.nn.functional.pad(part.images.float(), (2, 2, 2, 2), mode="reflect")
    rows = torch.arange(6).repeat(20)
    found = unnormalised(data, data.batch(rows, torch.Generator().manual_seed(0), flip=flip))
    places, mirrored = set(), 0
    for row, crop in zip(rows, found, strict=True):
        at = [
            (y, x, flipped)
            for flipped in (False, True)
            for y in range(5)
            for x in range(5)
            if torch.equal(crop.flip(2) if flipped else crop, around[row, :, y : y + 16, x : x + 16])
        ]
        assert len(at) == 1
        places.add(at[0][:2])
        mirrored += at[0][2]
    assert len(places) > 20
    assert (40 < mirrored < 80) if flip else mirrored == 0


def test_pictures_that_are_not_square_bytes_are_refused():
    with pytest.raises(InvalidValue, match=r"square, in uint8.*float32"):
        gpu_training.OnDevice(ImageDataset(torch.zeros(2, 1, 8, 8), torch.zeros(2).long()), CPU)


def test_controls_save_as_much_as_the_default():
    sizes = gpu_training.WHOLE
    full = gpu_training.setting(sizes, "full", None)
    assert (full.epochs, full.batch, full.kept_steps) == (16, 512, None)
    fewer = gpu_training.setting(sizes, "fewer", 0.25)
    thin = gpu_training.setting(sizes, "fewer-thin", 0.25)
    assert (fewer.epochs, fewer.batch, fewer.part) == (12, 512, 0.75)
    assert (thin.epochs, thin.batch, thin.part) == (12, 384, 0.75)
    assert gpu_training.setting(sizes, "fewer", 0.24).epochs == 13  # ends inside the last
    random = gpu_training.setting(sizes, "random", 0.25)
    assert random.kept_steps
    assert random.policy.fraction * 15 / 16 == pytest.approx(0.25)


def test_an_error_of_another_kind_is_not_taken_for_waiting():
    def fail():
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        gpu_steps.refused(CPU, fail)
    assert gpu_steps.refused(CPU, lambda: None) is None


def test_torchs_own_words_are_taken_for_waiting():
    def wait():
        raise RuntimeError(f"{gpu_steps.WAITED}\nmore")

    assert gpu_steps.refused(CPU, wait) == gpu_steps.WAITED


def test_every_form_of_record_is_called(monkeypatch):
    calls = []
    record = fallow.Subsampler.record

    def counted(self, index, losses, **options):
        calls.append((len(index), *options, *(["weights"] if self.weights(index) is not None else [])))
        return record(self, index, losses, **options)

    monkeypatch.setattr(fallow.Subsampler, "record", counted)
    for form in ("losses", "predicted", "backward", "weights"):
        gpu_steps._record_all(form, 256, 64, CPU)
    assert calls[:12] == [(64,)] * 4 + [(64, "predicted")] * 4 + [(64, "backward")] * 4
    assert "weights" in calls[-1]


@pytest.mark.parametrize("form", ["losses", "predicted", "backward", "weights"])
def test_record_reads_nothing_back_from_a_device(form):
    """On the device "meta" tensors have no values: it stands in for one that would have to be waited for."""
    meta = torch.device("meta")
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones(1, device=meta).item()
    gpu_steps._record_all(form, 70 * 1024, 1024, meta)


def test_a_batch_is_made_on_the_device_alone():
    data = gpu_training.OnDevice(pictures(), torch.device("meta"))
    positions = gpu_steps.Positions(6, torch.device("meta"))
    assert data.batch(positions.collate([4, 1])).device.type == "meta"


def test_without_time_nothing_is_measured_and_everything_is_named(tmp_path, capsys):
    assert gpu.main(["--small", "--out", str(tmp_path), "--minutes", "0", "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "waiting, overhead 16 32, overhead 16 128, train 0 default, train 0 full, train 0 fewer," in said
    assert "train 0 random, wall 16 32 plain 0, wall 16 32 kept 0, wall 16 32 kept 0.5" in said
    assert "Nothing is measured yet." in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert "need a CUDA device. Found none." in capsys.readouterr().err


def test_data_that_are_not_there(tmp_path, capsys):
    assert gpu.main(["--small", "--out", str(tmp_path), "--data", "nothing.npz"]) == 2
    assert "--data must be a known name or a file. Found nothing.npz." in capsys.readouterr().err


def test_measurements_made_in_another_way_are_not_mixed(tmp_path, capsys):
    (tmp_path / "gpu.json").write_text(json.dumps({"settings": {"form": "whole"}, "found": {}}))
    assert gpu.main(["--small", "--out", str(tmp_path), "--minutes", "0"]) == 2
    assert "the same form. Found small, not whole." in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": {}}'])
def test_a_damaged_file(tmp_path, capsys, content):
    (tmp_path / "gpu.json").write_text(content)
    assert gpu.main(["--small", "--out", str(tmp_path), "--minutes", "0"]) == 3
    assert "must hold measurements of this benchmark" in capsys.readouterr().err
    assert (tmp_path / "gpu.json").read_text() == content


def test_a_measurement_is_expected_to_take_what_such_took(tmp_path):
    kept = gpu.Kept(tmp_path)
    assert kept.expected("train 0 full") == gpu.EXPECTED["train"]
    kept.add("train 0 full", {}, 4.0)
    kept.add("train 1 full", {}, 3.0)
    assert kept.expected("train 7 full") == pytest.approx(4.4)
    assert kept.expected("train 7 fewer") == gpu.EXPECTED["train"]
    assert gpu.Kept(tmp_path).found == kept.found


def test_a_row_begins_only_if_all_of_it_fits(tmp_path, capsys):
    kept = gpu.Kept(tmp_path)
    kept.begin({})
    for name in ("waiting", "overhead 16 32", "overhead 16 128"):
        kept.add(name, {}, 0.0)
    for arm in gpu_training.ARMS:
        kept.add(f"train 0 {arm}", {}, 100.0)
    measures = gpu.Measures(gpu.FORMS["small"], CPU, "digits", kept)
    left = gpu.measure(measures, kept, seeds=2, limit=540.0)
    assert left[:5] == [f"train 1 {arm}" for arm in gpu_training.ARMS]
    assert capsys.readouterr().out == ""


def trained(accuracy, saved):
    numbers = {"accuracy": accuracy, "saved": saved, "wall_s": 2.0, "cpu_s": 3.0, "forward_only": 10}
    return {**numbers, "steps": 1}


def test_the_table_of_the_arms_holds_whole_rows_only():
    found = {
        f"train {seed} {arm}": trained(0.9 + 0.01 * seed - (0.02 if arm == "fewer" else 0), saved)
        for seed in range(2)
        for arm, saved in zip(gpu_tables.ORDER, (0.0, 0.3, 0.31, 0.31, 0.3), strict=True)
    }
    found["train 2 default"] = trained(0.1, 0.9)
    settings = {"data": "cifar10", "training": {"width": 64, "epochs": 16, "batch": 512}}
    lines = gpu_tables.trainings(settings, found).splitlines()
    assert "2 seeds" in lines[0]
    assert lines[4].startswith("| full | 0.0% | 90.50 ± 0.71 |  | +2.00 (+2.00 to +2.00) |")
    assert lines[6].startswith("| fewer | 31.0% | 88.50 ± 0.71 | -2.00 (-2.00 to -2.00) |  |")
    assert lines[6].endswith("| 2.00 | 3.00 | 10 |")


def test_the_table_says_where_thin_batches_do_not_fill_the_device():
    found = {
        f"wall 32 128 {mode} {saved:g}": {"epoch_s": epoch, "saved": saved}
        for mode, saved, epoch in [
            ("plain", 0, 0.9),
            ("kept", 0, 1.0),
            ("kept", 0.5, 0.54),
            ("dropped", 0.5, 0.5),
            ("kept", 0.75, 0.5),
        ]
    }
    text = gpu_tables.walls(found)
    assert "| 32 × 32, batch 128 | 50% | 0.540 (54%) | 0.500 (50%) |" in text
    assert "| 32 × 32, batch 128 | 75% | 0.500 (50%) |  |" in text
    assert text.endswith(
        "Not filled: 32 × 32, batch 128: batches of 32 cost 2.00 times their samples' share."
    )
    del found["wall 32 128 kept 0.75"]
    assert gpu_tables.walls(found).endswith("Every thin batch fills the device.")


def test_the_sentence_on_waiting():
    result = {
        "device": True,
        "noticed": True,
        "calls": 196,
        "step_plain": 0,
        "step_fallow": 0,
        "epoch_end": 2,
    }
    forms = {"losses": None, "weights": "called a synchronizing CUDA operation"}
    text = gpu_tables.waiting({"waiting": {**result, "record": forms}})
    assert "losses: no wait; weights: WAITS (called" in text
    assert "at the end of an epoch 2." in text
    assert "did not notice" in gpu_tables.waiting({"waiting": {**result, "noticed": False, "record": {}}})


def test_what_failed_is_left_out_of_the_tables():
    found = {"overhead 224 1024": {"failed": "out of memory", "seconds": 1.0}}
    assert gpu_tables.overhead(found) == ""


@pytest.mark.slow
def test_all_of_it_in_its_small_form(tmp_path, capsys):
    words = ["--small", "--out", str(tmp_path), "--seeds", "2"]
    assert gpu.main(words) == 0
    said = capsys.readouterr().out
    for part in ("Waiting", "Overhead", "Accuracy", "Thin batches"):
        assert f"**{part}.**" in said
    assert "Left" not in said
    path = tmp_path / "gpu.json"
    stored = json.loads(path.read_text())
    found = stored["found"]
    for seed in range(2):
        runs = {arm: found[f"train {seed} {arm}"] for arm in gpu_training.ARMS}
        saved = runs["default"]["saved"]
        assert runs["full"]["saved"] == 0 < saved
        for arm in ("fewer", "fewer-thin", "random"):
            assert runs[arm]["saved"] == pytest.approx(saved, abs=64 / (6 * 1437))
        assert {runs[arm]["steps"] for arm in ("default", "full", "random")} == {6 * 23}
        assert runs["fewer"]["steps"] < 6 * 23
        assert runs["fewer-thin"]["steps"] == pytest.approx(6 * 23, abs=6)
    kept, dropped = found["wall 16 32 kept 0.5"], found["wall 16 32 dropped 0.5"]
    assert (kept["steps"], dropped["steps"]) == (4, 2)
    assert kept["saved"] == dropped["saved"] == 0.5
    # What is there is not made again, what is missing is.
    del found["train 1 random"], found["wall 16 32 kept 0"]
    path.write_text(json.dumps(stored))
    assert gpu.main(words) == 0
    made = [line.split("s  ")[1] for line in capsys.readouterr().out.splitlines() if " s  " in line]
    assert [line.partition(":")[0] for line in made] == ["train 1 random", "wall 16 32 kept 0"]
    again = json.loads(path.read_text())["found"]
    assert {name: again[name] for name in found} == found
    assert again["train 1 random"]["saved"] == runs["random"]["saved"]
