"""A training on two ranks under torchrun, in which one rank ends itself at random steps.

The loop is the plain one. Its state is saved every few steps, by torch.distributed.checkpoint or by each
rank for itself, and a rank that comes back goes on from the newest state that all ranks have.
"""

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from fallow import ErrorMass, Schedule, Subsampler

RANKS, N, EPOCHS, BATCH, EVERY = 2, 420, 8, 14, 4
STEPS = N // (BATCH * RANKS) * EPOCHS
PLACES = ("fetched", "recorded", "stepped", "saving", "planned")
"""Where a rank ends: three places in each step, one in each that saves, and one at the end of an epoch."""
WAYS = ("together", "apart")


def plan(kills, seed):
    """Return for each start the rank that is ended, at which place, and the step from which on."""
    draw = random.Random(seed)
    steps = sorted(draw.sample(range(STEPS), kills))
    return [(step, draw.randrange(RANKS), draw.choice(PLACES)) for step in steps]


def clusters():
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(N) % 4
    points = torch.randn(N, 3, generator=generator) + 3 * nn.functional.one_hot(labels, 4)[:, :3]
    return torch.utils.data.TensorDataset(points, labels), labels


@dataclass
class Training:
    """All that is saved.

    Attributes:
        step: the number of steps made.
        trained: int64 ``(epochs, N)``, how often this rank trained on each sample.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sub: Subsampler
    trained: torch.Tensor
    step: int = 0

    def together(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        counts = {f"trained{dist.get_rank()}": self.trained, "step": torch.tensor(self.step)}
        return {"model": model, "optimizer": optimizer, "subsampler": self.sub, **counts}

    def save_together(self, folder, end):
        state = self.together()
        end("saving")
        dcp.save(state, checkpoint_id=folder / f"{self.step}")

    def load_together(self, folder):
        # The metadata are written last, when all ranks have written their part.
        found = [int(path.parent.name) for path in folder.glob("*/.metadata")]
        newest = torch.tensor(max(found, default=0))
        dist.all_reduce(newest, dist.ReduceOp.MIN)
        if newest:
            state = self.together()
            dcp.load(state, checkpoint_id=folder / f"{newest}")
            set_state_dict(
                self.model,
                self.optimizer,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
            )
            self.step = int(newest)

    def save_apart(self, folder, end):
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "subsampler": self.sub.state_dict(local=True),
            "trained": self.trained,
        }
        part = folder / f"{dist.get_rank()}-{self.step}.part"
        torch.save(state, part)
        end("saving")
        part.rename(part.with_suffix(".pt"))

    def load_apart(self, folder):
        rank = dist.get_rank()
        found = [int(path.stem.split("-")[1]) for path in folder.glob(f"{rank}-*.pt")]
        newest = torch.tensor(max(found, default=0))
        dist.all_reduce(newest, dist.ReduceOp.MIN)
        if newest:
            state = torch.load(folder / f"{rank}-{newest}.pt", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.sub.load_state_dict(state["subsampler"])
            self.trained = state["trained"]
            self.step = int(newest)


def train(folder, way, ends):
    """Train, or go on, to the end or to the step at which this start is ended."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    start, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), dist.get_rank()
    data, labels = clusters()
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 4))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.8)
    sub = Subsampler(N, ErrorMass(), Schedule(EPOCHS), seed=3, labels=labels)
    loader = sub.loader(data, BATCH)
    run = Training(model, optimizer, sub, torch.zeros(EPOCHS, N, dtype=torch.int64))
    save, load = getattr(run, f"save_{way}"), getattr(run, f"load_{way}")
    load(folder)
    began = run.step

    def end(place):
        if start < len(ends):
            step, who, where = ends[start]
            # One whose place does not come again is ended when all is done, before it says so.
            due = place == where or (place == "planned" and sub.epoch == EPOCHS)
            if rank == who and due and run.step >= step:
                # On the disk before the end: a rank that is ended writes nothing more.
                (folder / f"ended-{start}").write_text(f"{began} {run.step} {place}")
                os._exit(9)

    while sub.epoch < EPOCHS:
        for index, (points, target) in loader:
            end("fetched")
            logits = model(points)
            losses = cross_entropy(logits, target, reduction="none")
            loss = sub.record(index, losses, predicted=logits.argmax(1))
            run.trained[sub.epoch, index] += 1
            end("recorded")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            end("stepped")
            run.step += 1
            if run.step % EVERY == 0:
                save(folder, end)
        sub.step()
        end("planned")
    torch.save(
        {
            "used": [record.used for record in sub.history],
            "backward": [record.backward for record in sub.history],
            "reason": sub.reason,
            "scores": sub.scores,
            "weights": [weight.detach() for weight in model.parameters()],
            "trained": run.trained,
            "step": run.step,
        },
        folder / f"final-{rank}.pt",
    )
    # At once: at the end of a process torch may wait for itself, if DDP is the last to hold the group.
    os._exit(0)


def run(folder, way, kills, seed):
    """Train under torchrun with so many kills; return what each rank left, and each start that was ended.

    A start that was ended is a triple: the step it began at, the step it was ended in, and the place.
    """
    folder.mkdir()
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        # Ranks that come back would find the addresses of those before them in a shared store.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    words += [f"--max-restarts={kills}", __file__, str(folder), way, str(kills), str(seed)]
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = [torch.load(folder / f"final-{rank}.pt", weights_only=True) for rank in range(RANKS)]
    ended = [(folder / f"ended-{start}").read_text().split() for start in range(kills)]
    return left, [(int(began), int(step), place) for began, step, place in ended]


def same(a, b):
    """Return whether two runs left the same to the bit: decisions, scores, weights and counts."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def wrong_counts(left):
    """Return how many samples an epoch kept and did not train on exactly once, or trained on and left out."""
    trained = sum(rank["trained"] for rank in left)
    return int((trained != torch.stack(left[0]["used"])).sum())


if __name__ == "__main__":
    place, how, number, first = sys.argv[1:]
    train(Path(place), how, plan(int(number), int(first)))
