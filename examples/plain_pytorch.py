"""A training loop of plain PyTorch that leaves learned samples out: run it as it is."""

import torch
from torch.utils.data import DataLoader, TensorDataset

import fallow


def data():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def main(epochs=30):
    torch.manual_seed(0)
    train_set, test_set = data()
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    # shown from here
    subsampler = fallow.Subsampler(len(train_set), fallow.ErrorMass(), fallow.Schedule(epochs))
    loader = subsampler.loader(train_set, batch_size=64)
    for _ in range(epochs):
        for index, (x, y) in loader:
            loss = subsampler.record(index, fallow.kl_divergence(model(x), y))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        subsampler.step()
    # shown to here
    used = sum(epoch.backward for epoch in subsampler.history)
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in DataLoader(test_set, 360))
    accuracy = correct / len(test_set)
    print(f"test accuracy {accuracy:.1%}, {1 - used / (epochs * len(train_set)):.1%} of the samples saved")
    return accuracy, used


if __name__ == "__main__":
    main()
