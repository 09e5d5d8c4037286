"""How weights and activations of a stack lie in memory."""

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

COLORS = ("#3f90da", "#92dadd", "#ffa90e", "#e7c26b")
NETWORKS = 3


def box(ax, x, y, width, height, color, text=""):
    """Draw a box with a text in its middle."""
    ax.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="0.2"))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)


_, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")

# The parameters: a row for each network.
parts = (("$W_1$", 2.2), ("$b_1$", 0.8), ("$W_2$", 2.2), ("$b_2$", 0.8))
for k in range(NETWORKS):
    x = 0.0
    for (name, width), color in zip(parts, COLORS, strict=True):
        box(left, x, -k, width, 0.9, color, name)
        x += width
    left.text(-0.15, 0.45 - k, f"network {k + 1}", ha="right", va="center")
left.annotate(
    "", (x, 1.25), (0, 1.25), arrowprops={"arrowstyle": "<->", "color": "0.3"}
)
left.text(x / 2, 1.35, "all parameters, contiguous", ha="center", va="bottom")
left.add_patch(
    Rectangle((0, -2.06), 2.2, 3.02, fill=False, edgecolor="#bd1f01", linewidth=2)
)
left.text(
    1.1,
    -2.2,
    "a layer of all networks:\na view (K, units, inputs)",
    ha="center",
    va="top",
    color="#bd1f01",
)
left.set_title("Weights: one tensor (K, n_parameters)")
left.set(xlim=(-1.6, 6.3), ylim=(-3.4, 2.0))

# The activations of a block: units by samples, a sheet for each network.
for k in reversed(range(NETWORKS)):
    for unit in range(4):
        box(right, 0.35 * k, 0.4 * unit + 0.35 * k, 5, 0.4, "#dbe9f8")
right.annotate("", (5, -0.2), (0, -0.2), arrowprops={"arrowstyle": "<->"})
right.text(2.5, -0.35, "samples of a block, contiguous", ha="center", va="top")
right.annotate("", (-0.2, 1.6), (-0.2, 0), arrowprops={"arrowstyle": "<->"})
right.text(-0.35, 0.8, "units", ha="right", va="center", rotation=90)
right.text(5.95, 1.9, "K networks", va="center")
for i, name in enumerate(("block 1", "block 2", "block 3", "...")):
    color = "#dbe9f8" if i == 1 else "0.93"
    box(right, 1.5 * i, -2.0, 1.4, 0.6, color, name)
right.annotate(
    "", (2.2, -0.85), (2.2, -1.35), arrowprops={"arrowstyle": "->", "color": "0.3"}
)
right.text(3.0, -2.2, "all rows of a batch", ha="center", va="top")
right.set_title("Activations: (K, units, samples)")
right.set(xlim=(-0.9, 8), ylim=(-2.9, 2.6))

for ax in (left, right):
    ax.set_axis_off()
