"""Quantises float32 models to int8 when they are built, so that batch-mates never move an answer.
Called by the builders beside it, which ``wakeful models pull`` runs; serving does not import it.
It imports ``onnx``, ``onnxruntime`` and ``runtime.errors``.
"""
