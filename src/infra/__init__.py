"""Infra: which training data makes a language model reason better, down to the step and the token.

The rooms, top to bottom (imports run downward only): ``stages`` -> ``report``, ``validate``, ``reweight``,
``analysis`` -> ``spans``, ``influence``, ``sft``, ``evals`` -> ``generate``, ``models``, ``records`` -> ``store``.
"""

__version__ = "0.1.0"
