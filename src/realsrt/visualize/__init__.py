"""Figures, animations and pages of the steps of a result."""
