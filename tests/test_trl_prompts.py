"""TRL's GRPOTrainer with the mixin: what it draws and records, alone and on two ranks, resumed or not."""

import ast
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

import fallow
from fallow.errors import FallowError
from fallow.integrations.trl import FILE, PromptSampler, PromptsMixin
from pages import block
from ranks import in_ranks
from test_huggingface import as_rank
from test_trl import QUIET, network, tokenizer

N, GROUP = 12, 4
SHAPES = {
    "a batch a step": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
    "two iterations": {"per_device_train_batch_size": 8, "steps_per_generation": 2, "num_iterations": 2},
    "across steps": {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 3,
    },
}

pytestmark = QUIET


class Drawing(PromptsMixin, GRPOTrainer):
    pass


def rows():
    return datasets.Dataset.from_dict(
        {
            "prompt": [f"w{i} w{3 * i % 30}" for i in range(N)],
            "id": [f"p{i}" for i in range(N)],
            "kind": ["solved", "hopeless", "open"] * (N // 3),
        }
    )


def even(completion_ids, kind, **named):
    """Solved prompts always succeed, hopeless ones never, the others if their first token is even."""
    first = [ids[0] % 2 == 0 for ids in completion_ids]
    return [float(k == "solved" or (k == "open" and f)) for k, f in zip(kind, first, strict=True)]


def trainer(
    out, rewards=even, prompts=None, data=None, kind=Drawing, evaluated=None, outcome=None, **options
):
    options = {"save_strategy": "no", "logging_strategy": "no", "num_train_epochs": 3, **options}
    arguments = GRPOConfig(
        output_dir=str(out), report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, learning_rate=0.1,
        optim="sgd", max_completion_length=4, **{"num_generations": GROUP, **options},
    )  # fmt: skip
    return kind(
        network(), rewards, arguments, train_dataset=rows() if data is None else data, outcome=outcome,
        eval_dataset=evaluated, processing_class=tokenizer(), prompts=prompts or drawn_by(),
    )  # fmt: skip


def drawn_by(**named):
    """Prompts of which many are left out after a group or two."""
    return fallow.Prompts(rows()["id"], group=GROUP, seed=1, **{"bound": 0.9, **named})


def state(prompts):
    """What a training goes on from, without the name of the run, in values that can be compared."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return plain({key: value for key, value in prompts.state_dict().items() if key != "name"})


def same(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("count", "repeat"), [(4, 1), (5, 6), (12, 2)])
def test_the_sampler_has_the_length_and_the_repetitions_of_the_trainers_own(count, repeat):
    own = RepeatSampler(range(N), GROUP, count, repeat, seed=0)
    made = PromptSampler(drawn_by(), count, repeat)
    assert len(made) == len(own) == len(list(own))
    for places in (list(own), list(made)):
        batches = np.array(places).reshape(N // count, repeat, count, GROUP)
        assert (batches == batches[:, :1, :, :1]).all()
        assert len(np.unique(batches)) == batches[:, 0, :, 0].size
    # An epoch after an epoch, of which none was resumed.
    assert len(list(made)) == len(own)
    assert made.prompts.step == 2 * (N // count)


class Seen:
    """A reward function that notes what it was asked for."""

    __name__ = "seen"

    def __init__(self):
        self.found = {True: [], False: []}

    def __call__(self, completion_ids, kind, id, trainer_state, **named):
        assert named.keys() == {"prompts", "completions", "log_extra", "log_metric"}
        rewards = even(completion_ids, kind)
        self.found[id[0].startswith("p")] += zip(id, rewards, map(len, completion_ids), strict=True)
        return rewards


@pytest.mark.parametrize("shape", SHAPES)
def test_each_rollout_of_the_training_is_recorded_once(shape, tmp_path):
    seen = Seen()
    held_out = rows().select(range(8)).map(lambda row: {"id": "held out"})
    made = trainer(
        tmp_path, seen, evaluated=held_out, eval_strategy="steps", eval_steps=3, logging_strategy="steps",
        logging_steps=2, per_device_eval_batch_size=8, num_train_epochs=2, **SHAPES[shape],
    )  # fmt: skip
    made.train()
    found, log = seen.found[True], made.prompts.log
    assert len(seen.found[False]) > 0
    assert len(log) * GROUP == len(found)
    assert log["attempts"].tolist() == [GROUP] * len(log)
    # What was drawn, in the order of the draws; a record is sorted by place.
    count = made.args.generation_batch_size // GROUP
    drawn = [int(key[1:]) for key, *_ in found[::GROUP]]
    for first in range(0, len(drawn), count):
        batch = slice(first, first + count)
        assert len(set(drawn[batch])) == count
        assert sorted(drawn[batch]) == log["row"][batch].tolist()
        for row, right, tokens in zip(
            *(log[name][batch] for name in ("row", "right", "tokens")), strict=True
        ):
            own = [entry for entry in found[first * GROUP : (first + count) * GROUP] if entry[0] == f"p{row}"]
            assert (right, tokens) == (sum(entry[1] for entry in own), sum(entry[2] for entry in own))
    steps = [row for row in made.state.log_history if "prompts/mixed" in row]
    summary = made.prompts.summary()
    assert steps[-1]["prompts/rollouts_saved"] > 0
    assert (steps[-1]["prompts/solved"], steps[-1]["prompts/hopeless"]) == (summary.solved, summary.hopeless)
    assert not any("prompts/mixed" in row for row in made.state.log_history if "eval_reward" in row)
    if shape == "a batch a step":  # two generation batches to a line
        mixed = (log["right"] > 0) & (log["right"] < GROUP)
        shares = mixed.reshape(-1, 8).mean(1)
        assert [row["prompts/mixed"] for row in steps] == pytest.approx(shares)


class Saves(TrainerCallback):
    """Saves a checkpoint after some of the steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **named):
        control.should_save = state.global_step in self.steps


