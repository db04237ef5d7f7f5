"""The options of ``fallow train``, and what they become where nothing is said. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._checks import invalid, unknown_name
from ..datasets import names
from .data_options import check_data_options, usual_share
from .kinds import check_kinds
from .text_options import check_texts

POLICIES = (
    "threshold", "soft", "fraction", "below-mean", "infobatch", "seta", "kakurenbo", "ucb", "repb",
    "order-dp", "ies", "selective-backprop", "random", "full",
)  # fmt: skip
LOGGERS = ("none", "csv", "tensorboard", "wandb", "mlflow", "trackio")
AUGMENTS = ("auto", "none", "crop", "crop-flip")
TASKS = ("auto", "image", "text", "language-model", "autoencoder")
TEXT_TASKS = ("text", "language-model")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
OUR_MODELS = ("auto", "small-conv", "small-resnet", "resnet", "small-transformer", "small-gpt")
_MODELS = {"text": "small-transformer", "language-model": "small-gpt"}
_WEIGHT_DECAY = {"text": 0.05, "language-model": 0.1}
DENSITY = "density"
DENSITIES = ("gaussian-mixture", "gaussian", "class-gaussian", "nearest", "flow")

ON_DATA = (
    "epochs", "batch_size", "learning_rate", "augment", "image_size", "text", "label",
    "tokenizer", "vocabulary", "max_tokens",
)  # fmt: skip
"""Options whose defaults hang on the data and on other options: a run keeps the values that it used."""

_ONLY_WITH: dict[str, tuple[str, ...]] = {
    "low": ("threshold",),
    "high": ("soft", "fraction", "threshold"),
    "visits": ("soft", "fraction", "threshold"),
    "quantiles": ("threshold",),
    "fraction": tuple(name for name in POLICIES if name not in ("threshold", "full")),
    "exponent": ("soft",),
    "doubt": ("soft",),
    "keep_rare": ("soft",),
    "calibrate": ("soft",),
}


def lists(text: str) -> list[str]:
    """Return what stands between commas, each once.

    >>> lists(" a.csv,b.csv ,,a.csv")
    ['a.csv', 'b.csv']
    """
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@dataclass
class TrainOptions:
    """Train a network on what still surprises it.

    Args:
        data: Images: digits, fashion-mnist, cifar10, cifar10n (labels by people), a folder with one
            sub-folder of images a class, a FILE.npz with x_train, y_train, x_test, y_test. Texts:
            20newsgroups, r8, shakespeare, a FILE.csv, .tsv, .jsonl or .parquet, a folder with train.csv and
            test.csv, hf:NAME of Hugging Face, a FILE.txt. Or your own LightningDataModule as
            package.module:Class.
        task: What to train: image (a classifier), text (a classifier), language-model (predicts the next
            token), or autoencoder, which learns to reconstruct images, uses no labels and scores by density.
            Default auto: what the data are for; of a table with --text and without --label a language model.
        model: Of images small-conv (default), small-resnet or resnet; of texts small-transformer, small-gpt,
            or the name or folder of a Hugging Face model, as distilbert-base-uncased; or your own as
            package.module:Class. An nn.Module is trained as ours are, on normalised images or token ids (B,
            T); a LightningModule trains itself, on (B, C, H, W) float images in [0, 1], and logs its accuracy
            under a name that starts with test or val and holds acc. The class must be a subclass of
            nn.Module, or a function whose annotation names one: only then is it called. A classifier gives
            logits (B, classes), a language model (B, T, V); this is checked before the first step.
        text: The column of texts of a table. Default text.
        label: The column of classes of a table; several with commas between, one an annotator, make a soft
            label: the share of them that name each class; accuracy is then measured against the class that
            most of them name. Default label.
        tokenizer: bpe (byte pairs learned from the training texts) or byte. Default bpe; a Hugging Face model
            brings its own.
        vocabulary: How many tokens bpe learns at most. Default 16000 for classes, 1024 for a language model.
        max_tokens: Texts are cut after so many tokens; a language model reads windows of so many. Default 256
            and 128.
        token_low: Tokens that score below get no gradient (language-model), in nats.
        token_high: Tokens that score above get no gradient: typing errors, rare names (language-model).
        model_args: Arguments of your own model's class. If it takes num_classes, n_classes or num_labels and
            none is given, that is the number of classes.
        data_args: Arguments of your own data module's class. Class ids in an attribute labels or targets of
            its training dataset, one a sample, are used for class floors, rare classes and wrong labels.
        policy: Which samples to leave out: soft (an exact share; the others are drawn with odds by score,
            lower ones where a sample stays wrong, rare classes stay whole, and what looks mislabelled goes
            first), fraction (the lowest-scoring share), threshold (the published method), random (a control),
            full (leaves out nothing), or a rule of another paper: infobatch (or below-mean), seta, kakurenbo,
            ucb, repb, order-dp, ies, selective-backprop (leaves out backward passes only). Default auto:
            fraction for a language model, else soft.
        low: Samples that score below are learned (threshold): a number, or auto to have it held by an
            audit. Default 0.1; 0.3 with quantiles; 0 for no such side.
        high: Samples that score above, visit after visit, are outliers: a number, auto (where the data show
            two kinds of samples) or none. Default: auto with soft, none otherwise.
        visits: How many scores in a row must lie above high. Default 3 with soft, fraction and high auto,
            else 1.
        quantiles: Read low and high as shares of all samples (threshold).
        fraction: Share of all samples that each epoch leaves out (kakurenbo: at most; not with threshold or
            full). Default: 0.5 with soft, fraction, random and ucb, of a language model 0.25; else what the
            rule's paper uses, which fixes no share with infobatch, seta, repb and ies. Epochs are topped up
            to whole batches.
        exponent: How strongly the odds follow the score (soft). Default 0.5.
        doubt: How fast a score loses weight with wrong predictions in a row (soft): it counts as score / (1 +
            wrong visits)^doubt. Default 1; 0 for not at all.
        keep_rare: Keep classes whole that have no more samples than an even share of those kept (soft).
            Default true.
        calibrate: Odds by the score that a sample is expected to have next, learned from those that trained
            again, instead of its last one (soft). Default true.
        score: kl, reverse-kl, js, tv, hellinger or renyi; or density, which needs no labels: a sample's
            percentile under the density of the network's activations, 0 where the training set lies densest
            and 1 where it is thinnest. Default kl, in nats.
        density: With score density: gaussian-mixture (default), gaussian, class-gaussian, nearest or flow.
        density_args: Arguments of the density's class, as '{components: 8}'.
        layers: With score density: names of the network's modules whose outputs count. Default: the inputs of
            two layers, a quarter and three quarters of the way.
        epochs: How many epochs. Default: 30 for digits, 20 for other images, 10 for texts.
        warmup: First epochs in which all samples train. Default 1.
        readmit_every: Give removed samples back before every k-th epoch; 0 never. Default 5 with threshold.
        readmit_at: Further epochs before which they come back, as [5,10]. Here they are numbered from 0, as
            in the names of files: [5] is before the sixth.
        stagger: Give back another 1/k of them each epoch instead of all at once.
        full_tail: Last share of the epochs in which all learned samples train. Default 0.1 with threshold;
            0.125 with infobatch where no fraction is given.
        outliers: remeasure (they come back by measurement only), readmit (with the others) or never.
        remeasure_every: Measure outliers before every k-th epoch. Default: whenever samples are re-admitted,
            else 5.
        min_kept: Keep at least so many samples. Default: one batch.
        min_kept_per_class: Keep at least so many of each class; 0 for no such floor. Default: a batch's fair
            share, so that no epoch trains on one class only.
        batch_size: Samples a device and step. Default 256; 64 below 10,000 samples and for classes of texts,
            16 for a language model, 32 for a pretrained one.
        learning_rate: The highest. Default 0.3 for 256 images a step, in proportion; 2e-3 for classes
            of texts, 6e-3 for a language model, 5e-5 for pretrained ones.
        weight_decay: Of the weights. Default 5e-4; 0.05 for classes of texts, 0.1 for a language model.
        rising_share: Share of the training in which the learning rate rises; then it falls to 0. Default 0.2.
        augment: auto, none, crop (shifts by up to 1/28 of the side) or crop-flip. Default auto: none for
            digits, crop-flip for fashion-mnist and cifar10, else crop.
        image_size: Side in pixels that the images of a folder get. Default: the size that half of them have,
            or else the median of their shorter sides, at most 64.
        test_share: Share of a folder without test/ or val/, or of a file of texts, that is held out: by its
            content, the same for every seed. Default 0.2; 0.1 for a FILE.txt.
        samples: Train on so many of the training samples only, drawn once for every seed. Default: all.
        validation: Cut this share off the training samples, the same for every seed, and report on it instead
            of on the test samples: for choosing settings.
        skip_corrupt: Leave unreadable images of a folder out instead of stopping.
        seed: Of everything that is random. Default 0.
        out: The run directory. Default: runs/DATA-POLICY-TIME.
        resume: Go on with the run in this folder, exactly where it was stopped. Needs no other option; its
            own are used. To train it longer: --epochs 40 --accept epochs. Classes of your own have to be
            named again (--model, --data): nothing is imported from what a run has stored.
        accept: What may differ from the run that goes on, as epochs,low: names of options; data for samples
            that were changed, added or relabelled since; history for past epochs whose files are damaged.
        add: Train on collected samples too: a list that fallow collect wrote, its column label completed
            (junk, ? or nothing leaves a pick out); several with commas between. With --resume the run goes on
            with them; one that had finished trains half as long again, or to --epochs.
        save_steps: Save the state after every k-th step too. It is saved before each epoch, at the end, and
            on Ctrl-C or SIGTERM.
        on_storage_error: warn (train on, try again after the next epoch) or stop, where a file cannot be
            written.
        workers: Processes that load data.
        accelerator: Lightning's: auto, cpu, gpu.
        devices: Lightning's: how many, or auto.
        num_nodes: Lightning's: how many machines.
        strategy: Lightning's: auto, ddp.
        precision: Lightning's: 32-true, bf16-mixed, 16-mixed.
        logger: none, csv, tensorboard, wandb, mlflow or trackio: scalars of each epoch, in RUN/logs unless
            the tracker's own environment variables say otherwise. One that fails or hangs is left behind.
        checkpoints: Keep Lightning's checkpoints in RUN/checkpoints.
        trainer: Further arguments of Lightning's Trainer.
    """

    data: str = ""
    task: str = "auto"
    model: str = "auto"
    model_args: dict[str, Any] = field(default_factory=dict)
    data_args: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    label: str | None = None
    tokenizer: str | None = None
    vocabulary: int | None = None
    max_tokens: int | None = None
    token_low: float | None = None
    token_high: float | None = None
    policy: str = "auto"
    low: float | str | None = None
    high: float | str | None = None
    visits: int | None = None
    quantiles: bool | None = None
    fraction: float | None = None
    exponent: float | None = None
    doubt: float | None = None
    keep_rare: bool | None = None
    calibrate: bool | None = None
    score: str = "kl"
    density: str = "gaussian-mixture"
    density_args: dict[str, Any] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    epochs: int | None = None
    warmup: int = 1
    readmit_every: int | None = None
    readmit_at: list[int] = field(default_factory=list)
    stagger: bool = False
    full_tail: float | None = None
    outliers: str = "remeasure"
    remeasure_every: int | None = None
    min_kept: int | None = None
    min_kept_per_class: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    rising_share: float = 0.2
    augment: str = "auto"
    image_size: int | None = None
    test_share: float | None = None
    samples: int | None = None
    validation: float | None = None
    skip_corrupt: bool = False
    seed: int = 0
    out: str | None = None
    resume: str | None = None
    accept: str = ""
    add: str = ""
    save_steps: int | None = None
    on_storage_error: str = "warn"
    workers: int = 0
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    logger: str = "none"
    checkpoints: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)

    @property
    def planned_epochs(self) -> int:
        """How many epochs the training has, where ``epochs`` is not said too."""
        usual = 10 if self.resolved().task in TEXT_TASKS else 20
        return self.epochs or (30 if self.data == "digits" else usual)

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

    @property
    def high_side(self) -> float | str | None:
        """The bound above which samples are outliers; None for no such side."""
        if self.high is None:
            # Without labels nothing tells a wrong one from a rare one.
            return "auto" if self.policy == "soft" and self.task != "language-model" else None
        return None if self.high == "none" else self.high

    def resolved(self) -> TrainOptions:
        """Return the options with task, network, policy and what hangs on them; itself where all are said."""
        task = _task(self) if self.task == "auto" else self.task
        model = _MODELS.get(task, "small-conv") if self.model == "auto" else self.model
        share = usual_share(self.data) if self.test_share is None else self.test_share
        decay = _WEIGHT_DECAY.get(task, 5e-4) if self.weight_decay is None else self.weight_decay
        policy = _policy(self, task) if self.policy == "auto" else self.policy
        found = replace(self, task=task, model=model, weight_decay=decay, test_share=share, policy=policy)
        return self if found == self else found

    def check(self) -> None:
        """Raise where options contradict each other; nothing has been read or made yet.

        Raises:
            InvalidType: for an option of another kind than its annotation.
            InvalidValue: for an unknown name, or an option that its policy does not use.
        """
        check_kinds(self)
        if self.task in TASKS and self.resolved() is not self:
            self.resolved().check()
            return
        if not self.data:
            step = "Name it, as --data digits, or go on with a run by --resume RUN."
            raise invalid("--data must say what to train on.", "none", step)
        if self.accept and self.resume is None:
            raise invalid("--accept goes with --resume.", f"--accept {self.accept}", "Leave it out.")
        for name, known in (
            ("task", TASKS),
            ("policy", POLICIES),
            ("augment", AUGMENTS),
            ("on_storage_error", ("warn", "stop")),
        ):
            value = getattr(self, name)
            if value not in known:
                raise unknown_name(name, value, known)
        if self.logger not in LOGGERS:
            raise unknown_name("logger", self.logger, LOGGERS)
        for name, policies in _ONLY_WITH.items():
            if getattr(self, name) is not None and self.policy not in policies:
                raise invalid(
                    f"--{name} goes with --policy {' or '.join(policies)}.",
                    f"--policy {self.policy}",
                    f"Leave --{name} out, or choose another policy.",
                )
        self._check_sides()
        self._check_density()
        check_texts(self)
        check_data_options(self)
        self._check_bounds()
        for name, words in (("low", ("auto",)), ("high", ("auto", "none"))):
            value = getattr(self, name)
            if isinstance(value, str) and value not in words:
                raise invalid(f"--{name} must be a number or {' or '.join(words)}.", value)

    def _check_bounds(self) -> None:
        """Raise for numbers out of their range."""
        for name, low in (
            ("epochs", 1),
            ("batch_size", 1),
            ("workers", 0),
            ("image_size", 1),
            ("samples", 1),
            ("save_steps", 1),
            ("max_tokens", 2),
            ("vocabulary", 2),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise invalid(f"--{name} must be at least {low}.", value)
        for name, high in (("batch_size", 1 << 24), ("learning_rate", 1e30), ("weight_decay", 1e30)):
            if (value := getattr(self, name)) is not None and value > high:
                raise invalid(f"--{name} must be at most {high:,}.", f"{value:,}")
        if not 0 <= self.seed < 2**63:
            raise invalid("--seed must be at least 0 and below 2^63.", self.seed)
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise invalid("--weight_decay must be at least 0.", self.weight_decay)
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise invalid("--learning_rate must be above 0.", self.learning_rate)
        for name in ("validation", "test_share"):
            if (share := getattr(self, name)) is not None and not 0 < share < 1:
                raise invalid(f"--{name} must be in (0, 1).", share, "Name a share, as 0.2.")
        if not 0 <= self.rising_share < 1:
            raise invalid("--rising_share must be in [0, 1).", self.rising_share)

    def _check_density(self) -> None:
        """Raise for options of a density that there is not, or a rule that has no use for one."""
        if self.task == "autoencoder" and self.score not in (DENSITY, "kl"):
            step = "Leave it out: samples are scored by density."
            raise invalid("An autoencoder has no labels to score by.", f"--score {self.score}", step)
        if not self.by_density:
            for name in ("density_args", "layers"):
                if given := getattr(self, name):
                    raise invalid(f"--{name} goes with --score density.", given, "Leave it out.")
            if self.density != DENSITIES[0] and self.resume is None:
                step = "Leave it out, or name --score density."
                raise invalid("--density goes with --score density.", f"--density {self.density}", step)
            return
        if self.density not in DENSITIES:
            raise unknown_name("density", self.density, DENSITIES)
        if self.policy in ("repb", "selective-backprop", "infobatch", "below-mean"):
            step = "Use soft, threshold or fraction."
            raise invalid("--score density goes with rules that read one score a sample.", self.policy, step)

    def _check_sides(self) -> None:
        """Raise for options of a high side that there is not, or a low one that nothing audits."""
        if self.high_side is None:
            for name, given in (("visits", self.visits), ("remeasure_every", self.remeasure_every)):
                if given is not None:
                    step = "Set --high to a number or auto, or leave it out."
                    raise invalid(f"--{name} is for outliers, which need --high.", f"--{name} {given}", step)
        if (
            self.policy == "threshold"
            and self.low == "auto"
            and self.readmit_every == 0
            and not self.readmit_at
        ):
            rule = "--low auto audits the samples that come back, so some must be re-admitted."
            raise invalid(rule, "--readmit_every 0", "Leave it out, or list epochs in --readmit_at.")


def _task(options: TrainOptions) -> str:
    """Return what data are for, where nothing is said."""
    name = options.data
    if name in names.CORPORA or name.lower().endswith(".txt"):
        return "language-model"
    if name in names.IMAGES:
        return "image"
    if name in names.TEXTS or options.label is not None:
        return "text"
    if options.text is not None:
        return "language-model"
    table = name.startswith("hf:") or Path(name).suffix.lower() in TABLES
    return "text" if table or _holds_tables(name) else "image"


def _policy(options: TrainOptions, task: str) -> str:
    """Return which samples are left out where nothing is said: what did best in benchmarks/RESULTS.md."""
    of_draws = (name for name, policies in _ONLY_WITH.items() if policies == ("soft",))
    drawn = any(getattr(options, name) is not None for name in of_draws)
    return "fraction" if task == "language-model" and options.score == "kl" and not drawn else "soft"


def is_table(name: str) -> bool:
    """Return whether texts of this name come from a table, whose columns can be named."""
    return name not in (*names.TEXTS, *names.CORPORA) and not name.lower().endswith(".txt")


def _holds_tables(name: str) -> bool:
    """Return whether a folder has a table named train."""
    try:
        return any(Path(name, f"train{suffix}").is_file() for suffix in TABLES)
    except (OSError, ValueError):
        return False
