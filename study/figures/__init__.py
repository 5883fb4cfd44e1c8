"""Figures of the paper, one function each: frames in, a `Drawing` out.

A figure shows one model of one profile; published points stand apart from ours.
"""
