"""The options of ``fallow train``, each with its help and its properties. Loads no torch."""

# ruff: noqa: RUF009 - `option` returns a field, as `field` does
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

POLICIES = (
    "error-mass", "threshold", "soft", "fraction", "below-mean", "infobatch", "seta", "kakurenbo", "ucb",
    "repb", "order-dp", "ies", "selective-backprop", "random", "watch", "full",
)  # fmt: skip
"""The built-in policies, in the order of help; every class in :mod:`fallow.policies` is one too."""
LOGGERS = ("none", "csv", "tensorboard", "wandb", "mlflow")
AUGMENTS = ("auto", "none", "crop", "crop-flip")
TASKS = ("auto", "image", "text", "language-model", "autoencoder")
TEXT_TASKS = ("text", "language-model")
IMAGE_TASKS = ("image", "autoencoder")
IMAGE_MODELS = ("small-conv", "small-resnet", "resnet")
LIBRARIES = ("timm", "torchvision")
"""Libraries of image networks, named as ``timm:NAME``."""
TEXT_MODELS = {"text": "small-transformer", "language-model": "small-gpt"}
OUR_MODELS = ("auto", *IMAGE_MODELS, *TEXT_MODELS.values())
DENSITY = "density"
DENSITIES = ("gaussian-mixture", "gaussian")

DATA, MODEL, RULE, SCHEDULE = "The data", "The network", "What to leave out", "When to leave it out"
TRAINING, RUN, MACHINE = "How to train", "The run", "The machine"
GROUPS = (DATA, MODEL, RULE, SCHEDULE, TRAINING, RUN, MACHINE)
"""Headings of the help."""
OWN, EITHER, SHARED, NEVER = "own", "either", "shared", "never"
"""Who sets an option in a comparison: each arm; an arm or the whole comparison; only the whole; nobody."""
FREE, ACCEPT, FIXED = "free", "accept", "fixed"
"""Whether a resumed run may change an option: freely, with ``--accept``, or never."""
CONSTANT, AS_GIVEN, NOTED, ANEW = "constant", "as given", "noted", "anew"
"""Source of the value if none is given: the field, or :mod:`fallow.options.resolve`. A run keeps a resolved
value as if it were given, keeps it with a note that it was not, or resolves it again."""


