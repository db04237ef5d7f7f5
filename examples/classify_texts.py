"""Classes of news in plain PyTorch: half of each epoch, drawn by what still surprises the network.

python examples/classify_texts.py "$(python -m benchmarks.data r8 | tail -1)"    # Reuters R8, 10 epochs
python examples/classify_texts.py FILE.csv --smoke     # a few hundred texts, to see that it runs
"""

import argparse

import torch
from torch.utils.data import DataLoader

import fallow
from fallow.datasets import load_text_table
from fallow.datasets.tokenizing import Tokenizer
from fallow.datasets.tokens import TokenDataset
from fallow.models import SmallTransformer


def main(data, epochs=10, samples=None, longest=128):
    torch.manual_seed(0)
    news = load_text_table(data, "text", ["label"])
    texts, held_out = news.train.texts[:samples], news.test.texts[:samples]
    tokenizer = Tokenizer.train("bpe", texts, vocabulary=8000)
    labels = torch.from_numpy(news.train.labels[:samples])
    train_set = TokenDataset(tokenizer.encode(texts, longest), labels, tokenizer.pad)
    theirs = torch.from_numpy(news.test.labels[:samples])
    test_set = TokenDataset(tokenizer.encode(held_out, longest), theirs, tokenizer.pad)
    model = SmallTransformer(len(tokenizer), len(news.classes), longest, tokenizer.pad)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    policy = fallow.Fraction(0.5, high="auto", visits=3)
    subsampler = fallow.Subsampler(len(train_set), policy, fallow.Schedule(epochs), labels=labels)
    loader = subsampler.loader(train_set, batch_size=64, collate_fn=TokenDataset.collate)
    for _ in range(epochs):
        model.train()
        for index, (tokens, classes) in loader:
            logits = model(tokens)
            losses = fallow.kl_divergence(logits, classes)
            loss = subsampler.record(index, losses, predicted=logits.argmax(1))
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * min(10 * subsampler.progress, 1, 1.1 * (1 - subsampler.progress))
            optimizer.step()
            optimizer.zero_grad()
        subsampler.step()

    model.eval()
    with torch.no_grad():
        batches = DataLoader(test_set, 256, collate_fn=TokenDataset.collate)
        right = sum(int((model(tokens).argmax(1) == classes).sum()) for tokens, classes in batches)
    saved = 1 - sum(epoch.backward for epoch in subsampler.history) / (epochs * len(train_set))
    print(f"test accuracy {right / len(test_set):.1%}, {saved:.1%} of the samples saved")
    return right / len(test_set), saved


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", help="a table with the columns text and label, or a folder of two")
    parser.add_argument("--smoke", action="store_true", help="a few hundred texts and three epochs")
    asked = parser.parse_args()
    main(asked.data, **({"epochs": 3, "samples": 400, "longest": 64} if asked.smoke else {}))
