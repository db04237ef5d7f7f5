"""A network, a module and data of a user's own that draw from every global generator."""

import random

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Dropping(nn.Module):
    """A network with dropout and batch norm, for images of 8 x 8."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10)
        )

    def forward(self, images):
        return self.layers(images)


class Failing(Dropping):
    """A network whose first step fails."""

    def forward(self, images):
        return super().forward(images) / (1 // (not self.training))


class Noisy(Dataset):
    """Two moving blobs; each look at a sample draws noise."""

    def __init__(self, n=200):
        self.labels = torch.arange(n) % 2
        rows = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
        self.rows = rows + self.labels[:, None]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        noise = torch.rand(4) + random.random() + float(np.random.rand())  # noqa: NPY002
        return self.rows[index] + 0.2 * noise, self.labels[index]


class Data(LightningDataModule):
    """Loads in workers that are started anew in each epoch; adds noise where the batch is used."""

    def train_dataloader(self):
        return DataLoader(Noisy(), batch_size=40, num_workers=2)

    def val_dataloader(self):
        return DataLoader(Noisy(60), batch_size=30)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        rows, labels = batch
        return (rows + 0.1 * torch.randn_like(rows) if self.trainer.training else rows), labels


class Module(LightningModule):
    """Adam, a learning rate that follows the metric, and dropout."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        rows, labels = batch
        logits = self.network(rows)
        losses = F.cross_entropy(logits, labels, reduction="none")
        return {"loss": losses.mean(), "per_sample_loss": losses, "predicted": logits.argmax(1)}

    def validation_step(self, batch, batch_idx):
        rows, labels = batch
        logits = self.network(rows)
        self.log("val_acc", (logits.argmax(1) == labels).float().mean())
        self.log("val_loss", F.cross_entropy(logits, labels))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 0.01)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
