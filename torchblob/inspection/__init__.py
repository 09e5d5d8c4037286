"""Pictures of what a classifier has learned; matplotlib is imported to draw one."""

from torchblob.inspection._decision_boundary import DecisionBoundaryDisplay

__all__ = ["DecisionBoundaryDisplay"]
