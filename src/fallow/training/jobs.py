"""What a training is made of: data, network, subsampler and loaders, as the options name them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..activations import ActivationDensity
from ..activations.taps import AUTO
from ..core.loading import check_map_style
from ..core.schedule import Schedule
from ..core.subsampler import Subsampler
from ..datasets import Corpus, ImageData, TextData
from ..densities import Density
from ..errors import invalid
from ..options.data_checks import check_share_is_used
from ..options.factories import make_density, make_policy, make_schedule, make_score
from ..options.own_classes import import_class, is_import_path, nearly_import_path
from ..options.own_errors import calling
from ..options.resolve import DataFacts, ResolvedOptions, resolve_on_data, usual
from ..options.train_options import DENSITY, TEXT_TASKS, TrainOptions
from ..policies import Policy
from ..runs.data_file import DataFile, readable
from ..runs.directory import RunDirectory
from ..scores import Score
from ..tasks.base import TaskModule
from ..tasks.classifier import Classifier
from ..tasks.console import Console
from ..tasks.image_material import image_material, read_images
from ..tasks.labels import offered_labels, unused_labels
from ..tasks.language_material import language_material
from ..tasks.material import Material, Shown
from ..tasks.outputs import check_outputs
from ..tasks.read_texts import read_texts
from ..tasks.text_material import text_material
from .data_remarks import data_remarks

Data: TypeAlias = ImageData | TextData | Corpus


@dataclass
class Job:
    """What is trained, once the options have become objects.

    Attributes:
        options: those of the training, with all that was chosen.
        subsampler: chooses the samples.
        score: what is recorded, unless the user's module does that.
        module: the user's or ours.
        train, test: loaders; ``test`` may be None for an own data module without validation data.
        classes: names of the classes, or None.
        data: what the samples are, to tell later whether they have changed.
        shown: how samples look that a report shows, or None.
        datamodule: the user's own, or None.
        monitor: scores by the density of activations; None where the score is another one.
        tokenizer: what cut the texts into tokens, to be kept in the run; None where there are none.
        unlisted: how many of the samples that are new to a run that goes on were not added by a list.
        notes: what was said of how the samples were read.
        remarks: what is worth knowing of the samples before they are trained on.
        facts: what else a person wants to know of the samples, by name.
    """

    options: ResolvedOptions
    subsampler: Subsampler
    score: Score
    module: LightningModule
    train: DataLoader[Any]
    test: Any
    classes: tuple[str, ...] | None
    data: DataFile
    shown: Shown | None = None
    datamodule: LightningDataModule | None = None
    monitor: ActivationDensity | None = None
    tokenizer: bytes | None = None
    unlisted: int = 0
    notes: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def noun_of(options: TrainOptions) -> str:
    """Return what a sample is called."""
    if is_import_path(options.data):
        return "sample"
    return {"text": "text", "language-model": "window"}.get(options.task or "", "image")


def read_data(options: ResolvedOptions, console: Console, before: DataFile | None = None) -> Data:
    """Read the samples that the options name, cut down as they say, and those that they add.

    ``before`` says what the samples of a run were that goes on: what it held out stays held out.
    """
    with console.reading(options.data) as progress:
        data: Data
        if options.task in TEXT_TASKS:
            data = read_texts(options, before)
        else:
            data = read_images(options, console, progress, before)
    if before is None:
        check_share_is_used(options, data.test_share)
    return data


def build(
    options: ResolvedOptions, console: Console, data: Data | None = None, before: DataFile | None = None
) -> Job:
    """Return what the options stand for, ready to be trained.

    Args:
        options: what to train, on what and how.
        console: where to say what was read.
        data: as :func:`read_data` gives it, where it is at hand.
        before: what the samples of a run were that goes on, or None: they stand where they stood.

    Raises:
        InvalidValue: for options or data that cannot be meant.
    """
    for name in (options.data, options.model):
        if error := nearly_import_path(name):
            raise error
    rules = _Rules.of(options)
    if is_import_path(options.data):
        return _own_data(options, rules, console)
    data = data or read_data(options, console, before)
    classes = _class_count(options, data)
    own = _own_network(options, nn.Module, classes) if is_import_path(options.model) else None
    itself = isinstance(own, LightningModule)
    if itself:
        _refuse_ours(options)
    with console.reading(f"{options.data}, to train on"):
        material = _material(options, data, own, console, before)
    options = material.options
    assert options.batch_size is not None
    subsampler = _subsampler(options, rules, material.labels, len(material.train), declared=not itself)  # type: ignore[arg-type]
    workers = _worker_options(options)
    collate = material.collate
    loader = subsampler.loader(
        material.train, options.batch_size, full_batches=True, collate_fn=collate, **workers
    )
    test = DataLoader(material.test, batch_size=material.test_batch_size, collate_fn=collate)
    module = own if isinstance(own, LightningModule) else material.module(subsampler)
    if own is not None and isinstance(module, TaskModule):
        _hold_against_classes(options, module, material, classes, console)
    return Job(
        options,
        subsampler,
        rules.score,
        module,
        loader,
        test,
        material.data.classes,
        material.data,
        material.shown,
        monitor=_monitor(options, rules, module),
        tokenizer=material.tokenizer,
        unlisted=material.unlisted,
        notes=() if isinstance(data, Corpus) else data.notes,
        remarks=data_remarks(material.data, noun_of(options), material.held_out_name),
        facts=material.facts,
    )


@dataclass(frozen=True)
class _Rules:
    """What needs only the options, made first, so that a wrong one is found before all samples are read.

    Attributes:
        policy: which samples are left out.
        schedule: when.
        score: what is recorded.
        density: of the network's activations; None if the score is another one.
    """

    policy: Policy
    schedule: Schedule
    score: Score
    density: Density | None

    @staticmethod
    def of(options: ResolvedOptions) -> _Rules:
        policy, score = make_policy(options), make_score(options)
        policy.check_range(*score.range, options.score)
        density = make_density(options) if options.by_density else None
        return _Rules(policy, make_schedule(options), score, density)


def _class_count(options: TrainOptions, data: Data) -> int | None:
    """Return how many classes a network has to tell apart; None where there are none."""
    return None if options.task == "autoencoder" or isinstance(data, Corpus) else len(data.classes)


def _own_network(options: TrainOptions, kind: type, classes: int | None) -> Any:
    return import_class(options.model, options.model_args, kind, classes=classes, run=options.resume)


def _hold_against_classes(
    options: TrainOptions, module: TaskModule, material: Material, classes: int | None, console: Console
) -> None:
    """Raise if the user's network does not give what its task needs."""
    if isinstance(module, Classifier):
        module.classes, module.named = classes, options.model
    remark = check_outputs(
        module,
        material.train,
        material.collate,
        options.model,
        options.model_args,
        classes=classes,
        tokens=material.tokens,
    )
    if remark:
        console.line(remark)


