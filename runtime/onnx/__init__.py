"""ONNX models: running them (the only importer of onnxruntime) and making them fit for serving."""
