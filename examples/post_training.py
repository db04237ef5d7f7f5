"""GRPO in plain PyTorch: a small GPT learns to reckon by rewards; solved and hopeless prompts are left out.

python examples/post_training.py             # a minute or two on a processor
python examples/post_training.py --smoke     # a few steps, to see that it runs
"""

import argparse
import random

import torch
from torch.nn.functional import cross_entropy

import fallow
from fallow.models import SmallGPT

SYMBOLS, ANSWER = "0123456789+*=", 4


def tokens_of(texts):
    return torch.tensor([[SYMBOLS.index(character) for character in text] for text in texts])


def solution(question):
    a, b = int(question[:2]), int(question[3:5])
    value = a + b if question[2] == "+" else a * b
    return f"{value:0{ANSWER}}"[::-1]  # the last digit comes first, as one reckons


@torch.no_grad()
def answered(model, questions):
    tokens = tokens_of(questions)
    for _ in range(ANSWER):
        tokens = torch.cat([tokens, torch.multinomial(model(tokens)[:, -1].softmax(-1), 1)], 1)
    return tokens


def rewards_of(questions, tokens):
    return (tokens[:, -ANSWER:] == tokens_of(map(solution, questions))).all(1).float()


def surprise(model, tokens):
    logits = model(tokens[:, :-1])[:, -ANSWER:]
    return cross_entropy(logits.mT, tokens[:, -ANSWER:], reduction="none").sum(1)


def main(imitated=700, steps=200, count=600, group=8):
    torch.manual_seed(0)
    draw = random.Random(0)
    pairs = dict.fromkeys((draw.randrange(100), draw.randrange(100)) for _ in range(count))
    questions = [f"{a:02}{'+' if i % 3 else '*'}{b:02}=" for i, (a, b) in enumerate(pairs)]
    sums = [question + solution(question) for question in questions if "+" in question]
    model = SmallGPT(len(SYMBOLS), length=6 + ANSWER, width=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    for _ in range(imitated):
        surprise(model, tokens_of(draw.sample(sums, 32))).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    before = rewards_of(questions, answered(model, questions)).mean()
    # shown from here
    prompts = fallow.Prompts(questions, group)
    for _ in range(steps):
        drawn = prompts.draw(32)
        asked = [questions[place] for place in drawn for _ in range(group)]
        tokens = answered(model, asked)
        rewards = rewards_of(asked, tokens).view(-1, group)
        prompts.record(drawn, rewards)
        advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
        (advantages.flatten() * surprise(model, tokens)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    # shown to here
    after, found = rewards_of(questions, answered(model, questions)).mean(), prompts.summary()
    print(f"{before:.1%} of the answers right before, {after:.1%} after")
    print(f"{found.mixed / found.groups:.1%} of the groups mixed, {found.rollouts_saved} rollouts saved")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few steps of it")
    main(**({"imitated": 100, "steps": 12, "count": 90} if parser.parse_args().smoke else {}))
