"""Commands about traffic: made up, recorded, sent, and what it needs."""
