"""The loss curve of a killed run: as a line of text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def sparkline(values: list[float], width: int = 48) -> str:
    """Draws values as a line of blocks; each block is the mean of its share, on a log scale."""
    means = [float(np.log(part).mean()) for part in np.array_split(values, width)]
    low, high = min(means), max(means)
    heights = [round(7 * (mean - low) / (high - low or 1.0)) for mean in means]
    return "".join("▁▂▃▄▅▆▇█"[height] for height in heights)


def lives(events: list[dict[str, Any]]) -> list[tuple[list[int], list[float]]]:
    """Splits what was noted into the lives of the run: the steps and the losses of each."""
    curves: list[tuple[list[int], list[float]]] = []
    for event in events:
        if event["kind"] == "start":
            curves.append(([], []))
        elif event["kind"] == "step":
            curves[-1][0].append(event["step"])
            curves[-1][1].append(event["loss"])
    return curves


def draw_losses(
    path: Path, events: list[dict[str, Any]], reference: dict[int, float], kills: list[int]
) -> None:
    """Draws every life of the killed run over the uninterrupted one, and marks the kills."""
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axes.plot(
        list(reference), list(reference.values()), color="0.8", linewidth=5, label="uninterrupted"
    )
    for number, (steps, losses) in enumerate(lives(events), start=1):
        axes.plot(steps, losses, linewidth=1.2, label=f"life {number}")
    for kill in kills:
        axes.axvline(kill, color="firebrick", linestyle=":", linewidth=1)
        axes.annotate(
            "SIGKILL",
            (kill, 1.0),
            (3, -12),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            color="firebrick",
        )
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    axes.set_title(
        f"A run killed {len(kills)} times, drawn over one that was left alone", loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
