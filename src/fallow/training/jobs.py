"""Builds the objects of a training from its options: data, network, subsampler and loaders."""

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
from ..datasets.file_images import FileImages
from ..densities import Density
from ..errors import check_integer, invalid
from ..options.data_checks import check_share_is_used
from ..options.factories import make_density, make_policy, make_schedule, make_score
from ..options.own_classes import import_class, is_import_path, nearly_import_path
from ..options.own_errors import calling
from ..options.resolve import DataFacts, ResolvedOptions, resolve_on_data, usual
from ..options.train_options import DENSITY, TEXT_TASKS, TrainOptions, library_of
from ..policies import Policy
from ..runs.data_file import DataFile, readable
from ..runs.directory import RunDirectory
from ..scores import Score
from ..tasks.base import TaskModule
from ..tasks.classifier import Classifier
from ..tasks.console import Console
from ..tasks.image_material import image_material, read_images
from ..tasks.image_networks import step_if_refused
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
    """The objects of a training.

    Attributes:
        options: the resolved options.
        subsampler: chooses the samples.
        score: of each sample, unless the user's module records its own.
        module: the user's or ours.
        train, test: loaders. ``test`` is None if the user's data module evaluates.
        classes: names of the classes, or None.
        data: describes the samples, so that later changes are detected.
        shown: returns pictures or texts of samples for the report, or None.
        datamodule: the user's own, or None.
        monitor: scores by the density of activations; None with any other score.
        tokenizer: the tokenizer file to keep in the run; None without texts.
        unlisted: in a resumed run, the number of new samples that no list added.
        notes: sentences on how the samples were read.
        remarks: sentences on copies and empty classes.
        facts: further settings for people to read, by name.
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
    """Return the word for a sample."""
    if is_import_path(options.data):
        return "sample"
    return {"text": "text", "language-model": "window"}.get(options.task or "", "image")


def read_data(options: ResolvedOptions, console: Console, before: DataFile | None = None) -> Data:
    """Read the samples that the options name and add, and choose among them as the options say.

    ``before`` describes the samples of the run to resume: its held-out samples stay held out.
    """
    with console.reading(options.data) as progress:
        data: Data
        if options.task in TEXT_TASKS:
            data = read_texts(options, before, console)
        else:
            data = read_images(options, console, progress, before)
    if before is None:
        check_share_is_used(options, data.test_share)
    return data


def build(
    options: ResolvedOptions, console: Console, data: Data | None = None, before: DataFile | None = None
) -> Job:
    """Build the objects of a training.

    Args:
        options: what to train, on what data and how.
        console: prints what was read.
        data: as :func:`read_data` returns it; None to read it.
        before: the samples of the run to resume, which keep their positions; None for a new run.

    Raises:
        InvalidValue: if options or data are invalid.
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
    trains_itself = isinstance(own, LightningModule)
    if trains_itself:
        _refuse_own_training_options(options)
    with console.reading(f"{options.data}, to train on"):
        material = _material(options, data, own, console, before)
    options = material.options
    assert options.batch_size is not None
    n = len(material.train)  # type: ignore[arg-type]
    subsampler = _subsampler(options, rules, material.labels, n, known_score=not trains_itself)
    workers = _worker_options(options)
    collate = material.collate
    # A last batch of two hard samples can ruin batch norm: docs/decisions/006.
    loader = subsampler.loader(
        material.train,
        options.batch_size,
        full_batches=True,
        kept_steps=_kept_steps(options),
        accumulate=_accumulate(options),
        collate_fn=collate,
        **workers,
    )
    test = DataLoader(
        material.test,
        batch_size=material.test_batch_size,
        collate_fn=collate,
        # Samples in memory are there at once.
        **(workers if isinstance(material.test, FileImages) else {}),
    )
    module = own if isinstance(own, LightningModule) else material.module(subsampler)
    if isinstance(module, TaskModule) and (own is not None or library_of(options.model)):
        _check_network(options, module, material, classes, console)
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
    """The objects that need only the options, so that an invalid option is found before samples are read."""

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
    """Return the number of classes that a network predicts; None without classes."""
    return None if options.task == "autoencoder" or isinstance(data, Corpus) else len(data.classes)


