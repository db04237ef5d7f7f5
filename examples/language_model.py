"""A language model of Shakespeare in plain PyTorch: a sample is a window of text, its score nats a token.

python examples/language_model.py            # all plays
python examples/language_model.py --smoke    # a little of two plays, to see that it runs
"""

import argparse
import math

import torch
from torch.utils.data import DataLoader

import fallow
from fallow.datasets import load_shakespeare
from fallow.datasets.tokenizing import Tokenizer
from fallow.datasets.tokens import WindowDataset
from fallow.models import SmallGPT


def main(epochs=4, works=None, characters=None, length=128):
    torch.manual_seed(0)
    plays = load_shakespeare()
    texts = [play.text[:characters] for play in plays.train[:works]]
    held_out = [play.text[:characters] for play in plays.test[:works]]
    tokenizer = Tokenizer.train("bpe", texts, vocabulary=1024)
    train_set, test_set = (WindowDataset(tokenizer.encode(part), length) for part in (texts, held_out))
    model = SmallGPT(len(tokenizer), length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.98), weight_decay=0.1)
    policy = fallow.Fraction(0.35)
    subsampler = fallow.Subsampler(len(train_set), policy, fallow.Schedule(epochs))
    loader = subsampler.loader(train_set, batch_size=16, collate_fn=WindowDataset.collate)
    for _ in range(epochs):
        for index, windows in loader:
            hidden = model.hidden(windows[:, :-1].clamp_min(0))  # -100 fills up the end of a play
            found = fallow.linear_kl(hidden, model.head.weight, windows[:, 1:])
            subsampler.record(index, found.scores)
            found.loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = 6e-3 * min(10 * subsampler.progress, 1.1 * (1 - subsampler.progress), 1)
            optimizer.step()
            optimizer.zero_grad()
        subsampler.step()

    nats = 0.0
    with torch.no_grad():
        for windows in DataLoader(test_set, 128, collate_fn=WindowDataset.collate):
            logits = model(windows[:, :-1].clamp_min(0))
            nats += fallow.scores.token_kl(logits, windows[:, 1:]).clamp_min(0).sum().item()
    bits = nats / math.log(2) / sum(map(len, held_out))
    saved = 1 - sum(epoch.backward for epoch in subsampler.history) / (epochs * len(train_set))
    print(f"{bits:.3f} bits a character on held-out plays, {saved:.1%} of the windows saved")
    return bits, saved


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a little of two plays, short windows")
    smoke = {"epochs": 2, "works": 2, "characters": 20_000, "length": 32}
    main(**smoke if parser.parse_args().smoke else {})
