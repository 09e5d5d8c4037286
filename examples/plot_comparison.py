"""
Against MLPClassifier, random forest and gradient boosting
==========================================================

The digits and the wine of scikit-learn, in cross-validation: accuracy and time of four
classifiers, about as they come.
"""

# %%
# Both networks have two hidden layers of 64 units and take the same number of steps of
# Adam. The trees have scikit-learn's defaults. Networks get scaled features, by a
# Pipeline, which trees don't need. All use the CPU.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchblob import TorchBlobClassifier

# MLPClassifier warns whenever it uses all of its epochs.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

epochs = 30
torchblob = TorchBlobClassifier(
    hidden_units=64,
    optimizer="adam",
    lr=0.003,
    batch_size=64,
    max_epochs=epochs,
    n_iter_no_change=epochs,
    random_state=0,
    device="cpu",
)
mlp = MLPClassifier(
    hidden_layer_sizes=(64, 64),
    learning_rate_init=0.003,
    batch_size=64,
    max_iter=epochs,
    n_iter_no_change=epochs,
    random_state=0,
)
models = {
    "TorchBlobClassifier": make_pipeline(StandardScaler(), torchblob),
    "MLPClassifier": make_pipeline(StandardScaler(), mlp),
    "RandomForest": RandomForestClassifier(random_state=0),
    "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
}

# %%
# Five folds of each table. A first fit is left out of the times: it may load
# libraries.

tables = {"digits": load_digits(return_X_y=True), "wine": load_wine(return_X_y=True)}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
scores, seconds = {}, {}
for table, (X, y) in tables.items():
    for name, model in models.items():
        model.fit(X[::2], y[::2])
        result = cross_validate(model, X, y, cv=folds)
        scores[table, name] = result["test_score"]
        seconds[table, name] = np.median(result["fit_time"])
        print(
            f"{table:<7} {name:<21} {scores[table, name].mean():.1%} "
            f"(std {scores[table, name].std():.1%}), {seconds[table, name]:.3f} s a fit"
        )

# %%
# The means lie within the spread of the folds of each other: on tables like these, what
# decides is not the kind of model. The two networks are the same one, and differ in the
# numbers that they start from and in their time. A random forest needs no scaling and
# hardly any thought. Times depend on the machine, and between unlike models on the
# number of its cores.

colors = ["#3f90da", "#ffa90e", "#94a4a2", "#832db6"]
_, axes = plt.subplots(2, 2, figsize=(11, 5.6), sharey=True, layout="constrained")
names = list(models)
for (left, right), table in zip(axes, tables, strict=True):
    means = [scores[table, name].mean() for name in names]
    spread = [scores[table, name].std() for name in names]
    for at, (mean, std, color) in enumerate(zip(means, spread, colors, strict=True)):
        left.errorbar(mean, at, xerr=std, fmt="o", color=color, capsize=4)
    left.set_title(f"{table}: accuracy, mean and std of 5 folds")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    right.barh(range(len(names)), [seconds[table, n] for n in names], color=colors)
    right.set_title(f"{table}: seconds a fit")
