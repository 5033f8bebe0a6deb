"""The HTTP edge: the only rooms of the engine that know ASGI and Starlette."""
