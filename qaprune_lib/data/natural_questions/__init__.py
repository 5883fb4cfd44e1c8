"""Natural Questions."""
