"""Metrics, their registry, pairing with targets, contact sheets."""
