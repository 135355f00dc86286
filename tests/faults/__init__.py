"""Faults, a kind a file: each ends in an undisturbed run's digest, or in a refusal that loses nothing."""
