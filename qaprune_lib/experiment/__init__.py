"""Profiles, the runs that they ask for, and their parameters; imports without torch."""
