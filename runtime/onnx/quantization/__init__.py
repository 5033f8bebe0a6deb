"""Quantises float32 models to int8 when they are pulled, so that batch-mates never move an answer.
Called by ``artifacts.named_models`` and by the builders of the shipped models; serving does not
import it. It imports ``onnx``, ``onnxruntime`` and ``runtime.errors``.
"""
