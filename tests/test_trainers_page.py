"""The changes on the page of trainers: what they make of a program runs, and they are short."""

import ast
import os
import re
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from fallow import ErrorMass, KeyedSubsampler, Schedule, ShardedSubsampler, Subsampler, Threshold
from ranks import in_ranks

PAGE = (Path(__file__).parent.parent / "docs" / "trainers.md").read_text()
CHANGES = {
    title: changes
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    if (changes := re.findall(r"```diff\n(.*?)```", text, re.DOTALL))
}


def changed(title, *, before=False):
    """Return the program of a section after the change, or before it."""
    (change,) = CHANGES[title]
    sign = "-" if before else "+"
    return "".join(line[1:] + "\n" for line in change.splitlines() if line[0] in (" ", sign))


@pytest.mark.parametrize("title", CHANGES)
def test_a_change_is_short(title):
    """Statements, not lines: a call may be wrapped, and a class has a body."""
    (change,) = CHANGES[title]
    after = [line for line in change.splitlines() if line[0] != "-"]
    added = {number for number, line in enumerate(after, 1) if line[0] == "+"}
    statements = (node for node in ast.walk(ast.parse(changed(title))) if isinstance(node, ast.stmt))
    assert sum(node.lineno in added for node in statements) <= 5


def run(title, names):
    for before in (True, False):
        exec(compile(changed(title, before=before), title, "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning")
def test_keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    inputs = keras.Input((3,))
    train_set = TensorDataset(torch.randn(64, 3), torch.arange(64) % 2)
    subsampler = Subsampler(64, ErrorMass(), Schedule(2))
    names = {"keras": keras, "inputs": inputs, "outputs": keras.layers.Dense(2)(inputs)}
    names |= {"DataLoader": DataLoader, "train_set": train_set, "subsampler": subsampler}
    run("Keras 3", names)
    assert subsampler.epoch == 2


def test_hugging_face(tmp_path):
    from transformers import Trainer, TrainingArguments

    from test_huggingface import network, texts

    arguments = TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, report_to=[], use_cpu=True, save_strategy="no",
        disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    subsampler = Subsampler(160, ErrorMass(), Schedule(2))
    names = {"Trainer": Trainer, "model": network(), "arguments": arguments, "subsampler": subsampler}
    run("Hugging Face's Trainer", names | {"train_set": texts(), "test_set": texts()[:9]})
    assert subsampler.epoch == 2


@pytest.mark.filterwarnings("ignore::FutureWarning:trl.*", "ignore::FutureWarning:transformers.*")
def test_trl(tmp_path):
    from trl import SFTConfig, SFTTrainer

    from test_trl import network, texts, tokenizer

    arguments = SFTConfig(
        output_dir=str(tmp_path), num_train_epochs=2, report_to=[], use_cpu=True, save_strategy="no",
        disable_tqdm=True, logging_strategy="no", bf16=False,
    )  # fmt: skip
    names = {"SFTTrainer": SFTTrainer, "model": network(), "arguments": arguments, "train_set": texts()}
    names |= {
        "tokenizer": tokenizer(),
        "Subsampler": Subsampler,
        "ErrorMass": ErrorMass,
        "Schedule": Schedule,
    }
    assert run("TRL's SFTTrainer", names)["trainer"].subsampler.epoch == 2


@pytest.mark.filterwarnings("ignore::UserWarning:lightning.*")
def test_lightning():
    from functools import partial

    from lightning.pytorch import LightningModule, Trainer

    from fallow.integrations.lightning import SubsamplingCallback

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def training_step(self, batch):
            losses = nn.functional.cross_entropy(self.layer(batch[0]), batch[1], reduction="none")
            return {"loss": losses.mean(), "per_sample_loss": losses}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "accelerator": "cpu",
    }
    data = TensorDataset(torch.randn(96, 3), torch.arange(96) % 2)
    subsampler = Subsampler(96, ErrorMass(), Schedule(2))
    names = {"Trainer": partial(Trainer, **quiet, enable_model_summary=False), "DataLoader": DataLoader}
    names |= {"SubsamplingCallback": SubsamplingCallback, "subsampler": subsampler, "epochs": 2}
    run("Lightning", names | {"module": Module(), "train_set": data})
    assert subsampler.epoch == 2


