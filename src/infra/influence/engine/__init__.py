"""The arithmetic of attribution: forward and backward passes, derivatives, factors and solves over tensors."""