@dataclass(frozen=True)
class Option:
    """The properties of an option beside its name, type, default and help.

    Attributes:
        group: its heading in the help, one of :data:`GROUPS`.
        arm: who sets it in a comparison.
        resume: whether a resumed run may change it.
        tasks: the tasks that use it.
        policies: the policies that use it; if empty, all but ``without``.
        without: the policies that do not use it.
        reads: whether it decides which samples are read.
        default: the source of its default, and whether a run keeps it.
        none: the meaning of None after resolving; empty if it is None only if the task or policy ignores it.
        session: whether it only affects how a run is stored, not the training.
        once: whether it holds for one session; a run does not keep it.
        common: whether ``--help`` shows it; ``--help-all`` shows every option.
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

    def fits(self, policy: str) -> bool:
        """Return whether a policy uses the option."""
        return policy in self.policies if self.policies else policy not in self.without


def option(default: Any, help: str, known: Option) -> Any:
    """Return a field of :class:`TrainOptions`; a default of ``dict`` or ``list`` means a new, empty one."""
    metadata = {"help": help, "option": known}
    if default in (dict, list):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class TrainOptions:
    """Train a network on what still surprises it."""

    data: str = option(
        "",
        "Images: digits, a folder with a sub-folder for each class, a FILE.npz with x_train, y_train, "
        "x_test, y_test, or hf:NAME (Hugging Face) with --task image. Texts: a FILE.csv, .tsv, .jsonl or "
        ".parquet, a folder with train.csv and test.csv, hf:NAME, or a FILE.txt. Or your own "
        "LightningDataModule as package.module:Class.",
        Option(DATA, SHARED, ACCEPT, reads=True, common=True),
    )
    _: KW_ONLY
    task: str = option(
        "auto",
        "What to train: image (a classifier), text (a classifier), language-model (predicts the next "
        "token), or autoencoder (reconstructs images without labels and scores by density). Default auto: "
        "the task that fits the data; language-model for a table with --text but without --label.",
        Option(DATA, SHARED, FIXED, reads=True, default=AS_GIVEN, common=True),
    )
    model: str = option(
        "auto",
        "For images small-conv (default if they are grey), small-resnet (default if they have colours) or "
        "resnet, or a network of a library as timm:NAME or torchvision:NAME, such as timm:resnet18; for "
        "texts small-transformer, small-gpt, or the name or folder of a Hugging Face model, such as "
        "distilbert-base-uncased; or your own as package.module:Class. An nn.Module is trained like the "
        "built-in models, on normalised images or token ids (B, T). A LightningModule trains itself, on"
        " (B, C, H, W) float images in [0, 1], and logs its accuracy under a name that starts with test or "
        "val and contains acc. The class must be a subclass of nn.Module; a function must be annotated to "
        "return one. A classifier returns logits (B, classes), a language model (B, T, V); this is checked "
        "before the first step.",
        Option(MODEL, EITHER, FIXED, default=NOTED, common=True),
    )
    pretrained: str | None = option(
        None,
        "Begin with trained weights: true fetches those of timm:NAME or torchvision:NAME; FILE.safetensors, "
        "or a file of torch that holds tensors only, is read. An output layer for other classes begins at "
        "zero. The network is then fine-tuned: AdamW, label smoothing, its own mean and deviation of the "
        "pixels; batch norms keep the mean and the variance that they bring.",
        Option(MODEL, EITHER, FIXED, tasks=("image",), none="random weights"),
    )
    freeze: int | None = option(
        None,
        "The number of parts of the network, from its input on, that are not trained: layers, and the "
        "blocks of a sequence. Default 0.",
        Option(MODEL, EITHER, FIXED, tasks=("image",), none="all parts are trained"),
    )
    model_args: dict[str, Any] = option(
        dict,
        "Arguments of your own model's class, or of a library's network. num_classes, n_classes or "
        "num_labels is filled in with the number of classes if the class takes it and you give none.",
        Option(MODEL, EITHER, FIXED),
    )
    data_args: dict[str, Any] = option(
        dict,
        "Arguments of your own data module's class. If its training dataset has an attribute labels or "
        "targets with one class id per sample, they serve class floors, rare classes and wrong labels.",
        Option(DATA, SHARED, ACCEPT, tasks=IMAGE_TASKS),
    )
    text: str | None = option(
        None,
        "The column of a table that holds the texts. Default text.",
        Option(
            DATA,
            SHARED,
            ACCEPT,
            tasks=TEXT_TASKS,
            reads=True,
            default=NOTED,
            none="the data are not a table",
            common=True,
        ),
    )
    label: str | None = option(
        None,
        "The column of a table that holds the classes. Several, separated by commas, are one per annotator "
        "and make a soft label: the share of annotators that name each class; accuracy is then measured "
        "against the class that most of them name. Default label.",
        Option(
            DATA,
            SHARED,
            ACCEPT,
            tasks=TEXT_TASKS,
            reads=True,
            default=NOTED,
            none="the data are not a table with classes",
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
        "The largest vocabulary that bpe learns. Default 16000 for classes, 1024 for a language model.",
        Option(DATA, SHARED, FIXED, tasks=TEXT_TASKS, default=NOTED, none="the tokenizer learns no tokens"),
    )
    max_tokens: int | None = option(
        None,
        "The length in tokens at which texts are cut, or of a language model's windows. Default 256 and 128.",
        Option(
            DATA, SHARED, FIXED, tasks=TEXT_TASKS, default=NOTED, none="your own data module cuts the texts"
        ),
    )
    token_low: float | None = option(
        None,
        "Tokens that score below this get no gradient (language-model), in nats.",
        Option(RULE, EITHER, ACCEPT, tasks=("language-model",), none="no such bound"),
    )
    token_high: float | None = option(
        None,
        "Tokens that score above this get no gradient: typing errors, rare names (language-model), in nats.",
        Option(RULE, EITHER, ACCEPT, tasks=("language-model",), none="no such bound"),
    )
    policy: str = option(
        "auto",
        "Which samples to leave out: error-mass (samples that are surely learned, as many as together hold a "
        "small share of the error still to be learned, so that the data decide the share; samples that look "
        "mislabelled go first), fraction (the lowest-scoring share, so an exact one), soft (an exact share; "
        "the rest are drawn with odds that follow the score), threshold (the published method), random (a "
        "control), full (leaves out nothing), watch (leaves out nothing, and says at the end what error-mass "
        "would have left out and what the data showed), or a rule of another paper: "
        "infobatch (or below-mean), seta, kakurenbo, ucb, repb, order-dp, ies, selective-backprop ("
        "leaves out backward passes only). Default auto: error-mass; fraction if --fraction is given; soft "
        "if --exponent is given, or to score by density.",
        Option(RULE, OWN, ACCEPT, default=AS_GIVEN, common=True),
    )
    error: float | None = option(
        None,
        "Share of the error still to be learned that the left-out samples may hold; a third of it is the "
        "largest error that one of them may have (error-mass, watch). 0.05 leaves out less. Default 0.15.",
        Option(RULE, OWN, ACCEPT, policies=("error-mass", "watch"), default=ANEW, common=True),
    )
    low: float | str | None = option(
        None,
        "Samples that score below this are learned (threshold): a number, or auto to let an audit adjust "
        "it. Default 0.1; 0.3 with quantiles; 0 switches it off.",
        Option(RULE, OWN, ACCEPT, policies=("threshold",), default=ANEW, common=True),
    )
    high: float | str | None = option(
        None,
        "Samples that score above this, visit after visit, are outliers: a number, auto (found from the "
        "scores if they show two kinds of samples) or none. Default: auto with error-mass, soft and "
        "fraction, else none; none for a language model.",
        Option(
            RULE,
            OWN,
            ACCEPT,
            policies=("error-mass", "soft", "fraction", "threshold"),
            default=ANEW,
            common=True,
        ),
    )
    visits: int | None = option(
        None,
        "The number of scores in a row above high that make a sample an outlier. Default 1 with "
        "threshold, unless high is auto; else 3.",
        Option(RULE, OWN, ACCEPT, policies=("error-mass", "soft", "fraction", "threshold"), default=ANEW),
    )
    quantiles: bool | None = option(
        None,
        "Read low and high as shares of all samples (threshold).",
        Option(RULE, OWN, ACCEPT, policies=("threshold",), default=ANEW),
    )
    fraction: float | None = option(
        None,
        "Share of all samples that each epoch leaves out (kakurenbo: at most; not with error-mass, "
        "threshold, watch or full). Default: 0.5 with soft, fraction, random and ucb, 0.25 for a language "
        "model; else the share in the rule's paper (infobatch, seta, repb and ies have none). Whole batches "
        "are filled up, and a thin one has at least an eighth of the samples of a whole one.",
        Option(
            RULE,
            OWN,
            ACCEPT,
            without=("error-mass", "threshold", "watch", "full"),
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
    score: str = option(
        "kl",
        "kl, reverse-kl, js, tv, hellinger or renyi; or density, which needs no labels: a sample's "
        "percentile under the density of the network's activations, from 0 (densest) to 1 (thinnest). "
        "Default kl, in nats.",
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
        "With score density: names of the network's modules whose outputs are used. Default: the inputs of "
        "two layers, a quarter and three quarters of the way through.",
        Option(RULE, EITHER, ACCEPT),
    )
    kept_steps: bool | None = option(
        None,
        "Make as many steps an epoch as full training, in thinner batches (true), or fewer steps in whole "
        "batches (false). Default: true with error-mass and fraction, else false.",
        Option(SCHEDULE, OWN, ACCEPT, default=NOTED, common=True),
    )
    epochs: int | None = option(
        None,
        "The number of epochs. Default: 30 for digits, 20 for other images, 10 for texts.",
        Option(TRAINING, EITHER, ACCEPT, default=NOTED, common=True),
    )
    stop: str = option(
        "none",
        "What to do if nothing is left to learn, that is if the samples that train hardly hold any error or "
        "the loss on the samples of --validation has turned: none (say so and train on) or auto (bring the "
        "learning rate down in a tenth of the epochs, and end).",
        Option(TRAINING, OWN, FREE, common=True),
    )
    warmup: int = option(
        1,
        "The least number of epochs at the start in which all samples train; error-mass takes 2. Default 1.",
        Option(SCHEDULE, EITHER, ACCEPT),
    )
    readmit_every: int | None = option(
        None,
        "Re-admit removed samples before every k-th epoch, or in k turns with error-mass. Default 5 with "
        "threshold, 10 with error-mass; else 0, which means never.",
        Option(SCHEDULE, OWN, ACCEPT, default=ANEW, common=True),
    )
    full_tail: float | None = option(
        None,
        "Share of the epochs, at the end, in which all learned samples train. Default 0.1 with threshold; "
        "0.125 with infobatch if no fraction is given.",
        Option(SCHEDULE, OWN, ACCEPT, default=ANEW),
    )
    outliers: str = option(
        "remeasure",
        "How outliers come back: remeasure (if a new score is below high), readmit (with the others) or "
        "never.",
        Option(SCHEDULE, OWN, ACCEPT),
    )
    min_kept: int | None = option(
        None,
        "The least number of samples to keep. Default: one batch.",
        Option(RULE, EITHER, ACCEPT, default=ANEW),
    )
    min_kept_per_class: int | None = option(
        None,
        "The least number to keep of each class; 0 for no floor. Default: its even share of a batch, so that "
        "no epoch trains on one class only.",
        Option(RULE, EITHER, ACCEPT, default=ANEW),
    )
    batch_size: int | None = option(
        None,
        "Samples per device and step. Default 256; 64 below 10,000 images, 16 below 2,000 if pretrained; 64 "
        "to classify texts (16 if pretrained); 16 for a language model (32 if pretrained).",
        Option(TRAINING, EITHER, ACCEPT, default=NOTED, common=True),
    )
    learning_rate: float | None = option(
        None,
        "The highest learning rate. Default 0.3 per 256 images a batch, 1e-3 for a library's network, 2e-4 "
        "if pretrained; 2e-3 to classify texts and for an autoencoder, 6e-3 for a language model; 5e-5 for a "
        "model of Hugging Face.",
        Option(
            TRAINING,
            EITHER,
            ACCEPT,
            default=NOTED,
            none="your own LightningModule sets it",
            common=True,
        ),
    )
    weight_decay: float | None = option(
        None,
        "Weight decay. Default 5e-4; 0.05 to classify texts and for a library's network, 0.1 for a language "
        "model.",
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
            none="your own LightningModule augments",
        ),
    )
    image_size: int | None = option(
        None,
        "Side in pixels to which the images of a folder are scaled. Default: that of a library's network; "
        "else their size if half of them share it, else the median of the shorter sides, at most 64.",
        Option(
            DATA,
            SHARED,
            ACCEPT,
            tasks=IMAGE_TASKS,
            reads=True,
            default=NOTED,
            none="the images keep their size",
        ),
    )
    test_share: float | None = option(
        None,
        "Share that is held out of a folder without test/ or val/, or of a file of texts: drawn by content, "
        "the same for every seed. Default 0.2; 0.1 for a FILE.txt.",
        Option(DATA, SHARED, ACCEPT, reads=True, default=AS_GIVEN),
    )
    samples: int | None = option(
        None,
        "Train on this number of training samples, the same for every seed. Default: all.",
        Option(DATA, SHARED, ACCEPT, reads=True, none="all"),
    )
    validation: float | None = option(
        None,
        "Hold out this share of the training samples, the same for every seed, and report on it instead of "
        "on the test samples: for choosing settings.",
        Option(DATA, SHARED, ACCEPT, reads=True, none="nothing is held out", common=True),
    )
    skip_corrupt: bool = option(
        False,
        "Skip unreadable images of a folder instead of stopping.",
        Option(DATA, SHARED, ACCEPT, tasks=IMAGE_TASKS, reads=True),
    )
    seed: int = option(
        0,
        "The seed of all random draws. Default 0.",
        Option(TRAINING, NEVER, ACCEPT, common=True),
    )
    out: str | None = option(
        None,
        "The run directory. Default: runs/DATA-POLICY-TIME.",
        Option(RUN, NEVER, FREE, none="a new folder in runs/, named when it is made", common=True),
    )
    resume: str | None = option(
        None,
        "Resume the run in this folder exactly where it stopped, with its own options. To train it longer: "
        "--epochs 40 --accept epochs. Name your own classes again (--model, --data): nothing is imported "
        "because a run's files say so.",
        Option(RUN, NEVER, FREE, none="a new run", session=True, once=True, common=True),
    )
    accept: str = option(
        "",
        "What may differ from the resumed run, such as epochs,low: names of options; data for samples that "
        "were changed, added or relabelled since; history for past epochs whose files are damaged.",
        Option(RUN, NEVER, FREE, session=True, once=True, common=True),
    )
    add: str = option(
        "",
        "Train on collected samples too: a list written by fallow collect, with its column label completed "
        "(junk, ? or nothing leaves a pick out); separate several by commas. With --resume they join the "
        "run; a finished run trains for half as many epochs more, or to --epochs.",
        Option(DATA, EITHER, ACCEPT, tasks=IMAGE_TASKS, reads=True, common=True),
    )
    quiet: bool = option(
        False,
        "Print only errors and warnings, on standard error; the exit code tells the rest.",
        Option(RUN, NEVER, FREE, session=True, once=True),
    )
    json: bool = option(
        False,
        "Print one JSON object at the end, the summary and the path of the run, and everything else on "
        "standard error.",
        Option(RUN, NEVER, FREE, session=True, once=True, common=True),
    )
    labels: str = option(
        "",
        "Train with corrected labels: a list written by fallow suspects RUN --export FILE.csv, with right "
        "classes filled in its column label (junk leaves a sample out, nothing leaves it as it is). What is "
        "held out stays the same.",
        Option(DATA, SHARED, FIXED, tasks=("image", "text"), reads=True),
    )
    save_steps: int | None = option(
        None,
        "Also save the state after every k-th step. It is always saved before each epoch, at the end, and "
        "on Ctrl-C or SIGTERM.",
        Option(RUN, NEVER, FREE, session=True, none="not inside an epoch"),
    )
    on_storage_error: str = option(
        "warn",
        "If a file cannot be written: warn (train on, try again after the next epoch) or stop.",
        Option(RUN, NEVER, FREE, session=True),
    )
    workers: int | None = option(
        None,
        "Processes that load data. Default 0; if images are decoded while they train, one for each "
        "processor, at most 8.",
        Option(MACHINE, EITHER, FREE, default=ANEW, none="your own data module's loader has its own"),
    )
    cache: str | None = option(
        None,
        "Memory for decoded images of a folder whose files are read while they train (more than 64 MiB of "
        "them), as 4GiB, shared by all workers; 0 for none. Default 4GiB, and at most a quarter of the "
        "machine's memory.",
        Option(MACHINE, SHARED, FREE, tasks=IMAGE_TASKS, default=ANEW, none="the images are in memory"),
    )
    cache_dir: str | None = option(
        None,
        "Folder for the decoded images of such a folder, which later trainings read instead of decoding them "
        "anew. It takes channels × height × width bytes an image, and can be deleted at any time.",
        Option(MACHINE, SHARED, FREE, tasks=IMAGE_TASKS, none="decoded images are not kept on a disk"),
    )
    accelerator: str = option(
        "auto",
        "Lightning's accelerator: auto, cpu, gpu.",
        Option(MACHINE, EITHER, ACCEPT),
    )
    devices: str = option(
        "auto",
        "Lightning's number of devices, or auto.",
        Option(MACHINE, NEVER, ACCEPT, common=True),
    )
    strategy: str = option(
        "auto",
        "Lightning's strategy: auto, ddp.",
        Option(MACHINE, NEVER, ACCEPT),
    )
    precision: str = option(
        "32-true",
        "Lightning's precision: 32-true, bf16-mixed, 16-mixed.",
        Option(MACHINE, EITHER, ACCEPT),
    )
    logger: str = option(
        "none",
        "Where to log the scalars of each epoch: none, csv, tensorboard, wandb or mlflow; in RUN/logs unless "
        "the tracker's environment variables say otherwise. A tracker that fails is switched off.",
        Option(RUN, NEVER, FREE),
    )
    trainer: dict[str, Any] = option(
        dict,
        "More arguments of Lightning's Trainer.",
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
        """The samples that the accuracy is measured on: ``test`` or ``validation``."""
        return "test" if self.validation is None else "validation"


LEFT: Mapping[str, Any] = {
    "calibrate": None, "checkpoints": False, "doubt": None, "keep_rare": None, "num_nodes": 1,
    "readmit_at": [], "remeasure_every": None, "rising_share": 0.2, "stagger": False,
}  # fmt: skip
"""Options that earlier versions had, with the defaults that their runs stored."""
HELP: Mapping[str, str] = {each.name: each.metadata["help"] for each in fields(TrainOptions)}
OPTIONS: Mapping[str, Option] = {each.name: each.metadata["option"] for each in fields(TrainOptions)}
"""The options by name, in the order of help."""


def named(**wanted: Any) -> frozenset[str]:
    """Return the names of the options with these properties.

    >>> sorted(named(resume="fixed", reads=True))
    ['labels', 'task']
    """
    return frozenset(
        name
        for name, known in OPTIONS.items()
        if all(getattr(known, key) == value for key, value in wanted.items())
    )


NOTED_OPTIONS = named(default=NOTED)
"""Options whose chosen values a run keeps and notes as not given, to choose them again on resuming."""
ONCE = named(once=True)
"""Options that hold for one session only."""


def library_of(model: str) -> str | None:
    """Return the library that a network is named from, or None.

    >>> library_of("timm:resnet18"), library_of("my.module:Net")
    ('timm', None)
    """
    library, colon, _ = model.partition(":")
    return library if colon and library in LIBRARIES else None


def lists(text: str) -> list[str]:
    """Return the names in a list with commas, each once.

    >>> lists(" a.csv,b.csv ,,a.csv")
    ['a.csv', 'b.csv']
    """
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


# jsonargparse takes the help of an option from the docstring of its class.
_ARGUMENTS = [f"        {name}: {text}" for name, text in HELP.items()]
TrainOptions.__doc__ = "\n".join([f"{TrainOptions.__doc__}\n", "    Args:", *_ARGUMENTS, "    "])