def _own_network(options: TrainOptions, kind: type, classes: int | None) -> Any:
    return import_class(options.model, options.model_args, kind, classes=classes, run=options.resume)


def _check_network(
    options: TrainOptions, module: TaskModule, material: Material, classes: int | None, console: Console
) -> None:
    """Raise if the outputs of the user's network, or of a library's, do not fit the task."""
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
        **({"if_refused": step_if_refused(options.model)} if library_of(options.model) else {}),
    )
    if remark:
        console.warn(remark)


def _material(
    options: ResolvedOptions, data: Data, own: Any, console: Console, before: DataFile | None
) -> Material:
    if isinstance(data, ImageData):
        return image_material(options, data, own, before)
    path = None if options.resume is None else RunDirectory(options.resume).tokenizer_path
    tokenizer = path if path is not None and path.exists() else None
    if isinstance(data, Corpus):
        return language_material(options, data, own, tokenizer, console, before)
    return text_material(options, data, own, tokenizer, console, before)


def _own_data(options: ResolvedOptions, rules: _Rules, console: Console) -> Job:
    """Build a training of the user's LightningDataModule and LightningModule."""
    for name, value in (
        ("samples", options.samples),
        ("validation", options.validation),
        ("add", options.add or None),
        ("labels", options.labels or None),
    ):
        if value is not None:
            step = "Choose the samples in your data module."
            raise invalid(f"--{name} is for data that fallow reads.", value, step)
    datamodule = import_class(options.data, options.data_args, LightningDataModule, run=options.resume)
    # Lightning would call these in fit(), but the number of samples is needed now.
    with calling(options.data, "prepare_data"):
        datamodule.prepare_data()
    with calling(options.data, "setup"):
        datamodule.setup("fit")
    with calling(options.data, "train_dataloader"):
        original = datamodule.train_dataloader()
    if not isinstance(original, DataLoader):
        raise invalid("train_dataloader() must return one DataLoader.", type(original).__name__)
    dataset: Dataset[Any] = original.dataset
    check_map_style(dataset)
    count = len(dataset)  # type: ignore[arg-type]
    labels, classes = offered_labels(dataset)
    if labels is None and (reason := unused_labels(dataset)):
        console.warn(reason)
    class_count = None if labels is None else np.unique(labels).size
    # A loader with a batch sampler of its own has no batch size.
    facts = DataFacts(count, class_count, trains_itself=True, batch_size=original.batch_size or 1)
    options = resolve_on_data(options, facts)
    assert options.batch_size is not None
    subsampler = _subsampler(options, rules, labels, count, known_score=False)
    loader = subsampler.loader(
        dataset,
        options.batch_size,
        full_batches=True,
        kept_steps=_kept_steps(options),
        accumulate=_accumulate(options),
        collate_fn=original.collate_fn,
        # Under kept steps no batch is much smaller than the others.
        drop_last=original.drop_last and not options.kept_steps,
        pin_memory=original.pin_memory,
        **_workers_like(original, options),
    )
    # Lightning asks the data module for its loader. Only this object changes, not its class.
    datamodule.train_dataloader = lambda: loader
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
        datamodule=datamodule,
        monitor=_monitor(options, rules, module),
        remarks=data_remarks(samples, "sample"),
    )


def _monitor(options: ResolvedOptions, rules: _Rules, module: LightningModule) -> ActivationDensity | None:
    if rules.density is None:
        return None
    network = module.network if isinstance(module, TaskModule) else module
    return ActivationDensity(network, options.layers or AUTO, rules.density, seed=options.seed)


