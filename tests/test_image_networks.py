"""Networks of timm and torchvision: their images, trained weights, frozen parts, and what is refused."""

import json
import pickle
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fallow.cli.main import main
from fallow.errors import DamagedData, InvalidValue
from fallow.models import image_model
from fallow.models.output_layer import output_layer
from fallow.options.checks import check
from fallow.options.train_options import TrainOptions
from fallow.tasks.base import recipe_of
from fallow.tasks.image_networks import expected, freeze, make_network, normalisation, take

pytestmark = pytest.mark.usefixtures("vision")
SMALL = "timm:test_resnet"  # 0.5 million weights


def options(**given):
    return check(TrainOptions(data="digits", **given))


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Two classes of noisy pictures, 40 x 30 pixels."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("networks") / "pets", np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(50):
            pixels = rng.integers(90 * label, 150 + 90 * label, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def train(*words):
    return main(["train", "--devices", "1", *map(str, words)])


def summary(run):
    return json.loads((run / "summary.json").read_text())


def test_a_folder_is_scaled_to_the_side_of_the_network(pets, tmp_path):
    run = tmp_path / "run"
    assert train("--data", pets, "--model", SMALL, "--epochs", 2, "--out", run) == 0
    settings = summary(run)["settings"]
    assert expected(SMALL).side == 160
    assert (settings["image_size"], settings["optimizer"]) == ([160, 160], "AdamW")
    assert (settings["learning_rate"], settings["weight_decay"]) == (1e-3, 0.05)
    small = tmp_path / "small"
    assert train("--data", pets, "--model", SMALL, "--image_size", 32, "--epochs", 1, "--out", small) == 0
    assert summary(small)["settings"]["image_size"] == [32, 32]


def test_resuming_is_exact_and_needs_no_weights_beside_the_run(pets, tmp_path):
    weights = tmp_path / "begin.safetensors"
    save_file(make_network(options(model=SMALL), 3, (32, 32), 5, fresh=True).state_dict(), weights)
    words = ("--data", pets, "--model", SMALL, "--pretrained", weights, "--freeze", 2, "--image_size", 32)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    assert train(*words, "--epochs", 4, "--out", whole) == 0
    assert train(*words, "--epochs", 4, "--stop", "none", "--out", halved) == 0
    # The last state of the second epoch, as if the training had been stopped then.
    for name in ("summary.json", "SHA256SUMS", "model.safetensors"):
        (halved / name).unlink()
    states = sorted((halved / "state").glob("*.json"))
    for path in states[-1:]:
        path.unlink()
        path.with_suffix(".safetensors").unlink()
    weights.unlink()
    assert train("--resume", halved, "--data", pets) == 0
    first, second = (load_file(run / "model.safetensors") for run in (whole, halved))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (whole / "samples.csv").read_text() == (halved / "samples.csv").read_text()


def test_frozen_parts_stay_as_they_are(pets, tmp_path):
    network = make_network(options(model=SMALL), 3, (32, 32), 2, fresh=True)
    weights = tmp_path / "begin.safetensors"
    save_file(network.state_dict(), weights)
    parts = freeze(network, 3)
    frozen = {id(tensor) for part in parts for tensor in part.state_dict(keep_vars=True).values()}
    names = {name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) in frozen}
    run = tmp_path / "run"
    words = ("--pretrained", weights, "--freeze", 3, "--image_size", 32, "--epochs", 2, "--out", run)
    assert train("--data", pets, "--model", SMALL, *words) == 0
    before, after = load_file(weights), load_file(run / "model.safetensors")
    assert any("running_mean" in name for name in names)
    weights_of = dict(network.named_parameters())
    for name in before:  # the statistics of all batch norms stay, also of parts that are trained
        assert torch.equal(before[name], after[name]) == (name in names or name not in weights_of), name


def test_batch_norms_keep_what_trained_weights_bring(pets, tmp_path):
    weights = tmp_path / "begin.safetensors"
    save_file(make_network(options(model=SMALL), 3, (32, 32), 2, fresh=True).state_dict(), weights)
    words = ("--data", pets, "--model", SMALL, "--image_size", 32, "--epochs", 2)
    kept = {}
    for more in ((), ("--pretrained", weights)):
        run = tmp_path / str(len(more))
        assert train(*words, *more, "--out", run) == 0
        before, after = load_file(weights), load_file(run / "model.safetensors")
        for end in ("running_mean", "bn1.weight"):
            same = [torch.equal(before[name], after[name]) for name in before if name.endswith(end)]
            assert same
            kept[len(more), end] = all(same)
    assert kept == {
        (0, "running_mean"): False,
        (0, "bn1.weight"): False,
        (2, "running_mean"): True,  # the weights are trained all the same
        (2, "bn1.weight"): False,
    }