RESUMED = [
    ("a batch a step", 3, {}),
    ("two iterations", 2, {}),
    ("across steps", 3, {"dataloader_num_workers": 1}),
]


def goes_on(shape, epochs, options, stops, folder):
    options = {**SHAPES[shape], **options, "num_train_epochs": epochs}
    whole = trainer(folder / "whole", **options)
    whole.add_callback(Saves(stops))
    whole.train()
    wanted = state(whole.prompts)
    assert any(epoch["solved"] + epoch["hopeless"] > 0 for epoch in wanted["history"])
    saved = sorted((folder / "whole").glob("checkpoint-*"))
    assert len(saved) == sum(stop <= whole.state.global_step for stop in stops)
    for checkpoint in saved:
        again = trainer(folder / "again", **options)
        again.train(resume_from_checkpoint=str(checkpoint))
        assert again.state.global_step == whole.state.global_step
        assert state(again.prompts) == wanted
        assert same(again.model, whole.model)


@pytest.mark.parametrize(("shape", "epochs", "options"), RESUMED)
def test_it_goes_on_exactly(shape, epochs, options, tmp_path):
    """From the end of an epoch, and from between two steps, or two draws; what was fetched ahead included."""
    goes_on(shape, epochs, options, {"two iterations": (9, 16)}.get(shape, (3, 5)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "epochs", "options"), RESUMED)
def test_it_goes_on_exactly_from_every_checkpoint(shape, epochs, options, tmp_path):
    goes_on(shape, epochs, options, range(1, 100), tmp_path)


LEVELS = {"solved": (1, 1), "hopeless": (0, 0), "open": (1, 0)}


def told(id, kind, trainer_state, **named):
    """Rewards by the prompt, the step, and the place in the batch; half of an open group is right."""
    late = trainer_state.global_step > 5
    return [
        float(LEVELS["open" if late and key == "p0" else k][i % 2])
        for i, (key, k) in enumerate(zip(id, kind, strict=True))
    ]


def in_parts(size):
    """A generation batch of 12: on two ranks, one of its three groups is divided between them."""
    return {
        "per_device_train_batch_size": 6 // size,
        "steps_per_generation": 2,
        "num_train_epochs": 4,
        # Tokens are drawn by rank, and count.
        "generation_kwargs": {"min_new_tokens": 4},
    }