def test_streams():
    from datasets import Dataset

    def losses_of(batch):
        return torch.tensor([key / 64 for key in batch["id"].tolist()], requires_grad=True)

    decoded = []
    subsampler = KeyedSubsampler(Threshold(0.25), Schedule(2))
    names = {"rows": Dataset.from_dict({"id": list(range(64))}).to_iterable_dataset(), "losses_of": losses_of}
    names |= {"decode": lambda row: decoded.append(row["id"]) or row, "DataLoader": DataLoader}
    names["subsampler"] = subsampler
    run("Streams", names)
    assert decoded == 2 * list(range(64))
    exec(changed("Streams"), names)
    assert decoded[128:] == list(range(16, 64))
    assert subsampler.epoch == 2


def recipe(title):
    (code,) = re.findall(rf"^## {title}\n.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    return code


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def test_skorch():
    """The recipe is the plain loop, also after a state that another net goes on from."""
    from skorch import NeuralNetClassifier

    x = torch.randn(160, 3, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    wanted = Subsampler(160, ErrorMass(), Schedule(6), labels=y)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    while wanted.epoch < 6:
        for index, (inputs, targets) in wanted.loader(TensorDataset(x, y), 16):
            losses = nn.functional.cross_entropy(model(inputs), targets, reduction="none")
            optimizer.zero_grad()
            wanted.record(index, losses).backward()
            optimizer.step()
        wanted.step()
    assert wanted.history[-1].kept < 160

    def net(subsampler, epochs):
        names = {"NeuralNetClassifier": NeuralNetClassifier, "subsampler": subsampler}
        names["loader"] = subsampler.loader(TensorDataset(x, y), 16)
        exec(recipe("skorch"), names)
        return names["SubsamplingNet"](
            small_net(), criterion=nn.CrossEntropyLoss, criterion__reduction="none", train_split=None, lr=0.5,
            max_epochs=epochs, optimizer=torch.optim.SGD, verbose=0,
        )  # fmt: skip

    first = Subsampler(160, ErrorMass(), Schedule(6), labels=y)
    half = net(first, 3).fit(x.numpy(), y.numpy())
    second = Subsampler(160, ErrorMass(), Schedule(6), labels=y)
    second.load_state_dict(first.state_dict())
    rest = net(second, 3).initialize()
    rest.module_.load_state_dict(half.module_.state_dict())
    rest.partial_fit(x.numpy(), y.numpy())
    assert [r.used.tolist() for r in second.history] == [r.used.tolist() for r in wanted.history]
    assert all(map(torch.equal, rest.module_.state_dict().values(), model.state_dict().values()))


def test_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from torch.nn import functional
    from transformers import BertConfig, BertModel, BertTokenizerFast

    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"0123456789"])
    )
    config = BertConfig(vocab_size=15, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(tmp_path)
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    words = Transformer(str(tmp_path))
    model = SentenceTransformer(modules=[words, Pooling(16)], device="cpu")
    subsampler = Subsampler(40, ErrorMass(), Schedule(2))
    pairs = [(f"{i} {i % 7}", f"{i} {i % 3}") for i in range(40)]
    names = {"model": model, "loader": subsampler.loader(pairs, 20, kept_steps=False), "torch": torch}
    names |= {"functional": functional, "subsampler": subsampler}
    names["optimizer"] = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(2):
        exec(recipe("sentence-transformers"), names)
    assert subsampler.epoch == 2
    assert subsampler.history[1].mean_score < subsampler.history[0].mean_score


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray(tmp_path):
    import ray.train.torch

    def loop(_):
        subsampler = Subsampler(64, ErrorMass(), Schedule(2))
        names = {"ray": ray, "DataLoader": DataLoader, "train_set": range(64), "model": nn.Linear(3, 2)}
        run("Ray Train", names | {"subsampler": subsampler})
        names = {"ray": ray, "train_set": range(64), "model": nn.Linear(3, 2), "subsampler": subsampler}
        exec(changed("Ray Train"), names)
        for index, _ in names["loader"]:
            subsampler.record(index, torch.ones(len(index)))
        subsampler.step()
        done.append(subsampler.history[0].backward)

    done = []
    here = ray.train.ScalingConfig(num_workers=0)  # in this process
    settings = ray.train.RunConfig(storage_path=str(tmp_path))
    ray.train.torch.TorchTrainer(loop, scaling_config=here, run_config=settings).fit()
    assert done == [64]


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_accelerate(tmp_path):
    accelerator, model = Accelerator(cpu=True), nn.Linear(3, 2)
    names = {"accelerator": accelerator, "model": model, "train_set": range(64)}
    names["optimizer"] = torch.optim.SGD(model.parameters(), 0.1)
    subsampler = names["subsampler"] = Subsampler(64, ErrorMass(), Schedule(2))
    exec(changed("Accelerate"), names)
    index, _ = next(iter(names["loader"]))
    subsampler.record(index, torch.ones(16))
    accelerator.save_state(tmp_path / "saved")
    rest = [part.tolist() for part, _ in names["loader"]]
    other = names["subsampler"] = Subsampler(64, ErrorMass(), Schedule(2))
    accelerator._custom_objects.clear()
    exec(changed("Accelerate"), names)
    accelerator.load_state(tmp_path / "saved")
    assert [part.tolist() for part, _ in names["loader"]] == rest
    assert other.under_way.resumed


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_torchdata():
    names = {"StatefulDataLoader": StatefulDataLoader, "train_set": range(64)}
    names["subsampler"] = Subsampler(64, ErrorMass(), Schedule(2))
    state = run("torchdata's StatefulDataLoader", names)["state"]
    Subsampler(64, ErrorMass(), Schedule(2)).load_state_dict(state)


def on_a_mesh(rank, size, folder):
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "tp"))
    subsampler = Subsampler(64, ErrorMass(), Schedule(2))
    names = {"subsampler": subsampler, "train_set": range(64), "mesh": mesh}
    exec(changed("Ranks of your own"), names)
    torch.save([index.tolist() for index, _ in names["loader"]], f"{folder}/{rank}")


