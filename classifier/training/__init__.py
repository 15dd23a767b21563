"""Training: data, augmentation, optimisers, the loop, checkpoints and the model folder."""

import os

# Read once, when TensorFlow starts; see `fusion`.
_STRICT = "--tf_xla_enable_lazy_compilation=false"
_given = os.environ.get("TF_XLA_FLAGS", "")
if _STRICT not in _given:
    os.environ["TF_XLA_FLAGS"] = f"{_given} {_STRICT}".strip()
