"""What retraining measures: selected training sets and their controls, and how well scores predict retraining."""
