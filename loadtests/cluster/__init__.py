"""Several machines made of one, and what becomes of calls when one of them is lost."""
