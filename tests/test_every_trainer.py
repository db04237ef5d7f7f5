"""The same small network through every trainer: the same samples in each epoch, and the same weights.

The Trainers of TRL and Ray on two workers, and streams, have files of their own.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import pytest
import ray.train.torch
import torch
from accelerate import Accelerator
from lightning.pytorch import LightningModule
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, TensorDataset
from transformers import Trainer, TrainingArguments

from fallow import ErrorMass, Schedule, Subsampler, Threshold, Watch
from fallow.integrations.huggingface import SubsamplingMixin
from fallow.integrations.keras import SubsamplingMixin as KerasMixin
from fallow.integrations.lightning import SubsamplingCallback
from test_trainers_page import recipe
from trainers import quiet_trainer

N, EPOCHS, BATCH, RATE = 192, 6, 16, 0.5
POLICIES = {
    "error-mass": (ErrorMass(), {}),
    "threshold": (Threshold(0.1), {"readmit_every": 3}),
    "watch": (Watch(), {}),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pin_memory",
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore:.*tensorboardX",
    "ignore:'set_vital' is deprecated",
)


def samples():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return TensorDataset(x, (x[:, 0] + 0.3 * x[:, 1] > 0).long())


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()


def subsampler(name):
    policy, more = POLICIES[name]
    sub = Subsampler(N, policy, Schedule(EPOCHS, **more), seed=5, labels=samples().tensors[1])
    sub.announce = False
    return sub


def loop(sub, model, loader, optimizer, backward):
    while sub.epoch < EPOCHS:
        for index, (x, y) in loader:
            logits = model(x)
            losses = cross_entropy(logits, y, reduction="none")
            optimizer.zero_grad()
            backward(sub.record(index, losses, predicted=logits.argmax(1)))
            optimizer.step()
        sub.step()


def plain(sub, model, folder=None):
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    loop(sub, model, sub.loader(samples(), BATCH), optimizer, torch.Tensor.backward)


def with_torchdata(sub, model, folder):
    loader = sub.loader(samples(), BATCH, stateful=True)
    loop(sub, model, loader, torch.optim.SGD(model.parameters(), RATE), torch.Tensor.backward)


def with_accelerate(sub, model, folder):
    accelerator = Accelerator(cpu=True)
    loader = sub.loader(samples(), BATCH)
    made = accelerator.prepare(model, loader, torch.optim.SGD(model.parameters(), RATE))
    loop(sub, *made, accelerator.backward)


def with_ray(sub, model, folder):
    def train(_):
        loader = ray.train.torch.prepare_data_loader(sub.loader(samples(), BATCH))
        ready = ray.train.torch.prepare_model(model)
        loop(sub, ready, loader, torch.optim.SGD(ready.parameters(), RATE), torch.Tensor.backward)

    here = ray.train.ScalingConfig(num_workers=0)  # in this process
    ray.train.torch.TorchTrainer(
        train, scaling_config=here, run_config=ray.train.RunConfig(storage_path=str(folder))
    ).fit()


def with_skorch(sub, model, folder):
    names = {"NeuralNetClassifier": NeuralNetClassifier, "subsampler": sub}
    names["loader"] = sub.loader(samples(), BATCH)
    exec(recipe("skorch"), names)

    class Net(names["SubsamplingNet"]):
        def get_loss(self, y_pred, *args, training=False, **more):
            # The recipe records no predicted classes; here all trainers do.
            self.guesses = y_pred.argmax(1)
            return super().get_loss(y_pred, *args, training=training, **more)

    record = sub.record
    sub.record = lambda index, losses: record(index, losses, predicted=net.guesses)
    net = Net(
        model, criterion=nn.CrossEntropyLoss, criterion__reduction="none", train_split=None, lr=RATE,
        max_epochs=EPOCHS - sub.epoch, optimizer=torch.optim.SGD, verbose=0,
    )  # fmt: skip
    x, y = samples().tensors
    try:
        net.fit(x.numpy(), y.numpy())
    finally:
        model.load_state_dict(net.module_.state_dict())


def with_keras(sub, model, folder):
    class Model(KerasMixin, keras.Model):
        pass

    keras.config.set_floatx("float64")
    try:
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(8, activation="relu")
        same = Model(inputs, keras.layers.Dense(2)(hidden(inputs)))
        # Keras's kernels are transposed.
        same.set_weights([part.detach().numpy().T for part in model.parameters()])
        same.compile(keras.optimizers.SGD(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        try:
            same.fit(sub.loader(samples(), BATCH), epochs=EPOCHS, subsampler=sub, verbose=0)
        finally:
            for part, weight in zip(model.parameters(), same.get_weights(), strict=True):
                part.data = torch.tensor(weight.T.copy())
    finally:
        keras.config.set_floatx("float32")


class Module(LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch):
        logits = self.model(batch[0])
        losses = cross_entropy(logits, batch[1], reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses, "predicted": logits.argmax(1)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), RATE)


def with_lightning(sub, model, folder):
    trainer = quiet_trainer(max_epochs=EPOCHS, callbacks=[SubsamplingCallback(sub)])
    trainer.fit(Module(model), sub.loader(samples(), BATCH))


class Named(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, index):
        x, y = samples().tensors
        return {"x": x[index], "labels": y[index]}


class Classifier(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, labels):
        logits = self.model(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Subsampling(SubsamplingMixin, Trainer):
    pass


def with_hugging_face(sub, model, folder):
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, report_to=[],
        use_cpu=True, save_strategy="no", disable_tqdm=True, logging_strategy="no", learning_rate=RATE,
        lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0,
    )  # fmt: skip
    Subsampling(Classifier(model), arguments, train_dataset=Named(), subsampler=sub).train()


TRAINERS = {
    "torchdata": with_torchdata,
    "accelerate": with_accelerate,
    "ray": with_ray,
    "skorch": with_skorch,
    "keras": with_keras,
    "lightning": with_lightning,
    "hugging face": with_hugging_face,
}


def check_same(trainer, sub, model, expected, weights):
    assert [record.used.tolist() for record in sub.history] == [r.used.tolist() for r in expected.history]
    for ours, theirs in zip(sub.history, expected.history, strict=True):
        assert ours.notes == pytest.approx(theirs.notes)
    for ours, theirs in zip(model.parameters(), weights.parameters(), strict=True):
        # Keras rounds on its way; against a loop of its own it is as near as the others: test_keras.py.
        torch.testing.assert_close(ours, theirs, rtol=1e-5 if trainer == "keras" else 1e-10, atol=1e-12)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_trains_on_the_same_samples(trainer, name, tmp_path):
    expected, weights = subsampler(name), network()
    plain(expected, weights)
    assert name == "watch" or expected.history[-1].kept < N
    sub, model = subsampler(name), network()
    TRAINERS[trainer](sub, model, tmp_path)
    check_same(trainer, sub, model, expected, weights)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("trainer", [name for name in TRAINERS if name != "lightning"])
def test_every_trainer_goes_on_after_an_epoch(trainer, tmp_path):
    """By the states of the subsampler and the network. Lightning goes on by its own checkpoints."""
    expected, weights = subsampler("error-mass"), network()
    plain(expected, weights)
    sub, model, saved = subsampler("error-mass"), network(), {}
    step = sub.step

    def step_and_stop():
        step()
        if sub.epoch == 3:
            saved["subsampler"] = sub.state_dict()
            raise Stopped("Stopped")

    sub.step = step_and_stop
    with pytest.raises(Exception, match="Stopped") as error:
        TRAINERS[trainer](sub, model, tmp_path)
    assert "Stopped" in repr(error.value)
    again, other = subsampler("error-mass"), network()
    again.load_state_dict(saved["subsampler"])
    other.load_state_dict(model.state_dict())
    TRAINERS[trainer](again, other, tmp_path)
    check_same(trainer, again, other, expected, weights)
