"""
A pipeline on a real table with mixed columns
=============================================

Numbers, ordered levels and names go through a Pipeline into a network; a search chooses
its shape, and pictures show what it makes of them.
"""

# %%
# What 1473 married women in Indonesia used for contraception in 1987: nothing, a
# long-term or a short-term method. The table is "Contraceptive Method Choice" of the
# UCI Machine Learning Repository (T.-S. Lim, 1997, https://doi.org/10.24432/C59W2D,
# licence CC BY 4.0), with its codes written out.

from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

# The gallery runs in the folder of the table; a script may be run from anywhere.
folder = Path(__file__).parent if "__file__" in globals() else Path()
table = pd.read_csv(folder / "contraceptive.csv")
X, y = table.drop(columns="method"), table["method"]
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
table.head()

# %%
# Names become a column for each of their values. Levels from 1 to 4 are ordered, so
# they may stay numbers, which are all scaled.

names = X.select_dtypes(exclude="number").columns
columns = make_column_transformer(
    (OneHotEncoder(drop="if_binary"), names), remainder=StandardScaler()
)
model = make_pipeline(
    columns,
    TorchBlobClassifier(
        optimizer="adam",
        lr=0.003,
        batch_size=64,
        max_epochs=30,
        n_iter_no_change=30,
        random_state=0,
        device="cpu",
    ),
)

# %%
# The search: how wide, and how much weight decay. Fits of a width train side by side.

grid = {
    "torchblobclassifier__hidden_units": [4, 8, 16],
    "torchblobclassifier__weight_decay": [0.0, 0.001, 0.01],
}
with joblib.parallel_config(backend="torchblob"):
    search = GridSearchCV(model, grid, cv=5).fit(X_train, y_train)
print(search.best_params_)

# %%
# Next to the most frequent answer and to a linear model: the accuracy in
# cross-validation on the same folds, and that on the test rows, which no choice has
# seen. What these nine columns don't tell, no model knows.

models = {
    "most frequent": DummyClassifier(),
    "logistic regression": make_pipeline(columns, LogisticRegression()),
    "network": search.best_estimator_,
}
for name, one in models.items():
    scores = cross_val_score(one, X_train, y_train, cv=5)
    test = one.fit(X_train, y_train).score(X_test, y_test)
    print(f"{name:<20} folds {scores.mean():.1%} ± {scores.std():.1%}, test {test:.1%}")

# %%
# Which methods it takes for which: a row for each true method, in percent. Long-term
# methods are the hardest to tell.

_, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
ConfusionMatrixDisplay.from_estimator(
    search,
    X_test,
    y_test,
    labels=["none", "short-term", "long-term"],
    normalize="true",
    values_format=".0%",
    cmap="Blues",
    colorbar=False,
    ax=ax,
)

# %%
# Which columns it needs: how much accuracy is lost on test rows when one is shuffled,
# mean and spread of ten times.

importance = permutation_importance(
    search, X_test, y_test, n_repeats=10, random_state=0
)
order = importance.importances_mean.argsort()
_, ax = plt.subplots(layout="constrained")
ax.barh(
    X.columns[order],
    importance.importances_mean[order],
    xerr=importance.importances_std[order],
    color="#3f90da",
)
ax.axvline(0, color="0.5", linestyle=":")
ax.set_xlabel("accuracy that is lost")

# %%
# The plane of two of them, age and children, for the lowest and the highest level of
# education, with the other columns held at what is typical of the rows that are drawn.
# Without children the network answers "none" at both. With several, it answers "none"
# for older women at the lowest level, and "long-term" at the highest.

_, axes = plt.subplots(1, 2, figsize=(11, 4.8), sharey=True, layout="constrained")
for ax, level in zip(axes, (1, 4), strict=True):
    rows = X_test["wife_education"] == level
    DecisionBoundaryDisplay.from_estimator(
        search,
        X_test[rows],
        y_test[rows],
        features=("wife_age", "children"),
        held={"wife_education": level},
        xlim=(15, 50),
        ylim=(-0.5, 13.5),
        ax=ax,
        title=f"wife_education = {level}",
        legend=ax is axes[1],
    )