def test_of_most_parts_some_may_be_frozen_but_never_the_output_layer():
    network = image_model("small-resnet", 3, 32, 4)
    with pytest.raises(InvalidValue, match=r"--freeze must be at most \d+, .* Found 99"):
        freeze(network, 99)
    most = next(count for count in range(99) if _refused(network, count))
    freeze(network, most - 1)
    trained = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert trained
    assert {name.rpartition(".")[0] for name in trained} >= {output_layer(network)}


def _refused(network, count):
    try:
        freeze(network, count)
    except InvalidValue:
        return True
    return False


def test_trained_weights_bring_their_own_mean_and_deviation(vision):
    timm, torchvision = vision
    mean, std = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.1, 0.2, 0.3])
    grey = mean[:1], std[:1]
    assert normalisation(options(), *grey)[0] is grey[0]
    fresh = normalisation(options(model="timm:resnet18"), mean, std)
    assert torch.equal(fresh[0], mean)
    assert torch.equal(normalisation(options(model="timm:resnet18"), *grey)[1], std[:1].expand(3))
    tuned = options(model="timm:vit_tiny_patch16_224", pretrained="true")
    for given in ((mean, std), grey):
        config = timm.get_pretrained_cfg("vit_tiny_patch16_224")
        assert [part.tolist() for part in normalisation(tuned, *given)] == [
            pytest.approx(config.mean),
            pytest.approx(config.std),
        ]
    shown = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    tuned = options(model="torchvision:resnet18", pretrained="true")
    assert normalisation(tuned, mean, std)[0].tolist() == pytest.approx(shown.mean)
    many = torch.zeros(5), torch.ones(5)
    assert normalisation(tuned, *many)[0] is many[0]


def test_fine_tuning_has_its_own_recipe():
    tuned = recipe_of(_on_data(options(model="timm:resnet18", pretrained="true")))
    assert (tuned.adamw, tuned.label_smoothing, tuned.learning_rate) == (True, 0.1, 2e-4)
    plain = recipe_of(_on_data(options()))
    assert (plain.adamw, plain.label_smoothing) == (False, 0.0)


def _on_data(resolved):
    from fallow.options.resolve import DataFacts, resolve_on_data

    return resolve_on_data(resolved, DataFacts(1000, 10, "digits"))


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_weights_of_torchvision_come_from_its_cache(name, vision, tmp_path, monkeypatch):
    _, torchvision = vision
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    known = torchvision.models.get_model(name)  # for the 1,000 classes of ImageNet
    cached = (
        tmp_path
        / "hub"
        / "checkpoints"
        / torchvision.models.get_model_weights(name).DEFAULT.url.split("/")[-1]
    )
    cached.parent.mkdir(parents=True)
    torch.save(known.state_dict(), cached)
    made = make_network(options(model=f"torchvision:{name}", pretrained="true"), 3, (64, 64), 7, fresh=True)
    output = output_layer(made)
    for key, value in made.state_dict().items():
        if key.rpartition(".")[0] == output:
            assert value.shape[0] == 7
        else:
            assert torch.equal(value, known.state_dict()[key])
    # A resumed run does not read them.
    cached.write_bytes(b"")
    make_network(options(model=f"torchvision:{name}", pretrained="true"), 3, (64, 64), 7, fresh=False)


def test_weights_that_cannot_be_fetched_name_the_other_way(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", _offline)
    with pytest.raises(InvalidValue, match=r"within reach.*--pretrained FILE\.safetensors"):
        make_network(options(model="torchvision:resnet18", pretrained="true"), 3, (64, 64), 7, fresh=True)


def _offline(*words):
    raise OSError("no network")


def test_weights_in_files_of_several_kinds(tmp_path):
    network = image_model("small-conv", 1, 8, 10)
    state = network.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "c.pt")
    output = output_layer(network)
    headless = {name: value for name, value in state.items() if name.rpartition(".")[0] != output}
    save_file(headless, tmp_path / "d.safetensors")
    for name in ("a.safetensors", "b.pt", "c.pt", "d.safetensors"):
        made = make_network(
            options(model="small-conv", pretrained=str(tmp_path / name)), 1, (8, 8), 10, fresh=True
        ).state_dict()
        same = {key for key in state if torch.equal(state[key], made[key])}
        assert same >= headless.keys()
        assert (same == state.keys()) == (name != "d.safetensors")
        anew = [made[key] for key in state.keys() - headless.keys()]
        assert any(value.any() for value in anew) == (name != "d.safetensors")
    made = make_network(
        options(model="small-conv", pretrained=str(tmp_path / "a.safetensors")), 1, (8, 8), 3, fresh=True
    )
    assert all(torch.equal(made.state_dict()[key], value) for key, value in headless.items())


