"""Fits that meet: their tasks take turns until all wait, then they train together."""

import matplotlib.pyplot as plt

PREPARE, TRAIN, SCORE = "#3f90da", "#ffa90e", "#94a4a2"
TASKS = 4

figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
for k in range(TASKS):
    y = TASKS - k
    ax.hlines(y, 0, 10.2, color="0.85", zorder=0)
    spans = [
        ((k, 0.9), PREPARE, "checks, scaling"),
        ((4, 2.2), TRAIN, "one stack trains"),
        ((6.3 + k, 0.9), SCORE, "scores"),
    ]
    for span, color, name in spans:
        label = name if k == 0 else None
        ax.broken_barh([span], (y - 0.35, 0.7), color=color, label=label)
ax.set_yticks(range(TASKS, 0, -1), [f"task {k + 1}" for k in range(TASKS)])
ax.set(xlabel="time", xticks=[], xlim=(0, 10.4))
figure.legend(loc="outside upper center", ncols=3, frameon=False)
for side in ("top", "right", "left"):
    ax.spines[side].set_visible(False)
