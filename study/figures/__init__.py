"""Figures of the paper, one function each: frames in, a `Drawing` out.

A figure shows one model of one profile, and refuses rows of several; published points stand apart
from ours.
"""