def _material(
    options: ResolvedOptions, data: Data, own: Any, console: Console, before: DataFile | None
) -> Material:
    if isinstance(data, ImageData):
        return image_material(options, data, own, before)
    kept = None if options.resume is None else RunDirectory(options.resume).tokenizer_path
    tokenizer = kept if kept is not None and kept.exists() else None
    if isinstance(data, Corpus):
        return language_material(options, data, own, tokenizer, console, before)
    return text_material(options, data, own, tokenizer, console, before)


def _own_data(options: ResolvedOptions, rules: _Rules, console: Console) -> Job:
    """Put a subsampler between the user's LightningDataModule and his module."""
    for name, given in (
        ("samples", options.samples),
        ("validation", options.validation),
        ("add", options.add or None),
    ):
        if given is not None:
            raise invalid(f"--{name} is for images that fallow reads.", given, "Cut your own data yourself.")
    found = import_class(options.data, options.data_args, LightningDataModule, run=options.resume)
    with calling(options.data, "prepare_data"):
        found.prepare_data()
    with calling(options.data, "setup"):
        found.setup("fit")
    with calling(options.data, "train_dataloader"):
        theirs = found.train_dataloader()
    if not isinstance(theirs, DataLoader):
        raise invalid("train_dataloader() must return one DataLoader.", type(theirs).__name__)
    dataset: Dataset[Any] = theirs.dataset
    check_map_style(dataset)
    count = len(dataset)  # type: ignore[arg-type]
    labels, classes = offered_labels(dataset)
    if labels is None and (why := unused_labels(dataset)):
        console.line(why)
    ids = None if labels is None else np.unique(labels).size
    facts = DataFacts(count, ids, trains_itself=True, batch_size=theirs.batch_size or 1)
    options = resolve_on_data(options, facts)
    assert options.batch_size is not None
    subsampler = _subsampler(options, rules, labels, count, declared=False)
    loader = subsampler.loader(
        dataset,
        options.batch_size,
        full_batches=True,
        collate_fn=theirs.collate_fn,
        drop_last=theirs.drop_last,
        pin_memory=theirs.pin_memory,
        **_their_workers(theirs, options),
    )
    found.train_dataloader = lambda: loader
    module = _own_module(options, None if classes is None else len(classes))
    known = None if labels is None else subsampler.under_way.class_ids.encode(labels.numpy())
    classes = readable(classes)
    samples = DataFile(count, known, None, classes)
    return Job(
        options,
        subsampler,
        rules.score,
        module,
        loader,
        None,
        classes,
        samples,
        datamodule=found,
        monitor=_monitor(options, rules, module),
        remarks=data_remarks(samples, "sample"),
    )


