"""A language model in plain PyTorch: a sample is a window of text, its score nats a token.

python examples/language_model.py "$(python -m benchmarks.data shakespeare | tail -1)"    # all plays
python examples/language_model.py FILE.txt --smoke     # a little of a text, to see that it runs
"""

import argparse
import math
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import fallow
from fallow.datasets.tokenizing import Tokenizer
from fallow.datasets.tokens import WindowDataset
from fallow.models import SmallGPT


def main(data, epochs=4, characters=None, length=128):
    torch.manual_seed(0)
    text = Path(data).read_text(encoding="utf-8")[:characters]
    cut = round(0.9 * len(text))
    texts, held_out = [text[:cut]], [text[cut:]]
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
            subsampler.record(index, found.scores, loss=found.loss).backward()
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
    print(f"{bits:.3f} bits a character on held-out text, {saved:.1%} of the windows saved")
    return bits, saved


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a little of it, short windows")
    parser.add_argument("data", help="a FILE.txt")
    asked = parser.parse_args()
    main(asked.data, **({"epochs": 2, "characters": 40_000, "length": 32} if asked.smoke else {}))
