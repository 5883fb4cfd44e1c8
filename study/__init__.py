"""The reproduction of the paper: what is run, recorded, judged and shown."""