def _monitor(options: ResolvedOptions, rules: _Rules, module: LightningModule) -> ActivationDensity | None:
    """Return what scores by the density of the network's activations, if the options ask for it."""
    if rules.density is None:
        return None
    network = module.network if isinstance(module, TaskModule) else module
    return ActivationDensity(network, options.layers or AUTO, rules.density, seed=options.seed)


def _own_module(options: TrainOptions, classes: int | None) -> LightningModule:
    if not is_import_path(options.model):
        raise invalid(
            "Your own data needs your own model.", f"--model {options.model}", "Name package.module:Class."
        )
    found: LightningModule = _own_network(options, LightningModule, classes)
    _refuse_ours(options)
    return found


def _refuse_ours(options: TrainOptions) -> None:
    """Raise for options of our own training where the user's LightningModule trains itself."""
    if options.policy == "selective-backprop":
        step = "Use fallow.step_rules in your training_step, and return `backward` from it."
        raise invalid("--policy selective-backprop is for our own training.", options.model, step)
    for name in ("learning_rate", "augment", "weight_decay", "score"):
        value = getattr(options, name)
        if value not in (None, DENSITY, usual(options, name)) and not _goes_on(options, name):
            raise invalid(f"--{name} is for our own training.", value, "Set it in your LightningModule.")


def _goes_on(options: TrainOptions, name: str) -> bool:
    """Return whether an option may come from a run of a version that took it and did not use it."""
    return options.resume is not None and name in ("weight_decay", "score")


def _subsampler(
    options: ResolvedOptions, rules: _Rules, labels: Tensor | None, n: int, *, declared: bool
) -> Subsampler:
    """Return the subsampler; ``declared``: the losses that are recorded are known to be the score."""
    assert options.min_kept is not None
    assert options.min_kept_per_class is not None
    if options.min_kept_per_class and labels is None:
        step = "Give your training dataset an attribute `labels`, (N,) class ids, or leave it out."
        raise invalid("--min_kept_per_class needs labels.", "your own data", step)
    return Subsampler(
        n,
        rules.policy,
        rules.schedule,
        seed=options.seed,
        labels=labels,
        min_kept=min(n, options.min_kept),
        min_kept_per_class=options.min_kept_per_class,
        score=rules.score if declared or options.by_density else None,
    )


def _worker_options(options: TrainOptions) -> dict[str, Any]:
    if not options.workers:
        return {}
    return {"num_workers": options.workers, "persistent_workers": True, "worker_init_fn": WorkerStart()}


def _their_workers(theirs: DataLoader[Any], options: TrainOptions) -> dict[str, Any]:
    """Return how the user's own loader works, or as many workers as the options say."""
    start = {"worker_init_fn": WorkerStart(theirs.worker_init_fn)}
    if options.workers:
        return _worker_options(options) | start
    if not theirs.num_workers:
        return {}
    return start | {
        "num_workers": theirs.num_workers,
        "persistent_workers": theirs.persistent_workers,
        "prefetch_factor": theirs.prefetch_factor,
        "timeout": theirs.timeout,
        "multiprocessing_context": theirs.multiprocessing_context,
    }


@dataclass(frozen=True)
class WorkerStart:
    """What a worker of a loader does first.

    It goes on when everything is told to stop: the trainer ends it after a last whole step.

    Attributes:
        more: what the user's own loader wants done, or None.
    """

    more: Callable[[int], None] | None = None

    def __call__(self, worker: int) -> None:
        """Leave signals to the trainer."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.more is not None:
            self.more(worker)
