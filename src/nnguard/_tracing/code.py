"""Stand-in."""

import numpy as np


def biases(keystream, entries):
    w = np.frombuffer(keystream.read(0, 4 * entries), "<u4") / 2**32
    t = 0.02
    return np.sin(t + w * (np.pi / 2 - 2 * t)) ** 2


def fingerprint(keystream, biases):
    w = np.frombuffer(keystream.read(0, 4 * biases.size), "<u4") / 2**32
    return np.where(w < biases, 1, -1).astype(np.int8)
