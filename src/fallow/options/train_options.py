"""The options of ``fallow train``: everything that is known of each stands with its field. Loads no torch."""

# ruff: noqa: RUF009 - `option` returns a field, as `field` does
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

POLICIES = (
    "threshold", "soft", "fraction", "below-mean", "infobatch", "seta", "kakurenbo", "ucb", "repb",
    "order-dp", "ies", "selective-backprop", "random", "full",
)  # fmt: skip
"""Those that come with fallow, in the order of help; every class in :mod:`fallow.policies` is one too."""
LOGGERS = ("none", "csv", "tensorboard", "wandb", "mlflow")
AUGMENTS = ("auto", "none", "crop", "crop-flip")
TASKS = ("auto", "image", "text", "language-model", "autoencoder")
TEXT_TASKS = ("text", "language-model")
IMAGE_TASKS = ("image", "autoencoder")
IMAGE_MODELS = ("small-conv", "small-resnet", "resnet")
TEXT_MODELS = {"text": "small-transformer", "language-model": "small-gpt"}
OUR_MODELS = ("auto", *IMAGE_MODELS, *TEXT_MODELS.values())
DENSITY = "density"
DENSITIES = ("gaussian-mixture", "gaussian")

DATA, MODEL, RULE, SCHEDULE = "The data", "The network", "What to leave out", "When to leave it out"
TRAINING, RUN, MACHINE = "How to train", "The run", "The machine"
GROUPS = (DATA, MODEL, RULE, SCHEDULE, TRAINING, RUN, MACHINE)
"""Under which heading help shows an option."""
OWN, EITHER, SHARED, NEVER = "own", "either", "shared", "never"
"""What sets an option in a comparison: each arm for itself; an arm, or all together; all together; nobody."""
FREE, ACCEPT, FIXED = "free", "accept", "fixed"
"""Whether a resumed run may change it: freely, with ``--accept``, or never."""
CONSTANT, AS_GIVEN, NOTED, ANEW = "constant", "as given", "noted", "anew"
"""What an option is that was not given: the default of its field, or what :mod:`fallow.options.resolve`
chooses. A run keeps that as if it had been given, or keeps it and notes that it was not, or has it chosen
anew each time."""


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name, its type, its default and what it means.

    Attributes:
        group: the heading under which help shows it, one of :data:`GROUPS`.
        arm: what sets it in a comparison.
        resume: whether a resumed run may change it.
        tasks: the tasks that have a use for it.
        policies: the policies that have a use for it; all but ``without`` if there are none.
        without: the policies that have no use for it.
        reads: whether it decides which samples are read.
        default: what it is if it was not given, and whether a run keeps that.
        none: what None means once everything is chosen; empty if it is None only for a task or a policy that
            has no use for it.
        session: whether it says how a run is kept, and changes nothing in what is trained.
        once: whether it is of one session only: a run does not keep it.
        common: whether most people need it, so that ``--help`` shows it.
    """

    group: str
    arm: str
    resume: str
    tasks: tuple[str, ...] = TASKS[1:]
    policies: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    reads: bool = False
    default: str = CONSTANT
    none: str = ""
    session: bool = False
    once: bool = False
    common: bool = False


def option(default: Any, help: str, known: Option) -> Any:
    """Return a field of :class:`TrainOptions`: its default, what it means, and what else is known of it.

    A default of ``dict`` or ``list`` is a new one for each object.
    """
    metadata = {"help": help, "option": known}
    if default in (dict, list):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class TrainOptions:
    """Train a network on what still surprises it."""

    data: str = option(
        "",
        "Images: digits, a folder with one sub-folder of images a class, a FILE.npz with x_train, y_train, "
        "x_test, y_test, or with --task image hf:NAME of Hugging Face. Texts: a FILE.csv, .tsv, .jsonl or "
        ".parquet, a folder with train.csv and test.csv, hf:NAME, a FILE.txt. Or your own "
        "LightningDataModule as package.module:Class.",
        Option(DATA, SHARED, ACCEPT, reads=True, common=True),
    )
    task: str = option(
        "auto",
        "What to train: image (a classifier), text (a classifier), language-model (predicts the next "
        "token), or autoencoder, which learns to reconstruct images, uses no labels and scores by "
        "density. Default auto: what the data are for; of a table with --text and without --label a "
        "language model.",
        Option(DATA, SHARED, FIXED, reads=True, default=AS_GIVEN, common=True),
    )
    model: str = option(
        "auto",
        "Of images small-conv (default), small-resnet or resnet; of texts small-transformer, small-gpt, "
        "or the name or folder of a Hugging Face model, as distilbert-base-uncased; or your own as "
        "package.module:Class. An nn.Module is trained as ours are, on normalised images or token ids (B, "
        "T); a LightningModule trains itself, on (B, C, H, W) float images in [0, 1], and logs its "
        "accuracy under a name that starts with test or val and holds acc. The class must be a subclass "
        "of nn.Module, or a function whose annotation names one: only then is it called. A classifier "
        "gives logits (B, classes), a language model (B, T, V); this is checked before the first step.",
        Option(MODEL, EITHER, FIXED, default=AS_GIVEN, common=True),
    )
    model_args: dict[str, Any] = option(
        dict,
        "Arguments of your own model's class. If it takes num_classes, n_classes or num_labels and none "
        "is given, that is the number of classes.",
        Option(MODEL, EITHER, FIXED),
    )
    data_args: dict[str, Any] = option(
        dict,
        "Arguments of your own data module's class. Class ids in an attribute labels or targets of its "
        "training dataset, one a sample, are used for class floors, rare classes and wrong labels.",
        Option(DATA, SHARED, ACCEPT, tasks=IMAGE_TASKS),
    )
    text: str | None = option(
        None,
        "The column of texts of a table. Default text.",
        Option(
            DATA,
            SHARED,
            ACCEPT,
            tasks=TEXT_TASKS,
            reads=True,
            default=NOTED,
            none="the data are no table",
            common=True,
        ),
    )
    label: str | None = option(
        None,
        "The column of classes of a table; several with commas between, one an annotator, make a soft "
        "label: the share of them that name each class; accuracy is then measured against the class that "
        "most of them name. Default label.",
        Option(
            DATA,
            SHARED,
            ACCEPT,
            tasks=TEXT_TASKS,
            reads=True,
            default=NOTED,
            none="the data are no table with classes",
            common=True,
        ),
    )
    tokenizer: str | None = option(
        None,
        "bpe (byte pairs learned from the training texts) or byte. Default bpe; a Hugging Face model "
        "brings its own.",
        Option(
            DATA, SHARED, FIXED, tasks=TEXT_TASKS, default=NOTED, none="a pretrained model brings its own"
        ),
    )
    vocabulary: int | None = option(
        None,
        "How many tokens bpe learns at most. Default 16000 for classes, 1024 for a language model.",
        Option(DATA, SHARED, FIXED, tasks=TEXT_TASKS, default=NOTED, none="the tokenizer learns no tokens"),
    )
    max_tokens: int | None = option(
        None,
        "Texts are cut after so many tokens; a language model reads windows of so many. Default 256 and 128.",
        Option(
            DATA, SHARED, FIXED, tasks=TEXT_TASKS, default=NOTED, none="the data are a module of your own"
        ),
    )
    token_low: float | None = option(
        None,
        "Tokens that score below get no gradient (language-model), in nats.",
        Option(RULE, EITHER, ACCEPT, tasks=("language-model",), none="no such bound"),
    )
    token_high: float | None = option(
        None,
        "Tokens that score above get no gradient: typing errors, rare names (language-model).",
        Option(RULE, EITHER, ACCEPT, tasks=("language-model",), none="no such bound"),
    )
    policy: str = option(
        "auto",
        "Which samples to leave out: soft (an exact share; the others are drawn with odds by score, lower "
        "ones where a sample stays wrong, rare classes stay whole, and what looks mislabelled goes "
        "first), fraction (the lowest-scoring share), threshold (the published method), random (a "
        "control), full (leaves out nothing), or a rule of another paper: infobatch (or below-mean), "
        "seta, kakurenbo, ucb, repb, order-dp, ies, selective-backprop (leaves out backward passes only). "
        "Default auto: fraction for a language model, else soft.",
        Option(RULE, OWN, ACCEPT, default=AS_GIVEN, common=True),
    )
    low: float | str | None = option(
        None,
        "Samples that score below are learned (threshold): a number, or auto to have it held by an audit. "
        "Default 0.1; 0.3 with quantiles; 0 for no such side.",
        Option(RULE, OWN, ACCEPT, policies=("threshold",), default=ANEW, common=True),
    )
    high: float | str | None = option(
        None,
        "Samples that score above, visit after visit, are outliers: a number, auto (where the data show "
        "two kinds of samples) or none. Default: auto with soft, none otherwise.",
        Option(RULE, OWN, ACCEPT, policies=("soft", "fraction", "threshold"), default=ANEW, common=True),
    )
    visits: int | None = option(
        None,
        "How many scores in a row must lie above high. Default 3 with soft, fraction and high auto, else 1.",
        Option(RULE, OWN, ACCEPT, policies=("soft", "fraction", "threshold"), default=ANEW),
    )
    quantiles: bool | None = option(
        None,
        "Read low and high as shares of all samples (threshold).",
        Option(RULE, OWN, ACCEPT, policies=("threshold",), default=ANEW),
    )
    fraction: float | None = option(
        None,
        "Share of all samples that each epoch leaves out (kakurenbo: at most; not with threshold or "
        "full). Default: 0.5 with soft, fraction, random and ucb, of a language model 0.25; else what the "
        "rule's paper uses, which fixes no share with infobatch, seta, repb and ies. Epochs are topped up "
        "to whole batches.",
        Option(
            RULE,
            OWN,
            ACCEPT,
            without=("threshold", "full"),
            default=ANEW,
            none="the share that the rule's paper uses",
            common=True,
        ),
    )
    exponent: float | None = option(
        None,
        "How strongly the odds follow the score (soft). Default 0.5.",
        Option(RULE, OWN, ACCEPT, policies=("soft",), default=ANEW),
    )
    doubt: float | None = option(
        None,
        "How fast a score loses weight with wrong predictions in a row (soft): it counts as score / (1 + "
        "wrong visits)^doubt. Default 1; 0 for not at all.",
        Option(RULE, OWN, ACCEPT, policies=("soft",), default=ANEW),
    )
    keep_rare: bool | None = option(
        None,
        "Keep classes whole that have no more samples than an even share of those kept (soft). Default true.",
        Option(RULE, OWN, ACCEPT, policies=("soft",), default=ANEW),
    )
    calibrate: bool | None = option(
        None,
        "Odds by the score that a sample is expected to have next, learned from those that trained again, "
        "instead of its last one (soft). Default true.",
        Option(RULE, OWN, ACCEPT, policies=("soft",), default=ANEW),
    )
    score: str = option(
        "kl",
        "kl, reverse-kl, js, tv, hellinger or renyi; or density, which needs no labels: a sample's "
        "percentile under the density of the network's activations, 0 where the training set lies densest "
        "and 1 where it is thinnest. Default kl, in nats.",
        Option(RULE, EITHER, ACCEPT, common=True),
    )
    density: str = option(
        "gaussian-mixture",
        "With score density: gaussian-mixture (default), gaussian, or your own class with fit(x) and "
        "log_prob(x) as package.module:Class.",
        Option(RULE, EITHER, ACCEPT),
    )
    density_args: dict[str, Any] = option(
        dict,
        "Arguments of the density's class, as '{components: 8}'.",
        Option(RULE, EITHER, ACCEPT),
    )
    layers: list[str] = option(
        list,
        "With score density: names of the network's modules whose outputs count. Default: the inputs of "
        "two layers, a quarter and three quarters of the way.",
        Option(RULE, EITHER, ACCEPT),
    )
    epochs: int | None = option(
        None,
        "How many epochs. Default: 30 for digits, 20 for other images, 10 for texts.",
        Option(TRAINING, EITHER, ACCEPT, default=NOTED, common=True),
    )
    warmup: int = option(
        1,
        "First epochs in which all samples train. Default 1.",
        Option(SCHEDULE, EITHER, ACCEPT),
    )
    readmit_every: int | None = option(
        None,
        "Give removed samples back before every k-th epoch; 0 never. Default 5 with threshold.",
        Option(SCHEDULE, OWN, ACCEPT, default=ANEW, common=True),
    )
    full_tail: float | None = option(
        None,
        "Last share of the epochs in which all learned samples train. Default 0.1 with threshold; 0.125 "
        "with infobatch where no fraction is given.",
        Option(SCHEDULE, OWN, ACCEPT, default=ANEW),
    )
    outliers: str = option(
        "remeasure",
        "remeasure (they come back by measurement only), readmit (with the others) or never.",
        Option(SCHEDULE, OWN, ACCEPT),
    )
    min_kept: int | None = option(
        None,
        "Keep at least so many samples. Default: one batch.",
        Option(RULE, EITHER, ACCEPT, default=ANEW),
    )
    min_kept_per_class: int | None = option(
        None,
        "Keep at least so many of each class; 0 for no such floor. Default: a batch's fair share, so that "
        "no epoch trains on one class only.",
        Option(RULE, EITHER, ACCEPT, default=ANEW),
    )
    batch_size: int | None = option(
        None,
        "Samples a device and step. Default 256; 64 below 10,000 samples and for classes of texts, 16 for "
        "a language model and for classes with a pretrained one, 32 for a pretrained language model.",
        Option(TRAINING, EITHER, ACCEPT, default=NOTED, common=True),
    )
    learning_rate: float | None = option(
        None,
        "The highest. Default 0.3 for 256 images a step, in proportion; 2e-3 for classes of texts, 6e-3 "
        "for a language model, 5e-5 for pretrained ones.",
        Option(
            TRAINING,
            EITHER,
            ACCEPT,
            default=NOTED,
            none="the LightningModule is your own and sets it",
            common=True,
        ),
    )
    weight_decay: float | None = option(
        None,
        "Of the weights. Default 5e-4; 0.05 for classes of texts, 0.1 for a language model.",
        Option(TRAINING, EITHER, ACCEPT, default=AS_GIVEN),
    )
    augment: str = option(
        "auto",
        "auto, none, crop (shifts by up to 1/28 of the side) or crop-flip. Default auto: none for digits, "
        "else crop.",
        Option(
            TRAINING,
            EITHER,
            ACCEPT,
            tasks=IMAGE_TASKS,
            default=NOTED,
            none="the LightningModule is your own and does it",
        ),
    )
    image_size: int | None = option(
        None,
        "Side in pixels that the images of a folder get. Default: the size that half of them have, or "
        "else the median of their shorter sides, at most 64.",
        Option(
            DATA,
            SHARED,
            ACCEPT,
            tasks=IMAGE_TASKS,
            reads=True,
            default=NOTED,
            none="the images keep the size that they have",
        ),
    )
    test_share: float | None = option(
        None,
        "Share of a folder without test/ or val/, or of a file of texts, that is held out: by its "
        "content, the same for every seed. Default 0.2; 0.1 for a FILE.txt.",
        Option(DATA, SHARED, ACCEPT, reads=True, default=AS_GIVEN),
    )
    samples: int | None = option(
        None,
        "Train on so many of the training samples only, drawn once for every seed. Default: all.",
        Option(DATA, SHARED, ACCEPT, reads=True, none="all"),
    )
    validation: float | None = option(
        None,
        "Cut this share off the training samples, the same for every seed, and report on it instead of on "
        "the test samples: for choosing settings.",
        Option(DATA, SHARED, ACCEPT, reads=True, none="nothing is cut off", common=True),
    )
    skip_corrupt: bool = option(
        False,
        "Leave unreadable images of a folder out instead of stopping.",
        Option(DATA, SHARED, ACCEPT, tasks=IMAGE_TASKS, reads=True),
    )
    seed: int = option(
        0,
        "Of everything that is random. Default 0.",
        Option(TRAINING, NEVER, ACCEPT, common=True),
    )
    out: str | None = option(
        None,
        "The run directory. Default: runs/DATA-POLICY-TIME.",
        Option(RUN, NEVER, FREE, none="a new folder in runs/, named when it is made", common=True),
    )
    resume: str | None = option(
        None,
        "Go on with the run in this folder, exactly where it was stopped. Needs no other option; its own "
        "are used. To train it longer: --epochs 40 --accept epochs. Classes of your own have to be named "
        "again (--model, --data): nothing is imported from what a run has stored.",
        Option(RUN, NEVER, FREE, none="a new run", session=True, once=True, common=True),
    )
    accept: str = option(
        "",
        "What may differ from the run that goes on, as epochs,low: names of options; data for samples "
        "that were changed, added or relabelled since; history for past epochs whose files are damaged.",
        Option(RUN, NEVER, FREE, session=True, once=True, common=True),
    )
    add: str = option(
        "",
        "Train on collected samples too: a list that fallow collect wrote, its column label completed "
        "(junk, ? or nothing leaves a pick out); several with commas between. With --resume the run goes "
        "on with them; one that had finished trains half as long again, or to --epochs.",
        Option(DATA, EITHER, ACCEPT, tasks=IMAGE_TASKS, reads=True, common=True),
    )
    save_steps: int | None = option(
        None,
        "Save the state after every k-th step too. It is saved before each epoch, at the end, and on "
        "Ctrl-C or SIGTERM.",
        Option(RUN, NEVER, FREE, session=True, none="not inside an epoch"),
    )
    on_storage_error: str = option(
        "warn",
        "warn (train on, try again after the next epoch) or stop, where a file cannot be written.",
        Option(RUN, NEVER, FREE, session=True),
    )
    workers: int = option(
        0,
        "Processes that load data.",
        Option(MACHINE, EITHER, FREE),
    )
    accelerator: str = option(
        "auto",
        "Lightning's: auto, cpu, gpu.",
        Option(MACHINE, EITHER, ACCEPT),
    )
    devices: str = option(
        "auto",
        "Lightning's: how many, or auto.",
        Option(MACHINE, NEVER, ACCEPT, common=True),
    )
    strategy: str = option(
        "auto",
        "Lightning's: auto, ddp.",
        Option(MACHINE, NEVER, ACCEPT),
    )
    precision: str = option(
        "32-true",
        "Lightning's: 32-true, bf16-mixed, 16-mixed.",
        Option(MACHINE, EITHER, ACCEPT),
    )
    logger: str = option(
        "none",
        "none, csv, tensorboard, wandb or mlflow: scalars of each epoch, in RUN/logs unless the tracker's "
        "own environment variables say otherwise. One that fails is switched off.",
        Option(RUN, NEVER, FREE),
    )
    trainer: dict[str, Any] = option(
        dict,
        "Further arguments of Lightning's Trainer.",
        Option(MACHINE, EITHER, ACCEPT),
    )

    @property
    def by_density(self) -> bool:
        """Whether samples are scored by the density of activations."""
        return self.score == DENSITY or self.task == "autoencoder"

    @property
    def accepted(self) -> list[str]:
        """The names in ``accept``."""
        return lists(self.accept)

    @property
    def evaluated_on(self) -> str:
        """What the reported accuracy is measured on: ``test`` or ``validation`` samples."""
        return "test" if self.validation is None else "validation"


LEFT: Mapping[str, Any] = {
    "checkpoints": False, "num_nodes": 1, "readmit_at": [], "remeasure_every": None, "rising_share": 0.2,
    "stagger": False,
}  # fmt: skip
"""Options of earlier versions, with the defaults that runs of these have stored."""
HELP: Mapping[str, str] = {one.name: one.metadata["help"] for one in fields(TrainOptions)}
"""What each option means."""
OPTIONS: Mapping[str, Option] = {one.name: one.metadata["option"] for one in fields(TrainOptions)}
"""What is known of each option, by name, in the order in which they are shown."""


def named(**wanted: Any) -> frozenset[str]:
    """Return the options that are as asked.

    >>> sorted(named(resume="fixed", reads=True))
    ['task']
    """
    return frozenset(
        name
        for name, known in OPTIONS.items()
        if all(getattr(known, key) == value for key, value in wanted.items())
    )


ON_DATA = named(default=NOTED)
"""Options whose defaults depend on the data and on other options: a run keeps the values that it used."""
ONCE = named(once=True)
"""Options of one session only."""


def lists(text: str) -> list[str]:
    """Return what stands between commas, each once.

    >>> lists(" a.csv,b.csv ,,a.csv")
    ['a.csv', 'b.csv']
    """
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _with_help() -> str:
    """Return the docstring of the class: a line for each option, from where it is described."""
    lines = [f"        {name}: {help}" for name, help in HELP.items()]
    return "\n".join([f"{TrainOptions.__doc__}\n", "    Args:", *lines, "    "])


TrainOptions.__doc__ = _with_help()
