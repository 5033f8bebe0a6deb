"""Triton's model repository as a folder: what its ``config.pbtxt`` files say, and the functions
that its ONNX models become. ``wakeful add`` calls it; nothing of it is needed to serve.
"""