def train_in_ranks(rank, size, folder):
    as_rank(rank, size)
    folder = Path(folder)
    whole = trainer(folder / "whole", told, **in_parts(size))
    whole.add_callback(Saves((8, 11)))
    whole.train()
    torch.save(state(whole.prompts), folder / f"{rank}.pt")
    for stop in (8, 11):
        again = trainer(folder / "again", told, **in_parts(size))
        again.train(resume_from_checkpoint=str(folder / "whole" / f"checkpoint-{stop}"))
        assert state(again.prompts) == state(whole.prompts)
        assert same(again.model, whole.model)
    with pytest.raises(FallowError, match=r"All processes must have the same `prompts`\. Found different"):
        trainer(folder / "other", told, drawn_by(bound=rank / 4), **in_parts(size)).train()


@pytest.mark.slow
def test_two_processes_draw_and_record_as_one(tmp_path):
    in_ranks(train_in_ranks, 2, str(tmp_path))
    alone = trainer(tmp_path / "alone", told, **in_parts(1))
    alone.train()
    wanted = state(alone.prompts)
    assert wanted["history"][-1]["solved"] > 0
    assert set(wanted["log"]["right"]) == {0, 2, 4}
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == wanted
    # On one process from a checkpoint of two.
    again = trainer(tmp_path / "again", told, **in_parts(1))
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-8"))
    assert state(again.prompts) == wanted
    # Between two draws, the rollouts of the ranks are made anew, and recorded.
    again = trainer(tmp_path / "again", told, **in_parts(1))
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-11"))
    assert len(again.prompts.log) == len(alone.prompts.log) + 3


def outcomes(rewards, outcome=None, prompts=None, **options):
    """Return how many rollouts of each group are judged and right, over a few generation batches."""
    made = trainer(
        "unused", rewards, prompts, outcome=outcome, max_steps=1, **SHAPES["across steps"], **options
    )
    made.train()
    log = made.prompts.log
    return set(zip(log["attempts"].tolist(), log["right"].tolist(), strict=True))


def half(completions, **named):
    return [1.0, 0.0] * (len(completions) // 2)


def shaped(completions, **named):
    """Never the same reward twice, and some that cannot be judged."""
    return [None if i % 4 == 3 else 1 + i / 100 for i in range(len(completions))]


def nothing(completions, **named):
    return [None] * len(completions)


def test_the_outcome_is_a_reward_and_no_spread():
    assert outcomes([half, shaped], "half") == outcomes([shaped, half], 1) == {(4, 2)}
    # All that is judged is right, though no two rewards are equal.
    assert outcomes([half, shaped], "shaped") == outcomes(shaped) == {(3, 3)}
    assert outcomes(nothing) == outcomes([nothing, half], 0) == {(0, 0)}


def test_a_reward_of_the_height_of_success_is_right():
    def nine_tenths(completions, **named):
        return [0.9, 0.3] * (len(completions) // 2)

    nine = drawn_by(success=0.9)
    assert outcomes(nine_tenths, prompts=nine, remove_unused_columns=True) == {(4, 2)}  # rewards are float32
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        nine.record([0], torch.tensor([0.9, 0.3], dtype=kind)[None])
    nine.record([0], np.array([[0.9, 0.3]], np.float16))
    nine.record([0], [[0.9, 0.3]])
    assert nine.log["right"][-5:].tolist() == [1] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_generations": 2}, r"num_generations must be 4, the group of `prompts`\. Found 2\."),
        ({"shuffle_dataset": False}, r"by `prompts`\. Found shuffle_dataset=False\. Leave shuffle_dataset"),
        ({"ignore_data_skip": True}, "ignore_data_skip does not go with `prompts`"),
        ({"per_device_train_batch_size": 52}, r"at most 12 prompts, as there are\. Found 13\."),
        ({"data": rows().select(range(9))}, r"must have 12 rows, one for each prompt\. Found 9\."),
        ({"data": rows().to_iterable_dataset(), "max_steps": 1}, r"a Dataset, whose rows have places"),
        ({"prompts": rows()["id"]}, r"`prompts` must be Prompts\. Found Column"),
        (
            {"rewards": [even, half]},
            r"`outcome` must name the reward.* Found 2 reward functions\. Known: even, half",
        ),
        ({"outcome": "evn"}, r"Unknown reward function\. Found 'evn'\. Did you mean 'even'"),
        ({"outcome": 1}, r"`outcome` must be below 1, the number of reward functions\. Found 1"),
        (
            {"rewards": [even, even], "outcome": "even"},
            r"Found 2 called even\. Name it by its place: 0 or 1\.",
        ),
    ],
)
def test_wrong_use_raises_before_the_training(options, message):
    with pytest.raises(FallowError, match=message):
        trainer("unused", **options)


