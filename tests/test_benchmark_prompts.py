"""The ground of the benchmark of prompts: its checker, its network and its rollouts."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

with pytest.MonkeyPatch.context() as patch:  # as scripts find what lies beside them
    patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    ground, prompts = map(importlib.import_module, ("prompt_tasks", "prompts"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ground.GPT().double().eval()


def test_tasks_are_different_and_solved():
    tasks = ground.make_tasks(400, 0)
    assert len({task.question for task in tasks}) == 400
    assert {task.cell for task in tasks} == set(range(ground.CELLS))
    for task in tasks:
        kind, text = task.question[1], task.question[2:-1]
        expected = {
            "r": "".join(reversed(text)),
            "s": "".join(sorted(text)),
            "c": str(sum(letter == "a" for letter in text)),
            "k": "".join(str((int(d) + 1) % 10) for d in text if d.isdigit()),
            "m": max(text),
        }
        assert task.right == expected[kind]
        assert task.habit != task.right
    held_out = frozenset(task.question for task in tasks)
    assert not held_out & {task.question for task in ground.make_tasks(300, 1, held_out)}


def test_answers_are_encoded_up_to_their_end():
    x, y = ground.encode(["?m12>"], ["2"])
    assert "".join(ground.LETTERS[code] for code in x[0]) == "     ?m12>"
    assert "".join(ground.LETTERS[code] for code in y[0]) == "2$      "


def test_rollouts_follow_the_network_without_its_cache(network):
    """The same draws, with all logits computed anew for each token."""
    x, _ = ground.encode([task.question for task in ground.make_tasks(6, 3)], ["1"] * 6)
    found = ground.rollouts(network, x, 4, torch.Generator().manual_seed(1))
    draws, wide = torch.Generator().manual_seed(1), x.repeat_interleave(4, 0)
    answers, done = torch.full((24, ground.ANSWER), ground.PAD), torch.zeros(24, dtype=torch.bool)
    for place in range(ground.ANSWER):
        with torch.no_grad():
            logits = network(torch.cat([wide, answers[:, :place]], 1))[0][:, -1]
        token = torch.multinomial(logits.softmax(1), 1, generator=draws)[:, 0]
        answers[:, place] = torch.where(done, ground.PAD, token)
        done |= answers[:, place] == ground.END
        if done.all():
            break
    assert torch.equal(found, answers)


def test_log_probabilities_are_those_of_the_softmax(network):
    tasks = ground.make_tasks(5, 2)
    x, y = ground.encode([task.question for task in tasks], [task.right for task in tasks])
    found = ground.log_probabilities(network, x, y).detach()
    logits = network(torch.cat([x, y], 1))[0].detach().log_softmax(2)
    for row, task in enumerate(tasks):
        for place in range(ground.ANSWER):
            inside = place <= len(task.right)
            expected = logits[row, ground.QUESTION - 1 + place, y[row, place]] if inside else 0.0
            assert float(found[row, place]) == pytest.approx(float(expected), abs=1e-9)


def test_controls_draw_what_they_say():
    walk = prompts.Walk(40, 0)
    assert sorted(np.concatenate([walk.draw(8) for _ in range(5)]).tolist()) == list(range(40))
    skip = prompts.Skip(4000, 0)
    skip.record(np.arange(4000), np.tile(np.arange(4000)[:, None] < 2000, 8).astype(float))
    drawn = np.concatenate([skip.draw(8) for _ in range(200)])
    assert len(skip.odds[skip.odds < 1]) == 4000
    assert len(drawn) == 1600
    gone = prompts.ForGood(40, 0)
    gone.record(np.arange(10), np.ones((10, 8)))
    assert set(np.concatenate([gone.draw(8) for _ in range(20)]).tolist()) == set(range(10, 40))


def test_a_group_that_is_not_mixed_makes_no_step(network):
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), 1.0)
    x = torch.zeros(4, ground.QUESTION, dtype=torch.int64)
    nothing = (np.zeros(0, np.int64), torch.zeros(0, 8, ground.ANSWER, dtype=torch.int64), torch.zeros(0, 8))
    prompts.update(network, optimizer, x, [nothing], 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
