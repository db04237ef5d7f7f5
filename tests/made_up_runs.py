"""Finished runs of a comparison that nobody trained: their result and what they saved are made up."""

import json

N = 1000
"""Training samples."""


def leave(run, value, share=0.0, *, epochs, loss=None, forward=0, tested=None, bits=False, diverged=False):
    """Leave the files of a finished run that ends with ``value`` and saved ``share`` of ``epochs`` epochs."""
    trained = run.options.epochs
    losses = loss or [1.0 - 0.01 * epoch for epoch in range(trained)]
    rows = [
        {"accuracy": value, "test_loss": losses[e], "samples_backward": N, "samples_forward_only": 0}
        | {"samples_full": N}
        for e in range(trained)
    ]
    summary = {"accuracy": value, "test_loss": losses[trained - 1], "worst_class_accuracy": 0.5}
    summary |= {"samples_backward": round(N * epochs * (1 - share)), "samples_forward_only": forward}
    summary |= {"samples_full": N * trained, "saved_fraction": 0.0, "steps": 10, "cpu_seconds": 2.0}
    summary["samples_evaluated"] = tested
    summary["diverged"] = diverged
    if bits:
        summary |= {"accuracy": 0.25, "bits_per_character": value}
    run.path.mkdir(parents=True)
    (run.path / "usage.svg").write_text("drawn")
    (run.path / "summary.json").write_text(json.dumps(summary | {"seconds": 2.0, "epochs": rows}))