def test_ranks_of_ones_own(tmp_path):
    in_ranks(on_a_mesh, 2, str(tmp_path))
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    assert first == second
    assert sorted(index for batch in first for index in batch) == list(range(64))


def test_a_hundred_million_samples(tmp_path):
    layer = nn.Linear(3, 2)
    train_set = TensorDataset(torch.randn(64, 3), torch.arange(64) % 2)
    names = {"ErrorMass": ErrorMass, "Schedule": Schedule, "Subsampler": Subsampler, "epochs": 3, "n": 64}
    names |= {"ShardedSubsampler": ShardedSubsampler, "train_set": train_set, "folder": tmp_path}
    names["losses_of"] = lambda batch: nn.functional.cross_entropy(
        layer(batch[0]), batch[1], reduction="none"
    )
    run("A hundred million samples, and more", names)
    assert [record.kept for record in names["subsampler"].history] == [64] * 3


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_distributed_checkpoint(tmp_path):
    model, subsampler = nn.Linear(3, 2), Subsampler(64, ErrorMass(), Schedule(2))
    names = {"dcp": dcp, "model": model, "subsampler": subsampler, "folder": tmp_path / "saved"}
    names["optimizer"] = torch.optim.SGD(model.parameters(), 0.1)
    subsampler.record(torch.arange(9), torch.ones(9))
    exec(changed("torch.distributed.checkpoint"), names)
    other = Subsampler(64, ErrorMass(), Schedule(2))
    dcp.load({"subsampler": other}, checkpoint_id=tmp_path / "saved")
    assert torch.equal(other.last_scored, subsampler.last_scored)
