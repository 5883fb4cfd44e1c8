"""What a run leaves: its record, and where it was made."""
