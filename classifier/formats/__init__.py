"""Export formats: ONNX and LiteRT."""
