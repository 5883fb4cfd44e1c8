"""From a profile to its runs, and how they are run."""
