"""Which tokens of a batch count, and for which sample, in loops over plain numbers: to compare with."""

import numpy as np
import torch
from scipy.special import log_softmax, rel_entr
from torch.utils._python_dispatch import TorchDispatchMode

from fallow import NO_SCORE


def counted(targets, *, ignore_index=-100, shift=False, documents=None):
    """Return ``(row, position that predicts, position of its target, sample)`` of each token that counts."""
    rows, length = targets.shape[:2]
    found = []
    for row in range(rows):
        for at in range(length):
            to = at + int(shift)
            if to == length:
                continue
            labels = targets[row, to].reshape(-1).tolist()
            if all(label == ignore_index for label in labels):
                continue
            sample = row if documents is None else int(documents[row, to])
            if sample < 0 or (documents is not None and int(documents[row, at]) != sample):
                continue
            found.append((row, at, to, sample))
    return found


def by_hand(logits, targets, *, temperature=1.0, samples=None, **which):
    """Return the divergence of each token ``(B, T)`` and of each sample, float64."""
    documents = which.get("documents")
    if samples is None:
        samples = len(targets) if documents is None else max(0, int(documents.max()) + 1)
    log_p = log_softmax(logits.detach().double().numpy() / temperature, axis=2)
    tokens = np.full(targets.shape[:2], NO_SCORE)
    of_samples = [[] for _ in range(samples)]
    for row, at, to, sample in counted(targets, **which):
        if targets.is_floating_point():
            q = targets[row, to].double().numpy()
            value = rel_entr(q, np.exp(log_p[row, at])).sum()
        else:
            value = -log_p[row, at, int(targets[row, to])]
        tokens[row, at] = value
        of_samples[sample].append(value)
    means = [np.mean(values) if values else NO_SCORE for values in of_samples]
    return torch.from_numpy(tokens), torch.tensor(means, dtype=torch.float64)


def close(found, expected, tolerance):
    """Assert that two tensors differ by no more than a share of the largest value expected."""
    assert found.shape == expected.shape
    assert found.isfinite().all()
    difference = (found.double() - expected.double()).abs()
    assert not difference.numel() or difference.max() <= tolerance * expected.abs().max()


class Made(TorchDispatchMode):
    """Notes the tensors that operations make, by the number of their elements."""

    def __init__(self):
        super().__init__()
        self.sizes, self._held = {}, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for made in found if isinstance(found, tuple | list) else (found,):
            if isinstance(made, torch.Tensor):
                storage = made.untyped_storage()
                self._held.append(storage)  # else its address is given out again
                self.sizes[storage.data_ptr()] = storage.nbytes() // made.element_size()
        return found

    def count(self, least, *but):
        """Return how many tensors of at least that size were made, without those given."""
        known = {tensor.untyped_storage().data_ptr() for tensor in but}
        return sum(size >= least and at not in known for at, size in self.sizes.items())


def changed(tensor, index, value):
    """Return a copy of a tensor with another value in one place."""
    tensor = tensor.clone()
    tensor[index] = value
    return tensor
