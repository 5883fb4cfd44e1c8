"""The reproduction of the paper, beside the library.

What cannot be done raises one of the `QapruneError`s, which names the file, record or parameter,
what is wrong with it, and what to do; docstrings name other errors alone.
"""