def test_the_mixin_stands_before_a_trainer_that_leaves_the_prompts_to_it():
    class Bare(PromptsMixin):
        pass

    with pytest.raises(FallowError, match=r"class PromptsTrainer\(PromptsMixin, GRPOTrainer\)"):
        Bare(prompts=drawn_by())
    with pytest.raises(FallowError, match=r"Found class Late\(GRPOTrainer, PromptsMixin\)"):

        class Late(GRPOTrainer, PromptsMixin):
            pass

    class Sequential(GRPOTrainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(dataset)

    class Both(PromptsMixin, Sequential):
        pass

    with pytest.raises(FallowError, match=r"Found Sequential\._get_train_sampler\. Take Sequential out of"):
        trainer("unused", kind=Both)


def test_the_change_on_the_page(tmp_path):
    """Both programs run as they stand there, and five statements are new."""
    lines = block("docs/post-training.md", "diff", "TRL's GRPOTrainer").splitlines()
    before, after = ([line for line in lines if line[0] != sign] for sign in "+-")
    new = {number for number, line in enumerate(after, 1) if line[0] == "+"}
    before, after = ("\n".join(line[1:] for line in part) for part in (before, after))
    statements = (node for node in ast.walk(ast.parse(after)) if isinstance(node, ast.stmt))
    assert sum(node.lineno in new for node in statements) <= 5
    for part in (network(), tokenizer()):
        part.save_pretrained(tmp_path / "model")
    arguments = GRPOConfig(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, max_steps=2,
        save_strategy="no", logging_strategy="no", max_completion_length=2, per_device_train_batch_size=8,
    )  # fmt: skip
    names = {"fallow": fallow, "GRPOTrainer": GRPOTrainer, "model": str(tmp_path / "model"), "rewards": even}
    names |= {"arguments": arguments, "train_set": rows()}
    for program in (before, after):
        exec(program, names)
        assert names["trainer"].state.global_step == 2
    assert names["prompts"].summary().rollouts == 2 * 8


def test_a_checkpoint_of_another_training_raises(tmp_path):
    made = trainer(tmp_path, **SHAPES["two iterations"], max_steps=2)
    made.add_callback(Saves((2,)))
    made.train()
    checkpoint = tmp_path / "checkpoint-2"
    with pytest.raises(FallowError, match=r"num_iterations of .*checkpoint-2: 16, 8, 2\. Found 24, 16, 1\."):
        trainer("unused", **SHAPES["across steps"]).train(resume_from_checkpoint=str(checkpoint))
    again = trainer("unused", prompts=drawn_by(bound=0.1), **SHAPES["two iterations"])
    with pytest.raises(FallowError, match="the same `bound`"):
        again.train(resume_from_checkpoint=str(checkpoint))
    data = (checkpoint / FILE).read_bytes()
    (checkpoint / FILE).write_bytes(data[:-9])
    for message in (f"{FILE} must be", f"must hold {FILE}, the state of the prompts"):
        with pytest.raises(FallowError, match=message):
            trainer("unused", **SHAPES["two iterations"]).train(resume_from_checkpoint=str(checkpoint))
        (checkpoint / FILE).unlink(missing_ok=True)
