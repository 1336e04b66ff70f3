"""Infra: which training data makes a language model reason better, down to the step and the token.

The rooms, top to bottom (imports run downward only): ``cli``, ``plan``, ``pipeline``, ``report``, ``experiments``,
``analysis``, ``spans``, ``influence``, ``parallel``, ``train``, ``evals``, ``world``, ``models``, ``data``, ``store``.
"""

__version__ = "0.2.0"
