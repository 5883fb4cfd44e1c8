"""What the paper says, as data, and the audit of its tables. Imports without torch."""
