"""Data, architectures, training, the model folder, the Hub and prediction."""

import os

# Read once, when TensorFlow starts. `classifier.fusion` says what for.
_STRICT = "--tf_xla_enable_lazy_compilation=false"
os.environ["TF_XLA_FLAGS"] = f"{os.environ.get('TF_XLA_FLAGS', '')} {_STRICT}".strip()
