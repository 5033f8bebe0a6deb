"""What a feature costs calls: the same function with it and without, in turns."""
