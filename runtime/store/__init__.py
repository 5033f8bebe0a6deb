"""The model store: what is fetched, checked, built and found on this machine."""
