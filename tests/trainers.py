"""Lightning's Trainer for tests: on the CPU, leaving nothing behind."""

from lightning.pytorch import Trainer


def quiet_trainer(**options):
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**quiet | options)
