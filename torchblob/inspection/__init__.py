"""Pictures of what a classifier has learned; matplotlib is imported to draw one."""

from torchblob.inspection._decision_boundary import DecisionBoundaryDisplay
from torchblob.inspection._training_curve import TrainingCurveDisplay

__all__ = ["DecisionBoundaryDisplay", "TrainingCurveDisplay"]
