"""A density of your own, a normalizing flow by zuko, in the place of fallow's mixture of Gaussians.

Any object with fit(x) and log_prob(x) is one. From the folder of this file (pip install zuko):

    fallow train --data digits --score density --density flow_density:SplineFlow

References: Neural spline flows (Durkan et al., 2019).
"""

import torch
import zuko
from torch import Tensor


class SplineFlow:
    """Trained by maximum likelihood with Adam, on standardised rows."""

    def __init__(self, epochs: int = 20, hidden: int = 64, transforms: int = 2) -> None:
        self.epochs, self.hidden, self.transforms = epochs, hidden, transforms

    def fit(self, x: Tensor) -> None:
        self.mean, self.scale = x.mean(0), x.std(0) + 1e-6
        rows = (x - self.mean) / self.scale
        layers = (self.hidden, self.hidden)
        self.flow = zuko.flows.NSF(x.shape[1], transforms=self.transforms, hidden_features=layers)
        self.flow.to(x.device)
        optimizer = torch.optim.Adam(self.flow.parameters(), lr=2e-3)
        for _ in range(self.epochs):
            for batch in rows[torch.randperm(len(rows))].split(256):
                loss = -self.flow().log_prob(batch).mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 5.0)
                optimizer.step()

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow().log_prob((x - self.mean) / self.scale) - self.scale.log().sum()