def _own_module(options: TrainOptions, classes: int | None) -> LightningModule:
    if not is_import_path(options.model):
        raise invalid(
            "Your own data needs your own model.", f"--model {options.model}", "Name package.module:Class."
        )
    module: LightningModule = _own_network(options, LightningModule, classes)
    _refuse_own_training_options(options)
    return module


def _refuse_own_training_options(options: TrainOptions) -> None:
    """Raise for options that the user's LightningModule does not use."""
    if options.policy == "selective-backprop":
        step = "Use fallow.step_rules in your training_step, and return `backward` from it."
        raise invalid("--policy selective-backprop is for modules of fallow.", options.model, step)
    for name in ("learning_rate", "augment", "weight_decay", "score"):
        value = getattr(options, name)
        # Older versions stored these two in a run although they did not use them.
        stored = options.resume is not None and name in ("weight_decay", "score")
        if value not in (None, DENSITY, usual(options, name)) and not stored:
            raise invalid(f"--{name} is for modules of fallow.", value, "Set it in your LightningModule.")


def _kept_steps(options: ResolvedOptions) -> bool | None:
    """Return what a loader is told; None lets the policy say what it would do, if it only watches."""
    return None if options.policy == "watch" and not options.kept_steps else options.kept_steps


def _accumulate(options: ResolvedOptions) -> int:
    """Return the number of batches to a step of full training, which kept steps need to know."""
    batches = options.trainer.get("accumulate_grad_batches", 1)
    step = "It is the number of batches to a step; leave it out for 1."
    batches = check_integer("accumulate_grad_batches of --trainer", batches, 1, step)
    return batches if options.kept_steps else 1


def _subsampler(
    options: ResolvedOptions, rules: _Rules, labels: Tensor | None, n: int, *, known_score: bool
) -> Subsampler:
    """Return the subsampler; ``known_score``: the recorded losses are known to be those of the score."""
    assert options.min_kept is not None
    assert options.min_kept_per_class is not None
    if options.min_kept_per_class and labels is None:
        step = "Give your training dataset an attribute `labels`, (N,) class ids, or omit the option."
        raise invalid("--min_kept_per_class needs labels.", "your own data", step)
    subsampler = Subsampler(
        n,
        rules.policy,
        rules.schedule,
        seed=options.seed,
        labels=labels,
        # A batch may be larger than the whole set.
        min_kept=min(n, options.min_kept),
        min_kept_per_class=options.min_kept_per_class,
        # The losses of a user's own module may have any unit, so no score is named for them.
        score=rules.score if known_score or options.by_density else None,
    )
    # The table at the end says it.
    subsampler.announce = False
    return subsampler


def _worker_options(options: TrainOptions) -> dict[str, Any]:
    # torch refuses persistent workers if there are none.
    if not options.workers:
        return {}
    return {"num_workers": options.workers, "persistent_workers": True, "worker_init_fn": WorkerStart()}


def _workers_like(loader: DataLoader[Any], options: TrainOptions) -> dict[str, Any]:
    """Return the worker settings of the user's loader, unless the options set a number of workers."""
    start = {"worker_init_fn": WorkerStart(loader.worker_init_fn)}
    if options.workers:
        return _worker_options(options) | start
    if not loader.num_workers:
        return {}
    return start | {
        "num_workers": loader.num_workers,
        "persistent_workers": loader.persistent_workers,
        "prefetch_factor": loader.prefetch_factor,
        "timeout": loader.timeout,
        "multiprocessing_context": loader.multiprocessing_context,
    }


@dataclass(frozen=True)
class WorkerStart:
    """Makes a loader's worker ignore signals, and calls the user's ``worker_init_fn``, if any."""

    init: Callable[[int], None] | None = None

    def __call__(self, worker: int) -> None:
        """Prepare a worker."""
        # Ctrl-C reaches all processes of a group. The trainer needs its workers for a last whole step.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.init is not None:
            self.init(worker)
