"""Training: data, augmentation, the loop, and what train.py adds: checkpoints, the model folder."""
