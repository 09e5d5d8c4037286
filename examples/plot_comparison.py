"""
Against MLPClassifier, random forest and gradient boosting
==========================================================

The digits and the wine of scikit-learn, in cross-validation: accuracy and time of four
classifiers, about as they come.
"""

# %%
# Both networks have two hidden layers of 64 units, and take the same number of steps of
# Adam, at a rate that was not searched for. The random forest has scikit-learn's
# defaults, and the boosting shallow trees, and half of its rounds at twice the rate:
# about as accurate here as its defaults, and quicker. Networks get scaled features, by
# a Pipeline, which trees don't need.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from torchblob import TorchBlobClassifier

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
# MLPClassifier warns where max_iter ends it. With a tol that no epoch reaches, it stops
# by itself, after the same number of epochs.
mlp = MLPClassifier(
    hidden_layer_sizes=(64, 64),
    alpha=0,
    learning_rate_init=0.003,
    batch_size=64,
    max_iter=epochs + 1,
    n_iter_no_change=epochs - 2,
    tol=1000,
    random_state=0,
)
models = {
    "TorchBlobClassifier": make_pipeline(StandardScaler(), torchblob),
    "MLPClassifier": make_pipeline(StandardScaler(), mlp),
    "RandomForest": RandomForestClassifier(random_state=0),
    "HistGradientBoosting": HistGradientBoostingClassifier(
        learning_rate=0.2, max_iter=50, max_depth=3, random_state=0
    ),
}

# %%
# Five folds of each table, the same for all. Each model gets one core: what it makes of
# more, and all times, depend on the machine. A first fit, of a few rows, is not
# measured: it may load libraries.

tables = {"digits": load_digits(return_X_y=True), "wine": load_wine(return_X_y=True)}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
scores, seconds = {}, {}
with threadpool_limits(1):
    for table, (X, y) in tables.items():
        for name, model in models.items():
            model.fit(X[:100], y[:100])
            result = cross_validate(model, X, y, cv=folds)
            score, times = result["test_score"], result["fit_time"]
            print(
                f"{table:<6}  {name:<20}  {score.mean():.1%} ± {score.std():.1%}, "
                f"{times.mean():.3f} s a fit"
            )
            scores[table, name], seconds[table, name] = score, times

assert models["TorchBlobClassifier"][-1].n_iter_ == epochs
assert models["MLPClassifier"][-1].n_iter_ == epochs

# %%
# At the left the accuracy: mean and standard deviation of the folds, which are the
# small points. The means lie closer together than the folds of any one model, and which
# is ahead may be chance: a fold of the wine has 36 rows at most, so that a single row
# is worth almost three percent. At the right the mean time of a fit, and its deviation.

colors = ("#3f90da", "#ffa90e", "#94a4a2", "#832db6")
_, axes = plt.subplots(2, 2, figsize=(11, 5.6), sharey=True, layout="constrained")
for (left, right), table in zip(axes, tables, strict=True):
    for at, (name, color) in enumerate(zip(models, colors, strict=True)):
        score, times = scores[table, name], seconds[table, name]
        left.plot(score, [at + 0.25] * len(score), ".", color=color)
        left.errorbar(
            score.mean(), at, xerr=score.std(), fmt="o", color=color, capsize=4
        )
        right.barh(at, times.mean(), xerr=times.std(), color=color, capsize=4)
    left.xaxis.set_major_formatter("{x:.1%}")
    left.set(title=f"{table}: accuracy", yticks=range(len(models)), yticklabels=models)
    right.set(title=f"{table}: seconds a fit")
left.set_ylim(len(models) - 0.4, -0.6)

# %%
# The two networks differ in little but the numbers that they start from, and their
# time. Boosting grows a tree for each class in each round, so the ten digits cost it
# more than the three wines; with several cores it divides its work, as does the forest
# with ``n_jobs``. A forest needs no scaling, no rate and no number of epochs: where
# that counts, it wins.