class Opens:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_files_that_hold_no_weights_are_refused_and_nothing_of_them_runs(tmp_path):
    network = image_model("small-conv", 1, 8, 10)
    other = image_model("small-resnet", 3, 32, 10).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    torch.save({"state_dict": Opens(tmp_path / "run")}, tmp_path / "code.pt")
    (tmp_path / "pickled.pt").write_bytes(pickle.dumps(Opens(tmp_path / "run")))
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    first = {**network.state_dict()}
    kernel = next(name for name, value in first.items() if value.dim() == 4)
    first[kernel] = first[kernel].repeat(1, 3, 1, 1)
    save_file(first, tmp_path / "colours.safetensors")
    for name, kind, words in (
        ("none.safetensors", InvalidValue, "no file"),
        ("other.safetensors", InvalidValue, "must fit the network"),
        ("colours.safetensors", InvalidValue, "1 of its weights missing or of another shape"),
        ("broken.safetensors", DamagedData, "must hold weights"),
        ("code.pt", DamagedData, "must hold weights"),
        ("pickled.pt", DamagedData, "must hold weights"),
        ("list.pt", DamagedData, "must hold weights by name"),
        ("number.pt", DamagedData, "must hold weights by name"),
    ):
        with pytest.raises(kind, match=words):
            make_network(
                options(model="small-conv", pretrained=str(tmp_path / name)), 1, (8, 8), 10, fresh=True
            )
    assert not (tmp_path / "run").exists()


def test_counters_of_old_files_may_be_missing():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    state = {n: v + 1 for n, v in network.state_dict().items() if "num_batches" not in n}
    take(network, state, "a file")
    assert torch.equal(network[1].running_mean, torch.ones(2))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "timm:resnet1"}, "Unknown network of timm. Found 'resnet1'. Did you mean 'resnet"),
        ({"model": "torchvision:resnet"}, "Unknown classifier of torchvision"),
        ({"model": "torchvision:fcn_resnet50"}, "Unknown classifier of torchvision"),
        ({"model": SMALL, "model_args": {"num_classes": 3}}, "set this argument. Found num_classes"),
        ({"model": SMALL, "model_args": {"checkpoint_path": "x"}}, "Found checkpoint_path"),
        ({"model": SMALL, "model_args": {"width": 3}}, "must be able to make test_resnet"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_made(given, words):
    with pytest.raises(InvalidValue, match=words):
        make_network(options(**given), 1, (8, 8), 10, fresh=True)


def test_images_that_a_network_does_not_take(tmp_path, capsys):
    out = tmp_path / "run"
    assert train("--data", "digits", "--model", "timm:vit_tiny_patch16_224", "--out", out) == 2
    error = capsys.readouterr().err
    assert "must take normalised images, here float32 (2, 3, 8, 8)" in error
    assert "It is made for 224 pixels a side; --image_size scales the images of a folder." in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": SMALL, "task": "autoencoder"}, "Networks of timm classify images"),
        ({"pretrained": "true"}, "fetches weights of a library. Found --model auto"),
        ({"pretrained": "false"}, "must be true or a file"),
        ({"model": "my.own:Net", "freeze": 1}, "--freeze goes with networks that fallow makes"),
        ({"model": "my.own:Net", "pretrained": "a.pt"}, "--pretrained goes with networks that fallow makes"),
        ({"freeze": -1}, "--freeze must be at least 0"),
        ({"model_args": {"a": 1}}, "--model_args goes with your own model, or a library's"),
    ],
)
def test_options_that_contradict_each_other(given, words):
    with pytest.raises(InvalidValue, match=words):
        options(**given)


def test_channels_that_torchvision_does_not_take():
    with pytest.raises(InvalidValue, match=r"takes images of 3 channels\. Found 4"):
        make_network(options(model="torchvision:resnet18"), 4, (64, 64), 10, fresh=True)
    assert make_network(options(model=SMALL), 4, (32, 32), 10, fresh=True)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_library_names_the_extra(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"fallow.integrations.{library}", raising=False)
    import fallow.integrations

    monkeypatch.delattr(fallow.integrations, library, raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"fallow\[vision\]"):
        make_network(options(model=f"{library}:resnet18"), 3, (64, 64), 10, fresh=True)


def test_arguments_of_a_network_must_be_named_again(pets, tmp_path, capsys):
    run = tmp_path / "run"
    words = ("--model", SMALL, "--model_args", "{drop_rate: 0.5}", "--image_size", 32, "--epochs", 2)
    assert train("--data", pets, *words, "--out", run) == 0
    assert train("--resume", run, "--epochs", 3, "--accept", "epochs") == 2
    assert "--model_args" in capsys.readouterr().err


def test_gaps_of_a_run_with_such_a_network(pets, tmp_path, capsys):
    run, weights = tmp_path / "run", tmp_path / "begin.safetensors"
    save_file(make_network(options(model=SMALL), 3, (32, 32), 2, fresh=True).state_dict(), weights)
    words = ("--model", SMALL, "--pretrained", weights, "--image_size", 32, "--epochs", 2, "--out", run)
    assert train("--data", pets, *words) == 0
    weights.unlink()
    capsys.readouterr()
    assert main(["gaps", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training_samples"] == 80
