"""Times of fits, as shares of those of others; run in this folder."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

with open(Path("..") / "measured" / "fits.csv", newline="") as file:
    rows = list(csv.DictReader(file))
names = [row["fit"].replace(", ", "\n", 1) for row in rows]
others = {"of plain": "#3f90da", "of MLPClassifier": "#ffa90e", "of skorch": "#bd1f01"}

_, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
at = np.arange(len(rows))
for i, (column, color) in enumerate(others.items()):
    shares = [float(row[column]) for row in rows]
    bars = ax.barh(at + 0.26 * (i - 1), shares, 0.24, color=color, label=column)
    ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
ax.axvline(1, color="0.4", linestyle=":")
ax.text(0.99, 0, "as fast", ha="right", va="center", color="0.4", fontsize=9)
ax.set_yticks(at, names, fontsize=8)
ax.invert_yaxis()
ax.set(xlabel="time of torchblob's fit as a share (less is faster)", xlim=(0, 1.05))
ax.legend(loc="lower right")
