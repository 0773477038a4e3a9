"""Weights of the embedded models, read through importlib.resources."""
